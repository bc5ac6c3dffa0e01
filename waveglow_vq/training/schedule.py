"""The learning rate over a run."""

import math

import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks

# The rate rises for at most 1 / PARTS of a run.
PARTS = 10


@register_checkpoint_hooks
class WarmupHoldHalve:
    """Linear warm-up, constant rate, then smooth repeated halving until the end.

    For optimizer step n (from 0) of N planned ones, with progress p = n / N:

        rate = learning_rate * min(1, (n + 1) / warmup_steps)                       p <= halve_from
        rate = ... * 0.5 ** (halvings * (p - halve_from) / (1 - halve_from))        p >  halve_from

    With a time limit, progress is the greater of steps / planned steps and seconds / allowed
    seconds, so that a run that ends early still ends with a low rate. The rate rises for at most a
    tenth of the run: 10 (n + 1) / N, and 10 times the share of the allowed seconds, replace
    (n + 1) / warmup_steps where they are greater.

    Steps and seconds are part of a checkpoint; the plan is not, so that a run that is resumed with
    more epochs follows the longer plan.

    Arguments
    ---------
    learning_rate : float
        The highest rate.
    warmup_steps : int
        Optimizer steps until it is reached; at most a tenth of the run.
    halve_from : float
        Share of the run after which halving begins, in [0, 1].
    halvings : float
        How often the rate is halved by the end; 0 for a constant rate.
    max_minutes : float
        Time limit of the training (validation not counted), or None.

    Example
    -------
    >>> schedule = WarmupHoldHalve(0.8, warmup_steps=4, halve_from=0.5, halvings=3)
    >>> schedule.planned_steps = 40
    >>> [round(schedule.rate(step), 3) for step in (0, 1, 3, 20, 30, 40)]
    [0.2, 0.4, 0.8, 0.8, 0.283, 0.1]
    """

    def __init__(self, learning_rate, warmup_steps=0, halve_from=0.5, halvings=4, max_minutes=None):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.halve_from = halve_from
        self.halvings = halvings
        self.max_minutes = max_minutes
        self.planned_steps = None
        self.steps = 0
        self.seconds = 0.0

    @property
    def time_share(self):
        """Elapsed share of the allowed time; 0 without a limit."""
        return 0.0 if self.max_minutes is None else self.seconds / (60 * self.max_minutes)

    @property
    def share(self):
        """Share of the run that is over: the greater of steps / planned steps and that of time."""
        return max(self.steps / self.planned_steps if self.planned_steps else 0.0, self.time_share)

    def rate(self, step, time_share=0.0):
        """The rate of optimizer step ``step`` (from 0)."""
        progress, risen = time_share, (step + 1) / max(1, self.warmup_steps)
        risen = max(risen, PARTS * time_share)
        if self.planned_steps:
            progress = max(progress, step / self.planned_steps)
            risen = max(risen, PARTS * (step + 1) / self.planned_steps)
        rate = self.learning_rate * min(1.0, risen)
        progress = min(progress, 1.0)
        if progress > self.halve_from:
            late = (progress - self.halve_from) / (1 - self.halve_from)
            rate *= 0.5 ** (self.halvings * late)
        return rate

    def warning(self):
        """A sentence if the run is too short for ``warmup_steps``; else None.

        Example
        -------
        >>> schedule = WarmupHoldHalve(0.1, warmup_steps=200)
        >>> schedule.planned_steps = 90
        >>> schedule.warning()
        'warmup_steps: 200 are more than a tenth of the 90 steps of this run: ... for 9'
        """
        longest = math.ceil((self.planned_steps or 0) / PARTS)
        if not longest or self.warmup_steps <= longest:
            return None
        return (
            f"warmup_steps: {self.warmup_steps:,} are more than a tenth of the "
            f"{self.planned_steps:,} steps of this run: the learning rate rises for {longest:,}"
        )

    @property
    def cut_short_by_time(self):
        """Whether the time limit has ended the rise before ``warmup_steps`` did."""
        rises_for = min(self.warmup_steps, (self.planned_steps or math.inf) / PARTS)
        return PARTS * self.time_share >= 1 and self.steps < rises_for

    def apply(self, optimizer):
        """Sets the rate of the next step."""
        rate = self.rate(self.steps, self.time_share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate

    def advance(self, seconds=0.0):
        """Counts a step and the time since the last."""
        self.steps += 1
        self.seconds += seconds

    @mark_as_saver
    def save(self, path):
        """Writes steps and seconds."""
        torch.save({"steps": self.steps, "seconds": self.seconds}, path)

    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Reads them."""
        state = torch.load(path, weights_only=True)
        self.steps, self.seconds = state["steps"], state["seconds"]
