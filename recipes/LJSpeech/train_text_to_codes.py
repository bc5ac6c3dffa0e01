"""Trains a model that writes the codes of a codec from text, on LJSpeech: with that codec, which
train.py has trained, it is text to speech.

    python train_text_to_codes.py hparams/text_to_codes.yaml --data_folder /data/LJSpeech-1.1 \\
        --codec results/vq_small/1234/export
    torchrun --nproc_per_node 4 train_text_to_codes.py hparams/text_to_codes.yaml ...

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

from waveglow_vq.errors import cli_errors
from waveglow_vq.training.run.debugging import debugging
from waveglow_vq.training.run.experiment import load_hparams, parse_arguments, train_and_test
from waveglow_vq.training.run.guards import check_configuration, check_launch
from waveglow_vq.training.text_to_codes.text_brain import TextToCodesBrain
from waveglow_vq.training.text_to_codes.text_preparation import (
    begin_log,
    prepared_hparams,
    read_codec,
    text_datasets,
)

from ljspeech_prepare import find_ljspeech, prepare_ljspeech
from speechbrain.utils.distributed import ddp_init_group, run_on_main


class LJSpeechTextBrain(TextToCodesBrain):
    """One speaker: nothing is added to the shared loop."""


def preparation(hparams, data_root, codec):
    """Arguments of the preparation."""
    same = ("split_ratio", "min_samples", "max_samples", "min_loudness_dbfs", "max_utterances")
    return {
        "data_folder": data_root,
        "save_folder": hparams["manifest_folder"],
        "seed": hparams["split_seed"],
        "sample_rate": codec.sample_rate,
        "skip_prep": hparams["skip_prep"],
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
    # Before anything is written: are there a codec and a corpus at all?
    codec = run_on_main(read_codec, [hparams["codec"]])
    run_on_main(find_ljspeech, [hparams["data_folder"], hparams["download"]])
    run_on_main(begin_log, [hparams["output_folder"]])
    data_root = find_ljspeech(hparams["data_folder"])
    run_on_main(prepare_ljspeech, kwargs=preparation(hparams, data_root, codec))
    hparams = prepared_hparams(hparams_file, hparams, overrides, run_opts, data_root, codec)
    train, valid, test = text_datasets(hparams, data_root)
    brain = LJSpeechTextBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
    )
    train_and_test(brain, train, valid, test)
    return brain


if __name__ == "__main__":
    main()
