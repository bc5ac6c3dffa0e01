import shlex

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.__main__ import _parser
from waveglow_vq.inference import SpeechCodec, TextToSpeech, VoiceConverter, WaveGlowVocoder
from waveglow_vq.training.run.console import (
    already_finished_line,
    closing_lines,
    minutes_bar,
    move_bar,
    progress_line,
    seconds_left,
)
from waveglow_vq.training.schedule import WarmupHoldHalve

import pytest


def at(steps, seconds, planned=None, **options):
    schedule = WarmupHoldHalve(1.0, **options)
    schedule.planned_steps, schedule.steps, schedule.seconds = planned, steps, seconds
    return schedule


@pytest.mark.parametrize(
    ("schedule", "left"),
    [
        (at(0, 0.0, planned=10), None),
        (at(4, 2.0), None),
        (at(4, 2.0, planned=10), 3.0),
        # The steps are over first, then the time is.
        (at(4, 2.0, planned=10, max_minutes=1), 3.0),
        (at(4, 2.0, planned=10_000, max_minutes=1), 58.0),
        (at(12, 70.0, planned=10, max_minutes=1), 0.0),
    ],
)
def test_what_is_left(schedule, left):
    assert seconds_left(schedule) == (None if left is None else pytest.approx(left))


def test_a_line_without_a_bar():
    line = progress_line(at(7, 30.0, planned=5000, max_minutes=3), 0.25, 150.0)
    assert line == "step 7 of at most 5,000, loss 0.25, 2 min of training left"
    assert progress_line(at(7, 30.0), 0.25, None) == "step 7, loss 0.25"
    assert progress_line(at(7, 30.0), 0.25, 20.0).endswith("less than a minute of training left")


def test_what_would_train_on():
    assert "a greater --number_of_epochs, and" in already_finished_line(at(5, 2.0), 3, "runs/a")
    spent = already_finished_line(at(5, 120.0, max_minutes=2), 3, "runs/a")
    assert "a greater --max_minutes (it has had 2)" in spent
    limited = already_finished_line(at(5, 2.0), 3, "runs/a", step_limit=5)
    assert "a greater --optimizer_step_limit (it is 5)" in limited


def test_a_bar_of_minutes(capsys):
    schedule = at(5, 30.0, max_minutes=2)
    with minutes_bar(schedule) as bar:
        assert bar.n == 0.5
        schedule.steps, schedule.seconds = 9, 150.0  # the last step ends behind the limit
        move_bar(bar, schedule, -1.5)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "100%" in last and "2.0 of 2 min" in last and "step 9, train_loss=-1.5" in last


@pytest.mark.parametrize(
    ("interface", "options"),
    [
        (WaveGlowVocoder, []),
        (SpeechCodec, []),
        (VoiceConverter, ["--speaker", "p 9"]),
        (VoiceConverter, ["--speaker", "p9", "--mode", "latent_swap"]),
        (TextToSpeech, []),
        (TextToSpeech, ["--speaker", "p9"]),
    ],
)
def test_what_to_type_next_can_be_typed(interface, options):
    line = closing_lines("results/a run", interface.__name__, options)[-1]
    program, *arguments = shlex.split(line.removeprefix("next:"))
    typed = _parser().parse_args(arguments)
    assert program == "waveglow-vq"
    assert typed.model == "results/a run/export"
    if options:
        assert typed.speaker == options[1]
