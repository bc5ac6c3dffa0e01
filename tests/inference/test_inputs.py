import io

from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.errors import UserError
from waveglow_vq.inference.inputs import (
    as_generator,
    as_number,
    as_numbers,
    as_path,
    as_sound,
    as_waveforms,
)

import numpy as np
import pytest
import torch

from tests.inference.exports import speech_like


@pytest.fixture(scope="module")
def wav():
    return speech_like(4000).numpy()


def test_arrays_of_any_order_give_the_same_log_mel(vocoder, wav):
    expected = vocoder.encode_batch(torch.from_numpy(wav)[None])[0]
    frozen = wav[None].copy()
    frozen.flags.writeable = False
    for given in (
        wav[None].astype(">f4"),
        wav[None].astype("f8"),
        wav[None].astype(np.longdouble),
        wav[::-1].copy()[None, ::-1],
        np.repeat(wav[None], 2, axis=1)[:, ::2],
        np.asfortranarray(np.stack([wav, wav]))[:1],
        frozen,
        [wav.tolist()],
        [torch.from_numpy(wav)],
    ):
        torch.testing.assert_close(vocoder.encode_batch(given)[0], expected, rtol=0, atol=1e-5)


def test_arrays_give_the_same_waveform_and_codes(vocoder, codec, wav):
    mel = vocoder.encode_batch(wav[None])[0][0].numpy()
    expected = vocoder.decode_spectrogram(mel, generator=0)
    flipped = mel[:, ::-1].copy()[:, ::-1]
    for given in (mel.astype(">f8"), flipped, mel.T.copy().T, mel.tolist()):
        assert torch.equal(vocoder.decode_spectrogram(given, generator=0), expected)
    (streamed,) = vocoder.stream([flipped], generator=0)
    torch.testing.assert_close(streamed, expected[0], atol=1e-5, rtol=0)
    codes = codec.encode_batch(wav[None])
    expected = codec.decode_batch(codes, generator=0)
    given = codes.numpy().astype(">i2")
    assert torch.equal(codec.decode_batch(given, generator=0), expected)
    assert torch.equal(codec.decode_batch(given[:, ::-1].copy()[:, ::-1], generator=0), expected)


@pytest.mark.parametrize(
    ("kind", "full_scale", "zero"),
    [("<i2", 2**15, 0), (">i2", 2**15, 0), ("i4", 2**31, 0), ("u1", 2**7, 2**7), ("i1", 2**7, 0)],
)
def test_integers_are_scaled_by_their_type(kind, full_scale, zero):
    limits = np.iinfo(np.dtype(kind))
    given = np.array([[limits.min, zero, zero + full_scale // 4, limits.max]], dtype=kind)
    wavs = as_waveforms("wavs", given, "cpu")
    assert wavs.dtype == torch.float32
    expected = torch.tensor([[-1.0, 0.0, 0.25, (limits.max - zero) / full_scale]])
    torch.testing.assert_close(wavs, expected, rtol=0, atol=0)


def test_integers_are_coded_as_the_floats_that_they_stand_for(codec, wav):
    pcm = (wav * 2**15).round().astype(np.int16)
    expected = codec.encode_batch(pcm[None].astype(np.float32) / 2**15)
    assert torch.equal(codec.encode_batch(pcm[None]), expected)
    assert torch.equal(codec.encode_batch(torch.from_numpy(pcm)[None].int() * 2**16), expected)


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.uint32, bool])
def test_integers_without_a_full_scale(codec, wav, kind):
    with pytest.raises(UserError, match=r"^wavs: \w+ has no full scale; give samples as floats"):
        codec.encode_batch((wav[None] * 100).astype(kind))


def test_floats_that_are_no_waveform(vocoder, wav):
    with pytest.raises(UserError, match="wavs has samples up to 4.01, where full .* by 32768"):
        vocoder.encode_batch(wav[None] / np.abs(wav).max() * 4.01)
    assert vocoder.encode_batch(wav[None] / np.abs(wav).max() * 3.99)[0].isfinite().all()
    # Whatever is in the padding.
    padded = np.stack([wav, wav])
    padded[1, 3000:] = 1e6
    assert vocoder.encode_batch(padded, [4000, 3000])[1].tolist() == [16, 12]


def test_shapes_say_what_is_wanted(vocoder, wav):
    with pytest.raises(UserError, match=r"got \[4000\]; a single waveform is wav\[None\]"):
        vocoder.encode_batch(wav)
    with pytest.raises(UserError, match=r"got \[4000, 2\]; it seems to be \[samples, channels\]"):
        vocoder.encode_batch(np.stack([wav, wav], axis=1))
    assert vocoder.encode_batch(wav[None, None])[0].shape == (1, 80, 16)


@pytest.mark.parametrize(
    "given",
    [None, "speech.wav", {"wav": 1}, 1j * np.ones((1, 9)), ["a"], np.array(["a"]), object()],
)
def test_what_is_no_array(given):
    with pytest.raises(UserError, match=r"^wavs: expected an array of numbers"):
        as_numbers("wavs", given)


@pytest.mark.parametrize("value", ["0.8", b"1", True, np.True_, None, [1.0], 1j, -0.1, 1e999])
def test_numbers_that_are_none(value):
    with pytest.raises(UserError, match="^sigma: .*it must be a number of at least 0"):
        as_number("sigma", value)


def test_numbers():
    for value in (0.5, np.float32(0.5), torch.tensor(0.5), np.array(0.5)):
        assert as_number("sigma", value) == 0.5
    assert as_number("sigma", 0) == 0


def test_seeds_have_64_bits(vocoder, wav):
    mel = vocoder.encode_batch(wav[None])[0][0, :, :3]
    drawn = {
        float(vocoder.decode_spectrogram(mel, generator=seed)[0, 100])
        for seed in (-1, 1 - 2**63, 2**63, 2**64 - 2, np.int64(7), np.uint64(2**63 + 5))
    }
    assert len(drawn) == 6
    assert as_generator(torch.tensor(3)) == as_generator(np.int8(3)) == 3
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(UserError, match=f"generator: {seed}; a seed has 64 bits"):
            vocoder.decode_spectrogram(mel, generator=seed)


def test_files_in_memory(vocoder, codec, recording):
    data = recording.read_bytes()
    expected = vocoder.encode_file(recording)
    at_end = io.BytesIO(data)
    at_end.seek(0, io.SEEK_END)
    for given in (io.BytesIO(data), at_end, data, SoundBytes("it", data)):
        assert torch.equal(vocoder.encode_file(given), expected)
    with open(recording, "rb") as file:
        assert torch.equal(vocoder.encode_file(file), expected)
    assert torch.equal(vocoder.load_audio(io.BytesIO(data)), vocoder.load_audio(recording))
    codes = codec.to_code_file(recording).codes
    assert torch.equal(codec.to_code_file(io.BytesIO(data)).codes, codes)
    with pytest.raises(UserError, match=r"path \(BytesIO\) is an empty file"):
        vocoder.encode_file(io.BytesIO())


def test_a_file_in_memory_is_converted(converters, recording):
    converter, given = converters("encoder"), io.BytesIO(recording.read_bytes())
    expected = converter.convert_file(recording, reference=recording, generator=0)
    assert torch.equal(converter.convert_file(given, reference=given, generator=0), expected)


@pytest.mark.parametrize("given", [None, 3, ["a.wav"], torch.zeros(1, 9), io.StringIO("RIFF")])
def test_what_is_no_sound_file(vocoder, given):
    with pytest.raises(UserError, match="^path: expected a path, or a file .* got"):
        vocoder.encode_file(given)


def test_paths(monkeypatch, tmp_path, vocoder, recording):
    monkeypatch.setenv("HOME", str(recording.parent))
    assert as_sound("~/recording.wav") == recording
    with pytest.raises(UserError, match="source: expected a path, got int"):
        as_path("source", 3)
    with pytest.raises(UserError, match="output_path: expected a path, got BytesIO"):
        vocoder.reconstruct_file(recording, io.BytesIO())
