from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.lobes.mel_consistency import mel_consistent, shaped_noise, voiced_by_pulses
from waveglow_vq.lobes.source.pitch_reader import (
    PitchReader,
    save_pitch_reader,
    shipped_pitch_reader,
)
from waveglow_vq.lobes.source.pitch_rows import PitchRows
from waveglow_vq.lobes.source.pulses import pulse_train

import torch
from safetensors.torch import load_file

FEATURES = LogMel()


def test_receptive_field():
    reader = PitchReader(channels=8).eval()
    log_mel = torch.randn(1, 80, 120, generator=torch.Generator().manual_seed(0))
    other = log_mel.clone()
    other[..., 60 + reader.receptive_field] += 1
    difference = reader.logits(other) - reader.logits(log_mel)
    assert difference[..., 60].abs().max() > 0
    assert not difference[..., :60].any()


def test_loss_falls_towards_the_pitch():
    torch.manual_seed(0)
    reader = PitchReader(channels=16)
    log_mel, f0 = torch.randn(2, 80, 20), torch.full((2, 20), 200.0)
    f0[:, :5], log_mel[..., :5] = 0, log_mel[..., :5] - 3
    optimizer = torch.optim.Adam(reader.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        reader.loss(log_mel, f0).backward()
        optimizer.step()
    found, voicing = reader(log_mel)
    assert ((voicing > 0.5) == (f0 > 0)).float().mean() > 0.9
    assert abs(found[:, 5:].median() / 200 - 1) < 0.02


def test_saved_in_half_precision(tmp_path):
    reader, path = shipped_pitch_reader(), tmp_path / "a.safetensors"
    save_pitch_reader(reader, path)
    assert path.stat().st_size < 2**20
    read = load_file(path)
    for name, weight in reader.state_dict().items():
        assert torch.equal(read[name].float(), weight)


def pulses_of(f0):
    return pulse_train(PitchRows(256, 22050).of(f0, torch.ones_like(f0)), 256, 22050)


def low_voice(seconds=1.5):
    """Pulses of 85 Hz through resonances, with breath."""
    frames = int(seconds * 22050 / 256)
    generator = torch.Generator().manual_seed(0)
    pulses = pulses_of(torch.full((1, frames + 1), 85.0))
    wav = pulses[0] + 0.05 * torch.randn(pulses.shape[1], generator=generator)
    hertz = torch.fft.rfftfreq(len(wav), 1 / 22050)
    shape = sum(1 / (1 + ((hertz - f) / b) ** 2) for f, b in ((600, 80), (1100, 100), (2500, 150)))
    return 0.05 * torch.fft.irfft(torch.fft.rfft(wav) * shape, len(wav))[None]


def test_pulses_keep_a_low_voice_voiced():
    """Iterations from noise whisper."""
    wav = low_voice()
    log_mel, samples = FEATURES(wav), wav.shape[1]
    noise = shaped_noise(log_mel, FEATURES, samples, generator=0)
    f0 = torch.full((1, log_mel.shape[-1] + 1), 85.0)
    pulses = pulses_of(f0)[:, :samples]
    voiced = voiced_by_pulses(noise, pulses, torch.ones(1, log_mel.shape[-1]), log_mel, FEATURES)
    shares = []
    for start in (noise, voiced):
        track = track_f0(mel_consistent(start, log_mel, FEATURES, 10)[0])
        shares.append(float((track.voiced & ((track.f0 - 85).abs() < 3)).float().mean()))
    assert shares[0] < 0.5 and shares[1] > 0.9
