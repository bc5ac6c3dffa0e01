from waveglow_vq.evaluation.conversion.report import format_report


def group(share, median=None, words=None):
    found = {
        "conversions": 12,
        "utterances": 6,
        "speaker_pairs": 4,
        "mcd_to_reconstruction_db": 3.25,
        "reconstruction_mcd_db": None,
        "similarity": {"share_nearer_to_target": share, "to_target": 0.7111},
    }
    if median is not None:
        found["f0_moved"] = {"median": median}
        found["voiced"] = {"conversions": 0.5, "least_over_recordings": 0.25}
    if words:
        found["words"] = {
            "recordings": {"word_error": 0.1, "character_error": 0.05},
            "conversions": {
                "word_error": words, "character_error": 0.1,
                "word_error_above_reconstructions": -0.0625, "word_error_above_no_model": 0.25,
            },
        }  # fmt: skip
        found["content"] = {"conversions": 0.2}
    return found


def lines(conversion, **others):
    return format_report({"conversion": conversion, **others}).splitlines()


def cells(report, words):
    (line,) = [line for line in report if words in line]
    found = line.split(words)[1].split()
    return found[1:] if found[0] in "↑↓" else found


def test_columns_are_the_groups():
    report = lines({"all": group(0.5), "seen": group(1.0, 0.9, 0.4), "unseen": group(0.25)})
    assert report[1].split()[-3:] == ["all", "seen", "unseen"]
    assert cells(report, "than to the source's") == ["50.0", "%", "100.0", "%", "25.0", "%"]
    assert cells(report, "all the way), median") == ["-", "0.900", "-"]
    assert cells(report, "voiced frames of conversions") == ["-", "50.0", "%", "-"]
    assert cells(report, "least voiced pair, over the recordings'") == ["-", "0.250", "-"]
    assert cells(report, "word error of conversions") == ["-", "0.400", "-"]
    # What nobody has is no row.
    assert not any("to the recording, dB" in line for line in report)
    assert not any("word error of reconstructions" in line for line in report)
    (place,) = [n for n, line in enumerate(report) if "word error of conversions" in line]
    assert report[place + 1].split() == "above that of reconstructions - -0.062 -".split()
    assert report[place + 2].split()[-3:] == ["-", "+0.250", "-"]
    assert cells(report, "content of conversions to the recording") == ["-", "0.200", "-"]
    assert any(line.startswith("  words, as understood by pocketsphinx") for line in report)
    named = lines({"all": group(0.5, words=0.4)}, settings={"recognizer": "whisper"})
    assert any("understood by whisper" in line for line in named)


def test_one_group_is_one_column():
    report = lines({"all": group(0.5, -0.00001), "seen": group(0.5, -0.00001)})
    assert report[1].split()[-1] == "seen" and cells(report, "median") == ["0.000"]


def test_each_block_ends_with_a_verdict():
    bits = {"codes_used": 3, "perplexity": 2.0, "uniform": 9, "unigram": 9, "pitch": 0}
    codes = {"codes_per_second": 43.07, "codebook_size": 32, "bits_per_second": bits}
    codes |= dict.fromkeys(
        ("mutual_information", "probe_encoder", "probe_codes", "probe_histograms")
    )
    likelihoods = {"utterances": 4, "wrong_speakers": 3, "mean_difference": 0.5}
    likelihoods |= {"share_positive": 1.0, "share_best": 0.5}
    report = lines({"all": group(0.5)}, likelihoods=likelihoods, codes=codes)
    verdicts = [line.split(":")[0] for line in report if line.startswith("  => ")]
    assert verdicts == [
        "  => the model uses the speaker",
        "  => most codes are unused",
        "  => conversion does not work yet",
    ]
    assert report[-1] == "↑ higher is better, ↓ lower is better"
    assert any("cosine of conversions to the target ↑ " in line for line in report)


def test_what_is_missing_is_left_out_and_said():
    report = format_report({"likelihoods": {}, "notes": ["Without words."]})
    assert report == "Without words."
