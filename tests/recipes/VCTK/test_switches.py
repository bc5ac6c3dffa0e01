"""Every switch of the YAML files reaches the model, and trains."""

import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.inference import SpeechCodec, WaveGlowVocoder, load_export
from waveglow_vq.training.run.hyperparameters import load_hparams

import pytest

from tests.recipes.command_line import folder_of
from tests.recipes.VCTK.vctk_runs import (
    RECIPE,
    SMALL,
    assert_converts,
    assert_trained,
    results,
    run,
)

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
    "codebooks": (3, lambda model: model.quantizer.codebooks),
    "grouping": ("product", lambda model: getattr(model.quantizer, "grouping", "residual")),
    "codebook_size": (11, lambda model: model.quantizer.codebook_size),
    "codebook_dim": (12, lambda model: model.quantizer.codebook_dim),
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
    ("vq", ["--codebooks", 2, "--code_stride", 2]),
    ("vq", ["--codebooks", 4, "--grouping", "product", "--adversary_weight", 0.1]),
    ("vq", ["--codebook_size", 32, "--codebook_dim", 4]),
    ("vq", ["--condition_dropout", 0.5]),
    ("vq", ["--adversary_weight", 0.1]),
    ("vq", ["--use_pitch", False]),
    ("vq", ["--pitch_stride", 1, "--pitch_levels", 8]),
    ("vq", ["--quantize_after", 2]),
    ("vq", ["--quantize_after", 100]),
    ("vq", ["--speaker_source", "encoder"]),
    ("vq", ["--speaker_source", "pretrained"]),
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
    ("mel", ["--speaker_source", "pretrained"]),
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
