from waveglow_vq.text.normalization import normalize_text


def test_units():
    spoken = {
        "7km, 7 km, 7-km": "seven kilometers, seven kilometers, seven-kilometer",
        "30°C, -3°F, 30%, 5%-7%": "thirty degrees celsius, minus three degrees fahrenheit, thirty "
        "percent, five percent to seven percent",
        "4 m², 4m^2, 1 km2, 10⁻³ m³": "four square meters, four square meters, one square "
        "kilometer, ten to the power of minus three cubic meters",
        "7m/s, 7 m/s², 7 km/day": "seven meters per second, seven meters per second squared, seven "
        "kilometers per day",
        "32GB, 1 TB, 11 TB, a 1-TB disk, 4MB/s": "thirty-two gigabytes, one terabyte, eleven "
        "terabytes, a one-terabyte disk, four megabytes per second",
        "7µm, 7 μg, 7Ω, 7 ㎏": "seven micrometers, seven micrograms, seven ohms, seven kilograms",
        "7bn people, 40 dB, 2h 5min": "seven billion people, forty decibels, two hours five "
        "minutes",
    }
    assert {text: normalize_text(text) for text in spoken} == spoken
