from waveglow_vq.text.normalization import normalize_text


def test_formulas():
    less, greater = "less than", "greater than"
    spoken = {
        "k < 7, k<m, <7 men": f"k {less} seven, k {less} m, {less} seven men",
        "k > 7, 9>8, >90%": f"k {greater} seven, nine {greater} eight, {greater} ninety percent",
        "k <= 7 ≤ 8": f"k {less} or equal to seven {less} or equal to eight",
        "k >= -7 ≥ $8": f"k {greater} or equal to minus seven {greater} or equal to eight dollars",
        "k != 7 ≠ 8 == 8": "k not equal to seven not equal to eight equals eight",
        "≈70 or ~80 men": "approximately seventy or about eighty men",
        "7+-2, 7 +/- 2, 7±2": ", ".join(["seven plus or minus two"] * 3),
        "7×8, 7*8, 7 ÷ 8": "seven times eight, seven times eight, seven divided by eight",
        "800x600, 3x5, 0x7": "eight hundred by six hundred, three by five, zero x seven",
        "k^2, k**3, 10^9, 2^-k": "k squared, k cubed, ten to the power of nine, two to the power "
        "of minus k",
        "4.5e-7 and 3E+8": "four point five times ten to the power of minus seven and three times "
        "ten to the power of eight",
        # No comparisons.
        "<em>so</em> <hr> -> <- > said": "em so em hr said",
        "=====": "",
        "Edit > Find Next, <your age>": "edit, find next, your age",
        "it is <-7 now": f"it is {less} minus seven now",
        "Yes.\n> I saw\n>> it, k > 7.": f"yes. i saw it, k {greater} seven.",
    }
    assert {text: normalize_text(text) for text in spoken} == spoken
