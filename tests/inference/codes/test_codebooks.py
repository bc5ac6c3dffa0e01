"""Codes of several codebooks, everywhere that codes go."""

import struct
import zlib

from waveglow_vq.audio.io import read_wav, write_wav
from waveglow_vq.commands.models.info import describe_code_file, describe_model
from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, VoiceConverter
from waveglow_vq.inference.codes import coding
from waveglow_vq.inference.codes.code_file import CodeFile, read_code_file, write_code_file
from waveglow_vq.inference.codes.coding import check_code_file, load_codec
from waveglow_vq.inference.streaming import waveform

import pytest
import torch

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import export_tiny, speech_like, voiced_speech_like

CODECS = {
    "residual": ("mel_vq", {"codebooks": 3}),
    "product": ("mel_vq", {"codebooks": 2, "grouping": "product"}),
}


@pytest.fixture(scope="module", params=list(CODECS))
def codec(request, tmp_path_factory):
    preset, options = CODECS[request.param]
    folder = export_tiny(tmp_path_factory.mktemp("codebooks"), preset, **options)[0]
    return SpeechCodec.from_hparams(folder, run_opts=CPU)


@pytest.fixture(scope="module")
def converter(tmp_path_factory):
    options = {"labels": LABELS, "use_pitch": True, "codebooks": 2}
    folder = export_tiny(tmp_path_factory.mktemp("converter"), "mel_vq", **options)[0]
    return VoiceConverter.from_hparams(folder, run_opts=CPU)


@pytest.fixture(scope="module")
def voiced(tmp_path_factory):
    path = tmp_path_factory.mktemp("voiced") / "in.wav"
    write_wav(path, voiced_speech_like(33092), 22050)
    return path


@pytest.fixture
def short_windows(monkeypatch):
    monkeypatch.setattr(waveform, "WINDOW_SAMPLES", 64 * 256)
    monkeypatch.setattr(coding, "WINDOW_SECONDS", 1)


def joined(blocks):
    return torch.cat(list(blocks))


def test_an_item_is_the_same_alone_and_in_a_batch(codec):
    wavs = torch.stack([speech_like(6000), speech_like(6000, seed=1)])
    codes = codec.encode_batch(wavs, torch.tensor([1.0, 0.55]))
    alone = codec.encode_batch(wavs[1:, :3300])
    count = alone.shape[1]
    assert codes.shape == (2, 12, codec.codebooks) and alone.shape[2] == codec.codebooks > 1
    assert torch.equal(codes[1:, :count], alone) and (codes[1, count:] == -1).all()
    assert min(len(codes[0, :, n].unique()) for n in range(codec.codebooks)) > 1
    assert codec.bits_per_second == codec.code_rate * codec.codebooks * 5
    decoded = codec.decode_batch(codes, generator=2)
    samples = count * codec.samples_per_code
    expected = codec.decode_batch(alone, generator=2)[0]
    torch.testing.assert_close(decoded[1, :, :samples], expected, atol=1e-4, rtol=1e-4)
    assert not decoded[1, :, samples:].any()
    # Every index says something.
    for n in range(codec.codebooks):
        other = alone.clone()
        other[..., n] = (other[..., n] + 7) % 32
        changed = codec.decode_batch(other, generator=2)[0] - expected
        assert changed.std() > 1e-3 * expected.std()


def test_files_and_streams_give_what_the_batch_does(codec, voiced, tmp_path, short_windows):
    code_file, path = codec.to_code_file(voiced), tmp_path / "clip.wvq"
    write_code_file(path, code_file)
    found = read_code_file(path)
    assert torch.equal(found.codes, codec.encode_file(voiced)) and found.codebooks > 1
    wav = read_wav(voiced)
    assert torch.equal(found.codes[None], codec.encode_batch(wav[None]))
    # 74 bytes, the name, the number of codebooks, the codes of 5 bits, the CRC.
    name, bits = len(found.model.encode()), found.codes.numel() * 5
    assert path.stat().st_size == 74 + name + 2 + -(-bits // 8) + 4
    assert found.bits_per_second == pytest.approx(bits / (33092 / 22050))
    decoded = joined(codec.decode_stream(found, generator=3))
    assert decoded.shape == wav.shape and decoded.std() > 1e-3
    reconstructed = codec.reconstruct_file(voiced, generator=3)[0]
    torch.testing.assert_close(decoded, reconstructed, atol=1e-5, rtol=0)
    expected = codec.decode_batch(found.codes[None], generator=3)[0, 0, :33092]
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)
    streams = (
        codec.stream(found.codes.split(5), generator=3),
        codec.stream(found.codes[None].expand(2, -1, -1).split(7, dim=1), generator=3),
    )
    torch.testing.assert_close(joined(streams[0])[:33092], expected, atol=1e-5, rtol=0)
    batch = torch.cat(list(streams[1]), dim=1)
    torch.testing.assert_close(batch[1, :33092], expected, atol=1e-5, rtol=0)


def test_a_converter_gives_what_it_converts(converter, voiced, tmp_path, short_windows):
    write_code_file(tmp_path / "clip.wvq", converter.to_code_file(voiced))
    code_file = read_code_file(tmp_path / "clip.wvq")
    assert code_file.codes.shape == (65, 2) and code_file.pitch is not None
    decoded = joined(converter.decode_stream(code_file, "p226", generator=3))
    expected = converter.convert_file(voiced, "p226", generator=3)[0]
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=0)
    at_once = converter.convert_batch(read_wav(voiced)[None], "p226", generator=3)[0, 0]
    torch.testing.assert_close(decoded, at_once, atol=1e-5, rtol=0)
    swapped = converter.convert_file(voiced, "p226", mode="latent_swap")
    assert swapped.shape == (1, 33092) and torch.isfinite(swapped).all()


@pytest.mark.parametrize("codebooks", [1, 2, 4])
def test_the_rate_is_one_key(tmp_path, codebooks):
    options = {"codebooks": codebooks, "codebook_size": None, "codebook_dim": None}
    folder = export_tiny(tmp_path, "mel_vq", **options)[0]
    report = describe_model(folder)
    assert report["bits_per_second"] == pytest.approx(387.6 * codebooks, abs=0.1)
    assert (report["codebooks"], report["codebook_size"]) == (codebooks, 512)


def file_of(codes, **fields):
    return CodeFile(codes, 1000, 22050, 5, 256, "demo", "0" * 64)._replace(**fields)


def test_one_codebook_is_written_as_it_always_was(tmp_path):
    path = tmp_path / "clip.wvq"
    write_code_file(path, file_of(torch.tensor([3, 0, 4, 1])))
    data = path.read_bytes()
    assert data[8:12] == b"\1\0\0\0" and len(data) == 84
    write_code_file(path, file_of(torch.tensor([[3, 0], [4, 1], [0, 0], [1, 2]])))
    data = path.read_bytes()
    # Version 2, flag 8, two codebooks; 8 indices of 3 bits.
    assert data[8:12] == b"\2\0\10\0" and data[78:80] == b"\2\0" and len(data) == 87
    assert data[80:83] == bytes.fromhex("62100a")
    assert read_code_file(path).codes.tolist() == [[3, 0], [4, 1], [0, 0], [1, 2]]
    report = describe_code_file(path)
    assert (report["codes"], report["codebooks"]) == (4, 2)
    assert report["bits_per_second"] == pytest.approx(24 * 22.05)


def test_numbers_of_codebooks_that_do_not_fit(tmp_path, codec, voiced):
    path = tmp_path / "clip.wvq"
    with pytest.raises(UserError, match="it has 1 codebooks"):
        write_code_file(path, file_of(torch.zeros(4, 1, dtype=torch.int64)))
    write_code_file(path, file_of(torch.zeros(4, 2, dtype=torch.int64)))
    data = path.read_bytes()[:-4]
    for count, sentence in ((0, "0 codebooks|follow"), (1, "1 codebooks|follow"), (3, "early")):
        changed = data[:78] + struct.pack("<H", count) + data[80:]
        path.write_bytes(changed + struct.pack("<I", zlib.crc32(changed)))
        with pytest.raises(UserError, match=f"not a valid code file: .*({sentence})"):
            read_code_file(path)
    # Version 1 has none of these.
    changed = data[:8] + b"\1" + data[9:]
    path.write_bytes(changed + struct.pack("<I", zlib.crc32(changed)))
    with pytest.raises(UserError, match="version 1 has no flags 0x8"):
        read_code_file(path)
    code_file = codec.to_code_file(voiced)
    with pytest.raises(UserError, match=f"number of codebooks is 1, not {codec.codebooks}"):
        check_code_file(codec, code_file._replace(codes=code_file.codes[:, 0]))


def test_bad_codes(codec):
    count = codec.codebooks
    good = torch.zeros(1, 4, count, dtype=torch.int64)
    partly = good.clone()
    partly[0, 3, 1] = -1
    for codes, sentence in (
        (good[..., 0], rf"\[batch, codes, {count}\], got \[1, 4\]"),
        (good[0], rf"got \[4, {count}\]"),
        (partly, "at the end"),
        (good - 1, "only padding"),
        (good + 32, "between 32 and 32"),
    ):
        with pytest.raises(UserError, match=sentence):
            codec.decode_batch(codes)
    with pytest.raises(UserError, match=rf"\[steps, {count}\] or \[batch, steps, {count}\]"):
        list(codec.stream([good[0, :, 0]]))


def test_text_to_codes_is_for_one_codebook(tmp_path):
    folder = export_tiny(tmp_path, "mel_vq", codebooks=2)[0]
    with pytest.raises(UserError, match="has 2 codebooks, and text to codes writes those of one"):
        load_codec(folder)
