"""The VCTK recipe from the command line to the export, with models that are too small to learn
anything. What it shares with the LJSpeech recipe is tested there, in test_train.py."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.data.speakers import SPEAKERS_FILE, read_speakers
from waveglow_vq.inference import SpeechCodec, VoiceConverter, WaveGlowVocoder, load_export
from waveglow_vq.training.multispeaker_brain import MultiSpeakerBrain
from waveglow_vq.training.run import experiment
from waveglow_vq.training.run.hyperparameters import load_hparams

import pytest
import torch

from tests.data.corpora.vctk_tree import voice, write_small
from tests.recipes.command_line import command_line

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "VCTK"
SMALL = "flow: {flows: 2, layers: 2, channels: 8, envelope: {order: 16}}, conditioner_channels: 16"
KNOWN, UNSEEN = ["p225", "p226"], "p227"
NOBODY = ["--global_condition", "none", "--use_pitch", False]


def load_recipe():
    """Its module under a name of its own: train.py is that of the LJSpeech recipe in the tests."""
    if str(RECIPE) not in sys.path:
        sys.path.append(str(RECIPE))
    specification = importlib.util.spec_from_file_location("vctk_train", RECIPE / "train.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


train = load_recipe()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Ten clips of a good second, of three speakers, in the layout of release 0.80."""
    folder = tmp_path_factory.mktemp("corpus") / "VCTK-Corpus"
    return write_small(folder, "0.80", {"p225": 4, "p226": 4, UNSEEN: 1}, seconds=1.1)


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    """Prepared audio and manifests, made once: the runs of this file share them."""
    folder = tmp_path_factory.mktemp("prepared")
    train.prepare_vctk(
        corpus,
        folder / "audio",
        folder / "manifests",
        split_ratio=(50, 25, 25),
        unseen_speakers=[UNSEEN],
        num_workers=1,
    )
    return folder


@pytest.fixture
def command(prepared, tmp_path):
    """Builds a command line that takes a second or two."""

    def build(yaml, *options, preset=SMALL, output=tmp_path / "run"):
        quick = {
            "audio_folder": prepared / "audio",
            "output_folder": output,
            "manifest_folder": prepared / "manifests",
            "skip_prep": True,
            "size": "tiny",
            "number_of_epochs": 1,
            "segments_per_epoch": 6,
            "batch_size": 2,
            "context_frames": 40,
            "num_workers": 0,
            "max_speakers": 5,
            "warmup_steps": 2,
            "speaker_channels": 8,
            "max_valid_utterances": 1,
            "valid_batch_size": 2,
            "samples_per_epoch": 0,
            "test_samples": 1,
            "diagnose": False,
            "preset": f"{{{preset}}}",
        }
        if yaml == "vq":
            quick |= {"codebook_size": 16, "codebook_dim": 8}
        return command_line(RECIPE, yaml, quick, options)

    return build


def run(arguments):
    return experiment.run(train.VCTKBrain, train.prepare, arguments)


def folder_of(brain):
    return Path(brain.hparams.output_folder)


def results(brain):
    return json.loads((folder_of(brain) / "test_results.json").read_text("utf-8"))


def weights(brain):
    return {name: value.clone() for name, value in brain.model.state_dict().items()}


def assert_same_weights(first, second):
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def assert_trained(brain):
    """Every parameter got a gradient, and what comes of it is finite."""
    for name, parameter in brain.model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        # Where no gradient arrives, DistributedDataParallel would stop.
        assert brain.optimizer.state.get(parameter), f"{name} is never trained"
    assert all(abs(value) < float("inf") for value in results(brain).values())


def assert_converts(brain):
    """The export has a voice for each speaker of the training data."""
    converter = load_export(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert isinstance(converter, VoiceConverter)
    assert converter.speakers == KNOWN
    wav = torch.from_numpy(voice(0.4, 22050)).float()[None]
    mode = "codes" if brain.model.quantizer is not None else "latent_swap"
    one, other = (converter.convert_batch(wav, label, mode=mode, generator=0) for label in KNOWN)
    assert one.shape == (1, 1, wav.shape[1]) and torch.isfinite(one).all()
    return (one - other).abs().max()


# ---- a whole run


def test_from_the_corpus_to_the_export(corpus, command, tmp_path):
    """With the preparation, which the other tests do without, and every default of the YAML."""
    options = {
        "--data_folder": corpus,
        "--audio_folder": tmp_path / "audio",
        "--manifest_folder": tmp_path / "manifests",
        "--skip_prep": False,
        "--unseen_speakers": f"[{UNSEEN}]",
        "--split_ratio": "[50, 25, 25]",
    }
    brain = run(command("vq", *(word for pair in options.items() for word in pair)))
    assert isinstance(brain, MultiSpeakerBrain)
    assert_trained(brain)
    assert_converts(brain)
    # 22050 / 256 codes of 4 bits in a second.
    assert results(brain)["bits_per_second"] == pytest.approx(344.53125)
    assert {"nll", "mel_l1", "log_mel_l1", "real_time_factor"} <= results(brain).keys()
    assert json.loads((tmp_path / "manifests" / "unseen.json").read_text())
    # The model knows the speakers' pitch, and the export with it.
    speakers = read_speakers(tmp_path / "manifests")
    assert speakers.labels == KNOWN
    low, high = speakers.f0_statistics[:, 0].exp().tolist()
    assert (low, high) == (pytest.approx(110, rel=0.05), pytest.approx(220, rel=0.05))
    state = torch.load(folder_of(brain) / "export" / "model.ckpt", weights_only=True)
    mean = speakers.f0_statistics.mean(0)
    expected = torch.cat([speakers.f0_statistics, mean.repeat(4, 1)])
    torch.testing.assert_close(state["speakers.log_f0"], expected)
    assert (folder_of(brain) / "samples").is_dir()
    assert not (folder_of(brain) / "diagnostics").exists()


# ---- every switch reaches the model, and trains

# Of each switch of the YAML files, a value that is no default, and what the model says of it.
OF_ALL = {
    "speaker_source": ("encoder", lambda model: model.speakers.source),
    "max_speakers": (7, lambda model: model.speakers.count),
    "speaker_channels": (9, lambda model: model.vocoder.speaker_channels),
    "speaker_dropout": (0.3, lambda model: model.speakers.dropout),
    "condition_dropout": (0.2, lambda model: model.condition_dropout),
    "use_film": (True, lambda model: model.vocoder.use_film),
}
OF_CODES = {"adversary_weight": (0.4, lambda model: model.adversary_weight)}
OF_VQ = {
    "code_stride": (3, lambda model: model.conditioner.stride),
    "codebook_size": (11, lambda model: model.quantizer.codebook_size),
    "codebook_dim": (13, lambda model: model.quantizer.codebook_dim),
    "mel_weight": (2.5, lambda model: model.mel_weight),
    "quantize_after": (17, lambda model: model.conditioner.quantize_after),
    "use_instance_norm": (False, lambda model: model.conditioner.use_instance_norm),
    "time_jitter": (0.3, lambda model: model.conditioner.jitter),
    "mel_warp": (0.2, lambda model: model.conditioner.warp),
    "pitch_stride": (5, lambda model: model.conditioner.pitch.stride),
    "pitch_levels": (9, lambda model: model.conditioner.pitch.levels),
}
SWITCHES = {"mel": OF_ALL, "vq": OF_ALL | OF_CODES | OF_VQ, "vq_wav": OF_ALL | OF_CODES}


@pytest.mark.parametrize("yaml", list(SWITCHES))
def test_switches_reach_the_model(monkeypatch, tmp_path, yaml):
    monkeypatch.chdir(tmp_path)  # the folders of a run are made here

    def build(**overrides):
        overrides = {"size": "tiny", **overrides}
        return load_hparams(str(RECIPE / "hparams" / f"{yaml}.yaml"), json.dumps(overrides))

    default = build()
    changed = build(**{name: value for name, (value, _) in SWITCHES[yaml].items()})
    for name, (value, found) in SWITCHES[yaml].items():
        assert found(default["model"]) == default[name] != value, name
        assert found(changed["model"]) == value, name
    if yaml == "vq":
        assert default["model"].uses_pitch and not build(use_pitch=False)["model"].uses_pitch
        # Who speaks is told to the decoder and to the predicted log-mel.
        assert changed["model"].conditioner.fine.modulation.in_features == 9
        assert changed["model"].conditioner.speaker_head.in_features == 9
    if yaml == "vq_wav":
        # As published, to the flows only; where there is an envelope, to that too.
        assert default["model"].conditioner.stack.modulation is None
        assert build(prior="envelope")["model"].conditioner.stack.modulation is not None
    none = build(global_condition="none", **({"use_pitch": False} if yaml == "vq" else {}))
    assert none["model"].speakers is None and none["model"].vocoder.speaker_channels == 0


# All that is off by default, and all that is on by default switched off.
ON = ["--adversary_weight", 0.1, "--quantize_after", 2, "--condition_dropout", 0.5]
ON += ["--use_film", True, "--speaker_source", "encoder", "--time_jitter", 0.12, "--mel_warp", 0.1]
OFF = ["--use_instance_norm", False, "--use_pitch", False]
OFF += ["--speaker_dropout", 0, "--code_stride", 2]
QUICK = [("vq", ON), ("vq", OFF), ("mel", ["--use_film", True]), ("vq_wav", [])]
EACH = [
    ("vq", ["--use_instance_norm", False]),
    ("vq", ["--time_jitter", 0.12]),
    ("vq", ["--mel_warp", 0.1]),
    ("vq", ["--code_stride", 2]),
    ("vq", ["--codebook_size", 32, "--codebook_dim", 4]),
    ("vq", ["--condition_dropout", 0.5]),
    ("vq", ["--adversary_weight", 0.1]),
    ("vq", ["--use_pitch", False]),
    ("vq", ["--pitch_stride", 1, "--pitch_levels", 8]),
    ("vq", ["--quantize_after", 2]),
    ("vq", ["--quantize_after", 100]),
    ("vq", ["--speaker_source", "encoder"]),
    ("vq", ["--speaker_dropout", 0]),
    ("vq", ["--use_film", True]),
    ("vq", ["--prior", "white"]),
    ("vq", ["--condition_geometry", "sample"]),
    ("vq", ["--precision", "bf16", "--adversary_weight", 0.1]),
    ("vq", ["--use_averaging", False, "--speaker_source", "encoder"]),
    ("vq", ["--average_checkpoints", 2, "--number_of_epochs", 2]),
    ("vq", ["--grad_accumulation_factor", 2]),
    ("vq", ["--num_workers", 1, "--use_tensorboard", True]),
    ("mel", []),
    ("mel", ["--speaker_source", "encoder"]),
    ("vq_wav", ["--adversary_weight", 0.1]),
    ("vq_wav", ["--prior", "envelope", "--use_film", True]),
    ("vq_wav", ["--speaker_source", "encoder", "--condition_dropout", 0.5]),
]


def small(yaml):
    return SMALL + (", codebook_size: 16, codebook_dim: 8" if yaml == "vq_wav" else "")


def assert_switches_train(command, yaml, options):
    brain = run(command(yaml, *options, preset=small(yaml)))
    assert_trained(brain)
    # The flows begin as if there were no speakers, and learn a little in three steps.
    assert assert_converts(brain) > 0
    assert ("adversary" in results(brain)) is ("--adversary_weight" in options)


@pytest.mark.parametrize(("yaml", "options"), QUICK)
def test_switches_train(command, yaml, options):
    assert_switches_train(command, yaml, options)


@pytest.mark.slow
@pytest.mark.parametrize(("yaml", "options"), EACH)
def test_each_switch_trains(command, yaml, options):
    assert_switches_train(command, yaml, options)


FULL_SIZE = [
    ("vq", []),
    ("vq", ["--speaker_source", "encoder", "--use_film", "True", "--adversary_weight", 0.1]),
    ("mel", []),
    ("vq_wav", []),
]


@pytest.mark.slow
@pytest.mark.parametrize(("yaml", "options"), FULL_SIZE)
def test_full_size_tiny_trains(command, yaml, options):
    """The preset as it is, without anything made smaller but the corpus."""
    brain = run(command(yaml, *options, "--max_speakers", 128, preset=""))
    assert_trained(brain)
    assert_converts(brain)


WITHOUT_SPEAKERS = [
    ("mel", [], WaveGlowVocoder),
    ("vq", ["--use_pitch", False], SpeechCodec),
    ("vq_wav", [], SpeechCodec),
]


@pytest.mark.slow
@pytest.mark.parametrize(("yaml", "options", "interface"), WITHOUT_SPEAKERS)
def test_a_model_without_speakers_trains_on_the_same_corpus(command, yaml, options, interface):
    brain = run(command(yaml, "--global_condition", "none", *options, preset=small(yaml)))
    assert brain.model.speakers is None
    assert_trained(brain)
    export = load_export(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert type(export) is interface


# ---- what an encoder of speakers leaves


def exported(brain):
    return torch.load(folder_of(brain) / "export" / "model.ckpt", weights_only=True)


def test_known_speakers_get_their_vectors_from_the_whole_encoder(command):
    """Also where the run was over before, and nothing but the test is left to do: dropout of
    speakers belongs to training."""
    options = ["--speaker_source", "encoder", "--speaker_dropout", 0.9]
    first = exported(run(command("vq", *options)))
    centroids, unknown = first["speakers.centroids"], first["speakers.unknown"]
    assert centroids[:2].any(1).all() and not centroids[2:].any()
    assert not torch.isclose(centroids[:2], unknown).all(1).any()
    again = exported(run(command("vq", *options, "--test_only")))
    torch.testing.assert_close(again["speakers.centroids"], centroids)


# ---- quantizing later


@pytest.mark.slow
def test_the_start_step_of_the_codes_is_in_the_checkpoint(command, monkeypatch):
    """A run that goes on does not begin to pass the quantizer by again."""
    steps, batch_end = [], MultiSpeakerBrain.on_fit_batch_end

    def noting(self, *arguments):
        batch_end(self, *arguments)
        steps.append(int(self.model.conditioner.steps))

    monkeypatch.setattr(MultiSpeakerBrain, "on_fit_batch_end", noting)
    run(command("vq", "--quantize_after", 5))
    run(command("vq", "--quantize_after", 5, "--number_of_epochs", 2))
    assert steps == [1, 2, 3, 4, 5, 6]


# ---- resuming


class Interrupted(Exception):
    pass


def interrupt_at(monkeypatch, step):
    """Lets a run die after so many optimizer steps."""
    batch_end = MultiSpeakerBrain.on_fit_batch_end

    def dying(self, *arguments):
        batch_end(self, *arguments)
        if self.hparams.schedule.steps == step:
            raise Interrupted

    monkeypatch.setattr(MultiSpeakerBrain, "on_fit_batch_end", dying)


def test_a_resumed_run_equals_an_uninterrupted_one(command, monkeypatch, tmp_path):
    options = ["--number_of_epochs", 2, "--quantize_after", 2, "--adversary_weight", 0.1]
    straight = run(command("vq", *options, output=tmp_path / "straight"))
    broken = command("vq", *options, output=tmp_path / "broken")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(patch, step=5)  # of 6; 3 make an epoch
        run(broken)
    resumed = run(broken)
    assert resumed.hparams.schedule.steps == straight.hparams.schedule.steps == 6
    assert_same_weights(weights(straight), weights(resumed))
    assert_same_weights(straight.averaged.state_dict(), resumed.averaged.state_dict())


# ---- diagnostics


def has_diagnostics():
    return importlib.util.find_spec("waveglow_vq.evaluation.conversion.diagnosis") is not None


@pytest.mark.slow
@pytest.mark.skipif(
    not has_diagnostics(), reason="there is no waveglow_vq.evaluation.conversion.diagnosis"
)
@pytest.mark.parametrize("yaml", ["vq", "mel"])
def test_diagnostics_follow_the_test(command, yaml):
    options = ["--diagnose", True, "--diagnose_min_clips", 1, "--use_judges", False]
    brain = run(command(yaml, *options))
    assert any((folder_of(brain) / "diagnostics").iterdir())
    assert_converts(brain)


# ---- several processes


@pytest.mark.slow
@pytest.mark.parametrize("source", ["table", "encoder"])
def test_two_processes_train(command, tmp_path, source):
    """Every parameter takes part in every step of each of them."""
    options = ["--adversary_weight", 0.1, "--condition_dropout", 0.5, "--quantize_after", 2]
    options += ["--speaker_source", source, "--segments_per_epoch", 12]
    arguments = command("vq", "--distributed_backend", "gloo", *options)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + [str(RECIPE / "train.py"), *arguments],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    lines = (tmp_path / "run" / "train_log.txt").read_text("utf-8").splitlines()
    # 12 segments are 6 batches of 2 alone, and 3 for each of two.
    assert len(lines) == 2 and "steps: 3," in lines[0]
    converter = VoiceConverter.from_hparams(tmp_path / "run" / "export")
    assert converter.speakers == KNOWN


# ---- mistakes


def error_of(capsys, arguments):
    with pytest.raises(SystemExit) as exit_info:
        run(arguments)
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.mark.parametrize(
    ("yaml", "options", "named"),
    [
        ("vq", ["--max_speakers", 1], "max_speakers: 1; the corpus has 2 speakers"),
        ("vq", ["--global_condition", "none"], "use_pitch to False"),
        ("vq", ["--adversary_weight", 0.1, *NOBODY], "adversary_weight"),
        ("vq", ["--time_jitter", 2], "jitter: 2"),
        ("mel", ["--codebook_size", 16], "codebook_size is not an option"),
        ("vq", ["--max_speaker", 9], "did you mean --max_speakers?"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(capsys, command, yaml, options, named):
    assert named in error_of(capsys, command(yaml, *options))


def test_without_a_corpus_nothing_is_written(capsys, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(RECIPE / "hparams" / "vq.yaml"), "--size", "tiny"]
    assert "--data_folder" in error_of(capsys, arguments)
    assert "/nowhere" in error_of(capsys, [*arguments, "--data_folder", "/nowhere"])
    (tmp_path / "music").mkdir()
    error = error_of(capsys, [*arguments, "--data_folder", "music"])
    assert "music" in error and "wav48" in error
    assert [path.name for path in tmp_path.rglob("*")] == ["music"]


def test_an_unseen_speaker_that_is_not_there_is_named(capsys, command, corpus, tmp_path):
    options = ["--data_folder", corpus, "--skip_prep", False, "--unseen_speakers", "[p999]"]
    arguments = command("vq", *options, "--manifest_folder", tmp_path / "manifests")
    assert "p999" in error_of(capsys, arguments)


def test_manifests_of_another_recipe_are_told(capsys, command, prepared, tmp_path):
    """LJSpeech's have no list of speakers."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for file in (prepared / "manifests").iterdir():
        (manifests / file.name).write_bytes(file.read_bytes())
    (manifests / SPEAKERS_FILE).unlink()
    error = error_of(capsys, command("vq", "--manifest_folder", manifests))
    assert str(manifests) in error and SPEAKERS_FILE in error
