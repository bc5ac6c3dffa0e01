"""Averages the checkpoints of a run and exports the result, from the command line.

    python -m waveglow_vq.commands.models.average RUN_FOLDER --last 5 --output EXPORT_FOLDER
    python -m waveglow_vq.commands.models.average RUN_FOLDER --best 5 --output EXPORT_FOLDER

Authors
 * The waveglow-vq developers, 2026
"""

import argparse

from waveglow_vq.errors import cli_errors
from waveglow_vq.training.average_run import average_run
from waveglow_vq.training.model_brain import VALID_LOSS
from waveglow_vq.training.run.guards import write_errors


@cli_errors()
def main(arguments=None):
    """The command line; prints what was averaged and where it went.

    Arguments
    ---------
    arguments : list of str
        In place of those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m waveglow_vq.commands.models.average",
        description="Average the weights of the checkpoints that a run has kept at the ends of its "
        "epochs, and export the model. The model is built from the run's hyperparams.yaml, which "
        "names the Python classes to build: use it on runs that you trust only.",
        allow_abbrev=False,
    )
    parser.add_argument("run_folder", help="output_folder of the run")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--last", type=int, metavar="N", help="average the last N")
    which.add_argument(
        "--best", type=int, metavar="N", help=f"average the N with the lowest {VALID_LOSS}"
    )
    parser.add_argument(
        "--name",
        choices=("averaged", "model"),
        help="which weights of a checkpoint: their average along the run, or those of the "
        "moment (default: averaged, where the run has it)",
    )
    parser.add_argument("--output", required=True, help="export folder to write")
    options = parser.parse_args(arguments)
    best = options.best is not None
    count = options.best if best else options.last
    with write_errors():
        chosen, name, interface = average_run(
            options.run_folder, count, options.output, best, options.name
        )
    if len(chosen) < count:
        print(f"{options.run_folder} has kept {len(chosen)} checkpoints, not {count}.")
    print(f"Mean of '{name}' over:")
    for checkpoint in chosen:
        epoch, loss = checkpoint.meta.get("epoch", "?"), checkpoint.meta.get(VALID_LOSS)
        loss = "" if loss is None else f"  {VALID_LOSS} {loss:.4f}"
        print(f"  epoch {epoch}{loss}  {checkpoint.path.name}")
    print(f"Exported to {options.output}, for {interface}.from_hparams")


if __name__ == "__main__":
    main()
