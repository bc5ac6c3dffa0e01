import re

from waveglow_vq.training.schedule import WarmupHoldHalve

import pytest
import torch


def make_optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=123.0)


def test_rises_linearly_and_reaches_the_rate_at_the_end_of_warm_up():
    schedule = WarmupHoldHalve(1.0, warmup_steps=10)
    schedule.planned_steps = 1000
    assert [schedule.rate(n) for n in (0, 4, 9, 10, 400)] == pytest.approx([0.1, 0.5, 1, 1, 1])


@pytest.mark.parametrize(
    ("planned", "warmup", "rises", "warned"),
    [(200, 20, 20, None), (200, 21, 20, "200 steps.*for 20$"), (35, 9, 3.5, "35 steps.*for 4$")],
)
def test_rises_for_a_tenth_of_the_run_at_most(planned, warmup, rises, warned):
    schedule = WarmupHoldHalve(1.0, warmup_steps=warmup, halvings=0)
    schedule.planned_steps = planned
    rates = [schedule.rate(step) for step in range(30)]
    assert rates == pytest.approx([min(1, (step + 1) / rises) for step in range(30)])
    assert re.search(warned, schedule.warning()) if warned else schedule.warning() is None


def test_rises_for_a_tenth_of_the_time_at_most():
    schedule = WarmupHoldHalve(1.0, warmup_steps=50, halvings=0, max_minutes=5)
    schedule.planned_steps = 10**6
    rates, cut = [], []
    for seconds in (0, 12, 12, 5, 1):  # the last makes it half a minute
        schedule.advance(seconds)
        rates.append(schedule.apply(make_optimizer()))
        cut.append(schedule.cut_short_by_time)
    assert rates == pytest.approx([2 / 50, 0.4, 0.8, 29 / 30, 1])
    assert cut == [False, False, False, False, True]
    schedule.steps = 50  # by then, it would be over anyway
    assert not schedule.cut_short_by_time


def test_halves_evenly_until_the_end():
    schedule = WarmupHoldHalve(1.0, halve_from=0.5, halvings=4)
    schedule.planned_steps = 800
    rates = [schedule.rate(n) for n in (400, 500, 600, 700, 800)]
    assert rates == pytest.approx([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16])
    # Beyond the plan it stays where it is.
    assert schedule.rate(10_000) == pytest.approx(1 / 16)


@pytest.mark.parametrize("options", [{"halvings": 0}, {"halve_from": 1.0}])
def test_can_be_constant(options):
    schedule = WarmupHoldHalve(0.5, **options)
    schedule.planned_steps = 10
    assert [schedule.rate(n) for n in (0, 5, 10, 11)] == [0.5] * 4


def test_without_a_plan_it_does_not_fall():
    assert WarmupHoldHalve(0.5).rate(10**6) == 0.5


def test_time_replaces_steps_where_it_is_shorter():
    schedule = WarmupHoldHalve(1.0, halve_from=0.0, halvings=2, max_minutes=1.0)
    schedule.planned_steps = 10**9
    optimizer = make_optimizer()
    schedule.advance(seconds=30.0)
    assert schedule.apply(optimizer) == pytest.approx(0.5)
    schedule.advance(seconds=30.0)
    assert schedule.apply(optimizer) == pytest.approx(0.25)
    assert schedule.time_share == pytest.approx(1.0)


def test_sets_every_group_of_the_optimizer():
    optimizer = make_optimizer()
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 7.0})
    WarmupHoldHalve(0.25).apply(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_goes_on_from_a_checkpoint(tmp_path):
    schedule = WarmupHoldHalve(1.0, warmup_steps=100, max_minutes=100)
    for _ in range(49):
        schedule.advance(seconds=2.0)
    schedule.save(tmp_path / "schedule.ckpt")
    other = WarmupHoldHalve(1.0, warmup_steps=100, max_minutes=100)
    other.load(tmp_path / "schedule.ckpt")
    assert (other.steps, other.seconds) == (49, 98.0)
    assert other.apply(make_optimizer()) == pytest.approx(0.5)
