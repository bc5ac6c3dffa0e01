"""On a device that has no fp64, as Apple's GPUs, models give what they give on the CPU."""

from waveglow_vq.inference import load_export
from waveglow_vq.lobes.flows.envelope import EnvelopeContext, EnvelopeFlow, MelPredictor

import pytest
import torch

from tests.inference.exports import voiced_speech_like
from tests.inference.precision.fake_mps import FakeMps, OnMps
from tests.lobes.flows.transform_base import tiny_features

MPS = {"device": "mps:0"}


def agree(folder, call, tolerance=1e-6):
    """Whether a call gives on the device, and computed there, what it gives on the CPU."""
    expected = call(load_export(folder, run_opts={"device": "cpu"}))
    with FakeMps():
        interface = load_export(folder, run_opts=MPS)
        assert all(isinstance(p, OnMps) for p in interface.mods.model.parameters())
        found = call(interface)
        assert isinstance(found, OnMps)
    torch.testing.assert_close(found.inner, expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def wavs():
    return torch.stack([voiced_speech_like(4000), voiced_speech_like(4000, seed=1)])


def test_the_device_has_no_fp64():
    with FakeMps():
        x = torch.ones(2).to("mps:0")
        assert x.device.type == "mps" and (x + 1).sum().item() == 4
        for wrong in (x.double, lambda: torch.ones(2, dtype=torch.float64).to("mps:0")):
            with pytest.raises(TypeError, match="float64"):
                wrong()
        with pytest.raises(RuntimeError, match="tensors on mps and cpu"):
            x + torch.ones(2)


def test_vocoder(vocoder_folder):
    mel = torch.randn(2, 80, 9, generator=torch.Generator().manual_seed(0)) - 5
    agree(vocoder_folder, lambda v: v.decode_batch(mel, [9, 6], generator=0, denoise=0.1))
    # Phases in fp32, and gains that magnify what they are off.
    agree(vocoder_folder, lambda v: v.decode_batch(mel, [9, 6], generator=0, refine=2), 1e-5)
    agree(
        vocoder_folder,
        lambda v: torch.cat(list(v.stream(mel.split(4, -1), generator=0, chunk_frames=3)), -1),
    )
    with FakeMps():
        vocoder = load_export(vocoder_folder, run_opts=MPS)
        assert sum(block.shape[-1] for block in vocoder.stream([mel])) == 9 * 256


@pytest.mark.parametrize("kind", ["codec_folder", "wav_codec_folder"])
def test_codec(request, kind, wavs):
    folder = request.getfixturevalue(kind)
    agree(folder, lambda codec: codec.encode_batch(wavs, [4000, 2900]))
    agree(folder, lambda codec: codec(wavs, [4000, 2900], generator=0))


def test_converter(converter_folders, wavs):
    for name, mode in (("encoder", "codes"), ("pitch", "latent_swap")):
        options = {"wav_lens": [4000, 2900], "mode": mode, "generator": 0}
        agree(converter_folders(name), lambda c, o=options: c.convert_batch(wavs, "p226", **o))


@pytest.mark.parametrize("search", [None, {"method": "beam", "beam_size": 2}])
def test_text_to_speech(speech_folders, search):
    agree(speech_folders("plain"), lambda t: t.synthesize("so.", generator=0, search=search))


def test_envelope_with_history_and_padding():
    predictor = MelPredictor(tiny_features(), order=6)
    flow = EnvelopeFlow(predictor)
    wav, mel = torch.randn(2, 1, 64), torch.randn(2, 8, 5) - 3
    context = EnvelopeContext(mel, torch.randn(2, 6), torch.tensor([64, 48]))
    expected = flow(wav, context)
    with FakeMps():
        flow = flow.to("mps:0")
        assert predictor.offset.dtype == torch.float64 and predictor.offset.device.type == "cpu"
        there = EnvelopeContext(*(x.to("mps:0") for x in context))
        error, logdet = flow(wav.to("mps:0"), there)
        back = flow.inverse(error, there)
    for found, same in ((error, expected[0]), (logdet, expected[1]), (back, wav)):
        torch.testing.assert_close(found.inner, same, rtol=1e-6, atol=1e-5)
