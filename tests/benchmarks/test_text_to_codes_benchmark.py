"""Test of the measurement of text-to-codes: it runs, and would see codes that differ."""

from waveglow_vq.lobes.text_to_codes.decoder_steps import CachedSteps

import pytest

from benchmarks import run, text_to_codes

ARGUMENTS = ["--sizes", "tiny", "--seconds", "0.3", "--repeats", "1"]


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_both_ways_are_measured(method, capsys):
    report = run.main(["--only", "text", *ARGUMENTS, "--method", method])
    (row,) = report["rows"]
    assert row["codes"] == 13 and row["gain"] > 0 and row["parameters"] > 1e6
    assert "| tiny | 3." in capsys.readouterr().out


def test_codes_that_differ_are_an_error(monkeypatch, capsys):
    class Wrong(CachedSteps):
        def step(self, codes, pitch=None):
            logits, *rest = super().step(codes, pitch)
            return (-logits, *rest)

    monkeypatch.setattr(text_to_codes, "CachedSteps", Wrong)
    with pytest.raises(SystemExit):
        text_to_codes.main(ARGUMENTS)
    assert "the codes with the cache and without it differ" in capsys.readouterr().err
