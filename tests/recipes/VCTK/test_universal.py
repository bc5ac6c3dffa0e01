"""A vocoder of any voice: several corpora, at several rates, in one run."""

import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.inference import WaveGlowVocoder, load_export

import pytest
import soundfile

from tests.data.corpora.vctk_tree import voice, write_small
from tests.recipes.command_line import command_line, error_of, folder_of
from tests.recipes.VCTK.vctk_runs import RECIPE, SMALL, assert_trained, run


@pytest.fixture
def folders(tmp_path):
    """VCTK at 48 kHz, one voice at 22.05 kHz, and speakers at 16 kHz."""
    write_small(tmp_path / "VCTK", "0.80", {"p225": 2, "p226": 2}, seconds=1.1)
    one, many = tmp_path / "Anna", tmp_path / "many"
    (one / "wavs").mkdir(parents=True)
    for n in range(6):
        soundfile.write(one / "wavs" / f"a{n}.flac", voice(1.1, 22050, seed=n), 22050)
        (many / f"s{n}").mkdir(parents=True)
        soundfile.write(many / f"s{n}" / "1.flac", voice(1.1, 16000, 150.0, seed=n), 16000)
    (one / "metadata.csv").write_text("".join(f"a{n}|Prompt {n}.\n" for n in range(6)), "utf-8")
    return [tmp_path / "VCTK", one, many]


@pytest.fixture
def universal(folders, tmp_path):
    """Builds a command line that takes a second or two."""

    def build(*options):
        quick = {
            "data_folders": f"[{', '.join(map(str, folders))}]",
            "audio_folder": tmp_path / "audio",
            "manifest_folder": tmp_path / "manifests",
            "output_folder": tmp_path / "run",
            "split_ratio": "[60, 20, 20]",
            "held_out_speakers": "[s1, p226]",
            "held_out_clips": "a3",
            "size": "tiny",
            "number_of_epochs": 1,
            "segments_per_epoch": 6,
            "batch_size": 2,
            "context_frames": 40,
            "num_workers": 0,
            "warmup_steps": 2,
            "max_valid_utterances": 1,
            "samples_per_epoch": 0,
            "test_samples": 1,
            "preset": f"{{{SMALL}}}",
        }
        return command_line(RECIPE, "mel_universal", quick, options)

    return build


def manifest(folder, name):
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def test_from_corpora_to_the_export_and_on(universal, tmp_path, capsys):
    shards = ["--shards_folder", tmp_path / "shards"]
    brain = run(universal(*shards))
    assert_trained(brain)
    vocoder = load_export(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert isinstance(vocoder, WaveGlowVocoder)
    test = manifest(tmp_path / "manifests", "test")
    assert {"s1_1", "a3", "p226_002", "p226_004"} <= set(test)
    train = manifest(tmp_path / "manifests", "train")
    assert not {entry["speaker"] for entry in train.values()} & {"s1", "p226"}
    report = manifest(tmp_path / "manifests", "prepare_report")
    assert [
        (c["name"], c["layout"], c["clips"], c["speakers"], c["sample_rates"])
        for c in report["corpora"]
    ] == [
        ("VCTK", "VCTK", 4, 2, {"48000": 4}),
        ("Anna", "LJSpeech", 6, 1, {"22050": 6}),
        ("many", "speakers", 6, 6, {"16000": 6}),
    ]
    assert report["options"]["highpass_hz"] == 70 and report["options"]["fill_band_db"] == -3.0
    # It goes on, from the shards as well; but not from those of other settings.
    resumed = run(universal(*shards, "--number_of_epochs", 2))
    assert resumed.hparams.schedule.steps == 2 * brain.hparams.schedule.steps
    error = error_of(capsys, run, universal(*shards, "--highpass_hz", "null"))
    assert "highpass_hz" in error and str(tmp_path / "shards") in error


def test_mistakes(universal, capsys, tmp_path):
    assert "s99" in error_of(capsys, run, universal("--held_out_speakers", "[s99]"))
    error = error_of(capsys, run, universal("--data_folders", "/nowhere"))
    assert "/nowhere does not exist" in error
    assert "--data_folders" in error_of(capsys, run, universal("--data_folders", "[]"))
