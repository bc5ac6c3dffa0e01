"""Sends a sound file through an exported model, a vocoder or a codec, from the command line.

    python -m waveglow_vq.inference.reconstruct EXPORT_FOLDER in.wav out.wav

Authors
 * The waveglow-vq developers, 2026
"""

import argparse
import time

from waveglow_vq.errors import cli_errors
from waveglow_vq.inference.interface import load_export


@cli_errors()
def main(arguments=None):
    """The command line; prints where the result is and how long it took.

    Arguments
    ---------
    arguments : list of str
        In place of those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m waveglow_vq.inference.reconstruct",
        description="Analyse a sound file with an exported model and synthesise it again.",
        allow_abbrev=False,
    )
    parser.add_argument("export_folder", help="what training exported")
    parser.add_argument("input", help="sound file, at any rate, mono or not")
    parser.add_argument("output", help="WAV file to write, 16 bit, at the model's rate")
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the noise (default: the export's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: the GPU if there is one)")
    options = parser.parse_args(arguments)

    run_opts = {"device": options.device} if options.device else None
    model = load_export(options.export_folder, run_opts=run_opts)
    start = time.perf_counter()
    waveform = model.reconstruct_file(options.input, options.output, options.sigma, options.seed)
    elapsed = time.perf_counter() - start
    seconds = waveform.shape[-1] / model.sample_rate
    print(
        f"{options.output}: {seconds:.2f} s at {model.sample_rate} Hz, computed in {elapsed:.2f} s "
        f"on {model.device} (real-time factor {elapsed / seconds:.3f})"
    )


if __name__ == "__main__":
    main()
