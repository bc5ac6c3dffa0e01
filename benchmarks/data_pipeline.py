"""Does the data pipeline keep up? Training segments per second, against what a model consumes, and
preparation in clips per second.

Segments come through the loader that the recipes use, from files and from shards, with the recipe's
shapes, and nothing but the batches themselves is made; in the same turns the model takes training
steps with all threads. The corpora are noise, written for the occasion, unless a prepared one is
named; they are as good as real ones here, since no step depends on what is heard. Written files are
still in the system's cache when they are read, so disks are not what is measured.

    python benchmarks/data_pipeline.py --prepare_clips 2000
    python benchmarks/data_pipeline.py --data_folder /data/LJSpeech-1.1 --parts pipeline
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from waveglow_vq.data.corpora.filters import Filters
from waveglow_vq.data.corpora.preparation import prepare_manifests
from waveglow_vq.data.corpora.prepared_audio import prepare_audio
from waveglow_vq.data.corpora.shard_writer import write_shards
from waveglow_vq.data.corpora.speaker_folders import Recording
from waveglow_vq.data.datasets import make_datasets
from waveglow_vq.data.loaders import training_loader
from waveglow_vq.errors import UserError, cli_errors

import numpy as np
import soundfile
import torch

sys.path.append(str(Path(__file__).resolve().parent))
from measuring import describe_machine  # noqa: E402
from speed import CONTEXT_FRAMES, SEGMENT_FRAMES, load_vocoder  # noqa: E402

RATE = 22050
PARTS = ("pipeline", "preparation")


# ---- corpora


def write_corpus(folder, clips, least, most, rate=RATE):
    """Clips of noise, evenly between so many seconds long; a list of Recording."""
    (folder / "wavs").mkdir(parents=True)
    draw = np.random.default_rng(0)
    noise = draw.integers(-3000, 3000, round(2 * most * rate)).astype(np.int16)
    written = []
    for number in range(clips):
        samples = round(draw.uniform(least, most) * rate)
        begin = int(draw.integers(len(noise) - samples))
        name = f"wavs/LJ{number // 400:03d}-{number % 400:04d}.wav"
        soundfile.write(folder / name, noise[begin : begin + samples], rate)
        path = str(folder / name)
        written.append(Recording(Path(name).stem, "", path, name, "noise"))
    return written


def read_corpus(data_folder, save_folder):
    """Prepares LJSpeech with the recipe's defaults; where its clips are."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes" / "LJSpeech"))
    from ljspeech_prepare import prepare_ljspeech

    return prepare_ljspeech(data_folder, save_folder)


# ---- training


def pipeline_cases(options, folder):
    """What is run in turns: name of the row: function that returns segments and seconds; wall time
    and time of all cores."""
    manifests, shards = folder / "manifests", folder / "shards"
    if options.data_folder:
        data_root = read_corpus(options.data_folder, manifests)
    else:
        data_root = folder / "corpus"
        clips = write_corpus(data_root, options.clips, 2.0, 11.0)  # LJSpeech's mean is 6.6 s
        prepare_manifests(clips, manifests)
    write_shards(manifests, data_root, shards)
    model, features = load_vocoder(options.size, "cpu")
    hparams = {
        "manifest_folder": manifests,
        "features": features,
        "model": model,
        "segment_frames": SEGMENT_FRAMES,
        "context_frames": CONTEXT_FRAMES,
        "min_segment_dbfs": -60.0,
        "random_shift": True,
        "max_valid_utterances": None,
    }
    cases = {}
    for source, more in (("files", {}), ("shards", {"shards_folder": shards})):
        for log_mels in (True, False):
            name = source if log_mels else f"{source}, log-mels left to a GPU"
            for workers in options.workers:
                # Of its own: it is told what to make.
                dataset = make_datasets({**hparams, **more}, data_root)[0]
                cases[name, workers] = _loading(dataset, workers, options, log_mels)
    cases["model", None] = _training(model, make_datasets(hparams, data_root)[0], options)
    return cases


def _loading(dataset, workers, options, log_mels):
    counts = {"batch_size": options.batch, "num_workers": workers}
    loader, told = training_loader(dataset, options.segments, 0, log_mels=log_mels, **counts)
    epoch = 0

    def run():
        nonlocal epoch
        epoch += 1
        told.set_epoch(epoch)
        batches = iter(loader)
        next(batches)  # processes have started, files are open
        begin, segments = _clocks(), 0
        for batch in batches:
            segments += len(batch.id)
        # The iterator is gone and its processes with it: their time counts now.
        del batches
        return segments, *_since(begin)

    return run


def _training(model, dataset, options):
    loader, told = training_loader(dataset, options.batch, 0, batch_size=options.batch)
    told.set_epoch(1)
    batch = next(iter(loader))
    inputs = {"wav": batch.wav.data, "mel": batch.mel.data.transpose(1, 2)}
    inputs.update(mel_lens=batch.mel.lengths, starts=batch.start, history=batch.history.data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    model.train()

    def run():
        begin = _clocks()
        for _ in range(options.steps):
            model(**inputs).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return options.steps * options.batch, *_since(begin)

    run()
    return run


def measure_pipeline(options, folder):
    """Rows of the first table: medians over turns."""
    cases = pipeline_cases(options, folder)
    turns = [{name: run() for name, run in cases.items()} for _ in range(options.repeats)]
    rows = []
    for name in cases:
        source, workers = name
        rates = [turn[name][0] / turn[name][1] for turn in turns]
        of_model = [turn["model", None][0] / turn["model", None][1] for turn in turns]
        cpu = [turn[name][2] / turn[name][0] for turn in turns]
        rows.append(
            {
                "source": source,
                "workers": workers,
                "segments_per_second": statistics.median(rates),
                "times_the_model": statistics.median(
                    rate / model for rate, model in zip(rates, of_model, strict=True)
                ),
                "cpu_milliseconds_per_segment": 1000 * statistics.median(cpu),
            }
        )
    return rows


# ---- preparation


def measure_preparation(options, folder):
    """Rows of the second table."""
    clips = write_corpus(folder / "corpus", options.prepare_clips, 1.0, 2.0)
    manifests = folder / "manifests"
    rows = []

    def timed(name, count, run):
        begin = _clocks()
        run()
        wall, cpu = _since(begin)
        rows.append({"task": name, "clips": count, "seconds": wall, "cpu_seconds": cpu})

    filters = Filters(min_samples=1)
    timed(
        "LJSpeech: check, filter, split",
        len(clips),
        lambda: prepare_manifests(clips, manifests, filters=filters),
    )
    timed(
        "shards of it",
        len(clips),
        lambda: write_shards(manifests, folder / "corpus", folder / "shards"),
    )
    some = write_corpus(folder / "recordings", options.resample_clips, 1.0, 2.0, rate=48000)
    utterances = [clip._replace(speaker="p225") for clip in some]
    timed(
        "VCTK: 48 kHz to 22.05 kHz, trim, pitch",
        len(some),
        lambda: prepare_audio(utterances, folder / "resampled"),
    )
    return rows


def _clocks():
    # Of ended child processes too.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in used)


def _since(begin):
    now = _clocks()
    return now[0] - begin[0], now[1] - begin[1]


# ---- how it is shown


def pipeline_table(rows, size):
    """Markdown."""
    lines = [
        f"| segments from | workers | segments per second | times the {size} model's training |"
        " CPU time per segment, ms |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        of_model = row["source"] == "model"
        cells = [
            f"(the {size} model's training steps)" if of_model else row["source"],
            "" if of_model else str(row["workers"]),
            f"{row['segments_per_second']:.{1 if of_model else 0}f}",
            f"{row['times_the_model']:.1f}",
            f"{row['cpu_milliseconds_per_segment']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def preparation_table(rows):
    """Markdown."""
    lines = [
        "| preparation | clips | seconds | clips per second | CPU time / wall time |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["task"],
            f"{row['clips']:,}",
            f"{row['seconds']:.1f}",
            f"{row['clips'] / row['seconds']:.0f}",
            f"{row['cpu_seconds'] / row['seconds']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--data_folder", help="LJSpeech-1.1 to train on; without it, noise")
    add("--size", default="small", help="of the model (default: %(default)s)")
    add("--clips", type=int, default=200, help="of noise to train on, 2 to 11 s each")
    add("--segments", type=int, default=4000, help="of an epoch of loading")
    add("--batch", type=int, default=8, help="segments")
    add("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes that load")
    add("--steps", type=int, default=10, help="training steps of a turn")
    add("--repeats", type=int, default=3, help="turns")
    add("--prepare_clips", type=int, default=13_100, help="to prepare, 1 to 2 s each")
    add("--resample_clips", type=int, default=200, help="to resample, 1 to 2 s each")
    add("--folder", help="where corpora are written, and removed again; a temporary one without")
    add("--json", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    numbers = ("clips", "segments", "batch", "steps", "repeats", "prepare_clips", "resample_clips")
    for name in numbers:
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    if options.segments < 2 * options.batch:
        raise UserError("--segments have to make at least two batches")
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the figures."""
    options = parse(arguments)
    machine = describe_machine("cpu")
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    report = {"machine": machine, "settings": vars(options)}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        folder = Path(folder)
        if "pipeline" in options.parts:
            report["pipeline"] = measure_pipeline(options, folder / "pipeline")
            print(
                f"\nbatches of {options.batch} segments of {SEGMENT_FRAMES} frames; medians of"
                f" {options.repeats} turns\n\n{pipeline_table(report['pipeline'], options.size)}"
            )
        if "preparation" in options.parts:
            report["preparation"] = measure_preparation(options, folder / "preparation")
            print(f"\n{preparation_table(report['preparation'])}")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return report


if __name__ == "__main__":
    main()
