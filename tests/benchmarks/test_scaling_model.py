import pytest

from benchmarks.gpu.scaling_model import Link, exposed_seconds, main


def test_what_waits():
    link = Link("", 2, 1e9, 0.0)
    # A ring of two sends every byte once: 8 buckets of 0.1 s, all hidden but the last.
    assert exposed_seconds(8e8, 1e8, 100.0, link, 1.0) == pytest.approx(0.1)
    # Nothing is hidden behind no computation.
    assert exposed_seconds(8e8, 1e8, 0.0, link, 1.0) == pytest.approx(0.8)
    late = link._replace(latency=0.01)
    assert exposed_seconds(8e8, 1e8, 0.0, late, 1.0) == pytest.approx(0.8 + 8 * 0.02)


def test_table(capsys):
    main(["--batch", "8"])
    assert "| nvidia256 |" in capsys.readouterr().out
