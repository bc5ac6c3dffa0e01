"""Sampling by graphs against sampling without: on a CPU, with graphs that compute again what they
captured."""

import copy
import logging
import pickle

from waveglow_vq.errors import UserError
from waveglow_vq.inference import WaveGlowVocoder, sampling_graphs
from waveglow_vq.inference.sampling_graphs import SamplingGraphs, graph_sampling, rounded_frames
from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.source.pitch_rows import PitchRows

import pytest
import torch

from tests.lobes.flows.network.fake_graphs import PoolOnCPU, graphs_on_cpu, replays
from tests.lobes.flows.transform_base import random_tensor, randomized, tiny_features

HOP, GROUP = 16, 8
CPU = {"device": "cpu"}


@pytest.fixture
def pools(monkeypatch):
    """The pools that are made, on a CPU."""
    return graphs_on_cpu(monkeypatch)


def flows(after=0, **options):
    """A vocoder that samples by graphs."""
    options = {"flows": 3, "early_every": 2, "layers": 2, "channels": 8, "prior": "white"} | options
    torch.manual_seed(0)
    model = randomized(WaveGlow(tiny_features(), condition_channels=5, **options)).eval()
    prepare_inference(model)
    graph_sampling(model, after)
    assert isinstance(model.inverse_flows, SamplingGraphs)
    return model


def inputs(frames, extra=1, items=2, speaker=0, dtype=torch.float64):
    found = [random_tensor(items, GROUP, frames * HOP // GROUP), random_tensor(items, 5, frames)]
    found[1] = torch.cat([found[1], random_tensor(items, 5, extra, seed=2)], dim=-1)
    found += [random_tensor(items, speaker, seed=3)] if speaker else [None]
    return [None if x is None else x.to(dtype) for x in found]


def assert_is_plain(model, *arguments, **options):
    with torch.no_grad():
        expected = type(model).inverse_flows(model, *arguments, **options)
        found = model.inverse_flows(*arguments, **options)
    tolerance = 1e-9 if found.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert found.std() > 0.1


def test_lengths_are_rounded_up_by_an_eighth_at_most():
    for frames in range(1, 3000):
        rounded = rounded_frames(frames)
        assert frames <= rounded <= max(16, 1.125 * frames)
        assert rounded_frames(rounded) == rounded


@pytest.mark.parametrize("geometry", ["frame", "group", "sample"])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("more", [{}, {"speaker_channels": 2, "use_film": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_padded_it_is_the_same(pools, geometry, extra, more, dtype):
    """Lengths of one graph and of several, shorter items, spare frames."""
    model = flows(condition_geometry=geometry, **more)
    if dtype == torch.float32:
        prepare_inference(model.float())
    for frames in (3, 16, 17, 18, 33, 7):
        given = inputs(frames, extra, speaker=more.get("speaker_channels", 0), dtype=dtype)
        assert_is_plain(model, *given)
        samples = torch.tensor([frames - 1, frames]) * HOP
        assert_is_plain(model, *given, samples=samples)
        assert_is_plain(model, *given, samples=torch.full((2,), frames * HOP))
        for spare in ((2, 0), (0, 1), (1, 1)):
            assert_is_plain(model, *given, spare=spare)
    (pool,) = pools
    assert len(pool.log) == 6 * 6 and len(pool.graphs) < 30


@pytest.mark.parametrize("extra", [0, 1])
def test_pulses_go_on_behind_the_last_frame(pools, extra):
    model = flows(excitation=True)
    for frames in (3, 16, 17, 33):
        z, local, _ = inputs(frames, extra)
        f0 = torch.full((2, frames + extra), model.sample_rate / 21.0, dtype=torch.float64)
        rows = PitchRows(HOP, model.sample_rate).of(f0, torch.ones_like(f0))
        assert_is_plain(model, z, torch.cat([local, rows], dim=1))
    assert replays(pools) == 4


def test_samples_are_not_looked_at(pools, monkeypatch):
    """On a GPU that would mean to wait for them."""
    model = flows()
    given, samples = inputs(10), torch.tensor([160, 80])
    assert_is_plain(model, *given, samples=samples)
    # A CPU counts the groups of each item; so without what is prepared.
    plain = type(model).inverse_flows
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: pytest.fail("it is looked at"))
    with torch.enable_grad():
        plain(model, *given, samples=samples, padded=True)


def test_a_length_is_captured_when_it_comes_again(pools):
    model = flows(after=1)
    for frames in (17, 40, 20):
        assert_is_plain(model, *inputs(frames))
        assert not pools
    assert_is_plain(model, *inputs(17))
    assert replays(pools) == 1
    # A full length has no mask, and is another shape.
    for change in ({}, {"items": 1}, {"dtype": torch.float32}):
        if change.get("dtype"):
            prepare_inference(model.float())
        assert_is_plain(model, *inputs(17 if change else 18, **change))
        assert replays(pools) == 1


def test_the_latest_are_kept(pools, monkeypatch):
    monkeypatch.setattr(sampling_graphs, "MOST_GRAPHS", 2)
    model = flows()
    for frames in (16, 32, 16, 64, 16, 32):
        assert_is_plain(model, *inputs(frames))
    assert len(pools[0].graphs) == 4 and len(model.inverse_flows.graphs) == 2


@pytest.mark.parametrize("change", ["written to", "moved", "of another type"])
def test_graphs_follow_the_weights(pools, change):
    model = flows(use_film=True)
    assert_is_plain(model, *inputs(16))
    network = model.steps[1].coupling.network
    with torch.no_grad():
        if change == "written to":
            network.end.bias += 0.3
        elif change == "moved":
            model.steps[0].film.local.weight.data = model.steps[0].film.local.weight.data + 0.3
    if change == "of another type":
        prepare_inference(model, torch.float32)
        assert_is_plain(model, *inputs(16))
        assert len(pools[0].graphs) == 2
        return
    assert_is_plain(model, *inputs(16))
    prepare_inference(model)
    assert_is_plain(model, *inputs(16))
    assert len(pools[0].graphs) == 2 and len(model.inverse_flows.graphs) == 1


def test_with_gradients_and_large_it_is_plain(pools, monkeypatch):
    model = flows()
    model.inverse_flows(*inputs(16)).sum().backward()
    monkeypatch.setattr(sampling_graphs, "MOST_SAMPLES", 2 * 16 * HOP - 1)
    assert_is_plain(model, *inputs(16))
    assert not pools
    own = WaveGlow(tiny_features(), flows=1, layers=1, channels=8, prior="white", transform=Same)
    graph_sampling(own.eval())
    assert "inverse_flows" not in vars(own)


class Same(torch.nn.Module):
    """A transform of one's own."""

    receptive_field = 0

    def __init__(self, channels):
        super().__init__()


def test_inference_mode_and_out_of_it(pools):
    model, given = flows(), inputs(16)
    with torch.inference_mode():
        first = model.inverse_flows(*(None if x is None else x.clone() for x in given))
    assert_is_plain(model, *given)
    with torch.inference_mode():
        assert torch.equal(model.inverse_flows(*given), first)
    assert len(pools[0].graphs) == 1


def test_a_capture_that_fails(pools, monkeypatch, caplog):
    def fails(self, run):
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(PoolOnCPU, "capture", fails)
    model = flows()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert_is_plain(model, *inputs(16))
    assert [record.getMessage() for record in caplog.records] == [
        "no CUDA graphs, since a capture failed (operation not permitted): sampling goes on "
        "without them"
    ]
    assert not replays(pools)


def test_an_interface(pools, vocoder_folder):
    """Batches, streams, the denoiser; as on a GPU."""
    mel = torch.randn(2, 80, 30, generator=torch.Generator().manual_seed(0)) - 5
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    model = vocoder.mods.model.vocoder

    def results():
        lens = torch.tensor([mel.shape[-1], mel.shape[-1] - 5])
        yield vocoder.decode_batch(mel, lens, generator=0)
        yield vocoder.decode_batch(mel, lens, generator=0, denoise=0.1)
        for size in (4, 7):
            chunks = mel[0].split(size, dim=-1)
            yield torch.cat(list(vocoder.stream(chunks, generator=0, chunk_frames=5)), dim=-1)

    expected = list(results())
    assert "inverse_flows" not in vars(model) and not pools
    vocoder.device_type = "cuda"
    found = list(results())
    assert isinstance(model.inverse_flows, SamplingGraphs) and replays(pools) > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for other in (copy.deepcopy(vocoder), pickle.loads(pickle.dumps(vocoder))):
        assert "inverse_flows" not in vars(other.mods.model.vocoder)
        wav = other.decode_batch(mel, generator=0)
        torch.testing.assert_close(wav, vocoder.decode_batch(mel, generator=0), rtol=0, atol=1e-5)
    assert vocoder.prepare_inference(cuda_graphs=False) is vocoder
    assert "inverse_flows" not in vars(model)
    vocoder.prepare_inference(compile=True)
    assert model.inverse_flows.after == 0


def test_options(vocoder_folder):
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    with pytest.raises(UserError, match="cuda_graphs: True needs a GPU, not cpu"):
        vocoder.prepare_inference(cuda_graphs=True)
    with pytest.raises(UserError, match="cuda_graphs"):
        vocoder.prepare_inference(cuda_graphs="always")
    vocoder.prepare_inference(cuda_graphs=False).prepare_inference()
