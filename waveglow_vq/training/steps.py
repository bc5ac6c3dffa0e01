"""SpeechBrain's Brain with steps that are taken as a whole or not at all.

Authors
 * The waveglow-vq developers, 2026
"""

import dataclasses

from waveglow_vq.lobes.processes import own_rank, world_size

import speechbrain as sb
import torch
from speechbrain.utils.run_opts import RunOptions

# With a scale of the loss below this, fp16 gradients overflow because something has diverged.
LEAST_LOSS_SCALE = 1.0


class CarefulBrain(sb.Brain):
    """SpeechBrain's loop and its own ``fit_batch``; what differs is where a gradient is not finite,
    and when checkpoints are written inside of an epoch.

    Arguments
    ---------
    modules, opt_class, hparams, run_opts, checkpointer
        As for SpeechBrain's Brain. Of ``hparams``, ``initial_loss_scale`` is used: where the
        dynamic scale of the loss begins with ``--precision fp16``.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        if not isinstance(run_opts, RunOptions):
            run_opts = RunOptions.from_dictionary(dict(run_opts or {}))
        # SpeechBrain's loop can save by steps and by minutes at once; its constructor says no.
        interval_steps = _option(run_opts, hparams, "ckpt_interval_steps")
        super().__init__(
            modules,
            opt_class,
            {**hparams, "ckpt_interval_steps": 0},
            _without(run_opts, "ckpt_interval_steps"),
            checkpointer,
        )
        self.ckpt_interval_steps = int(interval_steps)
        if self.optimizer_step_limit is not None:
            # SpeechBrain hands it on as the text that stood on the command line.
            self.optimizer_step_limit = int(self.optimizer_step_limit)
        if self.scaler.is_enabled():
            scale = float(hparams["initial_loss_scale"])
            self.set_scaler(torch.GradScaler(self.device_type, scale))
        self.world, self.rank = world_size(), own_rank()
        # Whether the latest optimizer step was taken.
        self.step_taken = True

    def set_scaler(self, scaler):
        """Scales the loss by another ``torch.GradScaler``."""
        self.scaler = scaler
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("scaler", scaler, optional_load=True)

    def check_loss_isfinite(self, loss):
        """Left to :meth:`optimizers_step`: one process alone may have a loss that is not finite,
        but all of them have the gradient, and so the same answer."""

    def optimizers_step(self):
        """A step, or none at all where the gradient is not finite. SpeechBrain's own would take
        one with the parameters whose gradient is."""
        self.scaler.unscale_(self.optimizer)
        groups = self.optimizer.param_groups
        norm = torch.nn.utils.clip_grad_norm_(
            [parameter for group in groups for parameter in group["params"]], self.max_grad_norm
        )
        self.step_taken = bool(torch.isfinite(norm))
        if self.step_taken:
            self.scaler.step(self.optimizer)
            self.optimizer_step += 1
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def recovers_from(self, skipped_steps):
        """Whether training may go on after so many skipped steps of an epoch. With a dynamic scale
        of the loss to overflow is how the scale is found, and only a low one is a bad sign."""
        if self.scaler.is_enabled():
            return self.scaler.get_scale() >= LEAST_LOSS_SCALE
        return skipped_steps <= self.nonfinite_patience

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        """SpeechBrain's, but not while gradients are accumulated: they are not saved."""
        if self.step % self.grad_accumulation_factor:
            return False
        return super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)


def _option(run_opts, hparams, name):
    """A run option as SpeechBrain reads it: the command line, then the YAML, then its default."""
    if name in run_opts.overridden_args:
        return run_opts[name]
    return hparams.get(name, getattr(RunOptions(), name))


def _without(run_opts, name):
    overridden = {option for option in run_opts.overridden_args if option != name}
    return dataclasses.replace(run_opts, overridden_args=overridden)
