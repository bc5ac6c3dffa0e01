"""Trains a model that writes the codes of a codec from text, on LJSpeech: with that codec, which
train.py has trained, it is text to speech.

    python train_text_to_codes.py hparams/text_to_codes.yaml --data_folder /data/LJSpeech-1.1 \\
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

from ljspeech_prepare import find_ljspeech, prepare_ljspeech
from speechbrain.utils.distributed import run_on_main

# Keys of the YAML that the preparation takes as they are.
SAME = ("split_ratio", "min_samples", "max_samples", "min_loudness_dbfs", "max_utterances")
SAME += ("skip_prep",)


class LJSpeechTextBrain(TextToCodesBrain):
    """One speaker: nothing is added to the shared loop."""


def prepare(experiment):
    """Prepares LJSpeech and its codes, begins the run, and returns the three datasets."""
    hparams = experiment.hparams
    # Before anything is written: are there a codec and a corpus at all?
    codec = run_on_main(read_codec, [hparams["codec"]])
    data_root = run_on_main(find_ljspeech, [hparams["data_folder"], hparams["download"]])
    run_on_main(begin_log, [hparams["output_folder"]])
    options = {
        "data_folder": data_root,
        "save_folder": hparams["manifest_folder"],
        "seed": hparams["split_seed"],
        "sample_rate": codec.sample_rate,
        **{name: hparams[name] for name in SAME},
    }
    run_on_main(prepare_ljspeech, kwargs=options)
    return prepare_text_datasets(experiment, data_root, codec)


if __name__ == "__main__":
    run(LJSpeechTextBrain, prepare)
