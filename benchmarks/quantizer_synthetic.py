"""Synthetic test of the vector quantizers: do codes find clusters, at any scale of the data?

Data: cluster centres are standard normal in 16 dimensions, frames deviate from them by a normal
with a standard deviation of 0.3 in each of the 16, and a random linear map spreads both over 144
dimensions of about unit variance. A codebook that holds exactly the centres leaves a normalized
squared error of 0.3^2 / (1 + 0.3^2) = 0.083: the noise floor. The whole is then multiplied by the
scale. In every case there are as many codes as clusters and 1200 steps of Adam with one learning
rate.

Cases: scale 0.1, 1 and 10 with 512 clusters; scale 1 with the codes starting far off, around the
point (10, ..., 10); and an autoencoder of two small networks with 256 clusters, whose bottleneck of
32 dimensions is quantized, so that the encoder moves while the codes learn.

Rows: the published soft EM (fixed beta = 1, random codes, no restarts) and plain EMA start from
random codes of standard deviation 0.1, which is kinder to them than 1; the default
`SoftEMQuantizer` and `EMAQuantizer` have no option changed.

    python benchmarks/quantizer_synthetic.py --json quantizer_synthetic.json
"""

import argparse
import json
import sys
import time

from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.quantizers.statistics import CodeStatistics

import torch

SUBSPACE, DIMENSIONS, BOTTLENECK, NOISE = 16, 144, 32, 0.3
CASES = {
    "scale 0.1": {"scale": 0.1},
    "scale 1": {},
    "scale 10": {"scale": 10.0},
    "far initialization": {"far": True},
    "moving encoder": {"moving": True},
}
ROWS = ("published soft EM", "SoftEMQuantizer", "plain EMA", "EMAQuantizer")


def make_data(clusters, scale, seed):
    """A function that draws frames [n, 144]."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clusters, SUBSPACE, generator=generator)
    basis = torch.randn(SUBSPACE, DIMENSIONS, generator=generator) / SUBSPACE**0.5

    def draw(count):
        which = torch.randint(clusters, (count,), generator=generator)
        noise = NOISE * torch.randn(count, SUBSPACE, generator=generator)
        return scale * (centres[which] + noise) @ basis

    return draw


def make_quantizer(row, size, dim):
    """The quantizer of a row of the table."""
    if row == "SoftEMQuantizer":
        return SoftEMQuantizer(size, dim)
    if row == "EMAQuantizer":
        return EMAQuantizer(size, dim)
    old = {"initialization": "normal", "restart_after": 0}
    if row == "plain EMA":
        quantizer = EMAQuantizer(size, dim, **old)
    else:
        quantizer = SoftEMQuantizer(size, dim, temperature="fixed", beta=1.0, **old)
    quantizer.set_codebook(0.1 * torch.randn(size, dim))
    return quantizer


def network(*sizes):
    """Linear layers with ReLU between them."""
    layers = [torch.nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    return torch.nn.Sequential(
        *[part for layer in layers for part in (layer, torch.nn.ReLU())][:-1]
    )


def run_case(row, options, scale=1.0, far=False, moving=False):
    """Trains one quantizer on one case; returns its epoch statistics on new frames."""
    torch.manual_seed(options.seed)
    clusters = 256 if moving else 512
    draw = make_data(clusters, scale, options.seed + 1)
    quantizer = make_quantizer(row, clusters, BOTTLENECK if moving else DIMENSIONS)
    encoder = network(DIMENSIONS, 128, BOTTLENECK) if moving else torch.nn.Identity()
    decoder = network(BOTTLENECK, 128, DIMENSIONS) if moving else torch.nn.Identity()
    if far:
        quantizer.set_codebook(10.0 + torch.randn(clusters, DIMENSIONS))
    parameters = [p for part in (encoder, decoder, quantizer) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options.learning_rate) if parameters else None
    for _ in range(options.steps):
        frames = draw(options.batch)
        output = quantizer(encoder(frames)[None])
        loss = sum(output.losses.values())
        if moving:
            loss = loss + (decoder(output.quantized[0]) - frames).square().mean()
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        quantizer.after_optimizer_step(optimizer)

    quantizer.eval()
    epoch = CodeStatistics()
    with torch.no_grad():
        for _ in range(10):
            epoch.accumulate(quantizer(encoder(draw(1024))[None]).statistics)
        result = epoch.summary(quantizer.codebook, frames_per_second=1.0)
        if moving:
            frames = draw(4096)
            error = (decoder(quantizer(encoder(frames)[None]).quantized[0]) - frames).square()
            result["reconstruction_nmse"] = float(
                error.sum() / (frames - frames.mean(0)).norm() ** 2
            )
    return result


def cell(result):
    text = "{normalized_mse:.3f} / {distinct_codes:.0f} / {used:.0f}".format(**result)
    if "reconstruction_nmse" in result:
        text += " ({reconstruction_nmse:.3f})".format(**result)
    return text


def table(results):
    """Markdown: a row for each quantizer, a column for each case."""
    cases = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    lines += [
        f"| {row} | " + " | ".join(cell(columns[case]) for case in cases) + " |"
        for row, columns in results.items()
    ]
    return "\n".join(lines)


@cli_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=1024, help="frames per step")
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--json", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    if options.steps < 1 or options.batch < 1:
        raise UserError("--steps and --batch must be at least 1")
    results = {row: {} for row in options.rows}
    for case in options.cases:
        for row in options.rows:
            start = time.perf_counter()
            results[row][case] = run_case(row, options, **CASES[case])
            seconds = time.perf_counter() - start
            print(f"{case}, {row}: {cell(results[row][case])}, {seconds:.0f} s", file=sys.stderr)
    print(
        f"{options.steps} steps of {options.batch} frames, Adam {options.learning_rate:g}; "
        "normalized squared error / distinct codes / codes used (error of the reconstruction)\n"
    )
    print(table(results))
    text = json.dumps(
        {"settings": {k: v for k, v in vars(options).items() if k != "json"}, "results": results}
    )
    print(f"\n{text}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
