"""Converts a sound file, or a folder of them, to another voice, from the command line.

    python -m waveglow_vq.inference.convert EXPORT_FOLDER in.wav --speaker p226 --output out.wav
    python -m waveglow_vq.inference.convert EXPORT_FOLDER --list

Authors
 * The waveglow-vq developers, 2026
"""

import argparse
import time
from pathlib import Path

from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.inference.conversion import MODES
from waveglow_vq.inference.converter import VoiceConverter

from tqdm import tqdm

# What is taken for a sound file in a folder.
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


@cli_errors()
def main(arguments=None):
    """The command line; prints where the result is and how long it took.

    Arguments
    ---------
    arguments : list of str
        In place of those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m waveglow_vq.inference.convert",
        description="Convert speech to another voice with an exported model.",
        allow_abbrev=False,
    )
    parser.add_argument("export_folder", help="what training exported")
    parser.add_argument(
        "input", nargs="?", help="sound file, at any rate, mono or not; or a folder of them"
    )
    parser.add_argument("--list", action="store_true", help="list the speakers of the model")
    parser.add_argument("--speaker", help="who is to speak, one of --list")
    parser.add_argument(
        "--reference",
        help="instead: a sound file of the target (models with speaker_source: encoder)",
    )
    parser.add_argument(
        "--output", help="WAV file to write, 16 bit, at the model's rate; or a folder of them"
    )
    parser.add_argument(
        "--mode", default="codes", help=f"{' or '.join(MODES)} (default: %(default)s)"
    )
    parser.add_argument("--source_speaker", help="who speaks, for latent_swap (default: unknown)")
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the noise (default: the export's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument(
        "--flat_pitch",
        action="store_true",
        help="speak at the target's mean pitch instead of with the recording's intonation",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: the GPU if there is one)")
    options = parser.parse_args(arguments)

    pairs = None if options.list else list(_pairs(options.input, options.output))
    run_opts = {"device": options.device} if options.device else None
    converter = VoiceConverter.from_hparams(options.export_folder, run_opts=run_opts)
    if options.list:
        print("\n".join(converter.speakers))
        return
    start, samples = time.perf_counter(), 0
    for source, output in tqdm(pairs, unit="file", disable=len(pairs) == 1):
        converted = converter.convert_file(
            source,
            options.speaker,
            output,
            reference=options.reference,
            mode=options.mode,
            source_speaker=options.source_speaker,
            pitch=not options.flat_pitch,
            sigma=options.sigma,
            generator=options.seed,
        )
        samples += converted.shape[-1]
    elapsed, seconds = time.perf_counter() - start, samples / converter.sample_rate
    what = options.output if len(pairs) == 1 else f"{options.output}: {len(pairs)} files"
    print(
        f"{what}: {seconds:.2f} s at {converter.sample_rate} Hz in the voice of "
        f"{options.speaker or options.reference}, computed in {elapsed:.2f} s on "
        f"{converter.device} (real-time factor {elapsed / seconds:.3f})"
    )


def _pairs(source, output):
    """Which files are converted to which: (input, output)."""
    if source is None or output is None:
        raise UserError("input, --output: give a sound file or a folder, and where the result goes")
    source, output = Path(source), Path(output)
    if not source.is_dir():
        if output.is_dir():
            raise UserError(f"--output: {output} is a folder; name the WAV file to write")
        return [(source, output)]
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in EXTENSIONS)
    if not files:
        raise UserError(f"{source} holds no sound files ({', '.join(EXTENSIONS)})")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output: {output} is a file, but {source} is a folder; name a folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--output: {output} is inside of {source}; choose another folder")
    pairs, taken = [], {}
    for file in files:
        name = file.relative_to(source).with_suffix(".wav")
        if name in taken:
            raise UserError(f"{taken[name]} and {file} would both be written to {output / name}")
        taken[name] = file
        pairs.append((file, output / name))
    return pairs


if __name__ == "__main__":
    main()
