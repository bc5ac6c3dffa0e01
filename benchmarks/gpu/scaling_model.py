"""What training on several GPUs is to be expected to gain, on paper: nothing is measured here.

A step computes for  6 * MACs / (share * peak)  seconds: two operations for each multiply-accumulate
of the forward pass, three times, as the backward pass takes twice the forward pass. The backward
pass, two thirds of it, goes on while the gradients are sent, but for the last bucket. A ring
all-reduce of B bytes over n GPUs takes  2 (n - 1) / n * B / bandwidth  and, for each bucket,
2 (n - 1)  times the latency of a hop.

    python benchmarks/gpu/scaling_model.py --share 0.2 --batch 64
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.utils.distributed import bucket_megabytes

sys.path.append(str(Path(__file__).resolve().parent.parent))
from speed import load_vocoder  # noqa: E402

# Multiply-accumulates of the vocoder per second of audio.
MACS = {"small": 20.2e9, "base": 137.8e9, "nvidia256": 223.9e9}
SECONDS = 4096 / 22050  # of a segment


class Link(NamedTuple):
    """GPUs and the slowest connection between them."""

    name: str
    gpus: int
    bandwidth: float  # bytes per second, in one direction, of which 80 % are reached
    latency: float  # seconds of a hop


LINKS = [
    Link("8, NVLink 4 (H100, H200)", 8, 450e9, 3e-6),
    Link("8, NVLink 3 (A100)", 8, 300e9, 3e-6),
    Link("8, PCIe 4", 8, 25e9, 5e-6),
    Link("2 x 8, 400 Gbit/s between", 16, 50e9, 10e-6),
    Link("2 x 8, 100 Gbit/s between", 16, 12.5e9, 10e-6),
]


def exposed_seconds(gradient_bytes, bucket_bytes, compute, link, efficiency=0.8):
    """Seconds of a step in which a GPU only waits for gradients.

    Example
    -------
    >>> fast = Link("", 8, 450e9, 0.0)
    >>> f"{exposed_seconds(80e6, 10e6, 1.0, fast):.1e}"  # the last bucket
    '4.9e-05'
    """
    ring = 2 * (link.gpus - 1)
    buckets = -(-gradient_bytes // bucket_bytes)

    def sent(amount, count):
        return (
            ring / link.gpus * amount / (efficiency * link.bandwidth) + ring * link.latency * count
        )

    hidden = 2 / 3 * compute * (1 - 1 / buckets)
    last = sent(gradient_bytes / buckets, 1)
    return max(last, sent(gradient_bytes, buckets) - hidden)


def table(share, batch, peak):
    """Markdown, a row for each size."""
    lines = [
        f"| size | trained | step of one GPU | {' | '.join(link.name for link in LINKS)} |",
        f"|{'---|' * (3 + len(LINKS))}",
    ]
    for size, macs in MACS.items():
        model, _ = load_vocoder(size, "cpu")
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        compute = 6 * macs * SECONDS * batch / (share * peak)
        cells = []
        for link in LINKS:
            waits = exposed_seconds(4 * count, bucket_megabytes(model) * 2**20, compute, link)
            cells.append(f"{link.gpus * compute / (compute + waits):.1f}")
        row = [size, f"{count / 1e6:.1f} M", f"{1000 * compute:.1f} ms", *cells]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main(arguments=None):
    """The command line; returns the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--share", type=float, default=0.2, help="of the peak, while it computes")
    add("--batch", type=int, default=64, help="segments of 4,096 samples, for each GPU")
    add("--peak", type=float, default=797e12, help="of one GPU, operations per second")
    options = parser.parse_args(arguments)
    text = table(options.share, options.batch, options.peak)
    print(text)
    return text


if __name__ == "__main__":
    main()
