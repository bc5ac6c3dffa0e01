import copy

from waveglow_vq.errors import UserError
from waveglow_vq.inference.conversion.voices import (
    known_voice,
    own_f0_statistics,
    utterance_pitch,
)
from waveglow_vq.inference.conversion.whole_utterances import convert_utterances
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch
from waveglow_vq.lobes.conditioners.speaker_condition import MIN_LOG_F0_STD

import pytest
import torch

from tests.inference.exports import voiced_speech_like

EVERY = ["codes", "pitch", "encoder", "waves", "mel"]
WITH_CODES = EVERY[:-1]


@pytest.fixture(scope="module")
def wavs():
    return torch.stack([voiced_speech_like(7000, 120.0), voiced_speech_like(7000, 210.0, seed=1)])


def parts(converter):
    return converter.mods.model, converter.mods.features


def voices(model, *ids):
    return known_voice(model, torch.tensor(ids))


def reference_conversion(model, features, wav, voice):
    """Mode codes, step by step, of one waveform."""
    whole_hops = torch.nn.functional.pad(wav, (0, -len(wav) % features.hop_length))[None]
    inputs, pitch = model.conditioner.inputs(features(wav[None]), whole_hops).features, None
    if model.uses_pitch:
        pitch = utterance_pitch(model, features, wav[None], torch.tensor([len(wav)]))[0]
    indices = model.conditioner.encode(inputs)
    frames = model.conditioner.frame_count(len(wav))
    condition = model.decode(indices, frames, None, voice.vector, pitch, voice.f0_statistics)
    return model.sample(condition, speaker=voice.vector, sigma=0.7, generator=4)[:, : len(wav)]


@pytest.mark.parametrize("name", WITH_CODES)
@torch.no_grad()
def test_codes_are_decoded_for_the_target(converters, wavs, name):
    model, features = parts(converters(name))
    converted = convert_utterances(
        model, features, wavs[:1], None, voices(model, 1), sigma=0.7, generator=4
    )
    expected = reference_conversion(model, features, wavs[0], voices(model, 1))
    torch.testing.assert_close(converted, expected, atol=1e-5, rtol=1e-4)
    other = convert_utterances(
        model, features, wavs[:1], None, voices(model, 2), sigma=0.7, generator=4
    )
    assert (converted - other).std() > 0.05 * converted.std()


@torch.no_grad()
def test_the_level_of_the_pitch_does_not_matter_but_its_course_does(converters, wavs):
    model, features = parts(converters("pitch"))
    counts = torch.tensor([7000])
    low = torch.where(torch.arange(28) % 5 > 0, 5.0 + 0.01 * torch.arange(28), 0.0)
    statistics = torch.tensor([[5.1, 0.1]])
    pitch = normalize_pitch(low[None], statistics)
    high = torch.where(low > 0, low + 0.69, 0.0)
    shifted = normalize_pitch(high[None], statistics + torch.tensor([[0.69, 0.0]]))
    first, second = (
        convert_utterances(
            model, features, wavs[:1], counts, voices(model, 1), generator=0, pitch=given
        )
        for given in (pitch, shifted)
    )
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    flat = convert_utterances(
        model, features, wavs[:1], counts, voices(model, 1), generator=0, pitch=pitch * 0
    )
    assert not torch.allclose(first, flat, atol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_latent_swap_to_the_source_returns_the_input(converters, wavs, name):
    model, features = parts(converters(name))
    counts = torch.tensor([7000, 5555])
    voice = voices(model, 0, 2)
    same = convert_utterances(model, features, wavs, counts, voice, "latent_swap", voice)
    assert same.shape == wavs.shape and not same[1, 5555:].any()
    for item, count in enumerate(counts.tolist()):
        torch.testing.assert_close(
            same[item, :count], wavs[item, :count], atol=1e-3 * float(wavs.abs().max()), rtol=0
        )
    other = convert_utterances(
        model, features, wavs, counts, voices(model, 1, 1), "latent_swap", voice
    )
    assert (other - same)[:, :5000].std() > 0.05 * same.std()


@pytest.mark.parametrize("name", EVERY)
def test_latent_swap_is_exact_in_double_precision(converters, wavs, name):
    model, features = parts(converters(name))
    model = copy.deepcopy(model).double()
    voice, wav = voices(model, 2), wavs[:1].double()
    same = convert_utterances(model, features, wav, None, voice, "latent_swap", voice)
    assert same.dtype == torch.float64
    torch.testing.assert_close(same, wav, atol=1e-6 * float(wav.abs().max()), rtol=0)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("mode", ["codes", "latent_swap"])
def test_a_list_and_a_padded_batch_and_single_items_agree(converters, wavs, name, mode):
    if (name, mode) == ("mel", "codes"):
        pytest.skip("no codes")
    model, features = parts(converters(name))
    items = [wavs[0], wavs[1, :4321]]
    target, source = voices(model, 0, 1), voices(model, 2, 0)
    padded = wavs.clone()
    padded[1, 4321:] = 0.5  # whatever padding holds
    together = convert_utterances(model, features, items, None, target, mode, source, 0.8, 3)
    assert together.shape == (2, 7000)
    for index, item in enumerate(items):
        alone = convert_utterances(
            model,
            features,
            item[None],
            None,
            target.item(index),
            mode,
            source.item(index),
            sigma=0.8,
            generator=3,
        )
        tolerance = 1e-3 * float(alone.abs().max())
        torch.testing.assert_close(
            together[index, : len(item)], alone[0], atol=tolerance, rtol=1e-3
        )
        assert not together[index, len(item) :].any()
    if mode == "codes":
        given = fill(padded, [7000, 4321])
        again = convert_utterances(
            model,
            features,
            given,
            torch.tensor([7000, 4321]),
            target,
            mode,
            sigma=0.8,
            generator=3,
        )
        assert torch.equal(again, together)


def fill(wavs, counts):
    return torch.stack(
        [torch.where(torch.arange(len(w)) < n, w, 0.0) for w, n in zip(wavs, counts, strict=True)]
    )


def test_pitch_is_normalized_by_the_utterance_itself(converters, wavs):
    model, features = parts(converters("pitch"))
    counts = torch.tensor([7000, 5000])
    pitch, statistics = utterance_pitch(model, features, wavs, counts)
    assert pitch.shape == (2, 28, 2) and not pitch[1, 20:].any()
    assert 4.6 < statistics[0, 0] < 4.95 and 5.2 < statistics[1, 0] < 5.5  # 120 and 210 Hz
    for item in pitch:
        voiced = item[item[:, 1] > 0, 0]
        assert abs(float(voiced.mean())) < 1e-4
        assert 0.3 < float(voiced.std(correction=0)) < 1.001  # below 1 where the floor holds
        assert not item[item[:, 1] == 0, 0].any()


def test_utterances_without_voice_are_taken_for_anybody(converters):
    model, features = parts(converters("pitch"))
    pitch, statistics = utterance_pitch(model, features, torch.zeros(1, 4000), torch.tensor([4000]))
    assert not pitch.any()
    assert torch.equal(statistics, model.speakers.f0_statistics(torch.tensor([-1])))


@pytest.mark.parametrize("voiced", [1, 2])
def test_statistics_of_the_least_that_can_be_voiced(voiced):
    """One frame has no deviation: the floor holds, and nothing is NaN."""
    log_f0 = torch.zeros(9)
    log_f0[3 : 3 + voiced] = torch.tensor([4.5, 5.5])[:voiced]
    found = own_f0_statistics(log_f0, torch.tensor([5.0, 0.2])).tolist()
    expected = [4.5, MIN_LOG_F0_STD] if voiced == 1 else [5.0, 0.5]
    assert found == pytest.approx(expected)


def test_wrong_modes(converters, wavs):
    model, features = parts(converters("mel"))
    with pytest.raises(UserError, match="mode: 'code' is not one of codes, latent_swap"):
        convert_utterances(model, features, wavs, None, voices(model, 0, 0), "code")
    with pytest.raises(UserError, match="the model has no codes.*latent_swap"):
        convert_utterances(model, features, wavs, None, voices(model, 0, 0))
    with pytest.raises(ValueError, match="a source"):
        convert_utterances(model, features, wavs, None, voices(model, 0, 0), "latent_swap")
