"""Train the reader of pitch that the package ships."""

import sys

from waveglow_vq.commands.arguments import path
from waveglow_vq.commands.file_plan import check_outputs
from waveglow_vq.errors import say

EXAMPLES = """\
  waveglow-vq train-pitch recordings/ --output pitch_reader.safetensors
  waveglow-vq train-pitch LibriSpeech/ VCTK/ --held_out '*/3607-*' --output reader.safetensors

Finds the pitch of recordings, and trains a small network to read it off their log-mels.
"""


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


def run(options):
    """Prints how reader and tracker agree on what was held out; returns the exit status."""
    check_outputs([options.output], options.force, "--output")
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.audio.formats import sound_suffixes
    from waveglow_vq.errors import UserError
    from waveglow_vq.lobes.source.pitch_reader import save_pitch_reader
    from waveglow_vq.training.pitch.pitch_training import (
        pitch_example,
        pitch_scores,
        split_examples,
        train_pitch_reader,
    )
    from waveglow_vq.utils.files import walk_files

    from tqdm import tqdm

    if options.steps < 1:
        raise UserError(f"--steps must be at least 1, got {options.steps}")
    features, quiet = LogMel(), not sys.stderr.isatty()
    files = [file for folder in options.folders for file in walk_files(folder)]
    files = [file for file in files if file.suffix.lower() in sound_suffixes()]
    examples = [pitch_example(file, features) for file in tqdm(sorted(files), disable=quiet)]
    train, _ = split_examples([example for example in examples if example], options.held_out)
    with tqdm(total=options.steps, disable=quiet) as bar:
        reader = train_pitch_reader(
            train, options.steps, options.seed, after_step=lambda *_: bar.update()
        )
    save_pitch_reader(reader, options.output)
    say(f"{options.output}: trained on {len(train)} recordings")
    for pattern in options.held_out:
        _, test = split_examples([example for example in examples if example], [pattern])
        scores = pitch_scores(reader, test) if test else {}
        figures = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        print(f"{pattern}: {len(test)} recordings, {figures}")
    return 0
