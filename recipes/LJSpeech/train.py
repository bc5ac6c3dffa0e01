"""Trains a vocoder (hparams/mel.yaml) or a speech codec (vq.yaml, vq_wav.yaml) on LJSpeech.

    python train.py hparams/vq.yaml --data_folder /data/LJSpeech-1.1
    torchrun --nproc_per_node 4 train.py hparams/vq.yaml --data_folder /data/LJSpeech-1.1

An interrupted run goes on when the same command is given again. Options: the YAML's keys and
SpeechBrain's run options (--device cpu, --precision bf16, --debug, --test_only, ...).

Authors
 * The waveglow-vq developers, 2026
"""

import sys

from waveglow_vq.errors import cli_errors
from waveglow_vq.training.brain import VALID_LOSS, WaveGlowBrain
from waveglow_vq.training.experiment import load_hparams, parse_arguments, worker_errors
from waveglow_vq.training.pipeline import make_datasets

import speechbrain as sb
from ljspeech_prepare import find_ljspeech, prepare_ljspeech
from speechbrain.utils.distributed import ddp_init_group, run_on_main


class LJSpeechBrain(WaveGlowBrain):
    """One speaker: nothing is added to the shared loop."""


@cli_errors()
def main(arguments=None):
    """The command line; returns the Brain."""
    hparams_file, run_opts, overrides = parse_arguments(
        sys.argv[1:] if arguments is None else arguments
    )
    ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides)
    # Before anything is written: is there a corpus at all?
    corpus = {"data_folder": hparams["data_folder"], "download": hparams["download"]}
    run_on_main(find_ljspeech, kwargs=corpus)
    data_root = find_ljspeech(hparams["data_folder"])
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    run_on_main(
        prepare_ljspeech,
        kwargs={
            "data_folder": data_root,
            "save_folder": hparams["manifest_folder"],
            "split_ratio": hparams["split_ratio"],
            "seed": hparams["split_seed"],
            "min_samples": hparams["min_samples"],
            "max_samples": hparams["max_samples"],
            "min_loudness_dbfs": hparams["min_loudness_dbfs"],
            "sample_rate": hparams["features"].sample_rate,
            "max_utterances": hparams["max_utterances"],
            "skip_prep": hparams["skip_prep"],
        },
    )
    train, valid, test = make_datasets(hparams, data_root)
    brain = LJSpeechBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
    )
    evaluation = {"batch_size": hparams["valid_batch_size"]}
    with worker_errors():
        brain.fit(
            hparams["epoch_counter"],
            train,
            valid,
            train_loader_kwargs={
                "batch_size": hparams["batch_size"],
                "num_workers": hparams["num_workers"],
            },
            valid_loader_kwargs=dict(evaluation),
        )
        brain.evaluate(test, min_key=VALID_LOSS, test_loader_kwargs=dict(evaluation))
    return brain


if __name__ == "__main__":
    main()
