"""The recipe's script with discriminators that a processor trains in no time."""

import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.training.run.experiment import run
from waveglow_vq.training.samples.samples_brain import SamplesBrain

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "LJSpeech")]

if __name__ == "__main__":
    import train

    from tests.training.samples.tiny_discriminator import TinyDiscriminator

    SamplesBrain.make_discriminator = lambda self: TinyDiscriminator()
    run(train.LJSpeechBrain, train.prepare)
