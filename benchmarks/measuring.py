"""What the benchmarks share: time, memory, the machine, options and reports."""

import contextlib
import ctypes
import json
import os
import platform
import time
from functools import partial
from pathlib import Path

from waveglow_vq.errors import UserError

import torch


def synchronize(device):
    """Waits until the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds_of(run, device):
    """Wall time of one call."""
    synchronize(device)
    begin = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - begin


def peak_memory(run, device):
    """Bytes at the peak of one call beyond what was held before it, or None where the system does
    not tell (on CPU: other than Linux)."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    try:
        # What earlier cases have freed goes back to the system first.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the greatest VmRSS
        before = _memory_status("VmRSS")
        run()
        return max(0, _memory_status("VmHWM") - before)
    except (OSError, StopIteration):
        run()
        return None


def _memory_status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def largest_within(make, sizes, device, seconds=0.2):
    """The largest of growing sizes whose call ends in time, as a smaller one's time foretells it.

    No size serves every machine: in half precision, a CPU without instructions for it takes a
    hundred times as long as in fp32.

    Arguments
    ---------
    make : callable
        Makes of a size a call and the number of its multiplications.
    sizes : iterable of int
        Growing; the first one is always taken.
    device : str or torch.device
        Where it runs.
    seconds : float
        That a call may take.

    Returns
    -------
    call : callable
    multiplications : int
    """
    first, *larger = sizes
    call, multiplications = make(first)
    call()  # what is set up only once takes time too
    for size in larger:
        rate = multiplications / seconds_of(call, device)
        candidate = make(size)
        if candidate[1] > seconds * rate:
            break
        call, multiplications = candidate
    return call, multiplications


def matrix_product(dtype, device, as_convolution=False):
    """A product of square matrices that shows the machine's peak: its call, and its number of
    multiplications. The same as a convolution is, on CPU, another library's."""
    sizes = [256, 512, 1024, 2048]
    if torch.device(device).type == "cuda":
        sizes += [4096, 8192]

    def make(size):
        left, right = torch.randn(2, size, size, device=device).to(dtype)
        if as_convolution:
            image, weight = right[None], left[..., None]
            return lambda: torch.nn.functional.conv1d(image, weight), size**3
        return lambda: left @ right, size**3

    return largest_within(make, sizes, device)


def convolution(dtype, device, dilation=None):
    """One of a coupling network (256 to 512 channels, 3 taps), in the layout that the kernels like
    best, that shows the machine's peak: its call, and its number of multiplications.

    With a dilation, over the image ``[time / dilation, dilation]`` of phases, where it is one
    without.
    """
    taps = (1, 3) if dilation is None else (3, 1)
    weight = torch.randn(512, 256, *taps, device=device).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)

    def make(steps):
        shape = (1, steps + 2) if dilation is None else (steps // dilation, dilation)
        image = torch.randn(1, *shape, 256, device=device).permute(0, 3, 1, 2).to(dtype)
        padding = (0, 0) if dilation is None else (1, 0)
        call = partial(torch.nn.functional.conv2d, image, weight, padding=padding)
        return call, steps * weight.numel()

    longest = 20 if torch.device(device).type == "cuda" else 13
    return largest_within(make, [2**power for power in range(8, longest + 1)], device)


def describe_machine(device):
    """Device, threads and versions."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            name = next(line for line in lines if line.startswith("model name")).split(": ")[1]
    return {
        "device": f"{torch.device(device).type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "float32_matmul": torch.get_float32_matmul_precision(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def begin(options):
    """Sets the number of threads, if ``--threads`` says one; prints and returns the machine."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    machine = describe_machine(options.device)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    return machine


def finish(options, report):
    """Adds the settings to a report, and writes it where ``--json`` says."""
    report["settings"] = {k: v for k, v in vars(options).items() if k != "json"}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return report


def check_device(device):
    """A UserError if there is none such."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device} cannot be used: {error}") from None
