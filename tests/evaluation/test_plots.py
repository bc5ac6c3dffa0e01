import sys

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation import plots

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib", reason="needs pip install waveglow-vq[metrics]")

from tests.evaluation.signals import RATE, speech_like  # noqa: E402


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is saved, for a look at what was drawn."""
    saved = []
    save = plots._save

    def spy(figure, path):
        saved.append(figure)
        return save(figure, path)

    monkeypatch.setattr(plots, "_save", spy)
    return saved


@pytest.mark.parametrize("scale", ["mel", "linear"])
def test_comparison_shares_axes_and_colours(tmp_path, figures, scale):
    wav = speech_like(1.0)
    signals = {"recording": wav, "reconstruction": 0.1 * wav[:-5000]}
    path = plots.spectrogram_comparison(
        tmp_path / "new" / "a.png", signals, LogMel(), scale, title="both"
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    rows = [axes for axes in figures[0].axes if axes.images]
    assert [axes.get_title(loc="left") for axes in rows] == ["recording", "reconstruction"]
    first, second = (axes.images[0] for axes in rows)
    assert first.get_clim() == second.get_clim()
    assert rows[0].get_xlim() == rows[1].get_xlim()
    # A tenth of the amplitude is 20 dB less on the common scale.
    inner = np.s_[:, 5:-30]
    first, second = np.asarray(first.get_array()), np.asarray(second.get_array())
    difference = first[:, : second.shape[1]] - second
    assert np.median(difference[inner]) == pytest.approx(20, abs=0.1)
    assert rows[-1].get_xlabel() == "time [s]" and "kHz" in rows[0].get_ylabel()


@pytest.mark.parametrize("scale", ["mel", "linear"])
def test_ticks_stand_where_a_tone_shows(tmp_path, figures, scale):
    for khz in (2, 4):
        tone = torch.sin(2 * torch.pi * 1000 * khz * torch.arange(RATE) / RATE)
        plots.spectrogram_comparison(tmp_path / "a.png", {"tone": tone}, LogMel(), scale)
        axes = figures[-1].axes[0]
        row = axes.images[0].get_array().mean(axis=1).argmax() + 0.5
        labels = [label.get_text() for label in axes.get_yticklabels()]
        tick = axes.get_yticks()[labels.index(str(khz))]
        assert abs(tick - row) <= 1


def test_comparison_takes_log_mels(tmp_path, figures):
    features, wav = LogMel(), speech_like(0.5)
    signals = {"recording": wav, "log-mel": features(wav[None])[0]}
    plots.spectrogram_comparison(tmp_path / "a.png", signals, features)
    first, second = (axes.images[0].get_array() for axes in figures[0].axes if axes.images)
    assert np.allclose(first, second)


def test_comparison_refuses_nonsense(tmp_path):
    with pytest.raises(ValueError, match="'bark'"):
        plots.spectrogram_comparison(tmp_path / "a.png", {"a": torch.zeros(4096)}, LogMel(), "bark")
    with pytest.raises(ValueError, match="at least one"):
        plots.spectrogram_comparison(tmp_path / "a.png", {}, LogMel())
    with pytest.raises(ValueError, match="samples"):
        plots.spectrogram_comparison(
            tmp_path / "a.png", {"a": torch.zeros(80, 9)}, LogMel(), "linear"
        )


@pytest.mark.parametrize("f0", [95, 220])
def test_harmonics_stand_apart_up_to_4_khz(tmp_path, figures, f0):
    time = torch.arange(RATE) / RATE
    voice = sum((2 * torch.pi * k * f0 * time).sin() / k for k in range(1, 4000 // f0 + 1))
    signals = {"voice": voice, "noise": 0.1 * torch.randn(RATE // 2)}
    plots.harmonics_comparison(tmp_path / "a.png", signals, RATE, title="both")
    first, second = (axes for axes in figures[0].axes if axes.images)
    assert first.get_title(loc="left") == "voice" and second.get_xlabel() == "time [s]"
    assert first.images[0].get_clim() == second.images[0].get_clim()
    bands = np.asarray(first.images[0].get_array()).mean(axis=1)
    (bottom, top), ticks = first.get_ylim(), first.get_yticks()
    assert [label.get_text() for label in first.get_yticklabels()] == list("012345")
    assert bottom == 0 and ticks[-1] == pytest.approx(top, abs=1)
    rows_per_hz = (ticks[4] - ticks[0]) / 4000
    for k in range(1, 4000 // f0):
        there, between = (bands[round(x * f0 * rows_per_hz)] for x in (k, k + 0.5))
        assert there - between > 10
    # Of 1 / k, raised by 6 dB per octave, all are as loud.
    peaks = [bands[round(k * f0 * rows_per_hz)] for k in range(2, 4000 // f0)]
    assert np.ptp(peaks) < 6


def test_harmonics_of_a_low_rate_end_at_half_of_it(tmp_path, figures):
    plots.harmonics_comparison(tmp_path / "a.png", {"a": torch.randn(8000)}, 8000)
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == list("01234")
    with pytest.raises(ValueError, match="samples"):
        plots.harmonics_comparison(tmp_path / "a.png", {"a": torch.zeros(80, 9)}, 8000)


def test_heat_map_shows_every_pair_and_leaves_the_diagonal_blank(tmp_path, figures):
    values = [[None, 0.9], [0.25, float("nan")], [0.5, 0.75]]
    path = plots.conversion_heat_map(
        tmp_path / "new" / "pairs.png", values, ["a", "b", "new"], ["a", "b"], unseen=["new"]
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "new (unseen)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    shown = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    # (column, row): value
    assert shown == {(1, 0): "0.90", (0, 1): "0.25", (0, 2): "0.50", (1, 2): "0.75"}
    assert np.ma.getmaskarray(axes.images[0].get_array()).sum() == 2
    assert axes.images[0].get_clim() == (0.25, 0.9)


def test_heat_map_of_many_pairs_has_no_numbers(tmp_path, figures):
    names = [f"p{number}" for number in range(21)]
    plots.conversion_heat_map(tmp_path / "a.png", np.random.rand(21, 21), names, names)
    assert not figures[0].axes[0].texts
    with pytest.raises(ValueError, match="2 sources and 1 targets"):
        plots.conversion_heat_map(tmp_path / "a.png", [[1.0]], ["a", "b"], ["a"])


def test_attention_shows_tokens_over_time(tmp_path, figures):
    attention = torch.eye(4).repeat_interleave(10, 0)
    title = "$5 or $6?" + " more" * 40
    path = plots.attention_picture(
        tmp_path / "new" / "a.png", attention, ["\u2581", "a", "$", "\u4e2d"], 20.0, title
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    axes = figures[0].axes[0]
    # 40 codes at 20 per second; tokens from the bottom to the top.
    assert axes.get_xlim() == (0, 2.0) and axes.get_xlabel() == "time [s]"
    assert (
        np.array_equal(axes.images[0].get_array(), attention.T) and axes.images[0].origin == "lower"
    )
    # What the font lacks is marked instead of warned of, and nothing is taken for a formula.
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["\u2581", "a", "$", "\ufffd"]
    assert axes.get_title(loc="left").startswith("$5 or $6? more")
    assert axes.get_title(loc="left").endswith("...")


def test_attention_names_as_many_tokens_as_can_be_read(tmp_path, figures):
    plots.attention_picture(tmp_path / "a.png", torch.eye(500), ["x"] * 500, 43.0)
    assert 50 <= len(figures[0].axes[0].get_yticks()) <= 110
    assert max(figures[0].get_size_inches()) <= 16
    with pytest.raises(ValueError, match="3 pieces"):
        plots.attention_picture(tmp_path / "a.png", torch.eye(4), ["x"] * 3, 43.0)


def test_pyplot_is_not_touched(tmp_path):
    import matplotlib

    before = matplotlib.rcParams["backend"] if "matplotlib.pyplot" in sys.modules else None
    plots.conversion_heat_map(tmp_path / "a.png", [[1.0]], ["a"], ["b"])
    if before is None:
        assert "matplotlib.pyplot" not in sys.modules
    else:
        assert matplotlib.pyplot.get_fignums() == []


def test_missing_matplotlib_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="matplotlib: pip install"):
        plots.conversion_heat_map(tmp_path / "a.png", [[1.0]], ["a"], ["b"])
