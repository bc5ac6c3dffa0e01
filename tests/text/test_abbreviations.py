from waveglow_vq.text.abbreviations import point_ends_sentence
from waveglow_vq.text.normalization import normalize_text

import pytest

CASES = {
    "titles": [
        ("Mr. and Mrs. Fry", "mister and missus fry"),
        ("Mr Dick, mr. dick", "mister dick, mister dick"),
        ("Messrs. Forster", "messieurs forster"),
        ("Dr. and Drs. Lee", "doctor and doctors lee"),
        ("the Rev. W. Bailey, LL.D., was", "the reverend w bailey, l l d, was"),
        ("Gen. Lee, the gen. idea", "general lee, the gen. idea"),
        ("Sgt. D. V. Harkness", "sergeant d v harkness"),
        ("Bury St. Edmunds", "bury saint edmunds"),
        ("St. John's St.", "saint john's street."),
        ("on Main St. The end", "on main street. the end"),
        ("12 Sunset Dr., Dallas", "twelve sunset drive, dallas"),
        ("Mrs.Hale of St.Ives", "missus hale of saint ives"),
        ("Dr.O'Hara, Prof.B.Lund, MR.POOLE", "doctor o'hara, professor b lund, mister poole"),
    ],
    "words": [
        ("Rose & Co. of Chicago", "rose and company of chicago"),
        ("to Maltby and Co. The bank", "to maltby and company. the bank"),
        ("Maltby and Co.'s wharf", "maltby and company's wharf"),
        ("missals, psalters, etc., and", "missals, psalters, et cetera, and"),
        ("and so on, etc.", "and so on, et cetera."),
        ("Lee Jr. vs. Lee Sr., Esq.", "lee junior versus lee senior, esquire."),
        ("(Lee Jr).", "lee junior."),
        ("black letter, i.e. the letter", "black letter, that is the letter"),
        ("as, e.g., that", "as, for example, that"),
        ("vol. II, ch. 3, pp. 5-7", "volume two, chapter three, pages five to seven"),
        ("cap. 64, c. fifty-nine, s. 4", "chapter sixty-four, chapter fifty-nine, section four"),
        ("No. 77, of course? No. Never.", "number seventy-seven, of course? no. never."),
        ("his cap. The art. Of s.", "his cap. the art. of s."),
        ("Jan. 5, Sept. 11", "january five, september eleven"),
        (
            "7 Feb 2031, Nov 3, by 4 Oct. Mar 9",
            "seven february twenty thirty-one, november three, by four october. march nine",
        ),
        ("e.g.apples w/ cream, w/o sugar", "for example apples with cream, without sugar"),
    ],
    "letters": [
        ("the BBC's and the FBI.", "the b b c's and the f b i."),
        ("two MPs, two M.P.'s and TVs", "two m p's, two m p's and t v's"),
        ("the USSR, WDSU-TV and NASA", "the u s s r, w d s u-t v and nasa"),
        ("the U.S. Senate", "the u s senate"),
        ("in the U.S. He came to D.C.", "in the u s. he came to d c."),
        ("a Ph.D. or PhD", "a p h d or p h d"),
        ("only giving an I. O. U. for it", "only giving an i o u for it"),
        ("J. R. R. Tolkien and George W. Bush", "j r r tolkien and george w bush"),
        ("I. M. Pei", "i m pei"),
        ("C.S.Lewis in the U.K.Then the E.U.Council", "c s lewis in the u k. then the e u council"),
        ("So did I. Tom left.", "so did i. tom left."),
        ("plan B. He left", "plan b. he left"),
        ("R&D at AT&T", "r and d at a t and t"),
    ],
    "large letters": [
        ("HARRY Potter", "harry potter"),
        ("YOU thought SO, but it is NOT", "you thought so, but it is not"),
        ("IT is; new IT systems", "it is; new i t systems"),
        ("THE US is a nation", "the u s is a nation"),
        ("CALL HIM NOW AND ASK TED", "call him now and ask ted"),
        ("CALL THE FBI NOW", "call the f b i now"),
        ("IT S all here", "it's all here"),
    ],
    "roman numerals": [
        ("Henry VIII's wives", "henry the eighth's wives"),
        ("the 14 George III. c. 59", "the fourteen george the third chapter fifty-nine"),
        ("by Charles I. in the sixth year", "by charles the first in the sixth year"),
        ("Charles I was, George V. The", "charles the first was, george the fifth. the"),
        ("World War I began, World War II", "world war one began, world war two"),
        ("John V. Lindsay, Charles X. The", "john v lindsay, charles the tenth. the"),
        ("Class C, part C, Chapter X", "class c, part c, chapter ten"),
        ("the war I fought, volume II", "the war i fought, volume two"),
        ("Chapter IV. Newgate", "chapter four. newgate"),
        ("Rocky III", "rocky three"),
        ("Mary I love you; the part I think", "mary i love you; the part i think"),
        ("a CIVIL word, an IV drip", "a civil word, an i v drip"),
    ],
}


@pytest.mark.parametrize(
    ("text", "spoken"), [case for cases in CASES.values() for case in cases]
)  # fmt: skip
def test_abbreviations_in_text(text, spoken):
    assert normalize_text(text) == spoken


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Mr| Lee", False),
        ("A day| A night", True),
        ("J| Lee", False),
        ("So did I| Then", True),
        ("He has no| 5 are left", False),
        ("He said no| Then he left", True),
        ("the U.S| Army", False),
        ("the U.S| The", True),
        ("in Jan| 1900", False),
        ("she and co| and", False),
        ("the end etc|", True),
        ("at 5 p.m| She", True),
    ],
)
def test_points_that_end_sentences(text, ends):
    assert point_ends_sentence(text.replace("|", "."), text.index("|")) is ends
