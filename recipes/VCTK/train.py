"""Trains a voice converter (hparams/vq.yaml), a vocoder of many speakers (mel.yaml) or, for
comparison, the published setting (vq_wav.yaml) on VCTK; or a vocoder of any voice
(mel_universal.yaml) on several corpora.

    python train.py hparams/vq.yaml --data_folder /data/VCTK-Corpus
    python train.py hparams/mel_universal.yaml --data_folders "[/data/VCTK-Corpus, /data/my_voice]"
    torchrun --nproc_per_node 4 train.py hparams/vq.yaml --data_folder /data/VCTK-Corpus

An interrupted run goes on when the same command is given again. Options: the YAML's keys and
SpeechBrain's run options (--device cpu, --precision bf16, --debug, --test_only, ...); with the YAML
and --help, they are listed.
"""

from waveglow_vq.training.run.recipe_help import show_help

if __name__ == "__main__":
    show_help(what=__doc__)  # before all that takes long is imported

from waveglow_vq.data.datasets import make_datasets
from waveglow_vq.data.shards.format import shards_are_ready
from waveglow_vq.data.speakers import read_speakers
from waveglow_vq.training.multispeaker_brain import MultiSpeakerBrain
from waveglow_vq.training.run.experiment import run

from speechbrain.utils.distributed import run_on_main
from vctk_prepare import check_shards, find_data, prepare_vctk

# Keys of the YAML that the preparation takes as they are.
SAME = ("audio_folder", "manifest_folder", "mic")
SAME += ("trim_silence", "split_ratio", "unseen_speakers", "disjoint_sentences", "min_samples")
SAME += ("max_samples", "min_loudness_dbfs", "max_utterances", "skip_prep", "shards_folder")
# Those that files of earlier runs lack, or YAML files of one corpus, or of several.
LATER = ("highpass_hz", "loudness_dbfs", "fill_band_db", "additional_folders")
LATER += ("split_by", "held_out_speakers", "held_out_clips")


class VCTKBrain(MultiSpeakerBrain):
    """Nothing is added to the shared loop of several speakers."""


def prepare(experiment):
    """Begins the run, prepares VCTK, and returns the three datasets."""
    hparams = experiment.hparams
    shards = hparams["shards_folder"]
    data = hparams.get("data_folders")
    data = hparams["data_folder"] if data is None else data
    prepared = run_on_main(shards_are_ready, [shards])
    # Before anything is written: is there a corpus at all?
    if not prepared and not hparams["skip_prep"]:
        find_data(data)
    if prepared:
        run_on_main(check_shards, [shards, {name: hparams.get(name) for name in LATER[:3]}])
    experiment.begin()
    if not prepared:
        options = {
            "data_folder": data,
            "seed": hparams["split_seed"],
            "speakers": hparams["use_speakers"],
            "sample_rate": hparams["features"].sample_rate,
            "hop_length": hparams["features"].hop_length,
            **{name: hparams[name] for name in SAME},
            **{name: hparams[name] for name in LATER if name in hparams},
        }
        run_on_main(prepare_vctk, kwargs=options)
    if shards is not None:
        # Everything comes from there.
        hparams["manifest_folder"] = hparams["audio_folder"] = shards
    hparams["speakers"] = read_speakers(hparams["manifest_folder"])
    return make_datasets(hparams, hparams["audio_folder"], hparams["speakers"])


if __name__ == "__main__":
    run(VCTKBrain, prepare)
