"""Rate against words against similarity: trains the VCTK recipe in several settings for the same
time, diagnoses each by the recipe's own test stage, and puts the results into a table and a plot.

    make judges
    python benchmarks/run.py --only conversion --data_folder /data/VCTK-Corpus --minutes 10 \\
        --size tiny --device cpu

A setting that is finished is not run again; `--only_report` runs none. Options that this script
does not know go to train.py. A finished run of one's own is added by --add NAME=OUTPUT_FOLDER.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from waveglow_vq.errors import UserError

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "VCTK"

# What keeps codes alive, which the published setting lacks.
OUR_QUANTIZER = (
    "{temperature: relative, initialization: data, restart_after: 50, normalize_vectors: True, "
    "commitment_weight: 0.25}"
)
# Name: YAML file and options. The published setting is raw waves, 3.1 kbit/s, a white prior.
SETTINGS = {
    "194 bit/s": ("vq.yaml", {"code_stride": 4}),
    "388 bit/s": ("vq.yaml", {"code_stride": 2}),
    "775 bit/s": ("vq.yaml", {}),
    "775 bit/s, speaker left in": (
        "vq.yaml",
        {"use_instance_norm": False, "use_pitch": False},
    ),
    "775 bit/s, jitter and warping": ("vq.yaml", {"time_jitter": 0.12, "mel_warp": 0.1}),
    "raw wave, 3.1 kbit/s, envelope": ("vq_wav.yaml", {"prior": "envelope"}),
    "raw wave, 3.1 kbit/s, envelope, our quantizer": (
        "vq_wav.yaml",
        {"prior": "envelope", "preset": OUR_QUANTIZER},
    ),
    "published: raw wave, 3.1 kbit/s": ("vq_wav.yaml", {}),
}

# Heading: where it is in diagnostics.json, and how it is written.
COLUMNS = {
    "bit/s": (("codes", "bits_per_second", "uniform"), "{:.0f}"),
    "of pitch": (("codes", "bits_per_second", "pitch"), "{:.0f}"),
    "NLL wrong - right": (("likelihoods", "mean_difference"), "{:.3f}"),
    "positive": (("likelihoods", "share_positive"), "{:.0%}"),
    "probe": (("codes", "probe_codes", "accuracy"), "{:.0%}"),
    "nearer": (("conversion", "all", "similarity", "share_of_pairs_nearer_to_target"), "{:.0%}"),
    "cosine": (("conversion", "all", "similarity", "to_target"), "{:.2f}"),
    "F0 moved": (("conversion", "all", "f0_moved", "median"), "{:.2f}"),
    "words, recorded": (("conversion", "all", "words", "recordings", "word_error"), "{:.2f}"),
    "words, own voice": (("conversion", "all", "words", "reconstructions", "word_error"), "{:.2f}"),
    "words, converted": (("conversion", "all", "words", "conversions", "word_error"), "{:.2f}"),
}


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Trades the rate of the codes against words and similarity.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", default="conversion_rates", help="folder for everything")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each setting")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), help="only these")
    parser.add_argument(
        "--add", nargs="*", default=[], metavar="NAME=FOLDER", help="finished runs for the table"
    )
    parser.add_argument("--only_report", action="store_true", help="nothing is trained")
    options, further = parser.parse_known_args(arguments)
    for name in options.settings:
        if name not in SETTINGS:
            raise UserError(f"--settings: {name!r} is not one of {', '.join(SETTINGS)}")
    output = Path(options.output).resolve()
    folders = {name: output / _folder_name(name) for name in options.settings}
    if not options.only_report:
        for name, folder in folders.items():
            if not (folder / "diagnostics" / "diagnostics.json").is_file():
                train(name, folder, options.minutes, further)
    for added in options.add:
        name, _, folder = added.partition("=")
        folders[name] = Path(folder)
    results = {name: _read(folder) for name, folder in folders.items()}
    results = {name: found for name, found in results.items() if found is not None}
    if not results:
        raise UserError(f"{output} holds no finished run")
    print(format_table(results))
    plot(output / "conversion_rates.png", results)
    print(f"\n{output / 'conversion_rates.png'}")


def _folder_name(name):
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def train(name, folder, minutes, further):
    """One run of the recipe, in a process of its own."""
    yaml_file, chosen = SETTINGS[name]
    command = [sys.executable, "train.py", f"hparams/{yaml_file}", *further]
    chosen = {"output_folder": folder, "max_minutes": minutes, "number_of_epochs": 1000, **chosen}
    for option, value in chosen.items():
        command += [f"--{option}", str(value)]
    print(f"\n== {name}\n{' '.join(map(str, command))}", flush=True)
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    if subprocess.run(command, cwd=RECIPE, env=environment, check=False).returncode:
        raise UserError(f"{name}: the training failed; its message is above")


def _read(folder):
    path = Path(folder) / "diagnostics" / "diagnostics.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def look_up(found, keys):
    """The value under a path of keys, or None."""
    for key in keys:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def format_table(results):
    """Markdown, a line for each setting.

    Example
    -------
    >>> print(format_table({"a": {"likelihoods": {"share_positive": 0.5}}}).splitlines()[0][:18])
    | setting | bit/s
    """
    lines = ["| setting | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, found in results.items():
        values = [(look_up(found, keys), form) for keys, form in COLUMNS.values()]
        cells = ["-" if value is None else form.format(value) for value, form in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(path, results):
    """Words and similarity over the rate, pitch included."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    words, voice = figure.subplots(1, 2)
    for name, found in results.items():
        rate = (look_up(found, COLUMNS["bit/s"][0]) or 0) + (
            look_up(found, COLUMNS["of pitch"][0]) or 0
        )
        error = look_up(found, COLUMNS["words, converted"][0])
        cosine = look_up(found, COLUMNS["cosine"][0])
        for axes, value in ((words, error), (voice, cosine)):
            if value is not None:
                axes.plot(rate, value, "o", label=name)
    recorded = [look_up(found, COLUMNS["words, recorded"][0]) for found in results.values()]
    if recorded[0] is not None:
        words.axhline(recorded[0], color="grey", linestyle="--", label="recordings")
    words.set_ylabel("word error of conversions")
    voice.set_ylabel("cosine of conversions to the target")
    for axes in (words, voice):
        axes.set_xscale("log")
        axes.set_xlabel("bit/s, with pitch")
    figure.legend(*words.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
