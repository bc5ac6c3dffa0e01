"""Tests of the sentences by rules."""

import random
import re

from waveglow_vq.demo.sentences import MAX_TEXTS, demo_texts
from waveglow_vq.demo.texts import DEMO_TEXTS


def test_there_are_as_many_as_promised_and_no_two_alike():
    texts = demo_texts(MAX_TEXTS)
    assert len(texts) == len({text for text, _ in texts}) == MAX_TEXTS
    assert texts[: len(DEMO_TEXTS)] == list(DEMO_TEXTS)


def test_a_text_does_not_depend_on_how_many_follow_or_on_the_callers_random_numbers():
    random.seed(1)
    few = demo_texts(200)
    random.seed(2)
    assert demo_texts(500)[:200] == few
    assert demo_texts(10) == few[:10]


def test_they_can_be_written_to_metadata_and_spoken():
    for text, normalized in demo_texts(3000):
        assert not re.search(r"[|\n{}]", text)
        assert text[0].isupper() and text[-1] in ".?!"
        spoken = normalized or text
        assert not re.search(r"\d", spoken)
        assert 20 <= len(spoken) <= 160
    assert any(re.search(r"\d", text) for text, _ in demo_texts(200)[64:])


def test_every_word_is_met_several_times():
    words = {}
    for text, normalized in demo_texts(2064)[64:]:
        for word in re.findall(r"[a-z']+", (normalized or text).lower()):
            words[word] = words.get(word, 0) + 1
    assert len(words) > 500
    assert sum(count >= 3 for count in words.values()) > 0.97 * len(words)
