"""The measurements behind the tables of docs/results. Without options: inference.

    python benchmarks/run.py --waveglow_folder /clones/waveglow
    python benchmarks/run.py --only streaming recording.wav --model /runs/1234/export
    python benchmarks/run.py --only speed
    python benchmarks/run.py --only training --waveglow_folder /clones/waveglow
    python benchmarks/run.py --only data
    python benchmarks/run.py --only quantizer
    python benchmarks/run.py --only prior --data_folder /data/LJSpeech-1.1 --minutes 30
    python benchmarks/run.py --only conversion --data_folder /data/VCTK-Corpus --minutes 10
    python benchmarks/run.py --only text
    python benchmarks/run.py --only gpu --out DIR
    python benchmarks/run.py --only sounds EXPORT RECORDINGS

Everything after the name of a measurement goes to its own script, which explains itself by --help.
"""

import importlib
import sys
from pathlib import Path

from waveglow_vq.errors import UserError, cli_errors

MEASUREMENTS = {
    "inference": "inference",
    "streaming": "streaming",
    "memory": "stream_memory",
    "speed": "speed",
    "training": "training_step",
    "data": "data_pipeline",
    "quantizer": "quantizer_synthetic",
    "prior": "prior_comparison",
    "conversion": "conversion_rates",
    "text": "text_to_codes",
    "gpu": "gpu_check",
    "sounds": "sounds.render_sounds",
}


@cli_errors()
def main(arguments=None):
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = "inference"
    if arguments[:1] == ["--only"]:
        name, arguments = (arguments[1] if len(arguments) > 1 else ""), arguments[2:]
    if name not in MEASUREMENTS:
        raise UserError(f"--only: {name!r} is not one of {', '.join(MEASUREMENTS)}")
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    return importlib.import_module(MEASUREMENTS[name]).main(arguments)


if __name__ == "__main__":
    main()
