"""Recordings to code files and back, by codecs and converters."""

import math
from types import SimpleNamespace

from waveglow_vq.audio.io import read_wav, write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, VoiceConverter
from waveglow_vq.inference.codes import coding
from waveglow_vq.inference.codes.code_file import read_code_file, write_code_file
from waveglow_vq.inference.codes.coding import (
    load_codec,
    model_name,
    resample_nearest,
)
from waveglow_vq.inference.streaming import waveform
from waveglow_vq.utils.files import model_checksum

import pytest
import soundfile
import torch

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import export_tiny, voiced_speech_like

RATE = 22050
WITH_CODES = ["codes", "pitch", "encoder", "waves"]


@pytest.fixture(scope="module")
def voiced(tmp_path_factory):
    path = tmp_path_factory.mktemp("voiced") / "in.wav"
    write_wav(path, voiced_speech_like(33092), RATE)
    return path


@pytest.fixture
def short_windows(monkeypatch):
    monkeypatch.setattr(waveform, "WINDOW_SAMPLES", 64 * 256)
    monkeypatch.setattr(coding, "WINDOW_SECONDS", 1)


def through_file(code_file, folder):
    path = folder / "clip.wvq"
    write_code_file(path, code_file)
    return read_code_file(path)


def joined(blocks):
    blocks = list(blocks)
    assert all(block.dim() == 1 and len(block) for block in blocks)
    return torch.cat(blocks)


# ---- exactness


def test_a_codec_gives_what_it_reconstructs(codec, voiced, tmp_path, short_windows):
    code_file = through_file(codec.to_code_file(voiced), tmp_path)
    assert torch.equal(code_file.codes, codec.encode_file(voiced).cpu())
    assert code_file.samples == 33092
    decoded = joined(codec.decode_stream(code_file, generator=3))
    wav = read_wav(voiced)
    assert decoded.shape == wav.shape and decoded.std() > 1e-3
    expected = codec.reconstruct_file(voiced, generator=3)[0]
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)
    at_once = codec.forward(wav[None], generator=3)[0, 0]
    torch.testing.assert_close(decoded, at_once, atol=1e-5, rtol=0)
    colder = joined(codec.decode_stream(code_file, sigma=0.2, generator=3))
    assert (colder - decoded).std() > 1e-3


@pytest.mark.parametrize("name", WITH_CODES)
def test_a_converter_gives_what_it_converts(converters, voiced, tmp_path, short_windows, name):
    converter = converters(name)
    code_file = through_file(converter.to_code_file(voiced), tmp_path)
    own = joined(converter.decode_stream(code_file, generator=3))
    expected = converter.reconstruct_file(voiced, generator=3)[0]
    torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)
    wav, found = read_wav(voiced)[None], []
    for speaker in LABELS[:2]:
        decoded = joined(converter.decode_stream(code_file, speaker, generator=3))
        expected = converter.convert_file(voiced, speaker, generator=3)[0]
        torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)
        at_once = converter.convert_batch(wav, speaker, generator=3)[0, 0]
        torch.testing.assert_close(decoded, at_once, atol=1e-5, rtol=0)
        found.append(decoded)
    for other in (own, found[1]):
        assert (found[0] - other).std() > 0.02 * found[0].std()


def test_flat_pitch_from_a_file(converters, voiced, tmp_path):
    converter = converters("pitch")
    code_file = through_file(converter.to_code_file(voiced), tmp_path)
    flat = joined(converter.decode_stream(code_file, "p226", pitch=False, generator=0))
    expected = converter.convert_file(voiced, "p226", pitch=False, generator=0)[0]
    torch.testing.assert_close(flat, expected, atol=1e-5, rtol=0)
    spoken = joined(converter.decode_stream(code_file, "p226", generator=0))
    assert (spoken - flat).std() > 1e-3 * spoken.std()


def test_a_reference_for_a_file(converters, voiced, tmp_path):
    converter = converters("encoder")
    reference = tmp_path / "voice.wav"
    write_wav(reference, voiced_speech_like(9000, 210.0, seed=5), RATE)
    code_file = through_file(converter.to_code_file(voiced), tmp_path)
    decoded = joined(converter.decode_stream(code_file, reference=reference, generator=0))
    expected = converter.convert_file(voiced, reference=reference, generator=0)[0]
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [513, 5119, 5120, 5121, 6000])
@pytest.mark.parametrize("name", WITH_CODES)
def test_lengths(converters, tmp_path, name, samples):
    converter = converters(name)
    write_wav(tmp_path / "in.wav", voiced_speech_like(samples), RATE)
    code_file = converter.to_code_file(tmp_path / "in.wav")
    assert code_file.samples == samples
    assert len(code_file.codes) == converter.mods.model.conditioner.code_count(samples)
    assert joined(converter.decode_stream(code_file, "p225", generator=0)).shape == (samples,)


# ---- what a file says


def test_what_is_in_the_file_of_a_codec(codec, voiced):
    code_file = codec.to_code_file(voiced)
    assert code_file.sample_rate == RATE and code_file.codebook_size == 32
    assert code_file.samples_per_code == codec.samples_per_code
    assert code_file.model == model_name(codec) not in ("", "export")
    assert code_file.checksum == model_checksum(codec.mods.model)
    assert code_file.pitch is None and code_file.f0_statistics is None and code_file.voice is None
    assert code_file.bits_per_second == pytest.approx(codec.bits_per_second, rel=0.02)


def test_what_is_in_the_file_of_a_converter(converters, voiced):
    plain, pitch, encoder = (
        converters(name).to_code_file(voiced) for name in ("codes", "pitch", "encoder")
    )
    assert plain.pitch is None and plain.f0_statistics is None and plain.voice is None
    assert pitch.pitch_levels == 63 and pitch.samples_per_pitch == 4 * 256
    assert len(pitch.pitch) == math.ceil((1 + pitch.samples // 256) / 4)
    assert 0 == pitch.pitch.min() < pitch.pitch.max() <= 63
    assert abs(float(pitch.f0_statistics[0]) - math.log(120)) < 0.1
    assert pitch.voice is None and encoder.voice.shape == (8,)


def test_files_at_another_rate_and_in_stereo(converters, tmp_path):
    mono = voiced_speech_like(30000, seed=3)
    for rate in (8000, 44100, 48000):
        path = tmp_path / f"{rate}.flac"
        soundfile.write(path, torch.stack([mono, mono * 0], 1).numpy(), rate, subtype="PCM_24")
        code_file = converters("pitch").to_code_file(path)
        assert code_file.samples == math.ceil(30000 * RATE / rate)
        decoded = joined(converters("pitch").decode_stream(code_file, generator=0))
        assert len(decoded) == code_file.samples and decoded.isfinite().all()


def test_silence(converters, tmp_path):
    write_wav(tmp_path / "silence.wav", torch.zeros(6000), RATE)
    for name in WITH_CODES:
        converter = converters(name)
        code_file = through_file(converter.to_code_file(tmp_path / "silence.wav"), tmp_path)
        decoded = joined(converter.decode_stream(code_file, "p226", generator=0))
        assert decoded.shape == (6000,) and decoded.isfinite().all()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/deep/export", "deep"),
        ("runs/vq_tiny/77/export", "vq_tiny/77"),
        ("voices/alto", "alto"),
        ("codec/export", "codec"),
        ("codec", "codec"),
        ("speech/export/codec", "speech"),
    ],
)
def test_a_model_has_the_name_of_its_run(tmp_path, folder, name):
    folder = tmp_path / folder
    folder.mkdir(parents=True)
    if name == "speech":
        (folder.parent / "hyperparams.yaml").touch()
    pretrainer = SimpleNamespace(paths={"model": str(folder / "model.ckpt")})
    interface = SimpleNamespace(hparams=SimpleNamespace(pretrainer=pretrainer))
    assert model_name(interface) == name


def test_models_without_a_folder_have_no_name(codec):
    parts = {"model": codec.mods.model, "features": codec.mods.features}
    assert model_name(SpeechCodec(modules=parts, hparams={}, run_opts=CPU)) == "unnamed"


@pytest.mark.parametrize("size", [1, 2, 500])
def test_codebooks_of_any_size(tmp_path, size):
    folder = export_tiny(tmp_path, "mel_vq", codebook_size=size)[0]
    codec = SpeechCodec.from_hparams(folder, run_opts=CPU)
    write_wav(tmp_path / "in.wav", voiced_speech_like(9000), RATE)
    code_file = through_file(codec.to_code_file(tmp_path / "in.wav"), tmp_path)
    assert code_file.codebook_size == size
    assert torch.equal(code_file.codes, codec.encode_file(tmp_path / "in.wav"))
    decoded = joined(codec.decode_stream(code_file, generator=0))
    expected = codec.reconstruct_file(tmp_path / "in.wav", generator=0)[0]
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)


# ---- what is refused


def test_codes_of_another_model(converters, codec, voiced, tmp_path, converter_folders):
    """Also of the same architecture with other weights."""
    mine = converters("pitch")
    code_file = mine.to_code_file(voiced)
    folder = converter_folders("pitch")
    other = VoiceConverter.from_hparams(folder, run_opts=CPU)
    joined(other.decode_stream(code_file, "p225"))
    with torch.no_grad():
        other.mods.model.conditioner.to_code.bias[0] += 1e-3
    for converter in (other, converters("codes"), codec):
        with pytest.raises(
            UserError, match="the codes are of the model '[^']+' with checksum"
        ) as e:
            converter.decode_stream(code_file)
        assert code_file.checksum[:12] in str(e.value)
        assert converter.checksum[:12] in str(e.value)


def test_the_checksum_follows_the_weights(tmp_path):
    folder, _ = export_tiny(tmp_path, "mel_vq")
    codec = SpeechCodec.from_hparams(folder, run_opts=CPU)
    first = codec.checksum
    assert codec.checksum == first == model_checksum(codec.mods.model)
    weights = {k: v.clone() for k, v in codec.mods.model.state_dict().items()}
    weights["conditioner.to_code.bias"][0] += 1
    codec.mods.model.load_state_dict(weights)
    assert codec.checksum == model_checksum(codec.mods.model) != first


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sample_rate": 16000}, "sample_rate is 16000, not 22050"),
        ({"codebook_size": 64}, "codebook_size is 64, not 32"),
        ({"samples_per_code": 256}, "samples_per_code is 256, not 512"),
        ({"samples": 60000}, "the number of codes is 65, not 118"),
        ({"codes": torch.zeros(66, dtype=torch.int64)}, "number of codes is 66"),
        ({"pitch": None, "pitch_levels": 0, "samples_per_pitch": 0}, "pitch_levels is 0"),
        ({"pitch": torch.tensor([1])}, "the number of pitch values is 1"),
        ({"pitch_levels": 33}, "pitch_levels is 33"),
        ({"samples_per_pitch": 256}, "samples_per_pitch is 256"),
        ({"f0_statistics": None}, "F0 statistics"),
        ({"voice": None}, "the length of the speaker vector is 0, not 8"),
    ],
)
def test_codes_that_do_not_fit(converters, voiced, fields, sentence):
    converter = converters("encoder")
    code_file = converter.to_code_file(voiced)
    assert len(code_file.codes) == 65
    with pytest.raises(UserError, match=f"the codes do not fit the model '[^']+': .*{sentence}"):
        converter.decode_stream(code_file._replace(**fields))


def test_wrong_calls(converters, codec, voiced, tmp_path):
    converter = converters("pitch")
    code_file = converter.to_code_file(voiced)
    for options, sentence in (
        ({"speaker": "p227"}, "'p227' is not one of the 3 speakers"),
        ({"speaker": "p225", "reference": voiced}, "give one of them"),
        ({"reference": voiced}, "speaker_source encoder"),
        ({"reference": tmp_path / "no.wav"}, "no.wav does not exist"),
        ({"sigma": -1.0}, "sigma: -1"),
        ({"generator": "seven"}, "generator: 'seven'"),
    ):
        with pytest.raises(UserError, match=sentence):
            converter.decode_stream(code_file, **options)
    for options, sentence in (
        ({"sigma": -1.0}, "sigma: -1"),
        ({"generator": "seven"}, "generator: 'seven'"),
    ):
        with pytest.raises(UserError, match=sentence):
            list(codec.decode_stream(codec.to_code_file(voiced), **options))
    for interface in (converter, codec):
        with pytest.raises(UserError, match="no.wav does not exist"):
            interface.to_code_file(tmp_path / "no.wav")
    with pytest.raises(UserError, match="the model has no codes"):
        converters("mel").to_code_file(voiced)
    with pytest.raises(UserError, match="the model has no codes"):
        converters("mel").decode_stream(code_file)


def test_a_recording_that_is_too_short(converters, codec, tmp_path):
    write_wav(tmp_path / "short.wav", torch.zeros(512), RATE)
    for interface in (converters("codes"), codec):
        with pytest.raises(UserError, match="short.wav is too short"):
            interface.to_code_file(tmp_path / "short.wav")


def test_loading_a_codec_takes_no_random_numbers(codec_folder):
    state = torch.get_rng_state()
    load_codec(codec_folder, CPU)
    assert torch.equal(torch.get_rng_state(), state)


# ---- pitch


@pytest.mark.parametrize("per_code", [64, 768, 1024])
@pytest.mark.parametrize("per_pitch", [256, 1024, 1536])
@pytest.mark.parametrize("samples", [1, 10_000])
def test_pitch_is_the_nearest_in_time(per_code, per_pitch, samples):
    """The value in whose span the middle of the code is, or the last one."""
    codes, values = -(-samples // per_code), -(-samples // per_pitch)
    pitch = torch.arange(values)
    found = resample_nearest(pitch, codes, per_code, per_pitch)
    back = resample_nearest(found, values, per_pitch, per_code)
    assert len(found) == codes and len(back) == values
    for code, value in enumerate(found.tolist()):
        assert value == min(int((code + 0.5) * per_code / per_pitch), values - 1)
    # What the coarser of the two says survives there and back, but for the one that the end cuts.
    if per_pitch % per_code == 0:
        assert torch.equal(back[:-1], pitch[:-1])
    if per_code % per_pitch == 0:
        back = resample_nearest(torch.arange(codes), values, per_pitch, per_code)
        back = resample_nearest(back, codes, per_code, per_pitch)
        assert torch.equal(back[:-1], torch.arange(codes - 1))


def test_pitch_of_batches():
    pitch = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert resample_nearest(pitch, 5, 128, 256).tolist() == [[1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]
