"""What training on several speakers adds; whole runs are in tests/recipes/VCTK/test_train.py."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.data.segments import read_utterance
from waveglow_vq.data.speakers import Speakers
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.training.multispeaker_brain import CLIPS_OF_A_CENTROID, speaker_centroids

import pytest
import soundfile
import torch


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Noises of different colour: twelve clips of one speaker, two of another."""
    torch.manual_seed(0)
    folder, entries = tmp_path_factory.mktemp("clips"), []
    for speaker, clips, colour in (("p225", 12, 0.0), ("p226", 2, 0.9)):
        for number in range(clips):
            noise = 0.1 * torch.randn(3000 + 500 * number)
            noise[1:] += colour * noise[:-1]
            path = folder / f"{speaker}_{number:03d}.wav"
            soundfile.write(path, noise.numpy(), 22050)
            entries.append({"path": str(path), "speaker_label": speaker})
    return entries


@pytest.fixture(scope="module")
def condition():
    torch.manual_seed(0)
    options = {"features": LogMel(), "encoder_channels": 8, "encoder_layers": 1}
    return SpeakerCondition(4, channels=5, source="encoder", dropout=0.5, **options).eval()


def known(*labels):
    return Speakers(list(labels), torch.tensor([[5.0, 0.2]] * len(labels)), [2] * len(labels))


def vector(condition, entry):
    mel = read_utterance(entry["path"], LogMel())["mel"]
    return condition(reference=mel.T[None])[0]


def test_speakers_are_the_means_of_their_first_clips(condition, entries):
    """In the order of their numbers, whatever that of the manifest is."""
    found = speaker_centroids(condition, LogMel(), reversed(entries), known("p225", "p226"))
    clips = list(reversed(entries))[2:][:CLIPS_OF_A_CENTROID]
    assert {clip["speaker_label"] for clip in clips} == {"p225"}
    expected = torch.stack([vector(condition, clip) for clip in clips]).mean(0)
    torch.testing.assert_close(found[0], expected)
    expected = torch.stack([vector(condition, clip) for clip in entries[-2:]]).mean(0)
    torch.testing.assert_close(found[1], expected)
    assert found.shape == (2, 5) and not found.requires_grad
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_by_their_means_speakers_are_known_by_number(condition, entries):
    condition.set_centroids(speaker_centroids(condition, LogMel(), entries, known("p225", "p226")))
    first, second = condition(torch.tensor([0, 1]))
    own = vector(condition, entries[0])
    # A clip is nearer to its own speaker than to the other.
    assert (own - first).norm() < (own - second).norm()
