"""A training step of the mel vocoder (forward, backward, Adam), plain and memory_efficient, and
beside them NVIDIA's own implementation.

NVIDIA's is imported from a clone of github.com/NVIDIA/waveglow, given by --waveglow_folder, and
starts from the same weights. All run in one process in turns; reported are medians.

    python benchmarks/training_step.py --waveglow_folder /clones/waveglow --batch 1 --threads 2
    python benchmarks/training_step.py --device cuda --dtype bf16 --batch 24 --json step.json
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
from waveglow_vq.inference.exported_model import DTYPES

import torch
import yaml
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
from nvidia import load_glow, their_model  # noqa: E402
from speed import PRESET, SIZES, macs_per_second_of_audio, randomized  # noqa: E402


class Row(NamedTuple):
    """One implementation: its name, its module, the loss of the batch (a call), and a context
    within which the loss is computed and differentiated."""

    name: str
    module: torch.nn.Module
    loss: object
    within: object = contextlib.nullcontext


# ---- what is run


def our_rows(options):
    """The product's model in two ways of training it; one set of weights for all of them."""
    torch.manual_seed(0)
    changes = {"size": options.size, **options.preset}
    with open(PRESET, encoding="utf-8") as stream:
        preset = load_hyperpyyaml(stream, changes)
    model, features = preset["model"].to(options.device), preset["contract"]["features"]
    vocoder, hop = model.vocoder, features.hop_length
    if options.samples % (vocoder.group_size if vocoder.envelope is None else hop):
        raise UserError(f"--samples {options.samples}: not a multiple of what the model works on")
    randomized(vocoder)
    if options.compile:
        for step in vocoder.steps:
            step.coupling.network.compile()
    wav = 0.1 * torch.randn(options.batch, options.samples, device=options.device)
    mel = torch.randn(
        options.batch, features.n_mels, options.samples // hop + 1, device=options.device
    )

    def loss():
        return model(wav, mel).loss

    @contextlib.contextmanager
    def recomputing():
        vocoder.memory_efficient = True
        yield
        vocoder.memory_efficient = False

    rows = [
        Row("waveglow-vq, plain", model, loss),
        Row("waveglow-vq, memory_efficient", model, loss, recomputing),
    ]
    return rows, (wav, mel), features


def their_row(options, vocoder, wav, mel):
    """NVIDIA's implementation with the weights of ours."""
    glow = load_glow(options.waveglow_folder)
    model = their_model(glow, vocoder)
    if options.compile:
        for network in model.WN:
            network.compile()
    criterion = glow.WaveGlowLoss(sigma=1.0)
    return Row("NVIDIA/waveglow", model, lambda: criterion(model((mel, wav))))


# ---- how it is measured


class Trainer:
    """Runs the steps of a row."""

    def __init__(self, row, options):
        self.row, self.device = row, torch.device(options.device).type
        self.dtype = DTYPES[options.dtype]
        self.optimizer = torch.optim.Adam(row.module.parameters(), lr=1e-6, fused=True)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.dtype == torch.float16)

    def differentiate(self):
        """Forward and backward."""
        self.row.module.train()
        enabled = self.dtype != torch.float32
        with self.row.within():
            with torch.autocast(self.device, self.dtype, enabled=enabled):
                loss = self.row.loss()
            self.scaler.scale(loss).backward()
        return loss.detach()

    def update(self):
        """The optimizer's step."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def step(self):
        """A whole training step."""
        self.differentiate()
        self.update()

    def peak_bytes(self):
        """Peak of forward and backward beyond weights, optimizer state and gradients, which are
        there already."""
        peak = peak_memory(self.differentiate, self.device)
        self.optimizer.zero_grad()
        return peak


def best_rate(products, device, repeats=1):
    """Multiplications per second of the fastest of several products, each its call and number."""
    with torch.no_grad():
        return max(
            macs / seconds_of(call, device) for _ in range(repeats) for call, macs in products
        )


def measure(rows, options, audio_seconds, macs):
    """Runs the rows in turns; returns a dictionary for each, and the peak of the matrix product."""
    trainers = [Trainer(row, options) for row in rows]
    dtype, device = DTYPES[options.dtype], options.device
    results = [{"name": row.name} for row in rows]
    for trainer, result in zip(trainers, results, strict=True):
        result["loss"] = float(trainer.differentiate())
        result["peak_bytes"] = trainer.peak_bytes()
    for trainer in trainers:
        trainer.step()
    times = [[] for _ in rows]
    # The better of torch's own product and of the same as a convolution.
    products = [matrix_product(dtype, device, as_convolution) for as_convolution in (False, True)]
    peak = best_rate(products, device, repeats=5)
    for _ in range(options.repeats):
        for trainer, taken in zip(trainers, times, strict=True):
            taken.append(seconds_of(trainer.step, device))
        peak = max(peak, best_rate(products, device))
    for result, taken in zip(results, times, strict=True):
        median = statistics.median(taken)
        result.update(
            milliseconds=1000 * median,
            fastest_milliseconds=1000 * min(taken),
            samples_per_second=options.batch * options.samples / median,
            gmac_per_second=3 * macs * audio_seconds / median / 1e9,
            share_of_peak=3 * macs * audio_seconds / median / peak,
        )
    reference = statistics.median(times[-1 if options.waveglow_folder else 0])
    for result in results:
        result["times_reference"] = 1000 * reference / result["milliseconds"]
    return results, trainers, peak


# ---- where the time goes

GROUPS = ("convolutions", "condition", "weight norm", "fill and copy", "other", "optimizer")


def where_time_goes(trainer, condition_channels, attempts=3):
    """Milliseconds of one step by groups of operations, from torch's profiler: of the fastest of
    some steps. What the profiler itself holds in memory costs others more than their time, where
    large buffers come fresh from the system."""
    found = [profiled_step(trainer, condition_channels) for _ in range(attempts)]
    return min(found, key=lambda totals: sum(totals.values()))


def profiled_step(trainer, condition_channels):
    """Milliseconds of one step by groups of operations."""
    on_cuda = trainer.device == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    totals = dict.fromkeys(GROUPS, 0.0)
    with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
        trainer.differentiate()
    for event in profile.key_averages(group_by_input_shape=True):
        taken = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        totals[group_of(event.key, event.input_shapes, condition_channels)] += taken / 1000
    with torch.profiler.profile(activities=activities) as profile:
        trainer.update()
    for event in profile.key_averages():
        taken = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        totals["optimizer"] += taken / 1000
    return totals


def group_of(name, shapes, condition_channels):
    """The group of an operation; a convolution is the condition's if its kernel has one tap and as
    many inputs as the condition has channels."""
    if "conv" in name.lower():
        kernels = (s for s in shapes if len(s) >= 3 and math.prod(s[2:]) == 1)
        if any(kernel[1] == condition_channels for kernel in kernels):
            return "condition"
        return "convolutions"
    if "weight_norm" in name:
        return "weight norm"
    if name in ("aten::fill_", "aten::copy_", "aten::cat", "aten::zero_", "aten::_foreach_copy_"):
        return "fill and copy"
    return "other"


# ---- how it is shown


def table(results):
    """Markdown."""
    lines = [
        "| | ms per step | samples/s | times the reference | GMAC/s | share of peak "
        "| peak memory, MiB | loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        peak = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 2**20:.0f}"
        lines.append(
            f"| {r['name']} | {r['milliseconds']:.1f} | {r['samples_per_second']:.0f} "
            f"| {r['times_reference']:.2f} | {r['gmac_per_second']:.1f} "
            f"| {100 * r['share_of_peak']:.0f} % | {peak} | {r['loss']:.5f} |"
        )
    return "\n".join(lines)


def table_of_groups(groups):
    """Markdown."""
    lines = ["| ms of one step | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]
    for group in GROUPS:
        cells = " | ".join(f"{totals[group]:.0f}" for totals in groups.values())
        lines.append(f"| {group} | {cells} |")
    return "\n".join(lines)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--waveglow_folder", help="of a clone of NVIDIA/waveglow")
    parser.add_argument("--size", choices=SIZES, default="nvidia256")
    parser.add_argument(
        "--preset", default="{}", help='changes to hparams/mel.yaml: "{flow: {channels: 512}}"'
    )
    parser.add_argument("--batch", type=int, default=1, help="segments")
    parser.add_argument("--samples", type=int, default=16000, help="of a segment")
    parser.add_argument("--threads", type=int, help="of torch on CPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of autocast")
    parser.add_argument("--compile", action="store_true", help="the coupling networks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    for name in ("batch", "samples", "repeats"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    try:
        options.preset = yaml.safe_load(options.preset) or {}
    except yaml.YAMLError:
        raise UserError(f"--preset {options.preset}: not a mapping in YAML") from None
    if not isinstance(options.preset, dict):
        raise UserError(f"--preset {options.preset}: not a mapping in YAML")
    check_device(options.device)
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    machine = begin(options)
    rows, (wav, mel), features = our_rows(options)
    model = rows[0].module
    if options.waveglow_folder:
        rows.append(their_row(options, model.vocoder, wav, mel))
    macs = macs_per_second_of_audio(model, features.sample_rate)["total"]
    audio_seconds = options.batch * options.samples / features.sample_rate
    results, trainers, peak = measure(rows, options, audio_seconds, macs)
    network = model.vocoder.steps[0].coupling.network
    channels = network.local.in_channels
    shown = [trainers[0]] + ([trainers[-1]] if options.waveglow_folder else [])
    groups = {t.row.name: where_time_goes(t, channels) for t in shown}
    print(
        f"peak ({options.dtype} matrix product): {peak / 1e9:.1f} GMAC/s\n"
        f"{options.size}, {options.batch} x {options.samples} samples, {options.dtype}; "
        f"{3 * macs / 1e9:.1f} GMAC per second of audio; medians of {options.repeats} turns\n"
    )
    print(table(results) + "\n\n" + table_of_groups(groups))
    report = {
        "machine": machine,
        "peak_gmac_per_second": peak / 1e9,
        "results": results,
        "milliseconds_by_group": groups,
    }
    return finish(options, report)


if __name__ == "__main__":
    main()
