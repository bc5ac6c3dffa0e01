"""Tests of decoding one code at a time: with and without the cache it is what training computes."""

from waveglow_vq.lobes.text_to_codes.decoder_steps import LOOK_BACK, CachedSteps, PlainSteps
from waveglow_vq.lobes.text_to_codes.model import TextToCodes

import pytest
import torch

K, LEVELS, TEXTS = 11, 4, torch.tensor([7, 3, 5])


def build(**options):
    torch.manual_seed(0)
    sizes = {"channels": 16, "heads": 2, "encoder_layers": 1, "decoder_layers": 2}
    model = TextToCodes(13, K, **{**sizes, "feedforward_channels": 24, **options}).double().eval()
    # Norms that do nothing would hide one that is left out.
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 0.7, 0.3)
    return model


def inputs(model):
    torch.manual_seed(1)
    tokens = torch.randint(1, 13, (3, 7))
    speaker = torch.tensor([2, 0, 1]) if model.max_speakers else None
    memory = model.encode_text(tokens, TEXTS / 7, speaker)
    codes = torch.randint(K, (3, 9))
    pitch = torch.randint(LEVELS + 1, (3, 9)) if model.pitch_levels else None
    return (*memory, speaker), codes, pitch


@pytest.mark.parametrize("steps", [CachedSteps, PlainSteps])
@torch.no_grad()
def test_bounded_attention_stays_near_to_what_is_read(steps):
    model = build()
    torch.manual_seed(1)
    # Keys are like the queries of similar positions, so that attention moves on by itself.
    model.text_scale.fill_(4.0)
    model.code_scale.fill_(4.0)
    for layer in model.decoder.layers:
        layer.multihead_attn.att.in_proj_weight[:32] = 2 * torch.eye(16).repeat(2, 1)
    memory, padding = model.encode_text(torch.randint(1, 13, (2, 16)), torch.tensor([1.0, 0.75]))
    codes, furthest = torch.randint(K, (2, 50)), torch.zeros(2, dtype=torch.long)
    run, hidden, looked_at = steps(model, memory, padding, look_ahead=2), [], []
    for t in range(51):
        ahead = torch.arange(16) - furthest[:, None]
        hidden.append((ahead > 2) | (ahead < -LOOK_BACK) | padding)
        looked_at.append(run.step(codes[:, t - 1] if t else torch.full((2,), -1))[2])
        assert torch.equal(looked_at[-1] == 0, hidden[-1])
        furthest = torch.maximum(furthest, looked_at[-1].argmax(1))
    # The end was reached, and so the beginning left behind.
    assert furthest[0] >= 14 and furthest[1] == 11
    _, attention = model.decode_text(memory, padding, codes, hidden_tokens=torch.stack(hidden, 1))
    torch.testing.assert_close(torch.stack(looked_at, 1), attention, rtol=1e-9, atol=1e-11)


OPTIONS = [{}, {"max_speakers": 3}, {"max_speakers": 3, "pitch_levels": LEVELS}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("steps", [CachedSteps, PlainSteps])
@torch.no_grad()
def test_steps_are_what_training_computes(options, steps):
    model = build(**options)
    (memory, padding, speaker), codes, pitch = inputs(model)
    hidden, attention = model.decode_text(memory, padding, codes, pitch, speaker)
    run = steps(model, memory, padding, speaker)
    for t in range(10):
        latest = codes[:, t - 1] if t else torch.full((3,), -1)
        heard = None if pitch is None else pitch[:, t - 1] if t else latest
        logits, pitches, looked_at = run.step(latest, heard)
        expected = model.to_code(hidden[:, t]).float()
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(looked_at, attention[:, t], rtol=1e-9, atol=1e-11)
        assert (pitches is None) == (pitch is None)
        if pitch is not None:
            expected = model.to_pitch(hidden[:, t]).float()
            torch.testing.assert_close(pitches, expected, rtol=1e-5, atol=1e-6)
        assert bool((looked_at[padding] == 0).all())


@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_selected_rows_go_on_as_they_would_have(options):
    model = build(**options)
    (memory, padding, speaker), codes, pitch = inputs(model)
    rows = torch.tensor([2, 2, 0, 1])
    results = []
    for make in (CachedSteps, PlainSteps):
        run = make(model, memory, padding, speaker)
        latest = torch.full((3,), -1)
        run.step(latest, latest if model.pitch_levels else None)
        run.step(codes[:, 0], None if pitch is None else pitch[:, 0])
        run.select(rows)
        parts = run.step(codes[rows, 1], None if pitch is None else pitch[rows, 1])
        results.append([part for part in parts if part is not None])
    for cached, plain in zip(*results, strict=True):
        torch.testing.assert_close(cached, plain, rtol=1e-5, atol=1e-6)
    # As in the batch that was not rearranged.
    hidden, _ = model.decode_text(memory, padding, codes, pitch, speaker)
    expected = model.to_code(hidden[rows, 2]).float()
    torch.testing.assert_close(results[0][0], expected, rtol=1e-5, atol=1e-6)
