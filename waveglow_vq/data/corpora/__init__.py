"""From a corpus as it lies on disk to manifests."""
