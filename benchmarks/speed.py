"""Speed of the mel vocoder in its sizes as it is trained: likelihood and training steps, and what
the envelope flow takes. Inference, prepared for it, is measured by inference.py.

All cases run in one process, and their repeats take turns, so that a change of the machine's clock
or load meets all of them; reported are medians. In the same turns a large product of two fp32
matrices is timed: its best rate is what this machine can do at most, and "share of peak" relates
to it.

    python benchmarks/speed.py --sizes tiny small --seconds 4 --json speed.json
"""

import argparse
import importlib.util
import math
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.errors import UserError, cli_errors

import torch
from hyperpyyaml import load_hyperpyyaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import (  # noqa: E402
    begin,
    check_device,
    finish,
    matrix_product,
    peak_memory,
    seconds_of,
)

PRESET = Path(__file__).resolve().parents[1] / "hparams" / "mel.yaml"
SIZES = ("tiny", "small", "base", "nvidia256")
# The recipe's own shape of a training step, in frames of the log-mel.
SEGMENT_FRAMES, CONTEXT_FRAMES = 16, 64


class Case(NamedTuple):
    """One row: what is run, for how many seconds of audio and with how many multiplications."""

    size: str
    task: str
    run: object
    seconds: float
    macs: float | None = None
    parameters: int | None = None


# ---- what is counted


def macs_per_second_of_audio(model, sample_rate):
    """Multiply-accumulates of one pass through a mel vocoder, from the shapes of its layers.

    A layer takes as many as it has weights, at every position that it is applied to: a convolution
    at each of its outputs, a transposed convolution at each of its inputs, a 1x1 convolution of
    the flows at each group, the envelope's recursion of order P at each sample. Biases,
    nonlinearities, interpolation and what is done once per utterance or per log-mel frame to make
    the predictors are left out. Layers count as they are defined: what is saved by folding one into
    another is not taken off, so that implementations can be compared. Sampling and likelihood take
    the same; a training step three times as many, since the gradients of inputs and of weights take
    as many each.

    Arguments
    ---------
    model : WaveGlowVQ
        With a :class:`~waveglow_vq.lobes.conditioners.mel.MelConditioner`.
    sample_rate : int
        In Hz.

    Returns
    -------
    dict
        ``conditioner``, ``upsampling``, ``condition`` (its projection in the coupling networks),
        ``dilated``, ``residual_skip``, ``start_end``, ``invertible``, ``film``, ``envelope`` and,
        their sum, ``total``.
    """
    vocoder = model.vocoder
    group_rate = sample_rate / vocoder.group_size
    frame_rate = sample_rate / vocoder.condition_hop
    local_rate = frame_rate if vocoder.condition_geometry == "frame" else group_rate
    convolutions = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)

    def weights(module):
        layers = [m for m in module.modules() if isinstance(m, convolutions)]
        return sum(m.in_channels * m.out_channels * m.kernel_size[0] // m.groups for m in layers)

    terms = dict.fromkeys(
        ("upsampling", "condition", "dilated", "residual_skip", "start_end", "invertible", "film"),
        0.0,
    )
    terms["conditioner"] = frame_rate * weights(model.conditioner)
    if vocoder.upsample is not None:
        terms["upsampling"] = frame_rate * weights(vocoder.upsample)
    for step in vocoder.steps:
        network = step.coupling.network
        if network.local is not None:
            terms["condition"] += local_rate * weights(network.local)
        terms["dilated"] += group_rate * weights(network.dilated)
        terms["residual_skip"] += group_rate * weights(network.residual_skip)
        terms["start_end"] += group_rate * (weights(network.start) + weights(network.end))
        terms["invertible"] += group_rate * step.conv.weight.numel()
        if step.film is not None:
            terms["film"] += local_rate * weights(step.film)
    terms["envelope"] = float(sample_rate * vocoder.history)
    terms["total"] = sum(terms.values())
    return terms


# ---- what is run


def load_vocoder(size, device, **changes):
    """The model of a size of hparams/mel.yaml, with changes to its keys, and its features."""
    with open(PRESET, encoding="utf-8") as stream:
        preset = load_hyperpyyaml(stream, {"size": size, **changes})
    return preset["model"].to(device).eval(), preset["contract"]["features"].to(device)


def randomized(vocoder, deviation=0.01):
    """Couplings that do something: those of untrained ones are the identity."""
    with torch.no_grad():
        for step in vocoder.steps:
            step.coupling.network.end.weight.normal_(0, deviation)


def vocoder_cases(size, options):
    """Likelihood of whole waveforms, and a training step of segments.

    The sound is noise: what it is does not matter to the time, as long as it is not silent.
    """
    torch.manual_seed(0)
    model, features = load_vocoder(size, options.device)
    rate, hop = features.sample_rate, features.hop_length
    macs = macs_per_second_of_audio(model, rate)["total"]
    parameters = sum(p.numel() for p in model.parameters())

    def make(task, run, samples, factor=1):
        seconds = samples / rate
        return Case(size, task, run, seconds, factor * macs * seconds, parameters)

    frames = max(5, round(options.seconds * rate / hop))
    wav = 0.1 * torch.randn(options.batch, frames * hop, device=options.device)
    log_mel = features(wav)[..., :frames]

    @torch.inference_mode()
    def likelihood():
        model.eval()
        return model(wav, log_mel)

    samples = SEGMENT_FRAMES * hop
    inputs = {
        "wav": 0.1 * torch.randn(options.train_batch, samples, device=options.device),
        "history": torch.zeros(options.train_batch, model.vocoder.history, device=options.device),
        "starts": torch.full((options.train_batch,), 20, device=options.device),
    }
    context = 0.1 * torch.randn(options.train_batch, CONTEXT_FRAMES * hop, device=options.device)
    inputs["mel"] = features(context)[..., :CONTEXT_FRAMES]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def training():
        model.train()
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, segments = options.batch * frames * hop, options.train_batch * samples
    cases = {
        "likelihood": make("likelihood", likelihood, whole),
        "training": make("training", training, segments, factor=3),
    }
    return [cases[task] for task in options.tasks]


def envelope_cases(options):
    """The envelope alone, and torchlpc for comparison where it is installed."""
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.lobes.flows.envelope import MelPredictor, all_pole, prediction_error

    torch.manual_seed(0)
    features = LogMel().to(options.device)
    predictors = MelPredictor(features).to(options.device)
    frames = max(5, round(options.seconds * features.sample_rate / features.hop_length))
    noise = torch.randn(options.batch, frames * features.hop_length, device=options.device)
    log_mel = features(0.1 * noise)[..., :frames]
    noise = noise.double()
    filters = predictors(log_mel)
    calls = {
        "log-mel to predictors": lambda: predictors(log_mel),
        "all-pole filter": lambda: all_pole(noise, filters),
        "whitening": lambda: prediction_error(noise, filters),
    }
    if importlib.util.find_spec("torchlpc"):
        from torchlpc import sample_wise_lpc

        def by_torchlpc():
            gain = filters.log_gain.exp().repeat_interleave(filters.block, dim=1)
            dense = filters.coefficients.repeat_interleave(filters.block, dim=1)
            return sample_wise_lpc(gain * noise, dense)

        calls["all-pole filter of torchlpc"] = by_torchlpc
        difference = (all_pole(noise, filters) - by_torchlpc()).abs().max()
        print(f"greatest difference from torchlpc: {difference:.1e}", file=sys.stderr)
    seconds = noise.numel() / features.sample_rate
    name = f"envelope, order {predictors.order}"
    return [Case(name, task, torch.inference_mode()(run), seconds) for task, run in calls.items()]


# ---- how it is measured


def measure(cases, repeats, device):
    """Runs the cases in turns.

    Returns
    -------
    results : list of dict
        For each case.
    peak : float
        Multiply-accumulates per second of the large matrix product, the best of all turns.
    """
    product, macs = matrix_product(torch.float32, device)
    memory = []
    for case in cases:
        case.run()
        memory.append(peak_memory(case.run, device))
    times, products = [[] for _ in cases], []
    for _ in range(repeats):
        products += [seconds_of(product, device) for _ in range(2)]
        for case, taken in zip(cases, times, strict=True):
            taken.append(seconds_of(case.run, device))
    peak = macs / min(products)
    results = []
    for case, taken, held in zip(cases, times, memory, strict=True):
        median = statistics.median(taken)
        result = {
            "size": case.size,
            "task": case.task,
            "parameters": case.parameters,
            "audio_seconds": case.seconds,
            "milliseconds": 1000 * median,
            "fastest_milliseconds": 1000 * min(taken),
            "times_real_time": case.seconds / median,
            "peak_bytes": held,
        }
        if case.macs is not None:
            result["gmac_per_audio_second"] = case.macs / case.seconds / 1e9
            result["gmac_per_second"] = case.macs / median / 1e9
            result["share_of_peak"] = case.macs / median / peak
        results.append(result)
    return results, peak


# ---- how it is shown


def table(results):
    """Markdown."""
    lines = [
        "| size | parameters | task | ms | times real time | GMAC per second of audio | GMAC/s "
        "| share of peak | working memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        macs = ["", "", ""]
        if "gmac_per_second" in r:
            macs = [f"{r['gmac_per_audio_second']:.1f}", f"{r['gmac_per_second']:.1f}"]
            macs.append(f"{100 * r['share_of_peak']:.0f} %")
        cells = [
            r["size"],
            "" if r["parameters"] is None else f"{r['parameters']:,}",
            r["task"],
            f"{r['milliseconds']:.1f}",
            f"{r['times_real_time']:.{1 if r['times_real_time'] < 10 else 0}f}",
            *macs,
            "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 2**20:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=("likelihood", "training"),
        default=["likelihood", "training"],
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of audio, each item")
    parser.add_argument("--batch", type=int, default=1, help="items; of a training step: 8")
    parser.add_argument("--train_batch", type=int, default=8, help="segments of 16 frames")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch on CPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--no_envelope", action="store_true", help="leave the envelope alone out")
    parser.add_argument("--json", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    for name in ("batch", "train_batch", "repeats"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    if not 0 < options.seconds < math.inf:
        raise UserError("--seconds must be positive")
    check_device(options.device)
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    machine = begin(options)
    cases = [case for size in options.sizes for case in vocoder_cases(size, options)]
    if not options.no_envelope:
        cases += envelope_cases(options)
    results, peak = measure(cases, options.repeats, options.device)
    print(
        f"peak (fp32 matrix product): {peak / 1e9:.1f} GMAC/s\n"
        f"likelihood: {options.batch} x {options.seconds:g} s; training step: "
        f"{options.train_batch} segments of {SEGMENT_FRAMES} frames; medians of "
        f"{options.repeats} turns\n"
    )
    print(table(results))
    report = {
        "machine": machine,
        "peak_gmac_per_second": peak / 1e9,
        "results": results,
    }
    return finish(options, report)


if __name__ == "__main__":
    main()
