import math

from waveglow_vq.audio.blocks import log_mel_blocks, read_blocks
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import WavWriter, read_for_model, read_wav, write_wav
from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.errors import UserError

import pytest
import soundfile
import torch


def noise(*shape):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rate", [7993, 22050, 44100, 96000])
@pytest.mark.parametrize("seconds", [0.0031, 10.0])
def test_blocks_are_the_whole_file(tmp_path, rate, seconds):
    path = tmp_path / "stereo.flac"
    soundfile.write(path, noise(30011, 2).numpy(), rate, subtype="PCM_24")
    whole = read_for_model(path, 22050)
    assert len(whole) == math.ceil(30011 * 22050 / rate)
    blocks = list(read_blocks(path, 22050, block_seconds=seconds))
    assert torch.equal(torch.cat(blocks), whole)
    assert max(map(len, blocks)) < 15000 or seconds > 1
    in_memory = read_blocks(SoundBytes("it", path.read_bytes()), 22050)
    assert torch.equal(torch.cat(list(in_memory)), whole)


def test_what_cannot_be_read_is_said_as_by_read_for_model(tmp_path):
    def sentence(read):
        with pytest.raises(UserError) as caught:
            read()
        return str(caught.value)

    def blocks(path, **options):
        for _ in read_blocks(path, 22050, block_seconds=0.01, **options):
            pass

    short, broken, nan = (tmp_path / f"{name}.wav" for name in ("short", "broken", "nan"))
    write_wav(short, noise(400), 44100)
    broken.write_bytes(b"RIFF nothing of the kind")
    bad = noise(5000)
    bad[4000:4003] = float("nan")
    bad[4999] = float("inf")
    soundfile.write(nan, bad.numpy(), 16000, subtype="FLOAT")
    for path in (tmp_path / "nowhere.wav", broken, nan):
        said = sentence(lambda path=path: blocks(path))
        assert said == sentence(lambda path=path: read_for_model(path, 22050))
    said = sentence(lambda: blocks(short, min_samples=201))
    assert said == sentence(lambda: read_for_model(short, 22050, 201))
    assert "200 samples at 22050 Hz where at least 201" in said
    # The header is looked at right away.
    with pytest.raises(UserError, match="too short"):
        read_blocks(short, 22050, 201)
    # What comes before samples that are wrong is given.
    count = 0
    with pytest.raises(UserError, match="nan.wav holds 4 samples that are NaN or infinite"):
        for block in read_blocks(nan, 16000, block_seconds=0.01):
            count += len(block)
    assert count == 4000


@pytest.mark.parametrize("size", [1, 100, 256, 700, 20000])
@pytest.mark.parametrize("samples", [513, 1024, 5000, 5119, 5120])
def test_log_mels_of_blocks_are_those_of_the_whole(size, samples):
    features, wav = LogMel(), noise(samples)
    blocks = list(log_mel_blocks(features, wav.split(size)))
    whole = features(wav[None])[0]
    torch.testing.assert_close(torch.cat(blocks, dim=1), whole, atol=1e-5, rtol=0)


def test_a_waveform_that_is_too_short_for_the_reflection():
    with pytest.raises(ValueError, match="512 samples where 513 are needed"):
        list(log_mel_blocks(LogMel(), noise(512).split(100)))


def test_written_blocks_are_as_written_at_once(tmp_path):
    wav = 10 * noise(3000)
    wav[7] = 3.0
    write_wav(tmp_path / "whole.wav", wav, 22050)
    path = tmp_path / "new" / "blocks.wav"
    with WavWriter(path, 22050) as writer:
        for block in wav.split(701):
            assert not path.exists()
            writer.write(block)
    assert path.read_bytes() == (tmp_path / "whole.wav").read_bytes()
    assert writer.samples == 3000 and writer.peak == pytest.approx(float(wav.abs().max()))
    assert writer.limited == int((wav.abs() > 1).sum()) > 0
    with WavWriter(tmp_path / "blocks.flac", 22050) as writer:
        writer.write(wav.clamp(-0.5, 0.5))
    assert soundfile.info(tmp_path / "blocks.flac").format == "FLAC"


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_nothing_half_written_is_left(tmp_path, error):
    path = tmp_path / "clip.wav"
    write_wav(path, noise(100), 22050)
    with pytest.raises(error), WavWriter(path, 22050) as writer:
        writer.write(noise(50))
        raise error("stop")
    with pytest.raises(UserError, match="NaN"), WavWriter(path, 22050) as writer:
        writer.write(torch.full((5,), float("nan")))
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.wav"]
    assert len(read_wav(path)) == 100


def test_a_format_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="clip.nonsense cannot be written"):
        WavWriter(tmp_path / "clip.nonsense", 22050).__enter__()
    assert not list(tmp_path.iterdir())
