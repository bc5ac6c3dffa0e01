from waveglow_vq.text.normalization import normalize_text

import pytest

CASES = {
    "amounts": [
        ("0 and 21 and 710", "zero and twenty-one and seven hundred ten"),
        ("1,200 or 3,000,000", "one thousand, two hundred or three million"),
        ("-3 or -0.5, but 10-year", "minus three or minus zero point five, but ten-year"),
        ("\u22124 degrees", "minus four degrees"),
        ("4.8, .5 and 6.75", "four point eight, point five and six point seven five"),
        ("12,345.67", "twelve thousand, three hundred forty-five point six seven"),
        ("007", "zero zero seven"),
        ("1,2,3", "one, two, three"),
        ("2'000'000 or 2\u202f500", "two million or two thousand, five hundred"),
        ("12000 or 12345", "twelve thousand or one two three four five"),
        ("7" * 30, " ".join(["seven"] * 30)),
        ("1,000" + ",000" * 9, " ".join(["one"] + ["zero"] * 30)),
        ("\u0663 of \uff12\uff10", "three of twenty"),
    ],
    "years": [
        (
            "in 1066, 1807, 1963 and 2005",
            "in ten sixty-six, eighteen oh seven, nineteen sixty-three and two thousand five",
        ),
        ("On May 2, 2024.", "on may two, twenty twenty-four."),
        ("contained 1308 prisoners", "contained one thousand, three hundred eight prisoners"),
        ("of 1308 prisons", "of thirteen oh eight prisons"),
        ("the 1960s, the '80s, 1800s", "the nineteen sixties, the eighties, eighteen hundreds"),
        ("November '64", "november sixty-four"),
        ("in 484 B.C. he", "in four eighty-four b c he"),
        ("in 1914\u201318", "in nineteen fourteen to eighteen"),
    ],
    "ordinals": [
        ("1st 2nd 3rd 12th 22nd", "first second third twelfth twenty-second"),
        ("the 1,000th", "the one thousandth"),
        ("16th-century", "sixteenth-century"),
    ],
    "times": [
        ("at 12:30, 9:05 and 7:00", "at twelve thirty, nine oh five and seven o'clock"),
        ("9:00 a.m. or 5 PM", "nine a m or five p m"),
        ("7.45pm", "seven forty-five p m"),
        ("13:00", "thirteen hundred"),
        ("1:02:03", "one oh two and three seconds"),
        ("9 a.m.-5 p.m.", "nine a m to five p m."),
        ("won 10:1", "won ten to one"),
        ("18:20:00 and 18:20:07.5h", "eighteen twenty and eighteen twenty and seven point five "
         "seconds h"),
    ],
    "money": [
        ("$5, $1 and $1,500", "five dollars, one dollar and one thousand, five hundred dollars"),
        ("$21.45.", "twenty-one dollars, forty-five cents."),
        ("\u00a31.01", "one pound, one penny"),
        ("\u20ac0.99 or $.50", "ninety-nine cents or fifty cents"),
        ("$3.1 million and \u00a35m", "three point one million dollars and five million pounds"),
        ("$2.5 or $3.00", "two point five dollars or three dollars"),
        ("US$20, 50p, 10\u00a2", "twenty dollars, fifty pence, ten cents"),
        ("\u00a35-\u00a310", "five pounds to ten pounds"),
        ("a $ or \u00a3", "a dollars or pounds"),
    ],
    "signs": [
        ("5% or 4.5 %", "five percent or four point five percent"),
        ("3+4=7", "three plus four equals seven"),
        ("2\u00d73\u00b11", "two times three plus or minus one"),
        ("#5 & #tag @ home", "number five and hashtag tag at home"),
        ("20\u00b0C, 1 \u00b0F, 45\u00b0", "twenty degrees celsius, one degree fahrenheit, "
         "forty-five degrees"),
    ],
    "fractions": [
        ("1/2, 3/4 and 2/3", "one half, three quarters and two thirds"),
        ("\u00bd of 3\u00bd", "one half of three and a half"),
        ("2 1/3 cups", "two and one third cups"),
        ("9/11 and 24/7", "nine eleven and twenty-four seven"),
        ("3 1/2 lb or 1/2 mile", "three and a half pounds or one half mile"),
    ],
    "ranges and codes": [
        ("10-20 and 6.5-7", "ten to twenty and six point five to seven"),
        ("call 555-1234", "call five five five, one two three four"),
        ("1-800-555", "one, eight zero zero, five five five"),
        ("C2766, VC836", "c two seven six six, v c eight three six"),
        ("No. 133-A", "number one thirty-three a"),
        ("Nos. 3 and 7, No. 2,202,130", "numbers three and seven, number two two zero two one "
         "three zero"),
        ("post office box 2915", "post office box two nine one five"),
        ("1026 North Beckley", "ten twenty-six north beckley"),
        ("602 Elsbeth Street", "six oh two elsbeth street"),
        ("a .38-caliber", "a thirty-eight-caliber"),
        ("MP3, H2O, 3D, B-52", "m p three, h two o, three d, b-fifty-two"),
        ("version 4.0.12, V7.1.20b3", "version four point zero point twelve, v seven point one "
         "point twenty b three"),
        ("Ruby3.21, Ruby 3.21, k1.25, 3.21", "ruby three point twenty-one, ruby three point "
         "twenty-one, k one point two five, three point two one"),
        ("LLM-7.5, VPN4.0", "l l m-seven point five, v p n four point zero"),
        ("(212) 555-0147 or 212.555.0147", "two one two, five five five, zero one four seven or "
         "two one two, five five five, zero one four seven"),
        ("+49 30 901820", "plus four nine, three zero, nine zero one eight two zero"),
        ("4929 0012 7788 3141", "four nine two nine, zero zero one two, seven seven eight eight, "
         "three one four one"),
        ("10.0.0.7", "ten point zero point zero point seven"),
    ],
    "units": [
        ("5 km, 1 km, 60 mph", "five kilometers, one kilometer, sixty miles per hour"),
        ("5 ft. 3 in. tall", "five feet three inches tall"),
        ("a 6-ft. man ran 100 m. He", "a six-foot man ran one hundred meters. he"),
        ("10-20 km/h", "ten to twenty kilometers per hour"),
        ("6'2\" tall", "six foot two tall"),
        ("6.5-millimeter", "six point five-millimeter"),
        ("5 m\u00b2", "five square meters"),
        ("4 p.m. to 4:50 p.m. on", "four p m to four fifty p m on"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "spoken"), [case for cases in CASES.values() for case in cases]
)  # fmt: skip
def test_numbers_in_text(text, spoken):
    assert normalize_text(text) == spoken
