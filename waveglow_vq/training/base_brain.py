"""SpeechBrain's Brain with steps that are taken completely or not at all."""

import dataclasses
import functools
import math
import signal
import time

from waveglow_vq.signals import Stopped, held_signals, noted_signal
from waveglow_vq.utils.distributed import (
    all_reduce_greatest,
    data_parallel,
    greatest_everywhere,
    own_rank,
    world_size,
)

import speechbrain as sb
import torch
from speechbrain.utils.run_opts import RunOptions

# With a scale of the loss below this, fp16 gradients overflow because something has diverged.
LEAST_LOSS_SCALE = 1.0


class RunStopped(Stopped):
    """A signal has ended the training, which is saved, in every process. ``where`` says the last
    step, and how to resume.

    Example
    -------
    >>> stop = RunStopped(15, "step 5 is saved")
    >>> str(stop), stop.status
    ('stopped by SIGTERM: step 5 is saved', 143)
    """

    def __init__(self, number, where):
        super().__init__(number)
        self.where = where

    def __str__(self):
        return f"stopped by {signal.Signals(self.number).name}: {self.where}"


class HostCopy:
    """Numbers of a device on their way to the host: :meth:`read` waits for what the device had to
    do up to here, and not for what it was given since.

    Example
    -------
    >>> HostCopy(torch.tensor([1.0, 2.0])).read()
    [1.0, 2.0]
    """

    def __init__(self, numbers):
        self.arrived = None
        if numbers.is_cuda:
            numbers = numbers.to("cpu", non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()
        self.numbers = numbers

    def read(self):
        """The numbers, as a list."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.numbers.tolist()


class BaseBrain(sb.Brain):
    """SpeechBrain's loop. It differs where a gradient is not finite and in when checkpoints are
    written within an epoch; a signal (Ctrl-C, SIGTERM, SIGHUP) ends the training between two
    steps, with a checkpoint; and a GPU never waits for the host to read what a step has given.

    On a GPU with a fused optimizer, which leaves out a step by itself, loss and gradient of a batch
    are read when the gradient of the next one is under way (``reads_late``). What follows a step,
    :meth:`after_step`, is done then, and at the latest before the next step, a checkpoint and the
    end of the epoch: the weights have not moved since, so that the order makes no difference.
    Elsewhere it is done at once.

    Arguments
    ---------
    modules, opt_class, hparams, run_opts, checkpointer
        As for SpeechBrain's Brain. With ``--precision fp16``, the dynamic scale of the loss begins
        at ``initial_loss_scale`` of ``hparams``.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        if not isinstance(run_opts, RunOptions):
            run_opts = RunOptions.from_dictionary(dict(run_opts or {}))
        # SpeechBrain's loop can save by steps and by minutes at once; its constructor says no.
        name = "ckpt_interval_steps"
        given = run_opts.overridden_args
        interval_steps = run_opts[name] if name in given else hparams.get(name, run_opts[name])
        run_opts = dataclasses.replace(run_opts, overridden_args=set(given) - {name})
        super().__init__(modules, opt_class, {**hparams, name: 0}, run_opts, checkpointer)
        self.ckpt_interval_steps = int(interval_steps)
        if self.optimizer_step_limit is not None:
            # SpeechBrain passes on the text of the command line.
            self.optimizer_step_limit = int(self.optimizer_step_limit)
        if self.scaler.is_enabled():
            scale = float(hparams["initial_loss_scale"])
            self.set_scaler(torch.GradScaler(self.device_type, scale))
        self.world, self.rank = world_size(), own_rank()
        # Whether the latest optimizer step was taken.
        self.step_taken = True
        self.reads_late = False
        # Number of the latest batch, its loss and, if it ended in a step, whether it was taken.
        self._unread = None
        # What the processes were asked a batch before.
        self._asked = None
        # Batches of the last trained epoch, and their mean loss.
        self.trained = (0, 0.0)

    def set_scaler(self, scaler):
        """Scales the loss by another ``torch.GradScaler``."""
        self.scaler = scaler
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("scaler", scaler, optional_load=True)

    def may_read_late(self):
        """Whether a step can be left out without the host, which learns of it later. May be
        narrowed; the optimizer is there, and loaded."""
        fused = all(group.get("fused") for group in self.optimizer.param_groups)
        return self.device_type == "cuda" and fused

    def on_fit_start(self):
        """SpeechBrain's, which resumes."""
        super().on_fit_start()
        if self.opt_class is not None:
            self.keep_optimizer_kind()
            self.reads_late = self.may_read_late()

    def keep_optimizer_kind(self):
        """Lets a state that was loaded, from before or from another device, not decide by which
        kernels the optimizer computes."""
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                for name in {"fused", "foreach"} & optimizer.defaults.keys():
                    group[name] = optimizer.defaults[name]
                on_device = group.get("fused") or group.get("capturable")
                for parameter in group["params"]:
                    state = optimizer.state.get(parameter, {})
                    if isinstance(state.get("step"), torch.Tensor):
                        state["step"] = state["step"].to(parameter.device if on_device else "cpu")

    def fit_batch(self, batch):
        """SpeechBrain's, but the loss stays where it is. What the batch before has given is read
        here, if it is read late."""
        should_step = self.step % self.grad_accumulation_factor == 0
        self.on_fit_batch_start(batch, should_step)
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            self.scaler.scale(loss / self.grad_accumulation_factor).backward()
        loss = loss.detach()
        self.catch_up()
        numbers = [loss]
        if should_step:
            numbers.append(self.optimizers_step().to(loss.dtype))
        self._unread = self.step, HostCopy(torch.stack(numbers))
        self.on_fit_batch_end(batch, outputs, loss, should_step)
        return loss

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Reads what the batch has given, unless it is read late. To be extended, not replaced."""
        limit = self.optimizer_step_limit
        if not self.reads_late or (limit is not None and self.optimizer_step + 1 >= limit):
            self.catch_up()

    def catch_up(self):
        """Reads what the latest batch has given, if that has not been done."""
        if self._unread is None:
            return
        (step, numbers), self._unread = self._unread, None
        loss, *taken = numbers.read()
        if step and math.isfinite(loss):
            # As SpeechBrain's update_average.
            self.avg_train_loss -= self.avg_train_loss / step
            self.avg_train_loss += loss / step
        if taken:
            self.step_taken = bool(taken[0])
            self.optimizer_step += self.step_taken
            self.after_step()

    def after_step(self):
        """What follows a step of the optimizer, also one that was not taken (``step_taken``)."""

    def update_average(self, loss, avg_loss):
        """SpeechBrain's; :meth:`catch_up` does it in training."""
        return avg_loss if self.modules.training else super().update_average(loss, avg_loss)

    def optimizers_step(self):
        """A step of all optimizers, or of none if a gradient is not finite: returns which, a
        tensor. SpeechBrain's would step the parameters whose own gradient is finite."""
        optimizers = list(self.freeze_optimizers(self.optimizers_dict).values())
        finite = []
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
            groups = optimizer.param_groups
            norm = torch.nn.utils.clip_grad_norm_(
                [parameter for group in groups for parameter in group["params"]], self.max_grad_norm
            )
            finite.append(torch.isfinite(norm))
        taken = functools.reduce(torch.logical_and, finite)
        for optimizer in optimizers:
            if self.reads_late:
                # As torch's GradScaler says it to a fused optimizer.
                optimizer.found_inf = (~taken).float()
                optimizer.step()
                del optimizer.found_inf
            elif taken:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return taken

    def recovers_from(self, skipped_steps):
        """Whether training may continue after so many skipped steps of an epoch. A dynamic scale of
        the loss is found by overflows, so only a low scale is a bad sign."""
        if self.scaler.is_enabled():
            return self.scaler.get_scale() >= LEAST_LOSS_SCALE
        return skipped_steps <= self.nonfinite_patience

    def _wrap_distributed(self):
        """SpeechBrain's, with options of DistributedDataParallel that it does not pass on."""
        if not self.distributed_launch:
            return
        for name, module in self.modules.items():
            if any(parameter.requires_grad for parameter in module.parameters()):
                unused = self.find_unused_parameters
                self.modules[name] = data_parallel(module, self.device, unused)

    # ---- checkpoints within an epoch, and signals

    def fit(self, *args, **kwargs):
        """SpeechBrain's; a signal ends it with a :class:`RunStopped` (a KeyboardInterrupt) where
        everything can be saved."""
        with held_signals():
            super().fit(*args, **kwargs)

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        """SpeechBrain's, but by minutes and steps at once, not while gradients are accumulated, and
        also when any process got a signal."""
        if self.step % self.grad_accumulation_factor:
            return False
        elapsed_minutes = (time.time() - last_ckpt_time) / 60
        due = 0 < self.ckpt_interval_minutes < elapsed_minutes
        due = due or 0 < self.ckpt_interval_steps <= steps_since_ckpt
        # The first process has the clock. All have to save, or stop, at the same step.
        due, asked = self._agreed([int(due and self.rank == 0), noted_signal()])
        if asked:
            self._stop(asked)
        return bool(due) and self.checkpointer is not None

    def _agreed(self, own):
        """The greatest of all processes' numbers; where reading is late, those of the batch before,
        until one of them asks for something."""
        if not (self.reads_late and self.world > 1):
            return greatest_everywhere(own, self.device)
        numbers = torch.tensor(own).to(self.device, non_blocking=True)
        before, self._asked = self._asked, HostCopy(all_reduce_greatest(numbers))
        agreed = [0] * len(own) if before is None else [int(number) for number in before.read()]
        if any(agreed):
            self._asked = None
        return agreed

    def _save_intra_epoch_ckpt(self):
        """SpeechBrain's, of all that was done."""
        self.catch_up()
        super()._save_intra_epoch_ckpt()

    def evaluate_batch(self, batch, stage):
        """SpeechBrain's, unless there was a signal."""
        if noted_signal():
            # The others get here when their part of the validation is done.
            self.stop_if_asked()
        return super().evaluate_batch(batch, stage)

    def stop_if_asked(self, saved=False):
        """Ends the run if any process got a signal, without saving if ``saved``. Every process has
        to call it, once, during a validation and after it."""
        (asked,) = greatest_everywhere([noted_signal()], self.device)
        if asked:
            # As before validation, which is repeated.
            self.step, self.avg_train_loss = self.trained
            self._stop(asked, saved)

    def _stop(self, number, saved=False):
        self.catch_up()
        where = f"step {self.optimizer_step:,} is the last"
        # What --debug saves is removed.
        if self.checkpointer is not None and not self.debug:
            if not saved:
                self._save_intra_epoch_ckpt()
            where += f" and saved in {self.checkpointer.checkpoints_dir}"
            where += "; the same command resumes from there"
        raise RunStopped(number, where)


class Until:
    """The batches of a loader until ``enough()``. It is asked before each batch.

    Example
    -------
    >>> seen = []
    >>> for batch in Until("abc", lambda: len(seen) == 2):
    ...     seen.append(batch)
    >>> seen
    ['a', 'b']
    """

    def __init__(self, loader, enough):
        self.loader, self.enough = loader, enough
        self.batches = None

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.batches = iter(self.loader)
        while not self.enough():
            try:
                batch = next(self.batches)
            except StopIteration:
                return
            yield batch

    def close(self):
        """Ends the processes of the loader. Torch does so when nothing refers to the iterator, but
        an exception does until the program ends, which then waits for them."""
        for name in ("close", "_shutdown_workers"):
            getattr(self.batches, name, lambda: None)()
