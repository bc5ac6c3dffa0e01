import copy

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.export.onnx_graph import (
    VocoderGraph,
    all_pole_scan,
    export_program,
    impulse_response,
    levinson_durbin_scan,
    model_of,
)
from waveglow_vq.inference import SpeechCodec, VoiceConverter
from waveglow_vq.lobes.filters.blockwise import recursive_filter_blocks
from waveglow_vq.lobes.flows.envelope import levinson_durbin
from waveglow_vq.lobes.flows.waveglow import draw_noise

import pytest
import torch

from tests.export.tiny_vocoders import KINDS, tiny_vocoder


def stable_predictors(batch, blocks, order, seed=0):
    """Predictors of random spectra, which are far from flat."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, blocks, 4 * order + 1)
    power = torch.randn(shape, generator=generator, dtype=torch.float64).exp().square()
    autocorrelation = torch.fft.irfft(power)[..., : order + 1]
    return autocorrelation, levinson_durbin(autocorrelation)[0]


@pytest.mark.parametrize("order", [1, 2, 16, 128])
def test_levinson_durbin_in_steps_of_one_shape(order):
    autocorrelation, a = stable_predictors(2, 3, order)
    expected = levinson_durbin(autocorrelation)
    found = levinson_durbin_scan(autocorrelation)
    assert found[0].shape == a.shape
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "order, block", [(1, 1), (1, 8), (3, 2), (16, 64), (16, 128), (128, 128), (100, 96), (5, 256)]
)
def test_all_pole_is_the_recursion(order, block):
    _, a = stable_predictors(2, 3, order)
    driven = torch.randn(2, 3, block, dtype=torch.float64)
    expected = recursive_filter_blocks(driven.flatten(1), a, driven.new_zeros(2, order))
    assert torch.allclose(all_pole_scan(driven, a), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("order, length", [(1, 1), (2, 3), (7, 5), (4, 48), (128, 64)])
def test_impulse_response(order, length):
    _, a = stable_predictors(1, 1, order)
    pulse = torch.zeros(1, length, dtype=torch.float64)
    pulse[:, 0] = 1
    expected = recursive_filter_blocks(pulse, a, pulse.new_zeros(1, order))[0]
    assert torch.allclose(impulse_response(a[0, 0], length), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_gives_what_decode_batch_gives(tmp_path, kind):
    vocoder = tiny_vocoder(tmp_path, **KINDS[kind])
    graph = VocoderGraph(vocoder.mods.model)
    for batch, frames in ((1, 1), (1, 2), (2, 30)):
        log_mel, _ = graph.example(batch, frames)
        noise = draw_noise(log_mel, 8, frames * 32, 5) * 0.9
        expected = vocoder.decode_batch(log_mel, generator=5)[:, 0]
        assert expected.std() > 1e-3
        with torch.no_grad():
            assert torch.allclose(graph(log_mel, noise), expected, atol=2e-6)


def test_the_model_stays_as_it_is(tmp_path):
    vocoder = tiny_vocoder(tmp_path)
    model = vocoder.mods.model
    before = copy.deepcopy(model.state_dict())
    graph = VocoderGraph(model)
    log_mel, _ = graph.example(1, 5)
    wave = vocoder.decode_batch(log_mel, generator=0)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    # The copy shares no memory with it, and its classes are the original ones.
    for parameter in graph.parameters():
        parameter.data.zero_()
    assert torch.equal(vocoder.decode_batch(log_mel, generator=0), wave)
    assert "weight_norm" not in str(graph).lower() and "Parametrized" not in str(graph)
    assert "Parametrized" in str(model)


def test_inverses_are_computed_in_fp64(tmp_path):
    model = tiny_vocoder(tmp_path, prior="white").mods.model
    conv = model.vocoder.steps[0].conv
    # Of a matrix that fp32 inverts badly.
    u, _, v = torch.linalg.svd(conv.weight.detach())
    conv.weight.data = u @ torch.logspace(0, -4, len(u)).diag() @ v
    expected = torch.linalg.inv(conv.weight.detach().double()).float()
    constant = VocoderGraph(model).flows.steps[0].conv.inverse_weight
    assert torch.equal(constant, expected)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    vocoder = tiny_vocoder(tmp_path_factory.mktemp("program"))
    return vocoder, export_program(vocoder)


def test_program_for_other_lengths_and_batches(program):
    vocoder, program = program
    graph, module = VocoderGraph(vocoder.mods.model), program.module()
    for batch, frames in ((1, 3), (1, 40), (5, 9)):
        inputs = graph.example(batch, frames)
        wave = module(*inputs)
        assert wave.shape == (batch, frames * 256)
        with torch.no_grad():
            assert torch.allclose(wave, graph(*inputs), atol=1e-6)


def test_program_refuses_noise_that_does_not_fit(program):
    vocoder, program = program
    log_mel, noise = VocoderGraph(vocoder.mods.model).example(1, 6)
    with pytest.raises(Exception, match="noise"):
        program.module()(log_mel, noise[..., :-1])


@pytest.mark.filterwarnings("ignore")
def test_program_as_a_file(program, tmp_path):
    vocoder, program = program
    path = str(tmp_path / "vocoder.pt2")
    torch.export.save(program, path)
    inputs = VocoderGraph(vocoder.mods.model).example(2, 12)
    assert torch.equal(torch.export.load(path).module()(*inputs), program.module()(*inputs))


def test_model_with_codes_is_refused(codec_folder):
    codec = SpeechCodec.from_hparams(codec_folder, run_opts={"device": "cpu"})
    for refused in (codec, codec.mods.model):
        with pytest.raises(UserError, match="the model has codes"):
            model_of(refused)


def test_speakers_by_their_numbers(converter_folders):
    converter = VoiceConverter.from_hparams(converter_folders("mel"), run_opts={"device": "cpu"})
    model = converter.mods.model
    graph = VocoderGraph(model_of(converter))
    log_mel, noise, numbers = graph.example(4, 6)
    assert numbers.tolist() == [0, -1, 2, 0]
    with torch.no_grad():
        condition = model.condition(log_mel)
        for number in (-1, 0, 2):
            numbers = torch.full((4,), number)
            expected = model.vocoder.inverse(
                noise, condition.local, log_mel, model.speakers(numbers)
            )
            found = graph(log_mel, noise, numbers)
            assert torch.allclose(found, expected, atol=2e-6)
            assert not torch.allclose(found, graph(log_mel, noise, numbers * 0 + 1), atol=1e-4)
