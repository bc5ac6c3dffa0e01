import math
import subprocess
import sys
import threading

from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation import sound_quality
from waveglow_vq.evaluation.sound_quality import (
    JUDGES,
    installed,
    measures_of,
    not_installed,
    require,
    score_sound,
)
from waveglow_vq.evaluation.verdicts import HIGHER

import numpy as np
import pytest
import torch

from tests.evaluation.signals import RATE, noise_like, speech_like

REAL = [
    pytest.param(
        name,
        marks=[
            pytest.mark.skipif(not judge.available(), reason="needs make judges"),
            *([pytest.mark.slow] if judge.slow else []),
        ],
    )
    for name, judge in JUDGES.items()
]


@pytest.fixture(scope="module")
def wav():
    return speech_like(1.5)


@pytest.fixture
def fake(monkeypatch):
    """A judge that hears the ratio of levels, and the rate by the length."""

    def hear(reference, estimate):
        return [np.abs(estimate).max() / np.abs(reference).max(), len(estimate)]

    measures = {"loudness": ("loudness", HIGHER), "length": ("length", HIGHER)}
    judge = sound_quality.Judge("Fake", ("math",), measures, True, False, hear)
    monkeypatch.setitem(JUDGES, "fake", judge)
    return judge


def test_a_judge_hears_16_khz_and_what_both_have(fake):
    wav = speech_like(1.0)
    longer = torch.cat([0.5 * wav, torch.ones(500)])
    scores = score_sound(wav, longer, RATE, ["fake"])
    assert scores["length"] == len(resample(wav, RATE, 16000))
    assert scores["loudness"] == pytest.approx(0.5, abs=1e-3)
    assert list(measures_of(["fake"])) == list(scores)
    # Beyond full scale it is limited, as in a file.
    assert score_sound(wav / wav.abs().max(), 9 * wav, RATE, ["fake"])["loudness"] <= 1.01


def test_silence_and_clicks_are_not_judged(fake, wav):
    silence = torch.zeros_like(wav)
    for pair in ((silence, wav), (wav, silence), (wav[:5000], wav[:5000])):
        assert all(math.isnan(value) for value in score_sound(*pair, RATE, ["fake"]).values())
    with pytest.raises(ValueError, match=r"samples \[N\]"):
        score_sound(wav[None], wav[None], RATE, ["fake"])


def test_absent_judges_are_named(monkeypatch):
    for name, judge in JUDGES.items():
        modules = ("no_such_module_anywhere",) if name in ("pesq", "dnsmos") else ("math",)
        monkeypatch.setitem(JUDGES, name, judge._replace(modules=modules))
    assert installed() == ["visqol", "distillmos", "content", "torchcrepe"]
    assert installed(slow=False) == ["visqol", "distillmos", "content"]
    assert not_installed().startswith("Not judged by PESQ and DNSMOS, which are not installed")
    with pytest.raises(UserError, match="PESQ needs the modules no_such.*make judges"):
        require(["pesq"])
    with pytest.raises(UserError, match="unknown judge ears; choose among pesq, visqol"):
        require(["ears"])
    monkeypatch.setitem(JUDGES, "pesq", JUDGES["visqol"])
    assert not_installed().startswith("Not judged by DNSMOS, which is not installed")
    monkeypatch.setitem(JUDGES, "dnsmos", JUDGES["visqol"])
    assert not_installed() is None


def test_judges_are_not_loaded_with_the_package():
    modules = tuple(module for judge in JUDGES.values() for module in judge.modules)
    code = (
        "import sys, waveglow_vq.evaluation.score; "
        "from waveglow_vq.evaluation.sound_quality import installed; installed(); "
        f"found = [name for name in {modules} if name in sys.modules and name != 'requests']; "
        "sys.exit(str(found) if found else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", REAL)
def test_a_judge_prefers_the_recording_and_repeats_itself(name, wav, capfd):
    judge = JUDGES[name]
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.get_rng_state(), np.random.get_state()[1].copy()
    noisy = wav + noise_like(wav, 10)
    own, other = judge.score(wav, wav, RATE), judge.score(wav, noisy, RATE)
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert np.array_equal(np.random.get_state()[1], expected[1])
    assert capfd.readouterr().out == ""
    assert judge.score(wav, noisy, RATE) == other
    if not judge.referenced:
        assert judge.score(None, noisy, RATE) == other
    for measure, (_, better) in judge.measures.items():
        better_by = (own[measure] - other[measure]) * (1 if better == HIGHER else -1)
        # What is no speech is not always liked better where it is clean.
        assert better_by >= 0 or not judge.referenced
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(judge.score(wav, noisy, RATE)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [other, other]


@pytest.mark.skipif(not JUDGES["pesq"].available(), reason="needs make judges")
def test_pesq_hears_long_recordings():
    """More than fifty utterances at once end the process."""
    bursts = 0.1 * torch.randn(60 * 16000, generator=torch.Generator().manual_seed(0))
    bursts *= (torch.arange(len(bursts)) // 6600) % 2
    assert JUDGES["pesq"].score(bursts, bursts, 16000)["pesq_wb"] == pytest.approx(4.64, abs=0.01)


@pytest.mark.skipif(not JUDGES["distillmos"].available(), reason="needs make judges")
def test_distillmos_by_segments_is_its_own_forward(capsys):
    from distillmos import ConvTransformerSQAModel

    wav = speech_like(10.0)
    model = ConvTransformerSQAModel().eval()
    with torch.no_grad():
        expected = float(model(resample(wav, RATE, 16000).clamp(-1, 1)[None]))
    scores = JUDGES["distillmos"].score(None, wav, RATE)
    assert scores["distillmos"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not JUDGES["torchcrepe"].available(), reason="needs make judges")
def test_periodicity_is_that_of_torchcrepe(wav):
    from waveglow_vq.evaluation import pitch_judge

    import torchcrepe

    wav = resample(wav, RATE, 16000)
    bins, periodicity = pitch_judge._track(wav.numpy().tobytes())
    f0, expected = torchcrepe.predict(
        wav[None], 16000, 160, 50.0, 550.0, "full", return_periodicity=True, pad=False
    )
    loud = pitch_judge._loudness(wav) >= pitch_judge.SILENT_BELOW
    assert np.allclose(periodicity[loud], expected[0].numpy()[loud], atol=1e-5)
    assert not periodicity[~loud].any()
    # Theirs is dithered by up to a bin.
    cents = 1200 * np.log2(f0[0].numpy() / 10) - 1997.3794084376191
    assert np.abs(cents - 20 * bins).max() < 20.1
