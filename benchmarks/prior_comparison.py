"""White prior against envelope: the envelope flow alone, without any network, and WaveGlow trained
with either prior on the same data, by the same recipe, for equally many optimizer steps.

NLL is in nats per sample without the constant (negative_log_likelihood), on whole held-out clips;
log-mel L1 is that of samples drawn at sigma 1 from the clips' own log-mels.

    python benchmarks/prior_comparison.py --data_folder /data/LJSpeech-1.1 --minutes 30

Options that are not listed go to the recipe's train.py (--device cuda, --learning_rate 0.001, ...).
The runs stay in --output_folder; what was interrupted goes on with the same command. For other
options, name another folder.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from waveglow_vq.data.datasets import utterance_dataset
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.training.epoch_report import write_samples

import torch
from hyperpyyaml import load_hyperpyyaml

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "LJSpeech"
ORDERS = (24, 128)
# Each run validates so many times; its best checkpoint is tested, as in every run of the recipe.
EPOCHS = 4


def envelope_alone(order):
    """The mel vocoder without a coupling, and its features: no parameters."""
    overrides = {
        "prior": "envelope",
        "conditioner_layers": 0,
        "conditioner_channels": 80,
        "flow": {"flows": 0, "envelope": {"order": order}},
    }
    with open(ROOT / "hparams" / "mel.yaml", encoding="utf-8") as stream:
        preset = load_hyperpyyaml(stream, overrides)
    return preset["model"].eval(), preset["contract"]["features"]


@torch.inference_mode()
def evaluate(model, features, dataset, clips, folder):
    """What the recipe writes to test_results.json, of a model that needs no training.

    Arguments
    ---------
    model : WaveGlowVQ
        In eval mode.
    features : LogMel
        The feature contract.
    dataset : DynamicItemDataset
        Held-out utterances.
    clips : int
        How many of them are sampled from and scored; the likelihood is that of all.
    folder : Path
        Where the samples go.

    Returns
    -------
    dict
        ``nll``, ``log_mel_l1`` and the other scores.
    """
    kept, total, samples = [], 0.0, 0
    for item in dataset:
        terms = model(item["wav"][None], item["mel"].T[None]).terms
        total += float(terms["nll"]) * len(item["wav"])
        samples += len(item["wav"])
        if len(kept) < clips:
            kept.append((item["id"], item["wav"], item["mel"]))
    return {"nll": total / samples, **write_samples(folder, kept, model, features)}


def train(prior, folder, options, limits):
    """Runs the recipe; returns its test results, with ``steps`` and the ``minutes`` that they
    took (validation and test not counted)."""
    command = [sys.executable, "train.py", "hparams/mel.yaml"]
    settings = {
        "data_folder": options.data_folder.resolve(),
        "manifest_folder": (options.output_folder / "manifests").resolve(),
        "skip_prep": True,
        "output_folder": folder.resolve(),
        "size": options.size,
        "prior": prior,
        "batch_size": options.batch_size,
        "test_samples": options.clips,
        **limits,
    }
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    print(f"training with prior {prior}", file=sys.stderr)
    status = subprocess.run([*command, *options.recipe_options], cwd=RECIPE).returncode
    if status:
        raise UserError(f"the training with prior {prior} failed; its own message is above")
    results = json.loads((folder / "test_results.json").read_text("utf-8"))
    log = (folder / "train_log.txt").read_text("utf-8")
    results["steps"] = int(re.findall(r"steps: (\d+)", log)[-1])
    rates = re.findall(r"segments_per_second: ([-+.e\d]+)", log)
    results["minutes"] = sum(limits["segments_per_epoch"] / float(rate) for rate in rates) / 60
    return results


def steps_in(minutes, options):
    """Optimizer steps that the envelope's run makes in so many minutes, judged by one minute."""
    folder = options.output_folder / f"{options.size}_trial"
    segments = 100_000 * options.batch_size
    limits = {"number_of_epochs": 1, "segments_per_epoch": segments, "max_minutes": 1}
    return max(EPOCHS, round(minutes * train("envelope", folder, options, limits)["steps"]))


def table(rows):
    """Markdown."""
    lines = ["| | steps | minutes | NLL | log-mel L1 of samples |", "|---|---|---|---|---|"]
    for name, r in rows.items():
        spent = f"{r['steps']} | {r['minutes']:.1f}" if "steps" in r else "none | none"
        lines.append(f"| {name} | {spent} | {r['nll']:.2f} | {r['log_mel_l1']:.2f} |")
    return "\n".join(lines)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_folder", type=Path, required=True, help="LJSpeech-1.1")
    parser.add_argument("--output_folder", type=Path, default=Path("results/prior_comparison"))
    parser.add_argument("--size", default="tiny", help="tiny, small, base or nvidia256")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, default=4000, help="of the optimizer; 0: no training")
    budget.add_argument("--minutes", type=float, help="as many steps as the envelope's run makes")
    parser.add_argument("--batch_size", type=int, default=8, help="segments of a step")
    parser.add_argument(
        "--split_ratio", type=float, nargs=3, default=[80, 5, 15], help="train, valid, test"
    )
    parser.add_argument("--clips", type=int, default=16, help="held-out clips that are scored")
    parser.add_argument("--json", help="also write all figures to this file")
    options, options.recipe_options = parser.parse_known_args(arguments)
    if options.minutes is not None and options.minutes <= 0:
        raise UserError("--minutes must be positive")
    if options.steps and options.steps < EPOCHS:
        raise UserError(f"--steps must be 0, or at least {EPOCHS}")
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the rows."""
    options = parse(arguments)
    sys.path.insert(0, str(RECIPE))
    from ljspeech_prepare import prepare_ljspeech

    manifests = options.output_folder / "manifests"
    root = prepare_ljspeech(options.data_folder, manifests, split_ratio=options.split_ratio)
    rows = {}
    for order in ORDERS:
        model, features = envelope_alone(order)
        held_out = utterance_dataset(manifests / "test.json", root, features)
        folder = options.output_folder / f"envelope_{order}"
        name = f"envelope of order {order} alone"
        rows[name] = evaluate(model, features, held_out, options.clips, folder)
    steps = options.steps if options.minutes is None else steps_in(options.minutes, options)
    if steps:
        segments = steps // EPOCHS * options.batch_size
        limits = {"number_of_epochs": EPOCHS, "segments_per_epoch": segments}
        for prior in ("white", "envelope"):
            folder = options.output_folder / f"{options.size}_{prior}_{steps}"
            rows[f"WaveGlow {options.size}, prior {prior}"] = train(prior, folder, options, limits)
    print(table(rows))
    text = json.dumps(rows)
    print(f"\n{text}")
    if options.json:
        Path(options.json).write_text(text + "\n", "utf-8")
    return rows


if __name__ == "__main__":
    main()
