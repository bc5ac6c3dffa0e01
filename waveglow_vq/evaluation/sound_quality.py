"""Judges of sound quality, as papers on vocoders report them.

All of them carry their weights and work offline; ``make judges`` installs them, and nothing else in
this package needs them. They hear 16 kHz, whatever the rate of the files: a band above 8 kHz is not
judged. Each takes samples ``[N]`` of recording and reconstruction at one rate, and gives floats,
NaN where it has nothing to judge: silence, or less than half a second. What is loaded stays loaded;
no random numbers are drawn, and calls of several threads wait for each other.
"""

import contextlib
import functools
import importlib.util
import io
import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.judges import JUDGE_RATE
from waveglow_vq.evaluation.pitch_judge import compare_periodicity
from waveglow_vq.evaluation.verdicts import HIGHER, LOWER
from waveglow_vq.evaluation.words.content import content_distance
from waveglow_vq.evaluation.words.recognizers import WHISPER_MODULES

import numpy as np
import torch

# PESQ has room for 50 utterances, and crashes where there are more: of more than 0.4 s each with
# the pause, twenty seconds hold no more.
_PESQ_SAMPLES = 20 * JUDGE_RATE
# Of less, no judge makes anything.
_FEWEST_SAMPLES = JUDGE_RATE // 2
_LOCK = threading.RLock()


class Judge(NamedTuple):
    """A judge of sound quality.

    Arguments
    ---------
    title : str
        What it is called.
    modules : tuple of str
        The modules that it needs.
    measures : dict
        Name of a measure: its heading in tables, and :data:`HIGHER` or :data:`LOWER`, which is
        better.
    referenced : bool
        Whether it compares with the recording; else it hears the reconstruction alone.
    slow : bool
        Whether it takes longer than the sound lasts, on one core.
    hear : Callable
        Of two arrays [N], fp32 at 16 kHz: the values of the measures, in their order.
    """

    title: str
    modules: tuple
    measures: dict
    referenced: bool
    slow: bool
    hear: Callable

    def available(self):
        """Whether its packages are installed."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    def score(self, reference, estimate, sample_rate):
        """The measures of a reconstruction, samples [N] beside a recording [N]; the longer is cut
        to the shorter. ``reference`` may be None where no reference is heard."""
        if reference is None:
            reference = estimate
        common = min(len(reference), len(estimate))
        with _LOCK:
            pair = [_prepared(wav[:common], sample_rate) for wav in (reference, estimate)]
            heard = len(pair[0]) >= _FEWEST_SAMPLES and pair[0].any() and pair[1].any()
            values = self.hear(*pair) if heard else [math.nan] * len(self.measures)
        return dict(zip(self.measures, map(float, values), strict=True))


def installed(names=None, slow=True):
    """Names of the judges of ``names`` (all where None) that are installed; without ``slow``, of
    those faster than the sound."""
    names = JUDGES if names is None else names
    return [n for n in names if JUDGES[n].available() and (slow or not JUDGES[n].slow)]


def not_installed():
    """A sentence on the judges that are not installed, None if all are."""
    titles = [judge.title for judge in JUDGES.values() if not judge.available()]
    if not titles:
        return None
    those = " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))
    verb, them = ("is", "it") if len(titles) == 1 else ("are", "them")
    return (
        f"Not judged by {those}, which {verb} not installed; 'make judges' in the project's folder"
        f" installs {them}."
    )


def require(names):
    """Raises a UserError if a judge of these names is unknown or not installed."""
    for name in names:
        if name not in JUDGES:
            raise UserError(f"unknown judge {name}; choose among {', '.join(JUDGES)}")
        if not JUDGES[name].available():
            modules = ", ".join(JUDGES[name].modules)
            raise UserError(
                f"{JUDGES[name].title} needs the modules {modules}: install them with make judges"
            )


def score_sound(reference, estimate, sample_rate, names):
    """The measures of the judges of these names, see :class:`Judge`.

    Example
    -------
    >>> score_sound(None, torch.zeros(8000), 16000, ["dnsmos", "distillmos"])
    {'dnsmos': nan, 'distillmos': nan}
    """
    scores = {}
    for name in names:
        scores |= JUDGES[name].score(reference, estimate, sample_rate)
    return scores


def measures_of(names):
    """Measure: (heading, which is better) of the judges of these names."""
    return {key: value for name in names for key, value in JUDGES[name].measures.items()}


def _prepared(wav, sample_rate):
    wav = torch.as_tensor(wav).detach().cpu().float()
    if wav.ndim != 1:
        raise ValueError(f"expected samples [N], got {tuple(wav.shape)}")
    # What a file can hold.
    return resample(wav, sample_rate, JUDGE_RATE).clamp(-1, 1).numpy()


def _pesq(reference, estimate):
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    count, values = -(-len(reference) // _PESQ_SAMPLES), []
    for pair in zip(*(np.array_split(wav, count) for wav in (reference, estimate)), strict=True):
        with contextlib.suppress(BufferTooShortError, NoUtterancesError):
            values.append(pesq(JUDGE_RATE, *pair, "wb"))
    return [np.mean(values) if values else math.nan]


@functools.lru_cache(maxsize=1)
def _visqol_api():
    from visqol import VisqolApi

    api = VisqolApi()
    # As the original maps similarities to opinions; the polynomial gives other figures.
    api.create(mode="speech", use_lattice_model=True)
    return api


def _visqol(reference, estimate):
    pair = reference.astype(np.float64), estimate.astype(np.float64)
    with contextlib.suppress(ValueError):  # no part is loud enough
        return [_visqol_api().measure_from_arrays(*pair, JUDGE_RATE).moslqo]
    return [math.nan]


def _dnsmos(_, estimate):
    from speechmos import dnsmos

    return [dnsmos.run(estimate, JUDGE_RATE)["ovrl_mos"]]


@functools.lru_cache(maxsize=1)
def _distillmos_model():
    from distillmos.sqa import ConvTransformerSQAModel

    # It is initialized at random before its weights are read, and prints where they are.
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        return ConvTransformerSQAModel(segmenting_in_forward=False).eval()


@torch.no_grad()
def _distillmos(_, estimate):
    from distillmos.sqa import MAX_HOP_LEN, SEQ_LEN

    # Segment by segment: all at once, as the model would, long recordings take much memory.
    wav = torch.from_numpy(estimate)
    over = max(0, len(wav) - SEQ_LEN)
    starts = [int(place * over) for place in np.linspace(0, 1, -(-over // MAX_HOP_LEN) + 1)]
    wav = torch.nn.functional.pad(wav, (0, max(0, SEQ_LEN - len(wav))))
    model = _distillmos_model()
    return [np.mean([float(model(wav[None, start : start + SEQ_LEN])) for start in starts])]


JUDGES = {
    "pesq": Judge("PESQ", ("pesq",), {"pesq_wb": ("PESQ-WB", HIGHER)}, True, False, _pesq),
    "visqol": Judge(
        "ViSQOL", ("visqol", "ai_edge_litert"), {"visqol": ("ViSQOL", HIGHER)}, True, False, _visqol
    ),
    "dnsmos": Judge(
        "DNSMOS",
        ("speechmos", "onnxruntime", "requests"),
        {"dnsmos": ("DNSMOS", HIGHER)},
        False,
        False,
        _dnsmos,
    ),
    "distillmos": Judge(
        "distillmos",
        ("distillmos", "xls_r_sqa"),
        {"distillmos": ("distillmos", HIGHER)},
        False,
        False,
        _distillmos,
    ),
    "content": Judge(
        "Whisper's encoder",
        WHISPER_MODULES,
        {"content_distance": ("content", LOWER)},
        True,
        False,
        content_distance,
    ),
    "torchcrepe": Judge(
        "torchcrepe",
        ("torchcrepe", "resampy"),
        {
            "periodicity_error": ("period. err.", LOWER),
            "voicing_f1": ("V/UV F1", HIGHER),
            "f0_rmse_cents": ("F0 [cents]", LOWER),
        },
        True,
        True,
        compare_periodicity,
    ),
}
# Those that take a fraction of a second for a clip, for reports that somebody waits for.
QUICK = ("pesq", "visqol", "distillmos")
