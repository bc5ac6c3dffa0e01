"""Published WaveGlow checkpoints, read without running anything of theirs, as exports."""

from waveglow_vq.checkpoints.importing import describe_checkpoint, import_checkpoint

__all__ = ["describe_checkpoint", "import_checkpoint"]
