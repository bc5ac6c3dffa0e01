"""The interfaces' streams, and long inputs, equal what is computed at once."""

import math

from waveglow_vq.audio.io import read_wav, write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, WaveGlowVocoder
from waveglow_vq.inference.codes import coding
from waveglow_vq.inference.streaming import waveform

import pytest
import soundfile
import torch

from tests.inference.exports import export_tiny, speech_like

CPU = {"device": "cpu"}
HOP = 256


@pytest.fixture(scope="module")
def mel(vocoder):
    """Log-mels [2, 80, 40]."""
    return vocoder.encode_batch(speech_like(39 * HOP * 2).view(2, -1))[0]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A vocoder of the published geometry."""
    options = {"prior": "white", "condition_geometry": "sample", "conditioner_layers": 1}
    folder = tmp_path_factory.mktemp("published")
    return WaveGlowVocoder.from_hparams(export_tiny(folder, "mel", **options)[0], run_opts=CPU)


@pytest.fixture
def short_windows(monkeypatch):
    """Inputs of more than ten frames are long."""
    monkeypatch.setattr(waveform, "WINDOW_SAMPLES", 8 * HOP)
    monkeypatch.setattr(waveform, "CONDITION_STEPS", 8)
    monkeypatch.setattr(coding, "WINDOW_SECONDS", 0.1)


def close(one, other):
    assert one.shape == other.shape and other.abs().max() > 0.005
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def joined(blocks):
    return torch.cat(list(blocks), dim=-1)


@pytest.mark.parametrize("which", ["vocoder", "published"])
@pytest.mark.parametrize("denoise", [0.0, 0.3])
@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (3, 4), (11, 5), (40, 64)])
def test_a_stream_of_log_mels_is_the_batch(request, mel, which, denoise, size, chunk):
    vocoder = request.getfixturevalue(which)
    options = {"generator": 3, "denoise": denoise, "sigma": 0.8}
    whole = vocoder.decode_batch(mel, **options)[:, 0]
    chunks = mel.split(size, dim=-1)
    close(joined(vocoder.stream(chunks, chunk_frames=chunk, **options)), whole)
    first = [chunk[0] for chunk in chunks]
    blocks = list(vocoder.stream(iter(first), chunk_frames=chunk, **options))
    assert all(block.dim() == 1 for block in blocks)
    close(joined(blocks), whole[0])
    close(vocoder.decode_spectrogram(mel[0], **options)[0], whole[0])
    if denoise:
        assert (whole - vocoder.decode_batch(mel, generator=3, sigma=0.8)[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize("source", ["generator", "global"])
def test_a_stream_draws_as_the_batch_does(vocoder, mel, source):
    def generator():
        torch.manual_seed(4)
        return torch.Generator().manual_seed(4) if source == "generator" else None

    whole = vocoder.decode_batch(mel[:1], generator=generator())[0]
    close(
        joined(vocoder.stream(mel[:1].split(7, -1), generator=generator(), chunk_frames=5)), whole
    )


def test_without_noise(vocoder, mel):
    whole = vocoder.decode_spectrogram(mel[0], sigma=0)
    torch.testing.assert_close(
        joined(vocoder.stream(mel[0].split(7, -1), sigma=0, chunk_frames=5)), whole[0]
    )


@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (5, 3), (50, 64)])
@pytest.mark.parametrize("count", [1, 2, 23])
def test_a_stream_of_codes_is_the_batch(codec, count, size, chunk):
    codes = torch.randint(32, (2, count), generator=torch.Generator().manual_seed(count))
    whole = codec.decode_batch(codes, generator=3)[:, 0]
    assert whole.shape[1] == count * codec.samples_per_code
    close(joined(codec.stream(codes.split(size, -1), generator=3, chunk_frames=chunk)), whole)
    items = codes[0].split(size)
    close(joined(codec.stream(items, generator=3, chunk_frames=chunk)), whole[0])


def test_audio_before_the_input_ends(vocoder, codec, mel):
    def forever(chunk):
        while True:
            yield chunk

    for stream in (
        vocoder.stream(forever(mel[0]), chunk_frames=4),
        codec.stream(forever(torch.arange(5)), chunk_frames=4),
    ):
        for _ in range(30):
            assert next(stream).shape == (4 * HOP,)


@pytest.mark.parametrize("lengths", [None, [40, 23], [12, 40]])
@pytest.mark.parametrize("source", ["seed", "generator", "global"])
@pytest.mark.parametrize("denoise", [0.0, 0.3])
def test_long_log_mels_are_as_short_ones(vocoder, mel, monkeypatch, lengths, source, denoise):
    def decode():
        torch.manual_seed(4)
        generator = {"seed": 4, "generator": torch.Generator().manual_seed(4), "global": None}
        return vocoder.decode_batch(mel, lengths, generator=generator[source], denoise=denoise)

    whole = decode()
    monkeypatch.setattr(waveform, "WINDOW_SAMPLES", 8 * HOP)
    calls, stream = [], vocoder.stream
    monkeypatch.setattr(vocoder, "stream", lambda *a, **k: calls.append(a) or stream(*a, **k))
    close(decode(), whole)
    assert len(calls) == 2


def test_long_recordings_and_codes_are_as_short_ones(codec, monkeypatch, request):
    wavs = speech_like(2 * 12001).view(2, -1)
    codes = codec.encode_batch(wavs, [12001, 7000])
    whole = codec.decode_batch(codes, generator=torch.Generator().manual_seed(1))
    request.getfixturevalue("short_windows")
    assert torch.equal(codec.encode_batch(wavs, [12001, 7000]), codes)
    close(codec.decode_batch(codes, generator=torch.Generator().manual_seed(1)), whole)


def test_codes_of_models_with_instance_norm(tmp_path, request):
    folder, model = export_tiny(tmp_path, "mel_vq", use_instance_norm=True)
    codec = SpeechCodec.from_hparams(folder, run_opts=CPU)
    assert model.conditioner.encoder_receptive_field is None
    write_wav(tmp_path / "in.wav", speech_like(12000), 22050)
    whole = codec.encode_batch(read_wav(tmp_path / "in.wav")[None])[0]
    request.getfixturevalue("short_windows")
    assert torch.equal(codec.encode_file(tmp_path / "in.wav"), whole)


@pytest.mark.parametrize("which", ["vocoder", "codec_folder", "wav_codec_folder"])
def test_files_in_blocks(request, which, tmp_path, short_windows):
    model = request.getfixturevalue(which)
    if which != "vocoder":
        model = SpeechCodec.from_hparams(model, run_opts=CPU)
    path = tmp_path / "in.wav"
    soundfile.write(path, speech_like(2 * 30000).view(-1, 2).numpy(), 44100, subtype="FLOAT")
    wav = model.load_audio(path)
    assert len(wav) == 15000
    encoded = model.encode_batch(wav[None])
    encoded = encoded[0] if which == "vocoder" else encoded
    whole = model.decode_batch(encoded, generator=3)[0, :, :15000]
    blocks = list(model.stream_file(path, generator=3))
    assert len(blocks) > 5 and all(block.dim() == 1 for block in blocks)
    close(joined(blocks)[None], whole)
    close(model.reconstruct_file(path, tmp_path / "out.wav", generator=3), whole)
    written = read_wav(tmp_path / "out.wav", sample_rate=22050)
    torch.testing.assert_close(written, whole[0].clamp(-1, 1), atol=2e-5, rtol=0)
    torch.testing.assert_close(model.encode_file(path), encoded[0], atol=1e-5, rtol=0)


def test_files_that_turn_out_to_be_bad_leave_nothing(vocoder, tmp_path, short_windows):
    wav = speech_like(200000)
    wav[-1] = float("nan")
    soundfile.write(tmp_path / "nan.wav", wav.numpy(), 22050, subtype="FLOAT")
    out = tmp_path / "out.wav"
    with pytest.raises(UserError, match="nan.wav holds 1 samples"):
        vocoder.reconstruct_file(tmp_path / "nan.wav", out)
    assert [entry.name for entry in tmp_path.iterdir()] == ["nan.wav"]


def test_shorter_overlaps_are_close(vocoder, mel):
    whole = joined(vocoder.stream([mel[0]], generator=1))
    exact = joined(vocoder.stream([mel[0]], generator=1, chunk_frames=4, overlap_frames=99))
    rough = joined(vocoder.stream([mel[0]], generator=1, chunk_frames=4, overlap_frames=0))
    close(exact, whole)
    error = (rough - whole).norm() / whole.norm()
    assert 1e-4 < error < 1


MELS = torch.zeros(80, 3)


@pytest.mark.parametrize(
    ("chunks", "sentence"),
    [
        ([], "^mel_chunks: there is nothing in it$"),
        ([MELS[:, :0]], "there is nothing in it"),
        ([MELS.T], r"chunk 1: expected \[80, steps\] or \[batch, 80, steps\], got \[3, 80\]"),
        ([MELS, torch.zeros(64, 3)], r"chunk 2: expected .* got \[64, 3\]"),
        ([MELS[None][:0]], r"chunk 1: expected .* got \[0, 80, 3\]"),
        ([MELS[None], MELS], r"chunk 2 has the shape \[80, 3\], unlike the chunks before"),
        ([MELS[None], MELS.expand(2, -1, -1)], r"chunk 2 has the shape \[2, 80, 3\]"),
        ([MELS, MELS, MELS * math.nan], "chunk 3: the log-mel holds NaN or infinity"),
        ([MELS, "mel"], "chunk 2: expected an array of numbers, got str"),
        (MELS, "iterable of chunks, got Tensor; .* split"),
        (7, "iterable of chunks, got int"),
    ],
)
def test_bad_chunks_of_log_mels(vocoder, chunks, sentence):
    with pytest.raises(UserError, match=sentence):
        list(vocoder.stream(chunks))


@pytest.mark.parametrize(
    ("chunks", "sentence"),
    [
        ([], "^code_chunks: there is nothing in it$"),
        ([torch.arange(3), torch.tensor([31, 32])], "chunk 2: they lie between 31 and 32, but"),
        ([torch.arange(3), torch.tensor([1, -1])], r"chunk 2 holds padding \(-1\)"),
        ([torch.arange(3.0)], "chunk 1: expected whole numbers"),
        ([torch.arange(3), torch.arange(3)[None]], "chunk 2 has the shape"),
        ([torch.zeros(1, 1, 1, dtype=torch.int64)], r"expected \[steps\] or \[batch, steps\]"),
    ],
)
def test_bad_chunks_of_codes(codec, chunks, sentence):
    with pytest.raises(UserError, match=sentence):
        list(codec.stream(chunks))


def test_what_came_before_a_bad_chunk_is_given(vocoder, mel):
    stream = vocoder.stream([mel[0], mel[0] * math.nan], generator=1, chunk_frames=8)
    good = [next(stream), next(stream)]
    close(joined(good), vocoder.decode_spectrogram(mel[0], generator=1)[0, : 16 * HOP])
    with pytest.raises(UserError, match="chunk 2"):
        list(stream)


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": -1.0},
        {"generator": "7"},
        {"denoise": -0.1},
        {"denoise": math.nan},
        {"overlap_frames": -1},
        {"chunk_frames": 0},
    ],
)
def test_options_are_checked_at_once(vocoder, recording, options):
    name = next(iter(options))
    with pytest.raises(UserError, match=f"^{name}: "):
        vocoder.stream([MELS], **options)
    with pytest.raises(UserError, match=f"^{name}: "):
        vocoder.stream_file(recording, **options)
    if name in ("sigma", "generator", "denoise"):
        with pytest.raises(UserError, match=f"^{name}: "):
            vocoder.decode_batch(MELS[None], **options)


def test_the_fast_path_is_prepared_and_prepared_again(vocoder_folder, mel):
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    coupling = vocoder.mods.model.vocoder.steps[0].coupling.network

    def is_prepared(kind=torch.float32):
        with torch.no_grad():
            return coupling.prepared() is not None and coupling.prepared().dtype == kind

    assert not is_prepared()
    exact = vocoder.decode_batch(mel, generator=0)
    assert is_prepared()
    with torch.no_grad():
        coupling.end.bias += 0.1
    assert not is_prepared()
    changed = joined(vocoder.stream([mel], generator=0))
    assert is_prepared() and (changed - exact[:, 0]).abs().max() > 1e-3
    assert vocoder.prepare_inference("bf16") is vocoder
    assert is_prepared(torch.bfloat16)
    rough = vocoder.decode_batch(mel, generator=0)[:, 0]
    assert is_prepared(torch.bfloat16)
    assert 0 < (rough - changed).norm() < 0.1 * changed.norm()
    with pytest.raises(UserError, match="dtype: 'int8' is not one of fp32, bf16, fp16"):
        vocoder.prepare_inference("int8")
    with pytest.raises(UserError, match="dtype: fp16 needs a GPU, not cpu"):
        vocoder.prepare_inference("fp16")


def test_the_denoisers_spectrum_follows_the_weights(vocoder_folder, mel):
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    vocoder.decode_batch(mel, denoise=0.1)
    first = vocoder._bias_magnitude()
    assert vocoder._bias_magnitude() is first
    with torch.no_grad():
        vocoder.mods.model.vocoder.steps[0].coupling.network.end.bias += 0.1
    assert not torch.allclose(vocoder._bias_magnitude(), first)


@pytest.mark.slow
def test_compiled_flows_give_the_same_and_follow_the_weights(vocoder_folder, mel):
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    flows = vocoder.mods.model.vocoder
    for _ in range(2):
        vocoder.prepare_inference()
        assert "inverse_flows" not in vars(flows)
        expected = vocoder.decode_batch(mel, generator=0)
        vocoder.prepare_inference(compile=True)
        assert "inverse_flows" in vars(flows)
        found = vocoder.decode_batch(mel, generator=0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert not torch.equal(found, expected)  # it was computed in another way
        with torch.no_grad():
            flows.steps[0].coupling.network.end.bias += 0.1
