from waveglow_vq.text.normalization import normalize_text


def test_money():
    spoken = {
        "¥80, ₹90, ₩7,000 and ₪1": "eighty yen, ninety rupees, seven thousand won and one shekel",
        "EUR 4.05, 4.05 EUR, EUR4.05, 4.05€": ", ".join(["four euros, five cents"] * 4),
        "7.10 USD. Then 7 GBP": "seven dollars, ten cents. then seven pounds",
        "CHF 1.50, 30 SEK": "one swiss franc, fifty centimes, thirty swedish crowns",
        "1.234,50 € or €3,99": "one thousand, two hundred thirty-four euros, fifty cents or three "
        "euros, ninety-nine cents",
        "₹2,50,000": "two hundred fifty thousand rupees",
        "£4m, $2.5bn, €7k, ₹3 crore, 4bn EUR": "four million pounds, two point five billion "
        "dollars, seven thousand euros, three crore rupees, four billion euros",
        "$30-40, £3m-£4m, 30-40 €": "thirty to forty dollars, three million pounds to four million "
        "pounds, thirty to forty euros",
        "6€each, x¥8y": "six euros each, x eight yen y",
        "-$6 or €-6": "minus six dollars or minus six euros",
        "CA$9, HK$9, US$9, U.S. $9, R$9": "nine canadian dollars, nine hong kong dollars, nine "
        "dollars, nine dollars, nine reais",
        "$9/hour, €2.50/kg": "nine dollars per hour, two euros, fifty cents per kilogram",
        "¥ and ₿; an EUR": "yen and bitcoins; an e u r",
        "$0.00, $1.001, ¥1.50": "zero dollars, one point zero zero one dollars, one point five "
        "zero yen",
        "a $9 T-shirt, £7 B-side, $8 b/c, $9T": "a nine dollars t-shirt, seven pounds b-side, "
        "eight dollars b c, nine trillion dollars",
        "CHF 7'000": "seven thousand swiss francs",
        f"${'7' * 30}": f"{' '.join(['seven'] * 30)} dollars",
    }
    assert {text: normalize_text(text) for text in spoken} == spoken
