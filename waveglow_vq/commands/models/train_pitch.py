"""Train the reader of pitch that the package ships."""

import sys

from waveglow_vq.commands.arguments import path
from waveglow_vq.commands.file_plan import check_outputs
from waveglow_vq.errors import say
from waveglow_vq.training.pitch.variety import Variety

EXAMPLES = """\
  waveglow-vq train-pitch recordings/ --output pitch_reader.safetensors
  waveglow-vq train-pitch LibriSpeech/ VCTK/ --held_out '*/3607-*' --output reader.safetensors

Finds the pitch of recordings, and trains a small network to read it off their log-mels.
"""

_RANGE = "LEAST", "GREATEST"
_VARIETY = (
    ("copies", int, None, "N", "copies of each recording at other speeds, beside itself"),
    ("speeds", float, 2, _RANGE, "of the copies, as factors, by which F0 is multiplied"),
    ("gains_db", float, 2, _RANGE, "range of gains in dB, relative to an RMS of 0.06"),
    ("noise_db", float, 2, _RANGE, "range of signal-to-noise ratios in dB, for half of the parts"),
    ("lowest_cut_hz", float, None, "HZ", "least frequency above which three of ten parts are cut"),
)


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument(
        "folders",
        type=path,
        nargs="+",
        metavar="FOLDER",
        help="folders of recordings, at any depth",
    )
    parser.add_argument("--output", type=path, required=True, metavar="FILE", help="what to write")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--steps", type=int, default=3000, help="training steps (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")
    parser.add_argument(
        "--held_out", nargs="*", default=[], metavar="PATTERN",
        help="recordings whose paths match are tested on, each pattern by itself",
    )  # fmt: skip
    for name, kind, count, metavar, words in _VARIETY:
        default = Variety._field_defaults[name]
        shown = default if count is None else "{:g} {:g}".format(*default)
        parser.add_argument(
            f"--{name}", type=kind, nargs=count, metavar=metavar, default=default,
            help=f"{words} (default: {shown})",
        )  # fmt: skip


def run(options):
    """Prints how reader and tracker agree on what was held out; returns the exit status."""
    check_outputs([options.output], options.force, "--output")
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.audio.formats import sound_suffixes
    from waveglow_vq.errors import UserError
    from waveglow_vq.lobes.source.pitch_reader import save_pitch_reader
    from waveglow_vq.training.pitch.pitch_training import (
        is_held_out,
        pitch_scores,
        train_pitch_reader,
        voices_to_train_on,
    )
    from waveglow_vq.utils.files import walk_files

    from tqdm import tqdm

    if options.steps < 1:
        raise UserError(f"--steps must be at least 1, got {options.steps}")
    features, quiet = LogMel(), not sys.stderr.isatty()
    files = [file for folder in options.folders for file in walk_files(folder)]
    files = [file for file in files if file.suffix.lower() in sound_suffixes()]
    variety = Variety(*(getattr(options, name) for name, *_ in _VARIETY))
    variety.check()
    files = tqdm(sorted(files), disable=quiet)
    train, test = voices_to_train_on(files, features, options.held_out, variety, options.seed)
    with tqdm(total=options.steps, disable=quiet) as bar:
        reader = train_pitch_reader(
            train, options.steps, options.seed, variety, after_step=lambda *_: bar.update()
        )
    save_pitch_reader(reader, options.output)
    recordings = len({example.name for example in train})
    say(f"{options.output}: trained on {recordings} recordings")
    for pattern in options.held_out:
        of_it = [example for example in test if is_held_out(example.name, [pattern])]
        scores = pitch_scores(reader, of_it) if of_it else {}
        figures = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        print(f"{pattern}: {len(of_it)} recordings, {figures}")
    return 0
