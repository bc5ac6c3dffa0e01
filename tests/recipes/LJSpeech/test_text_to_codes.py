"""The recipe of text to codes from the command line to the export, with models that are too small
to learn anything, and codecs that have learnt nothing."""

import json
import os
import re
import shutil
import subprocess
import sys

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.inference import TextToSpeech
from waveglow_vq.training.average_run import average_run
from waveglow_vq.training.run import experiment
from waveglow_vq.training.text_to_codes.text_brain import TextToCodesBrain

import pytest
import torch
import train_text_to_codes

from tests.inference.exports import export_tiny
from tests.recipes.command_line import RECIPES, command_line, error_of, folder_of, log_lines
from tests.recipes.ljspeech_runs import assert_same_runs, final_state
from tests.recipes.text_runs import QUICK, SMALL

EVERY_STEP = ["--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1]


@pytest.fixture(scope="module")
def other_codec(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("other"), "mel_vq", codebook_size=16)[0]


@pytest.fixture(scope="module")
def prepared(demo_corpus, codec, tmp_path_factory):
    """Manifests and codes, made once: the runs of this file share them."""
    from waveglow_vq.training.text_to_codes.code_corpus import extract_codes

    from ljspeech_prepare import prepare_ljspeech

    folder = tmp_path_factory.mktemp("prepared")
    prepare_ljspeech(demo_corpus, folder / "manifests", split_ratio=(60, 20, 20))
    splits = {name: folder / "manifests" / f"{name}.json" for name in ("train", "valid", "test")}
    extract_codes(codec, splits, demo_corpus, folder / "codes", num_workers=1, device="cpu")
    return folder


@pytest.fixture
def command(demo_corpus, codec, prepared, tmp_path):
    """Builds a command line that takes a second or two."""

    def build(*options, preset=SMALL, output=tmp_path / "run"):
        quick = QUICK | {
            "data_folder": demo_corpus,
            "codec": codec,
            "output_folder": output,
            "manifest_folder": prepared / "manifests",
            "codes_folder": prepared / "codes",
            "number_of_epochs": 2,
            "max_batch_codes": 500,
            "valid_batch_size": 2,
            "free_running_utterances": 1,
            "samples_per_epoch": 0,
            "preset": f"{{{preset}}}",
        }
        return command_line(RECIPES / "LJSpeech", "text_to_codes", quick, options)

    return build


def run(arguments):
    Brain, prepare = train_text_to_codes.LJSpeechTextBrain, train_text_to_codes.prepare
    return experiment.run(Brain, prepare, arguments)


# ---- a whole run


def test_from_the_corpus_to_speech(command, demo_corpus, codec, tmp_path):
    """With the preparation and the extraction, which the other tests do without, and with all that
    the README promises."""
    options = ["--manifest_folder", tmp_path / "manifests", "--codes_folder", tmp_path / "codes"]
    options += ["--skip_prep", False, "--split_ratio", "[60, 20, 20]", "--number_of_epochs", 1]
    options += ["--samples_per_epoch", 1, "--test_utterances", 2, "--test_samples", 1]
    brain = run(command(*options, "--use_tensorboard", True))
    assert isinstance(brain, TextToCodesBrain)
    for name, parameter in brain.model.named_parameters():
        # Where no gradient arrives, DistributedDataParallel would stop.
        assert brain.optimizer.state.get(parameter), f"{name} is never trained"
    # The sizes are those of the codec and of the texts.
    assert (brain.model.codebook_size, brain.model.pitch_levels) == (32, 0)
    assert brain.model.vocabulary_size == brain.tokenizer.vocabulary_size
    folder = folder_of(brain)
    epoch = folder / "samples" / "epoch_0001"
    assert sorted(path.suffix for path in epoch.iterdir()) == [".png", ".wav"]
    assert any((folder / "samples").glob("*_attention.png"))
    assert any((folder / "samples").glob("*_speech.wav"))
    assert list((folder / "tensorboard").iterdir())
    log = (folder / "log.txt").read_text("utf-8")
    assert log.count("Beginning experiment!") == 1 and "Generating dynamic batches" not in log
    # Also of what was done before.
    assert "tokenizer.model: " in log
    line, test = log_lines(brain)
    for name in ("nll", "perplexity", "accuracy", "reading", "attention", "loss"):
        assert f"train {name}: " in line and f"valid {name}: " in line and f"test {name}: " in test
    for name in ("length_ratio", "stopped", "diagonality", "diagonal", "truncated"):
        assert f"valid free_{name}: " in line
    results = json.loads((folder / "test_results.json").read_text())
    assert {"nll", "perplexity", "judged_mcd_ratio", "judged_diagonal"} <= results.keys()
    assert len(json.loads((folder / "test_report.json").read_text())["utterances"]) == 2
    tts = TextToSpeech.from_hparams(folder / "export", run_opts={"device": "cpu"})
    assert tts.synthesize("The committee met.", generator=0).shape[1] > 512
    texts = json.loads((tmp_path / "manifests" / "train.json").read_text("utf-8")).values()
    assert tts.max_characters == max(len(entry["text"]) for entry in texts)
    assert (folder / "export" / "codec" / "model.ckpt").is_file()


def test_the_model_knows_the_training_data(command):
    """Rate of speech and repetitions of codes are in what is exported, average or not."""
    brain = run(command("--number_of_epochs", 1))
    exported = torch.load(folder_of(brain) / "export" / "model.ckpt", weights_only=True)
    assert 0 < exported["least_rate"] < exported["greatest_rate"] < 20
    assert torch.equal(exported["longest_runs"], brain.model.longest_runs)
    assert exported["longest_runs"].max() < 1000


def test_training_lowers_the_loss(command):
    brain = run(command("--number_of_epochs", 6, "--learning_rate", 0.01))
    found = re.findall(r"train nll: ([.e+\d]+)", "\n".join(log_lines(brain)))
    assert float(found[-1]) < float(found[0]) - 0.1


def test_what_was_searched_with_is_exported(command):
    options = ["--search_method", "sample", "--temperature", 0.7, "--top_k", 5]
    brain = run(command(*options, "--number_of_epochs", 1))
    tts = TextToSpeech.from_hparams(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert (tts.search.method, tts.search.temperature, tts.search.top_k) == ("sample", 0.7, 5)


def test_byte_pairs(command):
    options = ["--tokenizer", "bpe", "--vocabulary_size", 60, "--number_of_epochs", 1]
    brain = run(command(*options))
    assert brain.model.vocabulary_size == brain.tokenizer.vocabulary_size == 60
    assert brain.tokenizer.kind == "bpe"


def test_too_many_byte_pairs_say_how_many_there_can_be(capsys, command):
    error = error_of(capsys, run, command("--tokenizer", "bpe", "--vocabulary_size", 9000))
    assert re.search(r"vocabulary_size is 9000, but .* at most \d+ tokens", error)


def test_training_ends_in_time(command):
    brain = run(command("--max_minutes", 1e-6, "--number_of_epochs", 100))
    assert brain.hparams.schedule.steps == 1
    assert (folder_of(brain) / "export").is_dir()


def test_checkpoints_can_be_averaged_afterwards(command, tmp_path):
    brain = run(command("--keep_checkpoints", 2, "--use_averaging", False))
    chosen, name, interface = average_run(folder_of(brain), 2, tmp_path / "averaged")
    assert (len(chosen), name, interface) == (2, "model", "TextToSpeech")
    tts = TextToSpeech.from_hparams(tmp_path / "averaged", run_opts={"device": "cpu"})
    saved = [torch.load(one.paramfiles["model"], weights_only=True) for one in chosen]
    mean = (saved[0]["to_code.weight"] + saved[1]["to_code.weight"]) / 2
    assert torch.allclose(tts.mods.model.to_code.weight, mean, atol=1e-6)


# ---- given again


class Interrupted(Exception):
    pass


def run_interrupted(arguments, monkeypatch, step):
    """A run that dies after so many steps, and then the same command again."""
    batch_end = TextToCodesBrain.on_fit_batch_end

    def dying(self, *rest):
        batch_end(self, *rest)
        if self.hparams.schedule.steps == step:
            raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(TextToCodesBrain, "on_fit_batch_end", dying)
        run(arguments)
    return run(arguments)


@pytest.mark.parametrize(
    "options",
    [
        [],
        pytest.param(["--num_workers", 1, "--precision", "bf16"], marks=pytest.mark.slow),
        pytest.param(
            ["--grad_accumulation_factor", 2, "--max_batch_codes", 300], marks=pytest.mark.slow
        ),
        pytest.param(
            ["--use_averaging", False, "--search_method", "sample"], marks=pytest.mark.slow
        ),
    ],
)
def test_an_interrupted_epoch_goes_on(command, monkeypatch, tmp_path, options):
    options = [*options, *EVERY_STEP]
    straight = run(command(*options, output=tmp_path / "straight"))
    steps = straight.hparams.schedule.steps
    assert steps >= 6
    broken = command(*options, output=tmp_path / "broken")
    # In the second of two epochs, and not at its begin.
    resumed = run_interrupted(broken, monkeypatch, step=steps // 2 + 2)
    assert resumed.hparams.schedule.steps == steps
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")


def test_a_finished_run_is_only_evaluated_again(command, tmp_path):
    first = run(command())
    before = final_state(tmp_path / "run")
    tokenizer = (tmp_path / "run" / "tokenizer.model").stat().st_mtime_ns
    again = run(command())
    assert len(log_lines(again)) == len(log_lines(first)) == 4
    after = final_state(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before if "model" in name)
    assert (tmp_path / "run" / "tokenizer.model").stat().st_mtime_ns == tokenizer


def test_codes_of_another_codec_are_refused(capsys, command, other_codec, tmp_path):
    run(command("--number_of_epochs", 1))
    error = error_of(capsys, run, command("--codec", other_codec))
    assert "holds codes of the model" in error
    # Elsewhere they may go, but the weights do not fit.
    options = ["--codec", other_codec, "--codes_folder", tmp_path / "codes"]
    assert "another --output_folder" in error_of(capsys, run, command(*options))


def test_a_changed_codec_is_noticed(capsys, command, codec, tmp_path):
    """One with the same sizes, in the same place."""
    own = tmp_path / "codec"
    shutil.copytree(codec, own)
    options = ["--codec", own, "--number_of_epochs", 1, "--codes_folder"]
    run(command(*options, tmp_path / "codes"))
    weights = torch.load(own / "model.ckpt", weights_only=True)
    name = next(name for name, value in weights.items() if value.is_floating_point())
    weights[name] += 0.5
    torch.save(weights, own / "model.ckpt")
    error = error_of(capsys, run, command(*options, tmp_path / "codes"))
    assert "holds codes of the model" in error
    # Where they go elsewhere, the weights still belong to the first one.
    error = error_of(capsys, run, command(*options, tmp_path / "new_codes"))
    assert "was trained with the codec of checksum" in error and "--output_folder" in error


def test_another_tokenizer_is_refused(capsys, command, tmp_path):
    run(command("--number_of_epochs", 1))
    options = ["--tokenizer", "bpe", "--vocabulary_size", 60]
    assert "give another --output_folder" in error_of(capsys, run, command(*options))


# ---- mistakes


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--codec", "null"], "--codec names the folder 'export'"),
        (["--codec", "/nowhere"], "/nowhere does not exist"),
        (["--data_folder", "/nowhere"], "/nowhere"),
        (["--search_method", "sample", "--top_p", 2], "top_p: 2"),
        (["--max_codes", 2], "--min_codes or --max_codes"),
        (["--grad_accumulation_factor", 99], "lower one of the two"),
        (["--free_running_utterance", 3], "did you mean --free_running_utterances?"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(capsys, command, options, named):
    # With the sizes of the preset as they are, so that --size matters.
    assert named in error_of(capsys, run, command(*options, preset=""))


def test_a_codec_that_is_none_is_refused(capsys, command, tmp_path, demo_corpus):
    vocoder = export_tiny(tmp_path / "vocoder", "mel")[0]
    error = error_of(capsys, run, command("--codec", vocoder))
    assert "WaveGlowVocoder" in error and "no codes" in error
    error = error_of(capsys, run, command("--codec", demo_corpus))
    assert "not an export folder" in error
    converter = export_tiny(tmp_path / "converter", "mel_vq", labels=["a", "b"])[0]
    assert "2 voices" in error_of(capsys, run, command("--codec", converter))
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").rglob("*.txt"))


# ---- several processes


@pytest.mark.slow
def test_two_processes_train(command, tmp_path):
    """Extraction and tokenizer are the first one's; every parameter takes part in every step."""
    options = ["--codes_folder", tmp_path / "codes", "--distributed_backend", "gloo"]
    options += ["--max_batch_codes", 300, "--free_running_utterances", 2]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + [str(RECIPES / "LJSpeech" / "train_text_to_codes.py"), *command(*options)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    lines = (tmp_path / "run" / "train_log.txt").read_text("utf-8").splitlines()
    assert len(lines) == 3 and "valid free_stopped" in lines[0]
    tts = TextToSpeech.from_hparams(tmp_path / "run" / "export", run_opts={"device": "cpu"})
    assert tts.synthesize("The committee met.", generator=0).shape[1] > 512
