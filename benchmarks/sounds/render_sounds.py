"""The sounds, pictures and tables of docs/sounds.md: recordings, what their log-mels give without a
model, and what a vocoder makes of them.

    python benchmarks/run.py --only sounds EXPORT RECORDINGS

RECORDINGS is a folder of a few short clips; NAME.txt beside NAME.flac holds its title. Sounds and
pictures go to the folder that has the name of the page (docs/sounds), in the place of older ones;
the rest takes the place of what stands between the two marks of the page. Judges are those that are
installed, and hear the sounds before these are compressed.
"""

import argparse
import io
import os
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.audio.formats import sound_suffixes
from waveglow_vq.audio.io import read_for_model
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.evaluation.baselines import ITERATIONS, no_model_name, without_model
from waveglow_vq.evaluation.plots import harmonics_comparison
from waveglow_vq.evaluation.score_table import distances
from waveglow_vq.evaluation.sound_quality import installed, measures_of, not_installed
from waveglow_vq.evaluation.sound_rows import score_rows
from waveglow_vq.inference import WaveGlowVocoder

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measuring import begin, finish  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sounds.md"
MARKS = "<!-- rendered: benchmarks/run.py --only sounds -->", "<!-- end of what is rendered -->"
# All sounds together, and a picture.
MOST_BYTES, MOST_OF_A_PICTURE = 300_000, 120_000
# Vorbis as libsndfile grades it: from the best to the smallest.
COMPRESSIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
# Inches, and steps of the colour scale.
SIZE, STEPS = (5.2, 2.7), (40, 32, 24, 20, 16)


def synthesize(vocoder, path, iterations, options):
    """What is heard of a recording: ``{row: [N]}``."""
    recording = read_for_model(path, vocoder.sample_rate, vocoder.min_samples)
    how = {"sigma": options.sigma, "generator": options.seed}
    features = vocoder.mods.features
    return {
        "recording": recording,
        no_model_name(iterations): without_model(recording, features, iterations, options.seed),
        "the model without iterations": vocoder.reconstruct_file(path, refine=0, **how)[0],
        model_name(iterations): vocoder.reconstruct_file(path, refine=iterations, **how)[0],
    }


def model_name(iterations):
    """How the row is called."""
    return no_model_name(iterations).replace("no model", "the model")


def scores_of(sounds, features, iterations, judges):
    """``{row: {measure: value}}`` of the sounds of one recording."""
    recording, *_ = sounds.values()
    models = {row: wav for row, wav in sounds.items() if row.startswith("the model")}
    rows = score_rows(recording, models, features, judges, iterations)
    return {row.replace("recordings", "recording"): scores for row, scores in rows.items()}


def write_sounds(folder, sounds, sample_rate):
    """Writes ``{name: [N]}`` as Ogg Vorbis, as good as fits; returns the bytes of all."""
    for compression in COMPRESSIONS:
        encoded = {}
        for name, wav in sounds.items():
            file = io.BytesIO()
            how = {"format": "OGG", "subtype": "VORBIS", "compression_level": compression}
            soundfile.write(file, wav.clamp(-1, 1).cpu().numpy(), sample_rate, **how)
            encoded[name] = file.getvalue()
        total = sum(map(len, encoded.values()))
        if total <= MOST_BYTES:
            break
    else:
        raise UserError(f"the sounds take {total} bytes, more than {MOST_BYTES}: give fewer clips")
    for name, content in encoded.items():
        (folder / f"{name}.ogg").write_bytes(content)
    return total


def write_picture(path, sounds, sample_rate, title):
    """Writes the harmonics of ``{caption: [N]}``, in as many colours as fit."""
    from matplotlib import colormaps
    from PIL import Image

    harmonics_comparison(path, sounds, sample_rate, title, SIZE)
    with Image.open(path) as image:
        image = image.convert("RGB")
    for steps in STEPS:
        scale = colormaps["magma"].resampled(steps)(range(steps), bytes=True)[:, :3]
        greys = np.linspace(0, 255, 6, dtype=np.uint8)[:, None].repeat(3, axis=1)
        colours = Image.new("P", (1, 1))
        colours.putpalette(np.concatenate([scale, greys]).tobytes())
        # Dither would be noise among the harmonics, and is hard to compress.
        few = image.quantize(palette=colours, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        if path.stat().st_size <= MOST_OF_A_PICTURE:
            return
    raise UserError(f"{path} takes more than {MOST_OF_A_PICTURE} bytes: give a shorter clip")


def section(title, links, picture, rows, measures):
    """A section of the page."""
    headings = [f"{heading} {better}" for heading, better in measures.values()]
    lines = [f"## {title}", "", " - ".join(f"[{row}]({link})" for row, link in links.items()), ""]
    lines += [f"![Harmonics: {', '.join(links)}]({picture})", ""]
    lines += ["| " + " | ".join(["", *headings]) + " |", "|---" * (1 + len(headings)) + "|"]
    for row, scores in rows.items():
        cells = [f"{scores[name]:.3g}" if name in scores else "" for name in measures]
        lines.append("| " + " | ".join([row, *cells]) + " |")
    return "\n".join(lines)


def render(vocoder, options):
    """Renders everything; returns a report."""
    page = Path(options.page)
    text = page.read_text("utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise UserError(f"{page} needs one line {MARKS[0]}, and one {MARKS[1]} below it")
    folder, recordings = page.with_suffix(""), Path(options.recordings)
    suffixes = sound_suffixes()
    clips = sorted(f for f in recordings.glob("*") if f.suffix.lower() in suffixes)
    if not clips:
        raise UserError(f"{recordings} has no sound files")
    folder.mkdir(exist_ok=True)
    for old in [*folder.glob("*.ogg"), *folder.glob("*.png")]:
        old.unlink()

    iterations, judges = vocoder.refine or ITERATIONS, installed()
    features, rate = vocoder.mods.features, vocoder.sample_rate
    measures = distances(("log_mel_l1", "voicing_error")) | measures_of(judges)
    report, sections, written = {}, [], {}
    for clip in clips:
        name, notes = clip.stem, clip.with_suffix(".txt")
        title = notes.read_text("utf-8").strip() if notes.is_file() else name
        sounds = synthesize(vocoder, clip, iterations, options)
        report[name] = rows = scores_of(sounds, features, iterations, judges)
        heard = {row: wav for row, wav in sounds.items() if row != "the model without iterations"}
        endings = ("recording", "no_model", "model")
        files = {row: f"{name}_{end}" for row, end in zip(heard, endings, strict=True)}
        written |= {files[row]: wav for row, wav in heard.items()}
        drawn = {row: wav[: round(options.picture_seconds * rate)] for row, wav in heard.items()}
        write_picture(folder / f"{name}.png", drawn, rate, title)
        links = {row: f"{folder.name}/{file}.ogg" for row, file in files.items()}
        sections.append(section(title, links, f"{folder.name}/{name}.png", rows, measures))
        print(sections[-1], flush=True)
    total = write_sounds(folder, written, rate)
    print(f"\n{total} bytes of sounds")
    if missing := not_installed():
        print(missing)
    start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    page.write_text("\n\n".join([text[:start], *sections, text[end:]]), "utf-8")
    return {"scores": report, "bytes": total}


def parse(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("export", help="export folder of a vocoder")
    parser.add_argument("recordings", help="folder of clips")
    parser.add_argument("--page", default=PAGE, help="Markdown file (default: %(default)s)")
    parser.add_argument("--sigma", type=float, help="default: the export's")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--picture_seconds", type=float, default=1.6, help="that are drawn (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", help="write the results to this file too")
    options = parser.parse_args(arguments)
    options.device = "cpu"
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    machine = begin(options)
    vocoder = WaveGlowVocoder.from_hparams(options.export, run_opts={"device": options.device})
    options.page = os.fspath(options.page)
    return finish(options, {"machine": machine, **render(vocoder, options)})


if __name__ == "__main__":
    main()
