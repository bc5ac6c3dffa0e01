"""Writing codes from text: with the cache of keys and values and without it, side by side.

    python benchmarks/text_to_codes.py --sizes tiny small --seconds 10

Weights are random, and so many codes are written as the seconds ask for; every row checks that both
wrote the same ones.
"""

import argparse
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.lobes.text_to_codes.decoder_steps import CachedSteps, PlainSteps
from waveglow_vq.lobes.text_to_codes.search import METHODS, Limits, SearchOptions, search_codes

import torch
from hyperpyyaml import load_hyperpyyaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import begin, check_device, finish, seconds_of  # noqa: E402

PRESET = Path(__file__).resolve().parents[1] / "hparams" / "text_to_codes.yaml"
SIZES = ("tiny", "small", "base")
# What people say in a second: characters, as in LJSpeech.
CHARACTERS_PER_SECOND = 15


def build(size, device):
    """A model of the preset with random weights that tell codes apart."""
    torch.manual_seed(0)
    with open(PRESET, encoding="utf-8") as stream:
        model = load_hyperpyyaml(stream, {"size": size})["model"]
    torch.nn.init.normal_(model.to_code.weight, std=0.3)
    return model.to(device).eval()


@torch.no_grad()
def measure(size, options):
    """A row: seconds of the texts, of both ways to write codes, and what they make of a second."""
    model = build(size, options.device)
    count = round(options.seconds * options.code_rate)
    shape = options.batch_size, round(options.seconds * CHARACTERS_PER_SECOND)
    tokens = torch.randint(1, model.vocabulary_size, shape, device=options.device)
    counts = torch.full((options.batch_size,), count, device=options.device)
    limits = Limits(counts + 1, counts, model.longest_runs)  # an end cannot come
    memory, padding = model.encode_text(tokens)
    search = SearchOptions(options.method)

    def write(make):
        steps = make(model, memory, padding, look_ahead=search.look_ahead)
        return search_codes(steps, limits, search, 0).codes

    results = {}

    def timed(make, repeats):
        def run():
            results[make] = write(make)

        return min(seconds_of(run, options.device) for _ in range(repeats))

    cached = timed(CachedSteps, options.repeats)
    plain = timed(PlainSteps, 1)
    if not torch.equal(results[CachedSteps], results[PlainSteps]):
        raise UserError(f"{size}: the codes with the cache and without it differ")
    return {
        "size": size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "codes": count,
        "cached_seconds": cached,
        "plain_seconds": plain,
        "gain": plain / cached,
        "real_time_factor": cached / options.seconds / options.batch_size,
    }


def parse(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech")
    parser.add_argument("--code_rate", type=float, default=22050 / 512, help="codes per second")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--method", choices=METHODS, default="greedy")
    parser.add_argument("--repeats", type=int, default=3, help="of what is measured with the cache")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", help="write the results to this file too")
    options = parser.parse_args(arguments)
    if options.seconds * options.code_rate < 1 or options.batch_size < 1 or options.repeats < 1:
        raise UserError("--seconds, --code_rate, --batch_size, --repeats: at least one code, once")
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    check_device(options.device)
    machine = begin(options)
    rows = [measure(size, options) for size in options.sizes]
    print(f"{options.seconds:g} s of speech, batch of {options.batch_size}, {options.method}\n")
    print("| size | parameters | codes | with the cache (s) | without (s) | gain | s per s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['size']} | {row['parameters'] / 1e6:.1f} M | {row['codes']} "
            f"| {row['cached_seconds']:.2f} | {row['plain_seconds']:.1f} | {row['gain']:.0f} "
            f"| {row['real_time_factor']:.3f} |"
        )
    return finish(options, {"machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
