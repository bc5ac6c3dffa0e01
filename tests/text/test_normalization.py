import random
import re

from waveglow_vq.demo.texts import DEMO_TEXTS
from waveglow_vq.errors import UserError
from waveglow_vq.text.normalization import (
    MAX_CHARACTERS,
    normalize_text,
    split_sentences,
    unspoken_signs,
)

import pytest

# What random texts are made of: what the rules look for, and what surrounds it.
SCRAPS = (
    "Mr. Dr. St. No. Co. etc. Jr. p.m. 5pm U.S. i.e. e.g J. I. I II VIII Charles Chapter BBC FBI's"
    " MPs IT PhD 5 1963 1,200 3.5 .22 £ $ € % & + = @ # ° ' \" “ ” ’ ( ) [ ] - -- – — ... … , . ; :"
    " ! ? / 1/2 ½ 10-20 9:30 12:00 2nd 1960s '60s the The he a ago inst. km ft. in. m s. 46 é ß Œ"
    " Я 中 。 🙂 👋🏾 🇳🇿 7️⃣ \ufe0f v2.7.1 Qt6.55 Mrs.Hale J.B.Lee 2031-02-03 7/8/31 9.8.2031 ¥90"
    " 12.50 EUR 3-4€ <5 a<b <i> ≥ ~ ^ x³ 10⁻² 2^n 3GB 5m/s² #tag @jo www.a.org/b f.txt w/ +1 555"
    " 1'000 \x07 \u0301 \u200d \u00a0 ² № .com 007 12345 million Box page a.b o' 'tis"
).split(" ")


def random_texts(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        pieces = draw.choices(SCRAPS, k=draw.randint(1, 12))
        yield "".join(piece + draw.choice(["", "", " ", " ", "\n", "\n\n"]) for piece in pieces)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        # Quotation marks, apostrophes, dashes.
        ("“Hello,” she said.", "hello, she said."),
        ("\"Yes,\" he said, 'No.'", "yes, he said, no."),
        ("near the 'companion' by", "near the companion by"),
        ("don’t, o'clock, the debtors' side, goin'", "don't, o'clock, the debtors' side, goin'"),
        ("‘Tis rock ’n’ roll", "'tis rock 'n roll"),
        ("don 't, we 've, don ' t", "don't, we've, don't"),
        ("drink -- if they", "drink - if they"),
        ("drink—if they – yes", "drink - if they - yes"),
        ("so, -- and", "so, and"),
        ("twenty-one re-enter pre- and post-war", "twenty-one re-enter pre and post-war"),
        # Marks.
        ("What?! No!!", "what? no!"),
        ("wait... what… so", "wait. what. so"),
        ("save people ?)", "save people?"),
        ("the kids.  )", "the kids."),
        ("told me [Marina] (now) so", "told me, marina, now, so"),
        ("the word(s)", "the words"),
        ("one,two;three", "one, two; three"),
        ("in eighteen hundred; a man: he", "in eighteen hundred; a man: he"),
        ("twelve:thirty", "twelve thirty"),
        ("-- hello --", "hello"),
        ("a * b ~ c | d_e <f>", "a b c d e f"),
        ("the fog.Next he went!So", "the fog. next he went! so"),
        ("and/or", "and or"),
        # Letters.
        ("Fiancé naïve Ærø straße Łódź Œuvre", "fiance naive aero strasse lodz oeuvre"),
        ("cafe\u0301 \ufb01ne \uff21\uff22c", "cafe fine abc"),
        ("İstanbul ĲSSEL", "istanbul ijssel"),
        ("so\u00adft\u200b zero", "soft zero"),
        ("Привет, 你好。 Ελλάδα й", "привет, 你好. ελλάδα й"),
        ("smile 🙂 now", "smile now"),
        ("joe@bbc.co.uk", "joe at bbc dot co dot uk"),
        ("a\tb\r\n\n c\u00a0d", "a b c d"),
        # Nothing is spoken.
        ("", ""),
        (" \n\t", ""),
        ("?!... -- () '\"", ""),
        ("🙂 ©", ""),
    ],
)
def test_signs_and_letters(text, spoken):
    assert normalize_text(text) == spoken


def test_what_is_left_out_is_named():
    unspoken = {
        "Hi 👋🏾👩‍🚀 from 🇳🇿🇵🇪, ☂️☂": ["👋🏾", "👩‍🚀", "🇳🇿", "🇵🇪", "☂️", "☂"],
        "a | b -> c ~ ^.^": ["|", "→", "~", "^"],
        "\u0302x \x07 \ue000 Ⓜ️": ["Ⓜ️", "\u0302", "\x07", "\ue000"],
        "½ of 3 €, x² > 4 & 7️⃣ – «É» [a/b]\t_c_ *d* ©\u200d…": [],
        "नमस्ते й": [],
    }
    assert {text: unspoken_signs(text) for text in unspoken} == unspoken


@pytest.mark.parametrize("pair", [pair for pair in DEMO_TEXTS if pair[1]])
def test_written_demo_texts_are_spoken_as_their_normalized_form(pair):
    written, spoken = map(normalize_text, pair)
    # The demo texts were written with the British "two hundred and twelve".
    assert written == spoken.replace("hundred and ", "hundred ")


def test_normalized_text_stays_and_has_spoken_symbols_only():
    for text in random_texts(1500, seed=1):
        spoken = normalize_text(text)
        assert normalize_text(spoken) == spoken, text
        assert not re.search(r"[^a-z' ,.?!;:я中\u0301-]|  |^[ ,.?!;:-]|[ -]$|[,.?!;:][^ ]", spoken)


def test_every_character_has_a_fixed_form():
    # All alphabets, and the compatibility forms; Chinese and Korean letters are all alike.
    for start in [*range(0, 0x3400, 64), *range(0xF900, 0x10000, 64), *range(0x1D400, 0x1FB00, 64)]:
        spoken = normalize_text(" a".join(map(chr, range(start, start + 64))))
        assert normalize_text(spoken) == spoken, hex(start)


def test_long_text_takes_no_longer_than_its_parts():
    text = "Mr. J. Lee paid £3.50 (in 1897) -- 'why?' " * 2000
    once = normalize_text("Mr. J. Lee paid £3.50 (in 1897) -- 'why?' ")
    assert normalize_text(text) == " ".join([once] * 2000)
    # No number is too long for int(), and no pattern looks at all of the text for each character.
    parts = (
        "9 9, 1,000 A. a@ ' \" ( a 1/ 1- Mr._ ._ < <a_ a> a. a- http:// #a $1- 1_EUR €1, 1. 1:0 2^"
        " 1e5 +1_ 555- 2031- 1* ~1 1x 👋 👋\u200d \u0301 7\ufe0f\u20e3 x² 1\u202f 1– %-"
        " v1. a.B a.com/ 1' _"
    )
    for part in (part.replace("_", " ") for part in parts.split(" ")):
        count = 5000 if part[0] == "9" else 1000
        assert len(normalize_text(part * count)) < count * 50


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said: "Go." She went.', ['He said: "Go."', "She went."]),
        ('"Why?" he asked. (No.) Yes.', ['"Why?" he asked.', "(No.)", "Yes."]),
        ("Mr. J. R. Lee came. He left.", ["Mr. J. R. Lee came.", "He left."]),
        ("It is 5.6 or 1.5. No. 7 is 3.", ["It is 5.6 or 1.5.", "No. 7 is 3."]),
        ("Did he? No. He did not.", ["Did he?", "No.", "He did not."]),
        ("Rose & Co. of D.C. The end.", ["Rose & Co. of D.C.", "The end."]),
        ("at 5 p.m. on Jan. 5. So?", ["at 5 p.m. on Jan. 5.", "So?"]),
        ("i.e. that, etc. and so on. No", ["i.e. that, etc. and so on.", "No"]),
        ("Well... and then? Wait... Now.", ["Well... and then?", "Wait...", "Now."]),
        ("all small. no capitals? none", ["all small.", "no capitals?", "none"]),
        ("A title\n\nA text\nin lines.", ["A title", "A text in lines."]),
        ("A title\r\rA text\r\nin lines.\r\n\r\nEnd", ["A title", "A text in lines.", "End"]),
        ("***\n\nText. ***\n\nMore. ...", ["*** Text. ***", "More. ..."]),
        ("你好。我很好！谢谢", ["你好。", "我很好！", "谢谢"]),
        ("?! ...", ["?! ..."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("longest", [1, 7, 30, MAX_CHARACTERS])
def test_splitting_loses_nothing(longest):
    texts = [*random_texts(400, seed=2), " ".join(text for text, _ in DEMO_TEXTS), "x" * 500]
    for text in texts:
        pieces = split_sentences(text, longest)
        assert "".join("".join(pieces).split()) == "".join(text.split())
        if "。" not in text and max(map(len, text.split()), default=0) <= longest:
            assert " ".join(pieces).split() == text.split()
        for piece in pieces:
            assert piece and piece == piece.strip()
            spoken = [word for word in piece.split() if any(map(str.isalnum, word))]
            assert len(" ".join(spoken)) <= longest
            assert spoken or len(pieces) == 1


def test_long_sentences_are_cut_where_one_would_breathe():
    text = (
        "For although the Chinese took impressions from wood blocks engraved in relief for"
        " centuries before, the woodcutters of the Netherlands, by a similar process, did so too;"
        " and Dr. Lee paid 1,000 dollars"
    )
    pieces = split_sentences(text, 120)
    assert [piece[-1] for piece in pieces[:-1]] == [","] * (len(pieces) - 1)
    assert len(pieces) == 2 and min(map(len, pieces)) > 60
    words = split_sentences("word " * 50, 100)
    assert all(60 < len(piece) <= 100 for piece in words) and len(words) == 3
    # Not after so few letters that the rest would be as long as before.
    assert split_sentences("Yes, " + "word " * 22, 100)[0].startswith("Yes, word word")
    # Not between "Dr." and the name, not within the number.
    assert split_sentences("he is Dr. Lee today", 12) == ["he is", "Dr. Lee", "today"]
    assert split_sentences("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_pieces_are_spoken_as_the_whole():
    text = " ".join(text for text, _ in DEMO_TEXTS)
    pieces = split_sentences(text)
    assert pieces == [text for text, _ in DEMO_TEXTS if len(text) <= MAX_CHARACTERS]
    assert " ".join(map(normalize_text, pieces)) == normalize_text(text)


def test_the_longest_piece_has_at_least_one_character():
    with pytest.raises(UserError, match="max_characters: 0; it must be a whole number"):
        split_sentences("text", 0)
