"""Trains a vocoder (hparams/mel.yaml) or a speech codec (vq.yaml, vq_wav.yaml) on LJSpeech.

    python train.py hparams/vq.yaml --data_folder /data/LJSpeech-1.1
    torchrun --nproc_per_node 4 train.py hparams/vq.yaml --data_folder /data/LJSpeech-1.1

An interrupted run goes on when the same command is given again. Options: the YAML's keys and
SpeechBrain's run options (--device cpu, --precision bf16, --debug, --test_only, ...); with the YAML
and --help, they are listed.

Authors
 * The waveglow-vq developers, 2026
"""

import sys

from waveglow_vq.training.run.recipe_help import show_help

if __name__ == "__main__":
    show_help(what=__doc__)  # before all that takes long is imported

from waveglow_vq.data.loaders import make_datasets
from waveglow_vq.data.shards.format import shards_are_ready
from waveglow_vq.errors import cli_errors
from waveglow_vq.training.run.debugging import debugging
from waveglow_vq.training.run.experiment import load_hparams, parse_arguments, train_and_test
from waveglow_vq.training.run.guards import check_configuration, check_launch
from waveglow_vq.training.waveglow_brain import WaveGlowBrain

import speechbrain as sb
from ljspeech_prepare import find_ljspeech, prepare_ljspeech
from speechbrain.utils.distributed import ddp_init_group, run_on_main


class LJSpeechBrain(WaveGlowBrain):
    """One speaker: nothing is added to the shared loop."""


def preparation(hparams, data_root):
    """Arguments of the preparation."""
    same = ("split_ratio", "min_samples", "max_samples", "min_loudness_dbfs", "max_utterances")
    same += ("skip_prep", "shards_folder")
    return {
        "data_folder": data_root,
        "save_folder": hparams["manifest_folder"],
        "seed": hparams["split_seed"],
        "sample_rate": hparams["features"].sample_rate,
        **{name: hparams[name] for name in same},
    }


@cli_errors()
def main(arguments=None):
    """The command line; returns the Brain."""
    hparams_file, run_opts, overrides = parse_arguments(
        sys.argv[1:] if arguments is None else arguments
    )
    check_launch(run_opts)
    ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides)
    hparams, run_opts, overrides = debugging(hparams_file, hparams, run_opts, overrides)
    check_configuration(hparams, run_opts, hparams_file, overrides)
    # Before anything is written: is there a corpus at all?
    prepared = run_on_main(shards_are_ready, [hparams["shards_folder"]])
    if not prepared:
        run_on_main(find_ljspeech, [hparams["data_folder"], hparams["download"]])
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    data_root = None
    if not prepared:
        data_root = find_ljspeech(hparams["data_folder"])
        run_on_main(prepare_ljspeech, kwargs=preparation(hparams, data_root))
    train, valid, test = make_datasets(hparams, data_root)
    brain = LJSpeechBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
    )
    train_and_test(brain, train, valid, test)
    return brain


if __name__ == "__main__":
    main()
