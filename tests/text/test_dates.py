from waveglow_vq.text.normalization import normalize_text


def test_dates_in_digits():
    date = "march seven, twenty thirty-one"
    for (
        text
    ) in "2031-03-07 2031/3/7 2031.03.07 3/7/2031 03-07-2031 7.3.2031 07.03.2031 3/7/31".split():
        assert normalize_text(f"by {text}, or") == f"by {date}, or", text
    spoken = {
        # Thirteen and more is no month.
        "19/3/1987": "march nineteen, nineteen eighty-seven",
        "3.19.1987": "march nineteen, nineteen eighty-seven",
        "8/9/69 to 8/9/68": "august nine, nineteen sixty-nine to august nine, twenty sixty-eight",
        # Times and zones.
        "2031-03-07T18:20": f"{date}, eighteen twenty",
        "2031-03-07 18:20:05": f"{date} eighteen twenty and five seconds",
        "2031-03-07T18:20:05Z": f"{date}, eighteen twenty and five seconds u t c",
        "2031-03-07T18:20:00-0430.": f"{date}, eighteen twenty minus four hours thirty minutes.",
        # No dates.
        "31/31/2031": "thirty-one thirty-one twenty thirty-one",
        "2031-02-30": "two zero three one, zero two, three zero",
        "7.3.31": "seven point three point thirty-one",
        "3/7 and 9:00-12:30": "three sevenths and nine o'clock to twelve thirty",
    }
    assert {text: normalize_text(text) for text in spoken} == spoken
