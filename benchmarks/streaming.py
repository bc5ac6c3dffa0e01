"""What streaming costs and what a shorter overlap changes, for one model and one recording: the
stream with several overlaps against the waveform computed at once, with the same noise.

    python benchmarks/streaming.py recording.wav --model /runs/1234/export
    python benchmarks/streaming.py recording.wav --size small --couplings 0.05

Without an export, couplings are random, as those of untrained models are the identity; what a
trained model's error is must be measured with it.
"""

import argparse
import math
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.audio.io import read_for_model
from waveglow_vq.errors import cli_errors
from waveglow_vq.inference import WaveGlowVocoder, load_export

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import begin, check_device, finish, seconds_of  # noqa: E402
from speed import SIZES, load_vocoder, randomized  # noqa: E402


def load(options):
    """The interface that is measured."""
    run_opts = {"device": options.device}
    if options.model is not None:
        return load_export(options.model, run_opts=run_opts)
    torch.manual_seed(0)
    model, features = load_vocoder(options.size, options.device)
    randomized(model.vocoder, options.couplings)
    modules = {"model": model, "features": features}
    return WaveGlowVocoder(modules=modules, hparams={}, run_opts=run_opts)


def measure(interface, wav, options):
    """A row for each overlap: error against the waveform at once, and time relative to its."""
    features = interface.mods.features
    encoded = interface.encode_batch(wav[None])
    encoded = (encoded[0] if isinstance(encoded, tuple) else encoded)[0]

    def stream(overlap, chunk):
        blocks = interface.stream(
            [encoded],
            sigma=options.sigma,
            generator=0,
            overlap_frames=overlap,
            chunk_frames=chunk,
        )
        return torch.cat(list(blocks))

    def timed(overlap, chunk):
        results = []
        times = [
            seconds_of(lambda: results.append(stream(overlap, chunk)), options.device)
            for _ in range(options.repeats)
        ]
        return results[-1], min(times)

    stream(None, 1)  # folds weights, and warms up
    exact, at_once = timed(None, encoded.shape[-1])
    vocoder = interface.mods.model.vocoder
    reach = vocoder.overlap_frames
    rows = []
    for overlap in sorted({*(o for o in options.overlaps if o < reach), reach}, reverse=True):
        result, seconds = timed(overlap, options.chunk_frames)
        error = result - exact
        rows.append(
            {
                "overlap_frames": overlap,
                "signal_to_error_db": 10 * math.log10(exact.square().sum() / error.square().sum()),
                "log_mel_l1": float((features(result[None]) - features(exact[None])).abs().mean()),
                "relative_time": seconds / at_once,
            }
        )
    return rows


def parse(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("recording", help="sound file; its first seconds are used")
    parser.add_argument("--model", help="export folder of a vocoder or a codec")
    parser.add_argument("--size", default="small", choices=SIZES, help="without an export")
    parser.add_argument("--couplings", type=float, default=0.05, help="deviation of their weights")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--sigma", type=float, default=None)
    parser.add_argument("--overlaps", type=int, nargs="+", default=[0, 1, 2, 4, 8, 16, 32])
    parser.add_argument("--chunk_frames", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", help="write the results to this file too")
    return parser.parse_args(arguments)


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    check_device(options.device)
    machine = begin(options)
    interface = load(options)
    wav = read_for_model(options.recording, interface.sample_rate, interface.min_samples)
    wav = wav[: round(options.seconds * interface.sample_rate)].to(options.device)
    rows = measure(interface, wav, options)
    what = options.model or f"{options.size}, random couplings of {options.couplings:g}"
    print(f"{what}; chunks of {options.chunk_frames} frames\n")
    print("| overlap (frames) | signal to error (dB) | log-mel L1 | time, at once = 1 |")
    print("|---|---|---|---|")
    for row in rows:
        exact = " (exact)" if row is rows[0] else ""
        print(
            f"| {row['overlap_frames']}{exact} | {row['signal_to_error_db']:.0f} "
            f"| {row['log_mel_l1']:.1e} | {row['relative_time']:.2f} |"
        )
    return finish(options, {"machine": machine, "what": str(what), "rows": rows})


if __name__ == "__main__":
    main()
