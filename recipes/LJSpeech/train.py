"""Trains a vocoder (hparams/mel.yaml) or a speech codec (vq.yaml, vq_wav.yaml) on LJSpeech.

    python train.py hparams/vq.yaml --data_folder /data/LJSpeech-1.1
    torchrun --nproc_per_node 4 train.py hparams/vq.yaml --data_folder /data/LJSpeech-1.1

An interrupted run goes on when the same command is given again. Options: the YAML's keys and
SpeechBrain's run options (--device cpu, --precision bf16, --debug, --test_only, ...); with the YAML
and --help, they are listed.
"""

from waveglow_vq.training.run.recipe_help import show_help

if __name__ == "__main__":
    show_help(what=__doc__)  # before all that takes long is imported

from waveglow_vq.data.datasets import make_datasets
from waveglow_vq.data.shards.format import shards_are_ready
from waveglow_vq.training.run.experiment import run
from waveglow_vq.training.waveglow_brain import WaveGlowBrain

from ljspeech_prepare import find_ljspeech, prepare_ljspeech
from speechbrain.utils.distributed import run_on_main

# Keys of the YAML that the preparation takes as they are.
SAME = ("split_ratio", "min_samples", "max_samples", "min_loudness_dbfs", "max_utterances")
SAME += ("skip_prep", "shards_folder")


class LJSpeechBrain(WaveGlowBrain):
    """One speaker: nothing is added to the shared loop."""


def prepare(experiment):
    """Begins the run, prepares LJSpeech, and returns the three datasets."""
    hparams = experiment.hparams
    if run_on_main(shards_are_ready, [hparams["shards_folder"]]):
        experiment.begin()
        return make_datasets(hparams, data_root=None)
    # Before anything is written: is there a corpus at all?
    data_root = run_on_main(find_ljspeech, [hparams["data_folder"], hparams["download"]])
    experiment.begin()
    options = {
        "data_folder": data_root,
        "save_folder": hparams["manifest_folder"],
        "seed": hparams["split_seed"],
        "sample_rate": hparams["features"].sample_rate,
        **{name: hparams[name] for name in SAME},
    }
    run_on_main(prepare_ljspeech, kwargs=options)
    return make_datasets(hparams, data_root)


if __name__ == "__main__":
    run(LJSpeechBrain, prepare)
