"""From a corpus on disk to manifests."""
