"""What a run prints: how far it is, how it ended, and what comes next."""

import shlex
from pathlib import Path

from tqdm import tqdm

# Seconds between two lines of a run without a bar.
SECONDS_BETWEEN_LINES = 60.0

# What to type with an export of each kind.
_NEXT = {
    "WaveGlowVocoder": ["vocode", "EXPORT", "speech.wav", "resynthesized.wav"],
    "SpeechCodec": ["encode", "EXPORT", "speech.wav", "speech.wvq"],
    "VoiceConverter": ["convert", "EXPORT", "speech.wav", "converted.wav"],
    "TextToSpeech": ["speak", "EXPORT", "Any sentence.", "speech.wav"],
}


def seconds_left(schedule, steps_before=0, seconds_before=0.0):
    """Remaining seconds of training, validation not counted; None if nothing is known yet. The
    speed is that since ``steps_before`` and ``seconds_before``, where this process began.

    Example
    -------
    >>> from waveglow_vq.training.schedule import WarmupHoldHalve
    >>> schedule = WarmupHoldHalve(0.1, max_minutes=2)
    >>> schedule.planned_steps, schedule.steps, schedule.seconds = 100, 40, 80.0
    >>> seconds_left(schedule)
    40.0
    >>> seconds_left(schedule, steps_before=20, seconds_before=79.0)
    3.0
    """
    left = []
    steps = schedule.steps - steps_before
    if steps > 0 and schedule.planned_steps:
        per_step = (schedule.seconds - seconds_before) / steps
        left.append(max(0, schedule.planned_steps - schedule.steps) * per_step)
    if schedule.max_minutes is not None:
        left.append(max(0.0, 60 * schedule.max_minutes - schedule.seconds))
    return min(left, default=None)


def progress_line(schedule, loss, left):
    """A progress line for runs without a bar. ``loss`` is the mean over the epoch so far, ``left``
    comes from :func:`seconds_left`.

    Example
    -------
    >>> from waveglow_vq.training.schedule import WarmupHoldHalve
    >>> schedule = WarmupHoldHalve(0.1)
    >>> schedule.planned_steps, schedule.steps = 12000, 1860
    >>> progress_line(schedule, -3.14159, 5460.0)
    'step 1,860 of 12,000, loss -3.142, 1 h 31 min of training left'
    """
    limit = "" if schedule.max_minutes is None else "at most "
    planned = f" of {limit}{schedule.planned_steps:,}" if schedule.planned_steps else ""
    line = f"step {schedule.steps:,}{planned}, loss {loss:.4g}"
    return line if left is None else f"{line}, {_duration(left)} of training left"


def _duration(seconds):
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def minutes_bar(schedule, enable=True, colour=None):
    """A progress bar in minutes, for a run with a time limit; see :func:`move_bar`."""
    return tqdm(
        total=schedule.max_minutes,
        initial=min(schedule.seconds / 60, schedule.max_minutes),
        disable=not enable,
        colour=colour,
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%|{bar}| {n:.1f} of {total:g} min{postfix}",
    )


def move_bar(bar, schedule, loss):
    """Moves a bar of :func:`minutes_bar` to where the run stands."""
    bar.set_postfix_str(f"step {schedule.steps:,}, train_loss={loss:.4g}", refresh=False)
    bar.update(min(schedule.seconds / 60, schedule.max_minutes) - bar.n)


def limit_line(schedule):
    """Says that a run has reached its time limit.

    Example
    -------
    >>> from waveglow_vq.training.schedule import WarmupHoldHalve
    >>> schedule = WarmupHoldHalve(0.1, max_minutes=2)
    >>> schedule.steps = 186
    >>> limit_line(schedule)
    'time limit of 2 min reached after 186 steps'
    """
    steps = f"{schedule.steps:,} step{'s' * (schedule.steps != 1)}"
    return f"time limit of {schedule.max_minutes:g} min reached after {steps}"


def already_finished_line(schedule, epochs, output_folder, step_limit=None):
    """Says that a finished run has nothing left to train; ``step_limit`` is the
    ``optimizer_step_limit`` if that has ended it, else None."""
    more = "--number_of_epochs"
    if schedule.time_share >= 1:
        more = f"--max_minutes (it has had {schedule.max_minutes:g})"
    elif step_limit is not None:
        more = f"--optimizer_step_limit (it is {step_limit:,})"
    return (
        f"the run in {output_folder} is finished (epoch {epochs:,}, step {schedule.steps:,}): it "
        f"is only tested and exported again; to train on, give a greater {more}, and for another "
        "run another --output_folder"
    )


def closing_lines(output_folder, interface, options=()):
    """Where the results of a finished run are, and what to type next: a command of the class
    ``interface`` of ``waveglow_vq.inference``, with its options.

    Example
    -------
    >>> print(*closing_lines("results/vq", "SpeechCodec"), sep="\\n")
    samples: results/vq/samples
    results: results/vq/test_results.json
    export:  results/vq/export
    next:    waveglow-vq encode results/vq/export speech.wav speech.wvq
    """
    folder = Path(output_folder)
    words = [str(folder / "export") if w == "EXPORT" else w for w in _NEXT[interface]]
    return [
        f"samples: {folder / 'samples'}",
        f"results: {folder / 'test_results.json'}",
        f"export:  {folder / 'export'}",
        f"next:    {shlex.join(['waveglow-vq', *words, *options])}",
    ]
