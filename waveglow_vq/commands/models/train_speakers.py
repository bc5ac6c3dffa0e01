"""Train the encoder of speakers that the package ships."""

import sys

from waveglow_vq.commands.arguments import path
from waveglow_vq.commands.file_plan import check_outputs
from waveglow_vq.errors import say

EXAMPLES = """\
  waveglow-vq train-speakers VCTK/ LibriSpeech/ --output speaker_encoder.safetensors
  waveglow-vq train-speakers VCTK/ LibriSpeech/ --held_out p225 1455 --output encoder.safetensors

Learns to tell by their log-mels who speaks in recordings. A folder is VCTK, one voice in LJSpeech's
layout, or has a folder for each speaker.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument("folders", type=path, nargs="+", metavar="FOLDER", help="corpora")
    parser.add_argument("--output", type=path, required=True, metavar="FILE", help="what to write")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument(
        "--segments", type=int, default=12, metavar="N",
        help="segments of 3 s of each voice, and of each at four other speeds (default: 12)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")
    parser.add_argument(
        "--held_out", nargs="*", default=[], metavar="SPEAKER",
        help="speakers that are tested on",
    )  # fmt: skip


def run(options):
    """Prints how well the speakers that were held out are told; returns the exit status."""
    check_outputs([options.output], options.force, "--output")
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.data.corpora.collection import scan_corpora
    from waveglow_vq.data.corpora.splits import select_speakers
    from waveglow_vq.errors import UserError
    from waveglow_vq.lobes.conditioners.speaker_embedding import save_speaker_embedding
    from waveglow_vq.training.speakers.speaker_training import (
        speaker_examples,
        train_speaker_embedding,
    )
    from waveglow_vq.training.speakers.speaker_trials import embedded, speaker_scores, trial_parts

    from tqdm import tqdm

    if options.segments < 2:
        raise UserError(f"--segments must be at least 2, got {options.segments}")
    features, quiet = LogMel(), not sys.stderr.isatty()
    found = scan_corpora(options.folders).utterances
    held_out = select_speakers({u.speaker for u in found}, options.held_out, "--held_out")
    train = [u for u in found if u.speaker not in held_out]
    with tqdm(total=len(train), disable=quiet) as bar:
        examples = speaker_examples(train, features, after_each=bar.update)
    embedding = train_speaker_embedding(examples, options.segments, options.seed)
    save_speaker_embedding(embedding, options.output)
    count = len({u.speaker for u in train})
    say(f"{options.output}: trained on {len(train)} recordings of {count} speakers")
    if held_out:
        parts = trial_parts([u for u in found if u.speaker in held_out], features.sample_rate)
        scores = speaker_scores(embedded(embedding, parts, features), parts)
        if scores is None:
            print("held out: too few speakers or recordings to compare")
        else:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
            print(f"held out: {len(held_out)} speakers, {len(parts)} parts, {figures}")
    return 0
