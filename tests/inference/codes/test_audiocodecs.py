"""The interface of audiocodecs: by that package where it is installed, and always by a base class
with its contract."""

import importlib
import sys
from abc import ABC, abstractmethod
from types import ModuleType

from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes import audiocodecs
from waveglow_vq.inference.codes.coding import resample_nearest
from waveglow_vq.lobes.conditioners.pitch_condition import pitch_from_values

import pytest
import torch

from tests.inference.exports import export_tiny, voiced_speech_like

RATE = 22050


class Base(torch.nn.Module, ABC):
    """What audiocodecs 0.0.2 asks of a codec; of its rates, only that they are equal."""

    def __init__(self, sample_rate, orig_sample_rate, mode="reconstruct"):
        super().__init__()
        self.sample_rate, self.orig_sample_rate, self.mode = sample_rate, orig_sample_rate, mode

    def forward(self, input, length=None):
        if self.mode == "decode":
            return self.toks_to_sig(input, length)
        toks = self.sig_to_toks(input, length)
        return toks if self.mode == "encode" else self.toks_to_sig(toks, length)

    def _call(self, name, x, length):
        return getattr(self, name)(x, torch.ones(len(x)) if length is None else length)

    def __getattr__(self, name):
        if name.startswith(("sig_to", "toks_to", "feats_to")):
            return lambda x, length=None: self._call(f"_{name}", x, length)
        return super().__getattr__(name)

    @abstractmethod
    def embs(self): ...

    @abstractmethod
    def _sig_to_toks(self, sig, length): ...

    @abstractmethod
    def _sig_to_feats(self, sig, length): ...

    @abstractmethod
    def _sig_to_qfeats(self, sig, length): ...

    @abstractmethod
    def _toks_to_sig(self, toks, length): ...


@pytest.fixture(params=["contract", "audiocodecs"])
def codec_class(request, monkeypatch):
    if request.param == "audiocodecs":
        pytest.importorskip("audiocodecs")
    else:
        package, module = ModuleType("audiocodecs"), ModuleType("audiocodecs.codec")
        module.Codec = Base
        monkeypatch.setitem(sys.modules, "audiocodecs", package)
        monkeypatch.setitem(sys.modules, "audiocodecs.codec", module)
    yield importlib.reload(audiocodecs).WaveGlowVQCodec
    monkeypatch.undo()
    importlib.reload(audiocodecs)


def test_codes_are_tokens_and_back(codec_class, codec, codec_folder, wav_codec_folder):
    folder = codec_folder if codec.mods.model.conditioner.reads == "log-mel" else wav_codec_folder
    adapter = codec_class(RATE, folder)
    wavs, lengths = voiced_speech_like(2 * 9000).view(2, 9000), torch.tensor([1.0, 0.4])
    tokens = adapter.sig_to_toks(wavs, lengths)
    codes = codec.encode_batch(wavs, lengths)
    assert tokens.shape == (*codes.shape, 1) and adapter.num_codebooks == 1
    rows = int((codes[1] >= 0).sum())
    assert torch.equal(tokens[0, :, 0], codes[0])
    assert torch.equal(tokens[1, :rows, 0], codes[1, :rows])
    # No token is padding: tables and metrics would not know it.
    assert rows < tokens.shape[1] and (tokens[1, rows:] == tokens[1, rows - 1]).all()

    wav = adapter.toks_to_sig(tokens, lengths)
    expected = codec.decode_batch(codes[:1], generator=0)[0, 0]
    torch.testing.assert_close(wav[0], expected[: wav.shape[1]], atol=1e-5, rtol=0)
    assert wav.shape[1] >= 9000 and not wav[1, (rows + 1) * codec.samples_per_code :].any()
    torch.testing.assert_close(adapter(wavs, lengths), wav, atol=0, rtol=0)


def test_features_and_tables_are_those_of_the_quantizer(codec_class, codec_folder):
    adapter = codec_class(RATE, codec_folder)
    wavs = voiced_speech_like(9000)[None]
    tokens, vectors = adapter.sig_to_toks(wavs), adapter.sig_to_feats(wavs)
    tables, quantized = adapter.embs(), adapter.sig_to_qfeats(wavs)
    assert tables.shape == (1, adapter.vocab_size, adapter.embedding_dim)
    assert torch.equal(torch.cdist(vectors[0], tables[0]).argmin(dim=1), tokens[0, :, 0])
    assert torch.equal(tables[0][tokens[..., 0]], quantized)
    for features in (vectors, quantized):
        assert torch.equal(adapter.feats_to_sig(features), adapter.toks_to_sig(tokens))


@pytest.mark.parametrize("name", ["pitch", "encoder"])
def test_pitch_is_the_last_stream_of_tokens(
    codec_class, converters, converter_folders, tmp_path, name
):
    converter, adapter = (
        converters(name),
        codec_class(RATE, converter_folders(name), speaker="p226"),
    )
    wav, path = voiced_speech_like(9000), tmp_path / "in.wav"
    write_wav(path, wav, RATE)
    code_file = converter.to_code_file(path)
    tokens = adapter.sig_to_toks(wav[None])
    assert tokens.shape[-1] == adapter.num_codebooks == 2
    rates = converter.mods.model.conditioner.samples_per_code, code_file.samples_per_pitch
    pitch = resample_nearest(code_file.pitch, tokens.shape[1], *rates)
    assert len(pitch.unique()) > 2 and torch.equal(tokens[0, :, 1], pitch)

    # The pitch that is spoken is that of the tokens, in the range of the speaker.
    spoken = adapter.toks_to_sig(tokens)
    expected = converter.decode_stream(code_file, speaker="p226", generator=0)
    expected = torch.cat(list(expected))
    torch.testing.assert_close(
        spoken[0, : len(expected) - 1024], expected[:-1024], atol=1e-4, rtol=0
    )
    flat = torch.stack([tokens[..., 0], tokens[..., 1].clamp_max(16)], dim=-1)
    assert (adapter.toks_to_sig(flat) - spoken).abs().max() > 1e-4

    features, levels = (
        adapter.sig_to_feats(wav[None]),
        converter.mods.model.conditioner.pitch.levels,
    )
    assert torch.equal(features[..., -2:], pitch_from_values(pitch[None], 1, levels, len(pitch)))
    assert torch.equal(adapter.feats_to_sig(features), spoken)


def test_speakers_are_optional_and_known(codec_class, converter_folders):
    folder = converter_folders("pitch")
    tokens = torch.tensor([[[3, 5], [4, 0]]])
    unknown = codec_class(RATE, folder).toks_to_sig(tokens)
    assert (codec_class(RATE, folder, speaker="p226").toks_to_sig(tokens) - unknown).std() > 0
    with pytest.raises(UserError, match="'p999' is not one of the 3 speakers"):
        codec_class(RATE, folder, speaker="p999")
    with pytest.raises(UserError, match=r"toks: expected \[batch, time, 2\], got \[1, 2, 1\]"):
        codec_class(RATE, folder).toks_to_sig(tokens[..., :1])


def test_rates_and_random_tokens_of_audiocodecs(codec_folder, tmp_path):
    pytest.importorskip("audiocodecs")
    torch.manual_seed(0)
    few = export_tiny(tmp_path, "mel_vq", labels=["a", "b"], use_pitch=True, codebook_size=16)[0]
    codec = importlib.reload(audiocodecs).WaveGlowVQCodec(16000, few)
    wavs = voiced_speech_like(16000).view(2, 8000)
    tokens = codec.sig_to_toks(wavs)
    # Up to the end of the last code, at the rate of the caller.
    assert 0 <= codec.toks_to_sig(tokens).shape[1] - 8000 <= 2 * 256 * 16000 / RATE
    noisy = codec.resample(tokens, p=1.0)
    # No token is drawn that its codebook does not have.
    assert codec.vocab_size == 32 and (noisy != tokens).all()
    assert int(noisy[..., 0].max()) < 16 and int(noisy[..., 1].max()) < 32


def test_one_sentence_without_audiocodecs(codec_folder, monkeypatch):
    for name in ("audiocodecs", "audiocodecs.codec"):
        monkeypatch.setitem(sys.modules, name, None)
    codec_class = importlib.reload(audiocodecs).WaveGlowVQCodec
    with pytest.raises(UserError, match="the comparison of codecs needs audiocodecs: pip install"):
        codec_class(RATE, codec_folder)
    monkeypatch.undo()
    importlib.reload(audiocodecs)
