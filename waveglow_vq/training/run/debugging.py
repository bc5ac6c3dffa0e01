"""Runs with ``--debug``, which show that everything works and change nothing that is there."""

import atexit
import dataclasses
import shutil
import tempfile
from pathlib import Path

from waveglow_vq.data.shards.format import shards_are_ready
from waveglow_vq.training.run.command_line import check_saved
from waveglow_vq.training.run.guards import effective_options
from waveglow_vq.training.run.hyperparameters import load_hparams, merge_overrides

from speechbrain.utils.distributed import run_on_main

_SPLITS = ("train", "valid", "test")


def use_debug_folder(experiment):
    """With ``--debug``, makes a run write to a temporary folder only, the same for all processes;
    without, changes nothing. Every process has to call it.

    What was prepared before is read where it lies. What was not is prepared in that folder, which
    is removed at the end unless ``--debug_persistently`` keeps it. TMPDIR says where it is made.

    The experiment's ``hparams``, ``overrides`` and ``run_opts`` become those of the debugging run.
    The YAML that a run has saved is refused, as it names the folders of that run.
    """
    options = effective_options(experiment.hparams, experiment.run_opts)
    if not options["debug"]:
        return
    check_saved(experiment.hparams_file, ["debug"])
    replaced = run_on_main(_replace_folders, [experiment.hparams, options])
    experiment.overrides = merge_overrides(experiment.overrides, replaced)
    # Of SpeechBrain's temporary folders for checkpoints, each process would have its own.
    overridden = experiment.run_opts.overridden_args | {"debug", "debug_persistently"}
    changed = {"debug": True, "debug_persistently": True, "overridden_args": overridden}
    experiment.run_opts = dataclasses.replace(experiment.run_opts, **changed)
    experiment.hparams = load_hparams(experiment.hparams_file, experiment.overrides)


def _replace_folders(hparams, options):
    """Hyperparameters that name other files and folders, with what is needed there; for the main
    process."""
    folder = Path(tempfile.mkdtemp(prefix="waveglow-vq-debug-"))
    end = "is kept (--debug_persistently)"
    if not options["debug_persistently"]:
        end = "is removed at the end (--debug_persistently keeps it)"
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    print(f"--debug: this run writes only to {folder}, which {end}")
    replaced = {"output_folder": folder, "train_log": folder / "train_log.txt"}
    if not options["test_only"]:
        replaced["save_folder"] = folder / "save"
    shards = hparams.get("shards_folder")
    if shards is not None and not shards_are_ready(shards):
        replaced["shards_folder"] = folder / "shards"
    manifests = Path(hparams["manifest_folder"])
    if all((manifests / f"{name}.json").is_file() for name in _SPLITS):
        replaced |= {"manifest_folder": manifests, "skip_prep": True}
    else:
        replaced["manifest_folder"] = folder / "manifests"
        if "audio_folder" in hparams:
            replaced["audio_folder"] = folder / "audio"
    # These are completed where something is missing: in a copy.
    if "codes_folder" in hparams:
        replaced["codes_folder"] = folder / "codes"
        if Path(hparams["codes_folder"]).is_dir():
            shutil.copytree(hparams["codes_folder"], folder / "codes")
    if "tokenizer_file" in hparams:
        replaced["tokenizer_file"] = folder / "tokenizer.model"
        if Path(hparams["tokenizer_file"]).is_file():
            shutil.copyfile(hparams["tokenizer_file"], folder / "tokenizer.model")
    return {k: str(v) if isinstance(v, Path) else v for k, v in replaced.items()}
