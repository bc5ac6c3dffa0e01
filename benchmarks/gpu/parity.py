"""Whether the device computes what the CPU computes: a row for each comparison, with a figure, the
bar that it has to reach, and whether it does."""

import json
import math
import os
import subprocess
import sys
import tempfile
from functools import lru_cache, partial
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError

import torch
from gpu import networks, sampling
from gpu.networks import at_least, at_most, autocast, decibel, in_precision, relative
from inference import log_mels
from speed import load_vocoder, randomized
from stream_memory import build

# Least ratio of signal to error in dB, and most error relative to the norm.
SAMPLES = {"fp32": 90.0, "tf32": 40.0, "fp16": 40.0, "bf16": 25.0}
GRADIENTS = {"fp32": 1e-4, "tf32": 0.02, "fp16": 0.02, "bf16": 0.1}
ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/lobes/flows/network/test_gate_triton.py",
    "tests/lobes/filters/test_triton_kernels.py",
)


def cases(options):
    """See rows.py. Network by network first: what is wrong there is wrong everywhere."""
    on_cuda = torch.device(options.device).type == "cuda"
    dtypes = [*options.dtypes[:1], *(["tf32"] if on_cuda else []), *options.dtypes[1:]]
    found = []

    def add(what, call, name="", dtype="fp32", **more):
        run = partial(in_precision, dtype, partial(call, options, dtype=dtype, **more))
        found.append(({"what": what, "name": name, "dtype": dtype}, run))

    add("Triton is used", networks.kernels_are_used)
    for dtype in dtypes:
        for name in ("batch", "masked"):
            more = {"masked": name == "masked"}
            add("coupling network against its definition", networks.of_network, name, dtype, **more)
            add("coupling network, prepared", networks.of_prepared, name, dtype, **more)
    add("envelope's recursion, fp64", networks.of_recursion)
    add("envelope's predictors, fp64", networks.of_levinson)
    # The smallest first; small is like base.
    for size in [s for s in reversed(options.sizes) if s != "small"] or options.sizes:
        for dtype in dtypes:
            add("samples", of_samples, size, dtype, size=size)
            add("loss and gradients", of_gradients, size, dtype, size=size)
    for task in ("log-mels", "codec", "convert"):
        add("interface against the CPU's", of_interface, task, task=task)
        add("stream against at once", of_stream, task, task=task)
    if on_cuda:
        add("samples with graphs against without", of_graphs, options.sizes[0], options.dtypes[-1])
        for path in TESTS:
            add("tests on the device", of_tests, path, path=path)
    return found


# ---- whole models


@lru_cache(maxsize=2)
def model_of(size, device, preset):
    """The same weights on any device."""
    torch.manual_seed(0)
    model, features = load_vocoder(size, "cpu", **json.loads(preset))
    randomized(model.vocoder)
    return model.to(device), features


@lru_cache(maxsize=2)
def gradients_on(size, device, preset, dtype):
    """Loss, terms and gradients of two segments."""
    model, features = model_of(size, "cpu", preset)
    torch.manual_seed(1)
    wav = 0.1 * torch.randn(2, 16 * features.hop_length)
    mel = features(0.1 * torch.randn(2, 40 * features.hop_length))[..., :40]
    starts = torch.tensor([12, 12])
    model = model_of(size, device, preset)[0].train()
    with autocast(device, dtype):
        output = model(wav.to(device), mel.to(device), starts=starts.to(device))
    gradients = torch.autograd.grad(output.loss, list(model.parameters()), allow_unused=True)
    flat = [g.detach().double().cpu().flatten() for g in gradients if g is not None]
    return float(output.loss.detach()), flat


def of_gradients(options, dtype, size):
    """Of a training step, all gradients together; and the tensor that is furthest off."""
    loss, expected = gradients_on(size, "cpu", options.preset, "fp32")
    own_loss, found = gradients_on(size, options.device, options.preset, dtype)
    total = relative(torch.cat(found), torch.cat(expected))
    worst = max(relative(f, e) for f, e in zip(found, expected, strict=True) if e.norm() > 0)
    return at_most(
        total, GRADIENTS[dtype], worst_tensor=worst, loss=own_loss, loss_difference=own_loss - loss
    )


@lru_cache(maxsize=2)
def samples_on(size, device, preset, dtype, seconds):
    """A waveform with the noise of a seed."""
    vocoder, _ = sampling.vocoder_of(size, device, preset)
    sampling.prepare(vocoder, "fp32" if dtype == "tf32" else dtype, "off")
    torch.manual_seed(2)
    frames = round(seconds * 22050 / 256)
    return vocoder.decode_batch(0.5 * torch.randn(2, 80, frames) - 5, generator=0).cpu()


def of_samples(options, dtype, size):
    """Waveforms of two items."""
    expected = samples_on(size, "cpu", options.preset, "fp32", options.parity_seconds)
    found = samples_on(size, options.device, options.preset, dtype, options.parity_seconds)
    return at_least(decibel(found, expected), SAMPLES[dtype], unit="dB")


def of_graphs(options, dtype):
    """Waveforms of several lengths by CUDA graphs, and plainly."""
    if not sampling.graphs_are_known():
        raise UserError("this version has no CUDA graphs for sampling")
    vocoder, _ = sampling.vocoder_of(options.sizes[0], options.device, options.preset)
    torch.manual_seed(3)
    mels = [log_mels(options, vocoder.mods.features, s, 2) for s in (0.5, 1.3, 0.5, 0.9)]
    results = []
    for graphs in ("off", "on"):
        sampling.prepare(vocoder, dtype, graphs)
        results.append([vocoder.decode_batch(mel, generator=0).cpu() for mel in mels])
    return at_least(min(decibel(f, e) for e, f in zip(*results, strict=True)), 60.0, unit="dB")


# ---- interfaces


@lru_cache(maxsize=6)
def interface_on(task, device):
    """The vocoder, the codec or the converter, tiny."""
    interface = build("tiny", task, device)
    randomized(interface.mods.model.vocoder)
    return interface


def sound(seconds):
    """Bursts of a tone with harmonics: something with a pitch, ``[1, samples]``."""
    time = torch.arange(round(22050 * seconds)) / 22050
    tone = sum((2 * math.pi * 120 * k * time).sin() / k for k in range(1, 12))
    generator = torch.Generator().manual_seed(0)
    noise = 0.005 * torch.randn(len(time), generator=generator)
    return (0.05 * tone * (4 * time).sin().clamp_min(0) + noise)[None]


def of_interface(options, dtype, task):
    """What comes out for the same sound and seed."""
    own, reference = interface_on(task, options.device), interface_on(task, "cpu")
    wav = sound(options.parity_seconds)
    if task == "convert":
        found, expected = (
            i.convert_batch(wav.to(i.device), "other", generator=0) for i in (own, reference)
        )
        return at_least(decibel(found, expected), 40.0, unit="dB")
    encoded = reference.encode_batch(wav)
    found = own.encode_batch(wav.to(options.device))
    if task == "codec":
        more = {"equal_codes": float((found.cpu() == encoded).double().mean())}
    else:
        encoded, found = encoded[0], found[0]
        more = {"log_mel_error": relative(found, encoded)}
    waves = (i.decode_batch(encoded.to(i.device), generator=0) for i in (own, reference))
    return at_least(decibel(*waves), SAMPLES["fp32"], unit="dB", **more)


def of_stream(options, dtype, task):
    """A stream on the device against the whole at once there."""
    interface = interface_on(task, options.device)
    wav = sound(options.parity_seconds + 0.5).to(options.device)
    if task == "convert":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sound.wav"
            write_wav(path, wav[0].cpu(), interface.sample_rate)
            wav = interface.load_audio(path)[None]
            blocks = torch.cat(list(interface.stream_file(path, "other", generator=0)))
        whole = interface.convert_batch(wav, "other", generator=0)[0, 0]
        return at_least(decibel(blocks, whole), 80.0, unit="dB")
    encoded = interface.encode_batch(wav)
    encoded = encoded if task == "codec" else encoded[0]
    whole = interface.decode_batch(encoded, generator=0)[0, 0]
    chunks = encoded[0].split(7, dim=-1)
    blocks = torch.cat(list(interface.stream(chunks, generator=0, chunk_frames=16)))
    return at_least(decibel(blocks, whole), 80.0, unit="dB")


# ---- tests


def of_tests(options, dtype, path):
    """The tests of kernels, which run on a GPU where there is one."""
    if not (ROOT / path).is_file():
        raise UserError(f"{path} is not there")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    print(done.stdout[-6000:], flush=True)
    return {"figure": lines[-1].strip("= "), "bar": "passed", "passed": done.returncode == 0}
