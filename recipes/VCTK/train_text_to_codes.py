"""Trains a model that writes the codes of a codec from text, for every speaker of VCTK: with the
voice converter whose codes they are, which train.py has trained, it is text to speech.

    python train_text_to_codes.py hparams/text_to_codes.yaml --data_folder /data/VCTK-Corpus \\
        --codec results/vq_small/1234/export
    torchrun --nproc_per_node 4 train_text_to_codes.py hparams/text_to_codes.yaml ...

An interrupted run goes on when the same command is given again. Options: the YAML's keys and
SpeechBrain's run options (--device cpu, --precision bf16, --debug, --test_only, ...); with the YAML
and --help, they are listed.
"""

from waveglow_vq.training.run.recipe_help import show_help

if __name__ == "__main__":
    show_help(what=__doc__)  # before all that takes long is imported

from waveglow_vq.training.run.experiment import run
from waveglow_vq.training.text_to_codes.text_brain import TextToCodesBrain
from waveglow_vq.training.text_to_codes.text_preparation import (
    begin_log,
    prepare_text_datasets,
    read_codec,
)

from speechbrain.utils.distributed import run_on_main
from vctk_prepare import find_vctk, prepare_vctk

# Keys of the YAML that the preparation takes as they are.
SAME = ("data_folder", "audio_folder", "manifest_folder", "mic", "additional_folders")
SAME += ("trim_silence", "split_ratio", "unseen_speakers", "disjoint_sentences", "min_samples")
SAME += ("max_samples", "min_loudness_dbfs", "max_utterances", "skip_prep")
# Those that files of earlier runs lack.
LATER = ("highpass_hz", "loudness_dbfs", "fill_band_db")


class VCTKTextBrain(TextToCodesBrain):
    """Nothing is added to the shared loop: who speaks is in the batches."""


def prepare(experiment):
    """Prepares VCTK and its codes, begins the run, and returns the three datasets."""
    hparams = experiment.hparams
    # Before anything is written: are there a codec and a corpus at all?
    codec = run_on_main(read_codec, [hparams["codec"], True])
    if not hparams["skip_prep"]:
        find_vctk(hparams["data_folder"])
    run_on_main(begin_log, [hparams["output_folder"]])
    options = {
        "seed": hparams["split_seed"],
        "speakers": hparams["use_speakers"],
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        **{name: hparams[name] for name in SAME},
        **{name: hparams[name] for name in LATER if name in hparams},
    }
    run_on_main(prepare_vctk, kwargs=options)
    return prepare_text_datasets(experiment, hparams["audio_folder"], codec)


if __name__ == "__main__":
    run(VCTKTextBrain, prepare)
