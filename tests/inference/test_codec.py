import math

from waveglow_vq.audio.io import read_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec

import pytest
import soundfile
import torch

from tests.inference.exports import export_tiny, speech_like

HOP = 256


@pytest.fixture(scope="module")
def wavs():
    return speech_like(2 * 6000).view(2, 6000)


def test_rates(codec):
    per_code = codec.samples_per_code
    assert per_code in (64, 512)
    assert codec.sample_rate == 22050 and codec.codebook_size == 32
    assert codec.code_rate == 22050 / per_code
    assert codec.bits_per_second == 5 * 22050 / per_code


def test_codes_cover_every_sample(codec):
    per_code = codec.samples_per_code
    for samples in (513, 2047, 2048, 2049, 4096):
        codes = codec.encode_batch(speech_like(samples)[None])
        assert codes.dtype == torch.int64 and codes.min() >= 0 and codes.max() < 32
        assert samples <= codes.shape[1] * per_code < samples + HOP + per_code
        assert codec.decode_batch(codes, generator=0).shape == (1, 1, codes.shape[1] * per_code)
        assert codec(speech_like(samples)[None]).shape == (1, 1, samples)


def test_codes_depend_on_the_waveform(codec, wavs):
    codes = codec.encode_batch(wavs)
    assert len(codes.unique()) > 4
    assert not torch.equal(codes[0], codes[1])


def test_an_item_is_the_same_alone_and_in_a_batch(codec, wavs):
    noisy = wavs.clone()
    noisy[1, 3300:] = float("nan")  # whatever padding holds
    codes = codec.encode_batch(noisy, torch.tensor([1.0, 0.55]))
    alone = codec.encode_batch(wavs[1:, :3300])
    count = alone.shape[1]
    assert torch.equal(codes[1:, :count], alone)
    assert (codes[1, count:] == -1).all() and (codes[0] >= 0).all()
    decoded = codec.decode_batch(codes, generator=2)
    samples = count * codec.samples_per_code
    expected = codec.decode_batch(alone, generator=2)[0]
    torch.testing.assert_close(decoded[1, :, :samples], expected, atol=1e-4, rtol=1e-4)
    assert not decoded[1, :, samples:].any()
    torch.testing.assert_close(
        decoded[0], codec.decode_batch(codes[:1], generator=2)[0], atol=1e-4, rtol=1e-4
    )


def test_any_number_of_codes_decodes(codec):
    # Four codes of the raw waveform share a frame of the predicted log-mel.
    codes = torch.arange(15).view(1, 15)
    batch = torch.cat([codes, codes])
    batch[1, 9:] = -1
    for count in (1, 2, 3, 5):
        wav = codec.decode_batch(codes[:, :count], generator=0)
        assert wav.shape == (1, 1, count * codec.samples_per_code)
    decoded = codec.decode_batch(batch, generator=0)
    alone = codec.decode_batch(codes[:, :9], generator=0)
    samples = alone.shape[-1]
    torch.testing.assert_close(decoded[1:, :, :samples], alone, atol=1e-4, rtol=1e-4)
    assert not decoded[1, :, samples:].any()


def test_what_is_encoded_and_decoded_is_what_the_model_itself_gives(codec_folder, wavs):
    codec = SpeechCodec.from_hparams(codec_folder, run_opts={"device": "cpu"})
    model, features = codec.mods.model, codec.mods.features
    condition = model.conditioner(features(wavs))
    codes = codec.encode_batch(wavs)
    assert torch.equal(codes, condition.quantized.indices)
    expected = model.sample(condition, sigma=0.9, generator=0)
    decoded = codec.decode_batch(codes, generator=0)[:, 0]
    # Its fast path rounds otherwise.
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)


def test_seeds_and_sigma(codec):
    codes = torch.arange(8)[None]
    seeded = codec.decode_batch(codes, generator=1)
    assert torch.equal(seeded, codec.decode_batch(codes, generator=1))
    assert torch.equal(seeded, codec.decode_batch(codes, 0.9, torch.Generator().manual_seed(1)))
    assert not torch.equal(seeded, codec.decode_batch(codes, generator=2))
    assert not torch.equal(seeded, codec.decode_batch(codes, sigma=0.5, generator=1))


def test_white_prior_without_a_predicted_log_mel(tmp_path):
    folder, _ = export_tiny(tmp_path, "wav_vq")
    codec = SpeechCodec.from_hparams(folder, run_opts={"device": "cpu"})
    wav = codec(speech_like(3000)[None], generator=0)
    assert wav.shape == (1, 1, 3000) and torch.isfinite(wav).all()


def test_reconstruct_file(codec, recording, tmp_path):
    wav = codec.reconstruct_file(recording, tmp_path / "out.wav", generator=0)
    assert wav.shape == (1, 5000)
    written = read_wav(tmp_path / "out.wav", sample_rate=22050)
    torch.testing.assert_close(written, wav[0].clamp(-1, 1), atol=1e-4, rtol=0)
    codes = codec.encode_file(recording)
    assert codes.shape == (math.ceil(5000 / HOP) * HOP // codec.samples_per_code,)
    decoded = codec.decode_batch(codes[None], generator=0)
    torch.testing.assert_close(decoded[0, :, :5000], wav, atol=1e-6, rtol=0)


def test_files_at_another_rate_and_in_stereo(codec, tmp_path):
    mono = speech_like(16000, seed=3)
    soundfile.write(tmp_path / "mono.wav", mono.numpy(), 16000, subtype="FLOAT")
    stereo = torch.stack([mono * 2, torch.zeros_like(mono)], dim=1)
    soundfile.write(tmp_path / "stereo.wav", stereo.numpy(), 16000, subtype="FLOAT")
    codes = codec.encode_file(tmp_path / "mono.wav")
    assert torch.equal(codes, codec.encode_file(tmp_path / "stereo.wav"))
    assert codec.reconstruct_file(tmp_path / "stereo.wav").shape == (1, 22050)


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        (torch.tensor([1, 2, 3]), r"\[batch, codes\], got \[3\]"),
        (torch.zeros(1, 0, dtype=torch.int64), r"got \[1, 0\]"),
        (torch.tensor([[0, 32]]), "between 0 and 32, but this model has codes 0 to 31"),
        (torch.tensor([[-2, 3]]), "between -2 and 3"),
        (torch.tensor([[1.0, 2.0]]), "whole numbers"),
        (torch.tensor([[1, 2], [-1, -1]]), "no codes"),
        (torch.tensor([[1, -1, 2]]), "at the end"),
    ],
)
def test_bad_codes(codec, codes, sentence):
    with pytest.raises(UserError, match=sentence):
        codec.decode_batch(codes)


def test_bad_waveforms(codec, tmp_path):
    with pytest.raises(UserError, match="513 are needed"):
        codec.encode_batch(torch.zeros(2, 3000), torch.tensor([1.0, 0.1]))
    with pytest.raises(UserError, match="NaN"):
        codec.encode_batch(torch.full((1, 3000), float("nan")))
    with pytest.raises(UserError, match=r"got \[3000\]"):
        codec.encode_batch(torch.zeros(3000))
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(UserError, match="empty.wav"):
        codec.reconstruct_file(tmp_path / "empty.wav")


def test_silence_is_encoded_and_decoded(codec):
    assert torch.isfinite(codec(torch.zeros(1, 4000), generator=0)).all()
