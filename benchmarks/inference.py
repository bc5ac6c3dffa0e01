"""Speed of sampling: the mel vocoder in its sizes, prepared for inference, beside NVIDIA's own
WaveGlow (from a clone of github.com/NVIDIA/waveglow, with the weights of ours, its weight
normalization removed) and SpeechBrain's HiFi-GAN generator.

All run in one process, and their repeats take turns; reported are medians. In the same turns a
large matrix product and a large convolution are timed in each precision: the machine's peaks.

    python benchmarks/inference.py --waveglow_folder /clones/waveglow --threads 2
    python benchmarks/inference.py --device cuda --dtypes fp16 bf16 --seconds 8 --batch 1 8
"""

import argparse
import contextlib
import math
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.inference import WaveGlowVocoder
from waveglow_vq.inference.exported_model import DTYPES

import torch
from speechbrain.lobes.models.HifiGAN import HifiganGenerator

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import (  # noqa: E402
    begin,
    check_device,
    convolution,
    finish,
    matrix_product,
    peak_memory,
    seconds_of,
)
from nvidia import load_glow, their_model, their_noise  # noqa: E402
from speed import SIZES, load_vocoder, macs_per_second_of_audio, randomized  # noqa: E402

# What HiFi-GAN V1 is made of (Kong et al. 2020, appendix A).
HIFIGAN = {
    "in_channels": 80,
    "out_channels": 1,
    "resblock_type": "1",
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "resblock_kernel_sizes": [3, 7, 11],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 512,
    "upsample_factors": [8, 8, 2, 2],
    "inference_padding": 0,
}


class Case(NamedTuple):
    """One row: whose, in which precision, for how many items of how many seconds; what is run, and
    what must be done before that is not timed; multiplications of one run."""

    name: str
    dtype: str
    batch: int
    seconds: float
    samples: int
    run: object
    before: object
    macs: float


# ---- what is run


def log_mels(options, features, seconds, batch):
    """Noise-like log-mels: what they are does not matter to the time."""
    frames = max(1, round(seconds * features.sample_rate / features.hop_length))
    shape = batch, features.n_mels, frames
    return (0.5 * torch.randn(*shape) - 5).to(options.device)


def our_cases(size, options):
    """Of a size, for every precision, length and batch; and the model."""
    torch.manual_seed(0)
    model, features = load_vocoder(size, options.device)
    randomized(model.vocoder)
    per_second = macs_per_second_of_audio(model, features.sample_rate)["total"]
    # Noise of a seed is drawn on the CPU, for which a GPU would wait.
    seed = 0 if torch.device(options.device).type == "cpu" else None
    cases = []
    for dtype in options.dtypes:
        for seconds, batch in options.shapes:
            mel = log_mels(options, features, seconds, batch)

            @torch.inference_mode()
            def run(mel=mel):
                return model.sample(model.conditioner(mel), generator=seed)

            def before(dtype=dtype):
                model.prepare_inference(DTYPES[dtype])

            samples = mel.shape[-1] * features.hop_length
            macs = batch * per_second * samples / features.sample_rate
            cases.append(Case(size, dtype, batch, seconds, samples, run, before, macs))
    return model, features, cases


def their_cases(ours, model, options):
    """NVIDIA's implementation in fp32 and, in other precisions, under torch's autocast."""
    glow = load_glow(options.waveglow_folder)
    theirs = their_model(glow, model.vocoder).eval()
    theirs = glow.WaveGlow.remove_weightnorm(theirs)
    cases, size = [], model.vocoder.group_size
    for case in ours:
        z = torch.randn(case.batch, size, case.samples // size, device=options.device)
        mel = torch.randn(case.batch, 80, case.samples // 256, device=options.device)
        context = contextlib.nullcontext
        if case.dtype != "fp32":
            context = lambda dtype=case.dtype: torch.autocast(  # noqa: E731
                torch.device(options.device).type, DTYPES[dtype]
            )

        @torch.inference_mode()
        def run(mel=mel, z=z, context=context):
            with their_noise(z), context():
                return theirs.infer(mel)

        cases.append(case._replace(name="NVIDIA/waveglow", run=run, before=lambda: None))
    return theirs, cases


def hifigan_cases(options, features):
    """SpeechBrain's HiFi-GAN, weight normalization removed."""
    generator = HifiganGenerator(**HIFIGAN)
    generator.remove_weight_norm()
    generator = generator.eval().to(options.device)
    per_frame = macs_of_one_frame(generator, features.n_mels)
    cases = []
    for dtype in options.dtypes:
        for seconds, batch in options.shapes:
            mel = log_mels(options, features, seconds, batch)

            @torch.inference_mode()
            def run(mel=mel, dtype=dtype):
                enabled = dtype != "fp32"
                kind = torch.device(options.device).type
                with torch.autocast(kind, DTYPES[dtype], enabled=enabled):
                    return generator(mel)

            samples = mel.shape[-1] * features.hop_length
            macs = batch * per_frame * mel.shape[-1]
            name = "HiFi-GAN V1 (SpeechBrain)"
            cases.append(Case(name, dtype, batch, seconds, samples, run, lambda: None, macs))
    return cases


def macs_of_one_frame(module, n_mels):
    """Multiply-accumulates of a network of convolutions for one frame, counted while it runs."""
    total, hooks, frames = 0, [], 16

    def count(layer, inputs, output):
        nonlocal total
        steps = inputs[0] if isinstance(layer, torch.nn.ConvTranspose1d) else output
        total += layer.weight.numel() * steps.shape[0] * steps.shape[-1]

    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            hooks.append(layer.register_forward_hook(count))
    with torch.inference_mode():
        module(torch.zeros(1, n_mels, frames, device=next(module.parameters()).device))
    for hook in hooks:
        hook.remove()
    return total / frames


# ---- what is compared


@torch.inference_mode()
def difference_from_theirs(model, theirs, options):
    """Greatest difference of one second of audio, relative to full scale as the audio is; same
    weights, same noise."""
    size, frames = model.vocoder.group_size, 86
    z = torch.randn(1, size, frames * 256 // size, device=options.device)
    mel = torch.randn(1, 80, frames, device=options.device)
    with their_noise(z):
        expected = theirs.infer(mel)
    model.prepare_inference(torch.float32)
    found = model.vocoder.inverse(z, model.conditioner(mel).local)
    return (found - expected).abs().max().item(), expected.abs().max().item()


@torch.inference_mode()
def signal_to_error_db(model, features, dtype, options):
    """Of sampling in a precision, against fp32; two seconds."""
    mel = log_mels(options, features, 2.0, 1)
    results = []
    for kind in (torch.float32, DTYPES[dtype]):
        model.prepare_inference(kind)
        results.append(model.sample(model.conditioner(mel), generator=0).double())
    error = (results[1] - results[0]).square().sum()
    return 10 * math.log10(results[0].square().sum() / error)


def first_audio(model, features, dtype, options):
    """Streaming: seconds of log-mel that the first audio waits for, milliseconds until it comes,
    and milliseconds for each further chunk of 64 frames."""
    vocoder = WaveGlowVocoder(modules={"model": model, "features": features}, hparams={})
    vocoder.prepare_inference(dtype)
    mel = log_mels(options, features, 8.0, 1)[0]
    vocoder.decode_spectrogram(mel[:, :64])
    begun, pieces, times = 0, [], []
    chunks = iter(mel.split(1, dim=1))

    def given():
        nonlocal begun
        for chunk in chunks:
            begun += 1
            yield chunk

    stream = vocoder.stream(given(), generator=0, chunk_frames=64)
    while len(pieces) < 4:
        times.append(seconds_of(lambda: pieces.append(next(stream)), options.device))
        if len(pieces) == 1:
            waited = begun * features.hop_length / features.sample_rate
    return waited, 1000 * times[0], 1000 * statistics.median(times[1:])


# ---- how it is measured


@torch.inference_mode()
def peak_calls(options):
    """The products whose best rate is the machine's peak: name -> (call, multiplications)."""
    calls = {}
    for dtype in options.dtypes:
        kind = DTYPES[dtype]
        calls[dtype, "matrix"] = matrix_product(kind, options.device)
        calls[dtype, "convolution"] = convolution(kind, options.device)
    return calls


def measure(cases, options):
    """Runs the cases in turns; results and peaks in multiply-accumulates per second."""
    calls = peak_calls(options)
    memory = []
    for case in cases:
        case.before()
        case.run()
        memory.append(peak_memory(case.run, options.device))
    times, products = [[] for _ in cases], {name: [] for name in calls}
    for _ in range(options.repeats):
        with torch.inference_mode():
            for name, (call, _) in calls.items():
                products[name] += [seconds_of(call, options.device) for _ in range(3)]
        for case, taken in zip(cases, times, strict=True):
            case.before()
            taken.append(seconds_of(case.run, options.device))
    peaks = {name: macs / min(products[name]) for name, (_, macs) in calls.items()}
    results = []
    for case, taken, held in zip(cases, times, memory, strict=True):
        median = statistics.median(taken)
        audio = case.batch * case.samples / 22050
        results.append(
            {
                "name": case.name,
                "dtype": case.dtype,
                "batch": case.batch,
                "audio_seconds": case.samples / 22050,
                "milliseconds": 1000 * median,
                "fastest_milliseconds": 1000 * min(taken),
                "seconds_per_second": median / audio,
                "samples_per_second": case.batch * case.samples / median,
                "gmac_per_audio_second": case.macs / audio / 1e9,
                "gmac_per_second": case.macs / median / 1e9,
                "share_of_matrix_peak": case.macs / median / peaks[case.dtype, "matrix"],
                "share_of_convolution_peak": case.macs / median / peaks[case.dtype, "convolution"],
                "peak_bytes": held,
            }
        )
    return results, {" ".join(name): value / 1e9 for name, value in peaks.items()}


# ---- how it is shown


def table(results):
    """Markdown: a row for each implementation, precision and batch; for each length the time and,
    where NVIDIA's is there, how many times as fast as that in fp32; the rest for the longest."""
    lengths = sorted({r["audio_seconds"] for r in results})
    theirs = {
        (r["batch"], r["audio_seconds"]): r["milliseconds"]
        for r in results
        if r["name"] == "NVIDIA/waveglow" and r["dtype"] == "fp32"
    }
    head = ["", "precision", "batch"]
    for seconds in lengths:
        head += [f"{seconds:.1f} s: ms"] + ["times as fast as NVIDIA's fp32"] * bool(theirs)
    head += ["s per s of audio", "samples/s", "GMAC/s", "share of convolution peak"]
    lines = [[*head, "memory [MiB]"], ["---"] * (len(head) + 1)]
    rows = {}
    for r in results:
        rows.setdefault((r["name"], r["dtype"], r["batch"]), []).append(r)
    for (name, dtype, batch), row in rows.items():
        row = sorted(row, key=lambda r: r["audio_seconds"])
        cells = [name, dtype, str(batch)]
        for r in row:
            cells.append(f"{r['milliseconds']:,.0f}")
            if theirs:
                times = theirs[batch, r["audio_seconds"]] / r["milliseconds"]
                cells.append(f"{times:.{2 if times < 10 else 0}f}")
        cells += [f"{r['seconds_per_second']:.3f}", f"{r['samples_per_second']:,.0f}"]
        cells += [f"{r['gmac_per_second']:.0f}", f"{100 * r['share_of_convolution_peak']:.0f} %"]
        cells.append("" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 2**20:,.0f}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[4.0, 10.0], help="of audio")
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="items at once")
    parser.add_argument(
        "--waveglow_folder", help="clone of NVIDIA/waveglow, with --sizes nvidia256"
    )
    parser.add_argument("--no_hifigan", action="store_true", help="leave HiFi-GAN out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch on CPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    if min([options.repeats, *options.batch]) < 1:
        raise UserError("--repeats and --batch must be at least 1")
    if not all(0 < seconds < math.inf for seconds in options.seconds):
        raise UserError("--seconds must be positive")
    if options.waveglow_folder and "nvidia256" not in options.sizes:
        raise UserError("--waveglow_folder: add nvidia256 to --sizes, whose weights it is given")
    options.shapes = [(seconds, batch) for batch in options.batch for seconds in options.seconds]
    check_device(options.device)
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    machine = begin(options)
    cases, notes = [], {}
    for size in options.sizes:
        model, features, own = our_cases(size, options)
        cases += own
        for dtype in options.dtypes:
            waited, first, further = first_audio(model, features, dtype, options)
            note = f"first audio {first:.0f} ms after {waited:.2f} s of log-mel are there, "
            note += f"then {further:.0f} ms for each 64 frames"
            if dtype != "fp32":
                ratio = signal_to_error_db(model, features, dtype, options)
                note += f"; signal to error {ratio:.1f} dB"
            notes[f"{size}, {dtype}"] = note
        if size == "nvidia256" and options.waveglow_folder:
            theirs, beside = their_cases(own, model, options)
            cases += beside
            off, largest = difference_from_theirs(model, theirs, options)
            notes["NVIDIA/waveglow"] = (
                f"greatest difference of {size} in fp32 {off:.1e}, where the greatest sample "
                f"is {largest:.2f}"
            )
    if not options.no_hifigan:
        cases += hifigan_cases(options, load_vocoder("tiny", "cpu")[1])
    results, peaks = measure(cases, options)
    print("\n".join(f"{name}: {note}" for name, note in notes.items()))
    print("peaks [GMAC/s]: " + ", ".join(f"{name} {value:.0f}" for name, value in peaks.items()))
    print(f"medians of {options.repeats} turns\n")
    print(table(results))
    report = {
        "machine": machine,
        "peaks_gmac_per_second": peaks,
        "notes": notes,
        "results": results,
    }
    return finish(options, report)


if __name__ == "__main__":
    main()
