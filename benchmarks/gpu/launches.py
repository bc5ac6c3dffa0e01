"""How many operations a training step and a call of sampling are: torch's own, and on CUDA what the
host launches and what the device runs; by torch's profiler."""

import copy
import re
from functools import partial

import torch
from gpu import sampling, training
from inference import log_mels
from measuring import synchronize

# What the host does to have the device run something: cudaLaunchKernelExC, cuLaunchKernel, ...
LAUNCH = re.compile(r"cu(da)?(Launch|GraphLaunch|Memcpy|Memset)")


def cases(options):
    """See rows.py. Sizes are whole also where the rest is small."""
    options = copy.copy(options)
    options.preset = "{}"
    found = []
    graphs = ["auto", "off"] if torch.device(options.device).type == "cuda" else ["off"]
    for size in options.counted_sizes:
        for name in graphs:
            key = {"what": "training step", "name": size, "graphs": name}
            found.append((key, partial(of_step, options, size, name)))
    for size in options.counted_sizes:
        for name in graphs:
            key = {"what": "sampling", "name": size, "graphs": name}
            found.append((key, partial(of_sampling, options, size, name)))
    return found


def of_step(options, size, graphs):
    """Of a step of 8 segments of 4,096 samples, in bf16 on CUDA and in fp32 on CPU."""
    dtype = options.train_dtypes[-1] if torch.device(options.device).type == "cuda" else "fp32"
    with training.brain_of(options, size, dtype, graphs) as brain:
        segments = training.batch_of(brain, options.counted_batch, 4096)
        step = partial(training.take_step, brain, segments)
        for _ in range(4 if torch.device(options.device).type == "cuda" else 1):
            step()
        figures = counted(step, options.device)
        figures["parameter_tensors"] = len(list(brain.modules.parameters()))
    return figures


def of_sampling(options, size, graphs):
    """Of one item of some seconds."""
    vocoder, _ = sampling.vocoder_of(size, options.device, options.preset)
    dtype = "bf16" if torch.device(options.device).type == "cuda" else "fp32"
    sampling.prepare(vocoder, dtype if dtype in options.dtypes else options.dtypes[0], graphs)
    mel = log_mels(options, vocoder.mods.features, options.parity_seconds, 1)
    for _ in range(3 if torch.device(options.device).type == "cuda" else 1):
        vocoder.decode_batch(mel)
    return counted(lambda: vocoder.decode_batch(mel), options.device)


def counted(call, device):
    """What the profiler sees of a call: operations of torch (those within others too), launches,
    kernels (copies too), and their milliseconds."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.device(device).type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    synchronize(device)
    with torch.profiler.profile(activities=activities) as profile:
        call()
        synchronize(device)
    figures = {"aten_calls": 0, "conversions": 0}
    if torch.device(device).type == "cuda":
        figures |= {"launches": 0, "kernels": 0, "kernel_milliseconds": 0.0}
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            figures["aten_calls"] += event.name.startswith("aten::")
            figures["conversions"] += event.name == "aten::_to_copy"
            if LAUNCH.match(event.name):
                figures["launches"] += 1
        elif not getattr(event, "is_user_annotation", False):
            figures["kernels"] += 1
            figures["kernel_milliseconds"] += event.time_range.elapsed_us() / 1000
    return figures
