from waveglow_vq.evaluation.text_to_speech.attention import (
    alignment_figures,
    longest_repetition,
    longest_run,
    loop_signs,
    monotonic_path,
)

import pytest
import torch

TOKENS = 40
CODES_PER_TOKEN = 3


def attention_at(places, tokens=TOKENS, seed=0):
    """Attention as models have it: a peak of some tokens' width, on a noisy ground of those heads
    that look elsewhere."""
    places = torch.as_tensor(places, dtype=torch.float)
    peak = (-0.5 * ((places[:, None] - torch.arange(tokens)) / 0.8).square()).exp()
    ground = torch.rand(len(places), tokens, generator=torch.Generator().manual_seed(seed))
    attention = peak + 0.3 * ground
    return attention / attention.sum(1, keepdim=True)


def read(*spans):
    """Places of codes that read spans of tokens one after the other, at an even pace."""
    spans = [torch.arange(begin * 1.0, end, 1 / CODES_PER_TOKEN) for begin, end in spans]
    return torch.cat(spans).floor()


ORDINARY = {
    "clean": read((0, TOKENS)),
    "with a silent beginning and end": torch.cat(
        [torch.zeros(15), read((0, TOKENS)), torch.full((15,), TOKENS - 1.0)]
    ),
    "with a pause": torch.cat([read((0, 20)), torch.full((25,), 19.0), read((20, TOKENS))]),
    "with letters passed over": read((0, 10), (13, 25), (28, TOKENS)),
    "one token early, one late": read((0, TOKENS)) + torch.tensor([1.0, -1.0]).repeat(60),
    "last letters unsaid": read((0, TOKENS - 2)),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_read_in_order_is_diagonal(name):
    figures = alignment_figures(attention_at(ORDINARY[name].clamp(0, TOKENS - 1)))
    assert figures["diagonal"] and not figures["truncated"], figures
    assert figures["coverage"] == 1.0 and figures["backward_steps"] == 0
    assert figures["diagonality"] > 0.98


@pytest.mark.parametrize("last", [35, 30, 20])
def test_truncated(last):
    figures = alignment_figures(attention_at(read((0, last))))
    assert figures["truncated"] and not figures["diagonal"]
    assert figures["unread_tokens"] == TOKENS - last
    assert figures["coverage"] == pytest.approx((last + 3) / TOKENS)
    assert figures["backward_steps"] == 0 and figures["diagonality"] > 0.98


def test_begun_too_late():
    figures = alignment_figures(attention_at(read((8, TOKENS))))
    assert not figures["diagonal"] and not figures["truncated"]
    assert figures["coverage"] == pytest.approx((TOKENS - 5) / TOKENS)


def test_words_left_out_within():
    figures = alignment_figures(attention_at(read((0, 12), (24, TOKENS))))
    assert not figures["diagonal"] and not figures["truncated"]
    # Tokens 12 to 23 are left out, and three of them at either side are near enough.
    assert figures["coverage"] == pytest.approx(1 - 6 / TOKENS)


def test_stuck():
    places = torch.cat([read((0, 18)), torch.full((200,), 17.0)])
    figures = alignment_figures(attention_at(places))
    assert 200 <= figures["longest_stall"] <= 200 + 2 * CODES_PER_TOKEN
    assert figures["truncated"] and figures["backward_steps"] == 0
    # As long where it does not stand still but goes to and fro.
    places[18 * CODES_PER_TOKEN :] -= torch.arange(200) // 5 % 3
    swaying = alignment_figures(attention_at(places))
    assert 200 <= swaying["longest_stall"] <= 200 + 2 * CODES_PER_TOKEN
    clean = alignment_figures(attention_at(read((0, TOKENS))))
    assert clean["longest_stall"] <= 2 * CODES_PER_TOKEN


def test_each_return_to_words_that_were_read_counts():
    once = alignment_figures(attention_at(read((0, 20), (14, TOKENS))))
    assert once["backward_steps"] == 1 and not once["diagonal"] and not once["truncated"]
    assert once["coverage"] == 1.0
    thrice = alignment_figures(attention_at(read((0, 20), (14, 20), (14, 20), (12, TOKENS))))
    assert thrice["backward_steps"] == 3
    assert thrice["diagonality"] < once["diagonality"] < 1.0
    # Attention that begins at the end is behind from where it goes back.
    assert alignment_figures(attention_at(read((30, 40), (0, 40))))["backward_steps"] == 1


def test_a_stray_code_is_no_step_and_no_token_read():
    places = read((0, 30))
    for index in (0, 40, len(places) - 1):
        strayed = places.clone()
        strayed[index] = TOKENS - 1 if index == 40 else 15
        figures = alignment_figures(attention_at(strayed))
        assert figures["backward_steps"] == 0
        assert figures["truncated"] and 9 <= figures["unread_tokens"] <= 11
    # Three codes are a sound.
    strayed = places.clone()
    strayed[60:63] = 5
    assert alignment_figures(attention_at(strayed))["backward_steps"] == 1


def test_noise_is_not_diagonal():
    figures = alignment_figures(torch.rand(120, 40, generator=torch.Generator().manual_seed(0)))
    assert not figures["diagonal"] and figures["diagonality"] < 0.8
    assert figures["backward_steps"] > 3
    # All the same everywhere: the first token, for ever.
    figures = alignment_figures(torch.ones(120, 40))
    assert figures["truncated"] and figures["longest_stall"] == 120


def test_tolerance_is_in_tokens_and_small_for_small_texts():
    attention = attention_at(read((0, 20), (16, TOKENS)))
    assert alignment_figures(attention, tolerance=3)["backward_steps"] == 0
    assert alignment_figures(attention, tolerance=2)["backward_steps"] == 1
    # Of three tokens the last is missing, and of one, nothing can be.
    assert alignment_figures(torch.eye(3).repeat_interleave(4, 0)[:4])["truncated"]
    assert alignment_figures(torch.eye(3).repeat_interleave(4, 0))["diagonal"]
    assert alignment_figures(torch.ones(5, 1))["diagonal"]
    assert alignment_figures(torch.ones(1, 1))["diagonal"]


def test_as_many_tokens_as_are_tolerated_may_stay_unread():
    for unread, truncated in ((3, False), (4, True)):
        figures = alignment_figures(attention_at(read((0, TOKENS - unread))))
        assert figures["unread_tokens"] == unread and figures["truncated"] is truncated
        assert figures["diagonal"] is not truncated


def test_figures_are_plain_numbers_whatever_the_attention_is_of():
    attention = attention_at(read((0, TOKENS)))
    figures = alignment_figures(attention)
    assert {type(value) for value in figures.values()} == {bool, int, float}
    half = alignment_figures((7 * attention).bfloat16().requires_grad_())
    assert half["diagonal"] and half["diagonality"] == pytest.approx(
        figures["diagonality"], abs=0.1
    )


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (1, 4, 4)])
def test_no_alignment_at_all_is_an_error(shape):
    with pytest.raises(ValueError, match="codes, tokens"):
        alignment_figures(torch.ones(shape))
    with pytest.raises(ValueError, match="finite"):
        alignment_figures(torch.full((3, 3), float("nan")))


def test_path_is_the_best_of_all_that_do_not_go_back():
    attention = torch.rand(5, 4, generator=torch.Generator().manual_seed(3))
    rows = torch.arange(5)
    paths = torch.cartesian_prod(*[torch.arange(4)] * 5)
    paths = paths[(paths.diff(dim=1) >= 0).all(1)]
    best = max(float(attention[rows, path].sum()) for path in paths)
    found = monotonic_path(attention)
    assert bool((found.diff() >= 0).all())
    assert float(attention[rows, found].sum()) == pytest.approx(best)


def test_repetitions():
    speech = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    assert longest_repetition(speech) == 1
    word = speech[:20]
    twice = torch.cat([speech, word, word])
    assert longest_repetition(twice) == 1
    # Three times is a loop, and a code less is none.
    thrice = torch.cat([twice, word])
    assert longest_repetition(thrice) == 60 and longest_repetition(thrice[:-1]) == 1
    loop = torch.cat([speech, word, word, word, word[:7], speech])
    assert longest_repetition(loop) == 67
    silence = torch.cat([speech[:9], torch.full((30,), 300), speech[:9]])
    assert longest_repetition(silence) == 30
    assert longest_repetition(silence[9:39]) == 30
    assert longest_repetition(speech[:1]) == longest_repetition(speech[:0]) == 1
    assert longest_run(silence) == 30 and longest_run(speech[:0]) == 0


def test_signs_of_loops():
    speech = torch.randperm(256, generator=torch.Generator().manual_seed(0))[:120]
    clean = alignment_figures(attention_at(read((0, TOKENS))))
    assert loop_signs(clean, speech, most_stall=20, most_repetition=20) == []
    back = alignment_figures(attention_at(read((0, 20), (10, TOKENS))))
    assert loop_signs(back, speech) == ["goes back"]
    stuck = alignment_figures(attention_at(torch.cat([read((0, 18)), torch.full((50,), 17.0)])))
    assert loop_signs(stuck, speech) == loop_signs(stuck, speech, most_stall=60) == []
    assert loop_signs(stuck, speech, most_stall=40) == ["stands still"]
    loop = speech[:10].repeat(5)
    assert loop_signs(clean, loop) == loop_signs(clean, loop, most_repetition=50) == []
    assert loop_signs(clean, loop, most_repetition=49) == ["repeats itself"]
    assert loop_signs(back, loop, 5, 5, stopped=False) == [
        "goes back", "stands still", "repeats itself", "does not end"
    ]  # fmt: skip
