"""From corpora to batches: preparation, shards, segments, datasets and loaders."""
