from waveglow_vq.text.normalization import normalize_text


def test_signs():
    spoken = {
        # Pictures are not said, the digits of keycaps are.
        "We ❄️ you 👩‍🚀👋🏾, go 🇳🇿🏴\U000e0067\U000e0062\U000e007f!": "we you, go!",
        "☂️ ℹ️ ㊙️": "",
        "Dial 7️⃣0️⃣#️⃣ or 🔟, ❸ ⑫": "dial seven zero hash or ten, three twelve",
        # Marks without a letter; letters in two parts.
        "\u0301 a \u0302, 5\u0303 \u20e3 o\u20dd \u093f": "a, five o",
        "re\u0301sume\u0301 Za\u0308hne i\u0306\u0301": "resume zahne i",
        "и\u0306 न\u093f": "й नि",
        "中\ufe00 é\ufe0f": "中 e",
        # Raised digits are powers, charges, or numbers of notes.
        "4³, y⁵, 10⁻⁷, tⁿ": "four cubed, y to the power of five, ten to the power of minus seven, "
        "t to the power of n",
        "as said¹⁴, Mg²⁺, CO₂": "as said fourteen, mg two plus, c o two",
        "5¹⁄₂ or ¾": "five and a half or three quarters",
        "9 − 4, −4, 3–4": "nine minus four, minus four, three to four",
        "© 1998 Acme™ 30‰ √9 ∞": "copyright nineteen ninety-eight acme thirty per mille square "
        "root of nine infinity",
    }
    assert {text: normalize_text(text) for text in spoken} == spoken
