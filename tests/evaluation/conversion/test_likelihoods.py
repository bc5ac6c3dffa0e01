import zlib

from waveglow_vq.data.segments import read_utterance
from waveglow_vq.evaluation.conversion.likelihoods import speaker_likelihoods
from waveglow_vq.inference.conversion.whole_utterances import utterance_pitch

import pytest
import torch

from tests.evaluation.tiny_corpus import LABELS, tiny_model


@pytest.fixture
def test_set(found):
    return found["test"]


@pytest.mark.parametrize("kind", ["mel_vq", "wav_vq", "mel"])
def test_likelihoods_are_those_of_the_model(test_set, kind):
    model, features = tiny_model(kind)
    utterance = test_set[0]
    found = speaker_likelihoods(model, features, [utterance], LABELS, batch_size=2)
    noise = torch.Generator().manual_seed(zlib.crc32(utterance.name.encode()))
    item = read_utterance(utterance.path, features, noise)
    wav, mel = item["wav"][None], item["mel"].T[None]
    pitch = utterance_pitch(model, features, wav, torch.tensor([wav.shape[1]]))[0]
    with torch.no_grad():
        nll = {
            label: float(model(wav, mel, speaker=torch.tensor([i]), pitch=pitch).terms["nll"])
            for i, label in enumerate(LABELS)
        }
    wrong = [nll[label] for label in LABELS if label != utterance.speaker]
    expected = sum(wrong) / 2 - nll[utterance.speaker]
    assert abs(expected) > 1e-4
    assert found["differences"] == {utterance.name: pytest.approx(expected, abs=1e-5)}
    assert found["share_positive"] == float(expected > 0)
    assert found["share_best"] == float(min(wrong) > nll[utterance.speaker])
    assert (found["utterances"], found["wrong_speakers"]) == (1, 2)


def test_likelihoods_of_a_model_that_ignores_the_speaker(test_set):
    model, features = tiny_model()
    with torch.no_grad():
        model.speakers.table.weight[:] = 0.3
        model.speakers.log_f0[:] = model.speakers.log_f0[0]
    found = speaker_likelihoods(model, features, test_set, LABELS)
    assert found["mean_difference"] == pytest.approx(0.0, abs=1e-6)
    assert found["share_best"] == 0.0


def test_likelihoods_with_two_speakers_turn_around_when_they_are_exchanged(test_set):
    model, features = tiny_model()
    utterance = next(u for u in test_set if u.speaker == LABELS[0])
    one = speaker_likelihoods(model, features, [utterance], LABELS[:2])
    other = speaker_likelihoods(model, features, [utterance], LABELS[1::-1])
    assert one["mean_difference"] == pytest.approx(-other["mean_difference"], abs=1e-6)
    assert {one["share_best"], other["share_best"]} == {0.0, 1.0}


def test_likelihoods_try_at_most_so_many_wrong_speakers(test_set):
    model, features = tiny_model()
    few = speaker_likelihoods(model, features, test_set[:2], LABELS, max_wrong=1)
    assert few["wrong_speakers"] == 1
    assert few == speaker_likelihoods(model, features, test_set[:2], LABELS, max_wrong=1)
    assert speaker_likelihoods(model, features, test_set[:2], LABELS[:1]) == {}
    assert speaker_likelihoods(model, features, [], LABELS) == {}
