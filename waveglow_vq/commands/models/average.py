"""Average the weights of a run's checkpoints and export the model."""

from waveglow_vq.commands.arguments import path

EXAMPLES = """\
  waveglow-vq average RUN_FOLDER --last 5 --output EXPORT_FOLDER
  waveglow-vq average RUN_FOLDER --best 5 --output EXPORT_FOLDER

Of the checkpoints that a run has kept at the ends of its epochs. The model is built from the run's
hyperparams.yaml, which names the Python classes to build: use it on runs that you trust only.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument(
        "run_folder", type=path, metavar="RUN_FOLDER", help="output_folder of the run"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--last", type=int, metavar="N", help="average the last N")
    which.add_argument(
        "--best", type=int, metavar="N", help="average the N with the lowest valid_loss"
    )
    parser.add_argument(
        "--name",
        choices=("averaged", "model"),
        help="which weights of a checkpoint: their running average (EMA), or the raw weights "
        "(default: averaged, where the run has it)",
    )
    parser.add_argument(
        "--output", type=path, required=True, metavar="DIR", help="export folder to write"
    )


def run(options):
    """Prints what was averaged and where it went; returns the exit status."""
    from waveglow_vq.training.average_run import average_run
    from waveglow_vq.training.model_brain import VALID_LOSS
    from waveglow_vq.training.run.guards import write_errors

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
    return 0
