"""What the machine is, and the most that it can do."""

import importlib.metadata
import os
import statistics
import subprocess

from waveglow_vq.inference.exported_model import DTYPES

import torch
from measuring import convolution, describe_machine, matrix_product, seconds_of

# None: without phases.
DILATIONS = (None, 1, 16)


def cases(options):
    """See rows.py."""
    device = options.device
    found = [({"what": "machine"}, lambda: versions(device))]
    for dtype in options.dtypes:
        kind = DTYPES[dtype]
        found.append(
            (
                {"what": "matrix product", "dtype": dtype},
                lambda kind=kind: rate_of(matrix_product(kind, device), device),
            )
        )
    for dtype in options.dtypes:
        for dilation in DILATIONS:
            phases = "" if dilation is None else f", {dilation} phases"
            key = {"what": f"convolution 256 to 512{phases}", "dtype": dtype}

            def run(kind=DTYPES[dtype], dilation=dilation):
                return rate_of(convolution(kind, device, dilation), device)

            found.append((key, run))
    found.append(({"what": "copy"}, lambda: bandwidth(device)))
    return found


def versions(device):
    """Versions, the driver's included, and what torch would use."""
    found = describe_machine(device)
    for package in ("triton", "speechbrain", "numba"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    found["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["multiprocessors"] = properties.multi_processor_count
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
        found["driver"] = driver()
        # As SpeechBrain has set it by now.
        found["tf32"] = bool(torch.backends.cuda.matmul.allow_tf32)
        found["bf16"] = torch.cuda.is_bf16_supported()
    return found


def driver():
    """The driver's version as nvidia-smi tells it, or why it does not."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        return f"not known ({type(error).__name__})"


@torch.no_grad()
def rate_of(product, device, repeats=5):
    """Of a call and its number of multiplications: the best of some."""
    call, macs = product
    for _ in range(2):
        call()
    times = [seconds_of(call, device) for _ in range(repeats)]
    return {"tflops": 2 * macs / min(times) / 1e12, "milliseconds": 1000 * min(times)}


def bandwidth(device):
    """Of a copy much larger than any cache, counting what is read and what is written."""
    size = 2**30 if torch.device(device).type == "cuda" else 2**26
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    times = [seconds_of(lambda: target.copy_(source), device) for _ in range(5)]
    median = statistics.median(times)
    return {"terabytes_per_second": 2 * size / median / 1e12, "milliseconds": 1000 * median}
