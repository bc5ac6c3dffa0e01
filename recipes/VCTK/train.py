"""Trains a voice converter (hparams/vq.yaml), a vocoder of many speakers (mel.yaml) or, for
comparison, the published setting (vq_wav.yaml) on VCTK.

    python train.py hparams/vq.yaml --data_folder /data/VCTK-Corpus
    torchrun --nproc_per_node 4 train.py hparams/vq.yaml --data_folder /data/VCTK-Corpus

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
from waveglow_vq.data.speakers import read_speakers
from waveglow_vq.errors import cli_errors
from waveglow_vq.training.multispeaker_brain import MultiSpeakerBrain
from waveglow_vq.training.run.debugging import debugging
from waveglow_vq.training.run.experiment import load_hparams, parse_arguments, train_and_test
from waveglow_vq.training.run.guards import check_configuration, check_launch

import speechbrain as sb
from speechbrain.utils.distributed import ddp_init_group, run_on_main
from vctk_prepare import find_vctk, prepare_vctk


class VCTKBrain(MultiSpeakerBrain):
    """Nothing is added to the shared loop of several speakers."""


def preparation(hparams):
    """Arguments of the preparation."""
    same = ("data_folder", "audio_folder", "manifest_folder", "mic", "additional_folders")
    same += ("trim_silence", "split_ratio", "unseen_speakers", "disjoint_sentences", "min_samples")
    same += ("max_samples", "min_loudness_dbfs", "max_utterances", "skip_prep", "shards_folder")
    return {
        "seed": hparams["split_seed"],
        "speakers": hparams["use_speakers"],
        "sample_rate": hparams["features"].sample_rate,
        "hop_length": hparams["features"].hop_length,
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
    shards = hparams["shards_folder"]
    prepared = run_on_main(shards_are_ready, [shards])
    if not prepared and not hparams["skip_prep"]:
        find_vctk(hparams["data_folder"])
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    if not prepared:
        run_on_main(prepare_vctk, kwargs=preparation(hparams))
    if shards is not None:
        # Everything comes from there.
        hparams["manifest_folder"] = hparams["audio_folder"] = shards
    hparams["speakers"] = read_speakers(hparams["manifest_folder"])
    train, valid, test = make_datasets(hparams, hparams["audio_folder"], hparams["speakers"])
    brain = VCTKBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
    )
    train_and_test(brain, train, valid, test)
    return brain


if __name__ == "__main__":
    main()
