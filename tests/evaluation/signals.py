"""Signals with known properties for the tests of this folder."""

import math

import torch

RATE = 22050


def speech_like(seconds, f0_hz=140.0, seed=0):
    """Vowels with gliding pitch and formants between bursts of noise and silence, float32 [N]."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE
    pitch = f0_hz * 2 ** (0.3 * torch.sin(2 * math.pi * 0.9 * time))
    phase = 2 * math.pi * pitch.cumsum(0) / RATE
    formant = 700 + 300 * torch.sin(2 * math.pi * 1.7 * time)
    vowel = torch.zeros_like(time)
    for harmonic in range(1, 25):
        hz = harmonic * pitch
        gain = 1 / (1 + ((hz - formant) / 120) ** 2) + 0.3 / (1 + ((hz - 2200) / 200) ** 2)
        vowel += gain * torch.sin(harmonic * phase)
    noise = torch.randn(len(time), generator=generator, dtype=torch.float64)
    beat = (time * 3.1) % 1.0
    speech = torch.where(beat < 0.6, vowel, torch.where(beat < 0.8, 0.2 * noise, 0.0 * noise))
    return (0.1 * speech + 1e-3 * noise).float()


def pulse_train(f0_hz, seconds, rate=RATE):
    """One smoothed pulse per period: all harmonics at equal strength up to 4 kHz, [N]."""
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    harmonics = torch.arange(1, int(4000 / f0_hz) + 1, dtype=torch.float64)
    return (torch.cos(2 * math.pi * f0_hz * harmonics[:, None] * time).mean(0)).float()


def noise_like(wav, snr_db, seed=0):
    """White noise below a signal by ``snr_db``, [N]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(wav), generator=generator) * wav.std() * 10 ** (-snr_db / 20)
