"""Speed of sampling, with CUDA graphs and without, and of other implementations beside it."""

import inspect
import json
import statistics
import time
from functools import cache, lru_cache, partial
from types import SimpleNamespace

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.errors import UserError
from waveglow_vq.inference import WaveGlowVocoder

import torch
from inference import hifigan_cases, log_mels, our_cases, their_cases
from measuring import peak_memory, seconds_of, synchronize
from speed import load_vocoder, macs_per_second_of_audio, randomized

# Of which implementation is timed beside ours, and for whom a row is measured first.
FIRST = {"nvidia256": "fp16", "base": "bf16", "small": "bf16", "tiny": "bf16"}
# Calls before those that are timed; a graph is captured in the second one at the latest.
FIRST_CALLS = 3
# No more than so many seconds for the repeats of a row.
REPEATS, SECONDS = 7, 1.0


def cases(options):
    """See rows.py. First come the rows that the issue has bars for, then the same without graphs,
    then what stands beside, then the other precisions."""
    names = ["auto", "off"] if graphs_are_known() else ["off"]
    if torch.device(options.device).type != "cuda":
        names = names[-1:]
    tiers = {0: [], 1: [], 3: [], 4: []}
    for size in options.sizes:
        first = FIRST[size] if FIRST[size] in options.dtypes else options.dtypes[0]
        for dtype in options.dtypes:
            for batch in options.batches:
                for graphs in names:
                    key = {"name": size, "dtype": dtype, "batch": batch, "graphs": graphs}
                    tier = 3 * (dtype != first) + (graphs != names[0])
                    run = partial(ours, options, size, dtype, batch, graphs)
                    tiers[tier].append((key, run))
    beside = []
    for name, make in (("NVIDIA/waveglow", theirs), ("HiFi-GAN V1 (SpeechBrain)", hifigan)):
        if make is theirs and not (options.waveglow_folder and "nvidia256" in options.sizes):
            continue
        for dtype in ("fp16", "bf16", "fp32"):
            if dtype in options.dtypes:
                for batch in options.batches:
                    key = {"name": name, "dtype": dtype, "batch": batch, "graphs": ""}
                    beside.append((key, partial(make, options, dtype, batch)))
    return tiers[0] + tiers[1] + beside[:4] + tiers[3] + beside[4:] + tiers[4]


@cache
def graphs_are_known():
    """Whether this version has CUDA graphs for sampling."""
    return "cuda_graphs" in inspect.signature(WaveGlowVocoder.prepare_inference).parameters


def prepare(vocoder, dtype, graphs):
    """Prepares an interface, with graphs where it chooses them (auto), always (on), or never."""
    names = {"auto": "auto", "on": True, "off": False}
    more = {"cuda_graphs": names[graphs]} if graphs_are_known() else {}
    return vocoder.prepare_inference(dtype, **more)


@lru_cache(maxsize=1)
def vocoder_of(size, device, preset="{}"):
    """The interface of a size, with random couplings, and the multiplications of a second."""
    torch.manual_seed(0)
    model, features = load_vocoder(size, "cpu", **json.loads(preset))
    randomized(model.vocoder)
    macs = macs_per_second_of_audio(model, features.sample_rate)["total"]
    modules = {"model": model, "features": features}
    return WaveGlowVocoder(modules=modules, hparams={}, run_opts={"device": device}), macs


def ours(options, size, dtype, batch, graphs):
    """A row of ours: from the log-mel to the waveform, noise drawn on the device."""
    vocoder, macs = vocoder_of(size, options.device, options.preset)
    features = vocoder.mods.features
    mel = log_mels(options, features, options.audio_seconds, batch)
    begin = time.monotonic()
    prepare(vocoder, dtype, graphs)
    for _ in range(FIRST_CALLS):
        vocoder.decode_batch(mel)
    synchronize(options.device)
    first = time.monotonic() - begin
    samples = batch * mel.shape[-1] * features.hop_length
    figures = timed(lambda: vocoder.decode_batch(mel), options, samples)
    figures["gmac_per_audio_second"] = macs / 1e9
    figures["first_calls_seconds"] = first
    return figures


def timed(run, options, samples):
    """Median, fastest, and working memory of a call that has run before."""
    held = peak_memory(run, options.device)
    times, begin = [], time.monotonic()
    while len(times) < REPEATS and (time.monotonic() - begin < SECONDS or not times):
        times.append(seconds_of(run, options.device))
    median = statistics.median(times)
    return {
        "milliseconds": 1000 * median,
        "fastest": 1000 * min(times),
        "samples_per_second": samples / median,
        "memory_mib": None if held is None else held / 2**20,
    }


def of_inference(options, dtype, batch):
    """What the cases of inference.py want to know."""
    return SimpleNamespace(
        device=options.device,
        dtypes=[dtype],
        shapes=[(options.audio_seconds, batch)],
        waveglow_folder=options.waveglow_folder,
    )


def theirs(options, dtype, batch):
    """A row of NVIDIA's implementation."""
    wanted = of_inference(options, dtype, batch)
    model, _, own = our_cases("nvidia256", wanted)
    _, (case,) = their_cases(own, model, wanted)
    return beside(case, options)


def hifigan(options, dtype, batch):
    """A row of HiFi-GAN."""
    wanted = of_inference(options, dtype, batch)
    (case,) = hifigan_cases(wanted, load_vocoder("tiny", "cpu")[1])
    return beside(case, options)


def beside(case, options):
    """Times a case of inference.py."""
    begin = time.monotonic()
    case.before()
    wav = case.run()
    synchronize(options.device)
    first = time.monotonic() - begin
    if not bool(torch.isfinite(wav).all()):
        raise UserError(f"{case.name}: the waveform is not finite in {case.dtype}")
    samples = case.batch * case.samples
    figures = timed(case.run, options, samples)
    figures["gmac_per_audio_second"] = case.macs / (samples / 22050) / 1e9
    figures["first_calls_seconds"] = first
    return figures
