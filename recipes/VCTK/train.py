"""Trains a voice converter (hparams/vq.yaml), a vocoder of many speakers (mel.yaml) or, for
comparison, the published setting (vq_wav.yaml) on VCTK.

    python train.py hparams/vq.yaml --data_folder /data/VCTK-Corpus
    torchrun --nproc_per_node 4 train.py hparams/vq.yaml --data_folder /data/VCTK-Corpus

An interrupted run goes on when the same command is given again. Options: the YAML's keys and
SpeechBrain's run options (--device cpu, --precision bf16, --debug, --test_only, ...).

Authors
 * The waveglow-vq developers, 2026
"""

import sys

from waveglow_vq.data.speakers import read_speakers
from waveglow_vq.errors import cli_errors
from waveglow_vq.training.brain import VALID_LOSS
from waveglow_vq.training.experiment import load_hparams, parse_arguments, worker_errors
from waveglow_vq.training.pipeline import make_datasets
from waveglow_vq.training.speakers import MultiSpeakerBrain

import speechbrain as sb
from speechbrain.utils.distributed import ddp_init_group, run_on_main
from vctk_prepare import find_vctk, prepare_vctk


class VCTKBrain(MultiSpeakerBrain):
    """Nothing is added to the shared loop of several speakers."""


@cli_errors()
def main(arguments=None):
    """The command line; returns the Brain."""
    hparams_file, run_opts, overrides = parse_arguments(
        sys.argv[1:] if arguments is None else arguments
    )
    ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides)
    # Before anything is written: is there a corpus at all?
    if not hparams["skip_prep"]:
        find_vctk(hparams["data_folder"])
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    run_on_main(
        prepare_vctk,
        kwargs={
            "data_folder": hparams["data_folder"],
            "audio_folder": hparams["audio_folder"],
            "manifest_folder": hparams["manifest_folder"],
            "mic": hparams["mic"],
            "additional_folders": hparams["additional_folders"],
            "sample_rate": hparams["features"].sample_rate,
            "hop_length": hparams["features"].hop_length,
            "trim_silence": hparams["trim_silence"],
            "split_ratio": hparams["split_ratio"],
            "seed": hparams["split_seed"],
            "unseen_speakers": hparams["unseen_speakers"],
            "disjoint_sentences": hparams["disjoint_sentences"],
            "speakers": hparams["use_speakers"],
            "min_samples": hparams["min_samples"],
            "max_samples": hparams["max_samples"],
            "min_loudness_dbfs": hparams["min_loudness_dbfs"],
            "max_utterances": hparams["max_utterances"],
            "skip_prep": hparams["skip_prep"],
        },
    )
    hparams["speakers"] = read_speakers(hparams["manifest_folder"])
    train, valid, test = make_datasets(hparams, hparams["audio_folder"], hparams["speakers"])
    brain = VCTKBrain(
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
