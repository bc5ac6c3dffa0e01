"""Checkpoints of every published layout compute what a reference of its own computes."""

import importlib.util
import os
import sys
import types
import warnings
from pathlib import Path

from waveglow_vq.checkpoints import describe_checkpoint, import_checkpoint
from waveglow_vq.errors import UserError
from waveglow_vq.inference import WaveGlowVocoder

import pytest
import torch

from tests.checkpoints import published as pub

CPU = {"device": "cpu"}


def save_bare(path, tensors):
    torch.save(tensors, path)
    return path


# Name: how it is saved, where it is from, and whether weight normalization stays.
LAYOUTS = {
    "current, legacy file": (pub.save_nvidia, "NVIDIA/waveglow", True),
    "current, zip file": (
        lambda path, t: pub.save_nvidia(path, t, legacy=False),
        "NVIDIA/waveglow",
        True,
    ),
    "separate conditions": (
        lambda path, t: pub.save_nvidia(path, pub.parted(t)),
        "NVIDIA/waveglow",
        True,
    ),
    "separate conditions and residuals": (
        lambda path, t: pub.save_nvidia(path, pub.parted(t, residuals=True)),
        "NVIDIA/waveglow",
        True,
    ),
    "normalization removed": (
        lambda path, t: pub.save_nvidia(path, pub.without_norms(t)),
        "NVIDIA/waveglow",
        False,
    ),
    "normalization removed in part": (
        lambda path, t: pub.save_nvidia(
            path,
            {n: v for n, v in pub.without_norms(t).items() if "cond" not in n}
            | {n: v for n, v in t.items() if "cond" in n},
        ),
        "NVIDIA/waveglow",
        False,
    ),
    "stale weights": (
        lambda path, t: save_bare(
            path,
            t | {n.replace("_v", ""): 7 * v for n, v in t.items() if n.endswith("weight_v")},
        ),
        "NVIDIA/waveglow",
        True,
    ),
    "examples": (
        lambda path, t: pub.save_examples(path, pub.parted(t)),
        "NVIDIA/DeepLearningExamples",
        True,
    ),
    "examples, legacy, one process": (
        lambda path, t: pub.save_examples(path, pub.parted(t), prefix="", legacy=True),
        "NVIDIA/DeepLearningExamples",
        True,
    ),
    "examples, wrapped twice": (
        lambda path, t: pub.save_examples(path, pub.parted(t), prefix="module.1."),
        "NVIDIA/DeepLearningExamples",
        True,
    ),
    "NeMo": (pub.save_nemo, "NVIDIA/NeMo", True),
    "NeMo, not compressed": (
        lambda path, t: pub.save_nemo(path, t, compressed=False),
        "NVIDIA/NeMo",
        True,
    ),
    "newer names of normalization": (
        lambda path, t: save_bare(path, pub.renamed_norms(t)),
        "NVIDIA/waveglow",
        True,
    ),
    "safetensors": (pub.save_safetensors, "NVIDIA/waveglow", True),
}


@pytest.fixture(scope="module")
def reference():
    """Tensors, and what they make of a waveform and of noise."""
    tensors, generator = pub.random_tensors(), torch.Generator().manual_seed(1)
    wav = 0.3 * torch.randn(2, 3 * pub.HOP, generator=generator)
    mel = torch.randn(2, pub.BANDS, 3, generator=generator)
    z = 0.7 * torch.randn(2, pub.GROUP, 3 * pub.HOP // pub.GROUP, generator=generator)
    return tensors, wav, mel, z, pub.forward(tensors, mel, wav), pub.infer(tensors, mel, z)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout, reference, tmp_path):
    save, source, normalized = LAYOUTS[layout]
    tensors, wav, mel, z, (expected_z, expected_logdet), expected_wav = reference
    path = save(tmp_path / "checkpoint.pt", tensors)
    report = import_checkpoint(path, tmp_path / "export")
    assert report["source"] == source
    assert report["architecture"] == {
        "n_mels": pub.BANDS,
        "hop_length": pub.HOP,
        "group_size": pub.GROUP,
        "flows": pub.FLOWS,
        "early_every": pub.EVERY,
        "early_size": pub.SIZE,
        "layers": pub.LAYERS,
        "channels": pub.CHANNELS,
        "kernel_size": pub.TAPS,
        "use_weight_norm": normalized,
    }
    vocoder = WaveGlowVocoder.from_hparams(tmp_path / "export", run_opts=CPU)
    flows = vocoder.mods.model.vocoder
    with torch.no_grad():
        found_z, logdet = flows(wav, mel)
        found_wav = flows.inverse(z, mel)
    assert (found_z - expected_z).abs().max() < 1e-4
    assert (logdet - expected_logdet).abs().max() < 1e-4 * expected_logdet.abs().max()
    assert (found_wav - expected_wav).abs().max() < 1e-4
    assert vocoder.decode_batch(mel, generator=0).shape == (2, 1, 3 * pub.HOP)


def test_half_precision_becomes_single(tmp_path):
    half = {name: value.half() for name, value in pub.random_tensors().items()}
    path = pub.save_nvidia(tmp_path / "checkpoint.pt", half)
    report = import_checkpoint(path, tmp_path / "export", sigma=0.6)
    assert (report["dtypes"], report["sampling_sigma"]) == (["float16"], 0.6)
    vocoder = WaveGlowVocoder.from_hparams(tmp_path / "export", run_opts=CPU)
    assert vocoder.hparams.sampling_sigma == 0.6
    weight = vocoder.mods.model.vocoder.steps[1].conv.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, half["convinv.1.conv.weight"][..., 0].float())


def test_log_scales_are_not_clamped(tmp_path):
    """One of 20 is the model's own business."""
    tensors = pub.random_tensors()
    tensors["WN.0.end.bias"][pub.GROUP // 2 :] = 20.0
    import_checkpoint(pub.save_nvidia(tmp_path / "c.pt", tensors), tmp_path / "export")
    vocoder = WaveGlowVocoder.from_hparams(tmp_path / "export", run_opts=CPU)
    wav, mel = torch.rand(1, 2 * pub.HOP) - 0.5, torch.randn(1, pub.BANDS, 2)
    expected, expected_logdet = pub.forward(tensors, mel, wav)
    with torch.no_grad():
        z, logdet = vocoder.mods.model.vocoder(wav, mel)
    assert (z - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (logdet - expected_logdet).abs().max() < 1e-4 * expected_logdet.abs().max()


def test_describe_writes_nothing(tmp_path):
    path = pub.save_nemo(tmp_path / "checkpoint.nemo", pub.random_tensors())
    report = describe_checkpoint(path)
    assert os.listdir(tmp_path) == ["checkpoint.nemo"]
    assert report["container"] == "NeMo archive"
    # NeMo's example has no upper edge: half of the rate.
    assert report["features"]["f_max"] == 11025
    assert len(report["left_out"]) == 2 + pub.FLOWS
    tensors = pub.random_tensors()
    assert report["parameters"] == sum(value.numel() for value in tensors.values())


def test_one_stage_without_early_outputs(tmp_path):
    tensors = {n: v for n, v in pub.random_tensors().items() if n[:3] == "ups" or ".0." in n[:10]}
    report = import_checkpoint(save_bare(tmp_path / "c.pt", tensors), tmp_path / "export")
    assert report["architecture"]["flows"] == 1
    assert report["architecture"]["early_every"] == 0


@pytest.mark.parametrize(
    "preprocessor, named",
    [
        ({"mag_power": 2.0}, "mag_power"),
        ({"n_window_stride": 200}, "n_window_stride"),
        ({"nfilt": 80}, "nfilt"),
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"highfreq": 40000}, "impossible"),
    ],
)
def test_other_log_mels_are_refused(preprocessor, named, tmp_path):
    path = pub.save_nemo(tmp_path / "c.nemo", pub.random_tensors(), **preprocessor)
    with pytest.raises(UserError, match=named):
        describe_checkpoint(path)


def test_log_mels_of_nemo_are_as_its_configuration_has_them(tmp_path):
    """Every key of it, with values that no default has."""
    stated = {"sample_rate": 24000, "n_fft": 2048, "n_window_size": 1000, "lowfreq": 40}
    stated |= {"highfreq": 7600, "log_zero_guard_value": 1e-3}
    path = pub.save_nemo(tmp_path / "c.nemo", pub.random_tensors(), **stated)
    assert describe_checkpoint(path)["features"] == {
        "sample_rate": 24000,
        "n_fft": 2048,
        "win_length": 1000,
        "hop_length": pub.HOP,
        "n_mels": pub.BANDS,
        "f_min": 40,
        "f_max": 7600,
        "floor": 1e-3,
    }
    # Up to half of the rate, and not beyond.
    for highest in (12000, 12001):
        path = pub.save_nemo(
            tmp_path / "c.nemo", pub.random_tensors(), **stated | {"highfreq": highest}
        )
        if highest == 12000:
            assert describe_checkpoint(path)["features"]["f_max"] == 12000
            continue
        with pytest.raises(UserError, match="impossible"):
            describe_checkpoint(path)


def test_contradictions_are_refused(tmp_path):
    path = pub.save_examples(tmp_path / "c.pt", pub.random_tensors(), n_flows=12)
    with pytest.raises(UserError, match="n_flows 12, but its tensors show 5"):
        describe_checkpoint(path)


def test_glow_old_is_refused_by_name(tmp_path):
    path = pub.save_nvidia(tmp_path / "c.pt", pub.random_tensors(), module="glow_old")
    with pytest.raises(UserError, match="glow_old"):
        describe_checkpoint(path)


def test_alternating_halves_are_recognized_by_their_source(tmp_path, monkeypatch):
    """A file of the time had the class under the name ``glow``; legacy files hold its source."""
    source = "class WaveGlow(torch.nn.Module):\n    if k%2 == 0:\n        pass\n"
    monkeypatch.setattr(
        torch.serialization, "get_source_lines_and_file", lambda obj: ([source], 1, "glow.py")
    )
    path = pub.save_nvidia(tmp_path / "c.pt", pub.random_tensors())
    with pytest.raises(UserError, match="glow_old"):
        describe_checkpoint(path)


def test_what_is_no_export_is_not_replaced(tmp_path):
    path = pub.save_nvidia(tmp_path / "c.pt", pub.random_tensors())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an export"):
        import_checkpoint(path, tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    with pytest.raises(UserError, match="sigma"):
        import_checkpoint(path, tmp_path / "export", sigma=-1)
    assert not (tmp_path / "export").exists()


# ---- against the public code


@pytest.fixture(scope="module")
def nvidia():
    """The module glow of a clone of NVIDIA/waveglow, whose noise comes from a list."""
    folder = os.environ.get("WAVEGLOW_VQ_NVIDIA")
    if not folder:
        pytest.skip("WAVEGLOW_VQ_NVIDIA does not name a clone of NVIDIA/waveglow")
    spec = importlib.util.spec_from_file_location("glow", Path(folder) / "glow.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["glow"] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    if not hasattr(torch, "qr"):  # torch means to remove it
        torch.qr = torch.linalg.qr
    yield module
    del sys.modules["glow"]


def differences(glow, tmp_path, monkeypatch, legacy, seconds, sigma=0.8, **network):
    """Saves a model of theirs in its own format, imports it, and gives the largest differences of
    z, of the log-determinant and of the samples, each relative to full scale of theirs."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = glow.WaveGlow(80, 12, 8, 4, 2, {"kernel_size": 3, **network})
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if ".end." in name:
                value.normal_(0, 0.3 * network["n_channels"] ** -0.5)
            elif name.endswith("weight_g"):
                value.mul_(1 + 0.2 * torch.rand_like(value))
            elif "convinv" in name:
                value.add_(0.02 * torch.randn_like(value))
            elif name == "upsample.weight":
                value.mul_(3)
    path = tmp_path / "waveglow_256channels.pt"
    saved = {"model": theirs, "iteration": 0, "optimizer": None, "learning_rate": 1e-4}
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    import_checkpoint(path, tmp_path / "export")
    path.unlink()
    vocoder = WaveGlowVocoder.from_hparams(tmp_path / "export", run_opts=CPU)
    ours = vocoder.mods.model.vocoder

    frames = round(seconds * 22050 / 256)
    wav, mel = 0.2 * torch.randn(1, frames * 256), torch.randn(1, 80, frames) - 4
    z = sigma * torch.randn(1, 8, frames * 32)
    # They draw the last channels first, then the early outputs from the last to the first.
    noise = [z[:, 4:], z[:, 2:4], z[:, :2]]

    def drawn(*shape):
        assert shape == tuple(noise[0].shape)
        return types.SimpleNamespace(normal_=lambda: noise.pop(0) / sigma)

    monkeypatch.setattr(torch.cuda, "FloatTensor", drawn)
    with torch.no_grad():
        expected_z, log_scales, log_dets = theirs((mel, wav))
        expected_logdet = (
            sum(log_scales, start=torch.zeros(()))
            if False
            else sum(s.sum() for s in log_scales) + sum(log_dets)
        )
        expected_wav = theirs.infer(mel, sigma=sigma)
        found_z, logdet = ours(wav, mel)
        found_wav = ours.inverse(z, mel)
    assert not noise
    assert expected_wav.std() > 0.01
    assert all(s.std() > 0.01 for s in log_scales)
    pairs = (found_z, expected_z), (logdet, expected_logdet), (found_wav, expected_wav)
    return [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]


@pytest.mark.parametrize("legacy", [True, False])
def test_small_models_of_the_public_code(nvidia, legacy, tmp_path, monkeypatch):
    network = {"n_layers": 3, "n_channels": 16}
    assert max(differences(nvidia, tmp_path, monkeypatch, legacy, 0.1, **network)) < 1e-4


@pytest.mark.slow
def test_published_size_of_the_public_code(nvidia, tmp_path, monkeypatch):
    network = {"n_layers": 8, "n_channels": 256}
    found = differences(nvidia, tmp_path, monkeypatch, True, 1.0, **network)
    print("largest differences of z, log-determinant, samples:", found)
    assert max(found) < 1e-4
