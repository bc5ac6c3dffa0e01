import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.io import read_wav
from waveglow_vq.evaluation.sound_quality import JUDGES
from waveglow_vq.evaluation.words import content
from waveglow_vq.evaluation.words.content import content_distance

import numpy as np
import pytest
import torch


def test_frames_are_compared_along_the_alignment(monkeypatch):
    generator = np.random.default_rng(0)
    frames = generator.normal(size=(20, 8))
    # Angles alone take part.
    heard = {1: frames, 2: 3 * np.repeat(frames, 2, axis=0), 3: generator.normal(size=(20, 8))}
    monkeypatch.setattr(content, "_encode", lambda wav: heard[int(wav[0])])
    own, slow, other = (np.full(100, value, np.float32) for value in heard)
    assert content_distance(own, own)[0] == pytest.approx(0, abs=1e-9)
    assert content_distance(own, slow)[0] == pytest.approx(0, abs=1e-9)
    assert content_distance(own, other)[0] > 0.3


def test_long_recordings_are_heard_in_parts(monkeypatch):
    parts = []
    monkeypatch.setattr(content, "_encode", lambda wav: parts.append(len(wav)) or np.eye(3))
    assert content.content_frames(np.ones(61 * 16000, np.float32)).shape == (9, 3)
    assert len(parts) == 3 and max(parts) - min(parts) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not JUDGES["content"].available(), reason="needs faster-whisper and its model")
def test_it_hears_words_rather_than_voices(real_vctk):
    def clip(speaker, number):
        return read_wav(real_vctk / f"wav48/{speaker}/{speaker}_{number}.wav", 16000, mono="mix")

    def distance(first, second):
        return content_distance(first.numpy(), second.numpy())[0]

    own, other_voice, other_words = clip("p225", "008"), clip("p226", "008"), clip("p225", "016")
    assert distance(own, own) < 1e-3
    assert distance(own, other_voice) < distance(own, other_words) - 0.05
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    noisy = [distance(own, own + level * own.std() * noise) for level in (0.1, 0.5, 2.0)]
    assert noisy == sorted(noisy) and noisy[0] > 0
