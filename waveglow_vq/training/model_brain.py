"""The training loop that all models of this package share."""

import contextlib
import logging
import time
from pathlib import Path

from waveglow_vq.data.loaders import part_of, planned_steps
from waveglow_vq.errors import UserError
from waveglow_vq.training.averaging import WeightAverage, average_checkpoints, choose_checkpoints
from waveglow_vq.training.base_brain import BaseBrain, Until
from waveglow_vq.training.epoch_report import EpochMeans, drop_later_epochs
from waveglow_vq.training.progress import Progress
from waveglow_vq.training.run.console import (
    SECONDS_BETWEEN_LINES,
    already_finished_line,
    limit_line,
    minutes_bar,
    move_bar,
    progress_line,
    seconds_left,
)
from waveglow_vq.training.run.corpus_record import CorpusRecord, small_splits, split_facts
from waveglow_vq.utils.distributed import all_gather_object, broadcast_from_first
from waveglow_vq.utils.files import write_json

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# The key in a checkpoint's meta by which the best one is found.
VALID_LOSS = "valid_loss"


class ModelBrain(BaseBrain):
    """Trains and evaluates a model whose ``forward`` does all the work of a step, and writes
    figures, samples and an export.

    The model is ``modules: {model: ...}``. Its ``forward`` returns an output with ``loss``, a
    scalar, ``terms``, a dict of scalars to report, and, for models with codes, ``statistics``. It
    has ``after_optimizer_step(optimizer, taken)``, which returns the number of restarted codes,
    ``training_state()`` and ``load_training_state(state)``. ``hparams`` holds the keys of
    ``hparams/training.yaml``.

    Subclasses implement the methods that raise NotImplementedError, and may extend those that say
    so.
    """

    # What an epoch consists of; for the speed.
    UNIT = "items"

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.model = hparams["model"]
        self.progress = Progress(self.model)
        self.averaged = None
        if hparams["use_averaging"]:
            self.averaged = WeightAverage(self.model, hparams["averaging_decay"])
        if checkpointer is not None:
            checkpointer.add_recoverable("progress", self.progress, optional_load=True)
            if self.averaged is not None:
                checkpointer.add_recoverable("averaged", self.averaged)
        # What is evaluated and exported: the average if there is one.
        self.evaluated = self.model if self.averaged is None else self.averaged.module
        self.tensorboard = None
        self.bar = None

    # ---- what depends on the model

    def training_loader(self, dataset, **loader_kwargs):
        """The loader of training batches, whose position can be saved, and its sampler with
        ``set_epoch``."""
        raise NotImplementedError

    def evaluation_options(self):
        """Keyword arguments of the loader of evaluation batches."""
        raise NotImplementedError

    def model_inputs(self, batch, stage):
        """Keyword arguments of the model's ``forward``."""
        raise NotImplementedError

    def weight_of(self, batch, stage):
        """Weight of a batch in the means of an epoch; in training, how many of UNIT it holds."""
        raise NotImplementedError

    def evaluation_statistics(self, stage):
        """Figures of validation or test; empty if nothing was evaluated. May be extended. Every
        process has to call it."""
        return self.means.summary()

    def training_statistics(self):
        """Figures of an epoch of training. May be extended. Every process has to call it."""
        return self.progress.means.summary()

    def no_evaluation(self, stage):
        """The error if nothing could be evaluated."""
        raise NotImplementedError

    def valid_loss(self, stats):
        """The figure that chooses the best checkpoint."""
        raise NotImplementedError

    def seconds_of(self, entry):
        """Duration of an utterance, from its entry of the dataset."""
        raise NotImplementedError

    @property
    def interface(self):
        """Name of the export's class of ``waveglow_vq.inference``."""
        raise NotImplementedError

    @property
    def inference_options(self):
        """Options that the command line needs with the export."""
        return []

    def write_epoch_samples(self, folder):
        """Writes samples of the validation, on the main process."""

    def write_test_samples(self, folder):
        """Writes samples of the test, on the main process, after the export; returns more figures
        of the test."""
        return {}

    def export(self, folder):
        """Exports the evaluated model, on the main process."""
        raise NotImplementedError

    # ---- data and plan

    def know_corpus(self, **splits):
        """Warns of splits (by name: ``train``, ``valid``, ``test``) that are too small, and records
        the corpus in the checkpoints."""
        facts = {name: split_facts(data, self.seconds_of) for name, data in splits.items()}
        for sentence in small_splits(facts):
            logger.warning(sentence)
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("corpus", CorpusRecord(facts), optional_load=True)

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **loader_kwargs):
        """Plans the schedule with the number of training batches. The processes share the
        evaluation."""
        if stage != sb.Stage.TRAIN:
            self.entries = dataset.data
            return super().make_dataloader(
                part_of(dataset, self.rank, self.world),
                stage,
                ckpt_prefix,
                **self.evaluation_options(),
                **loader_kwargs,
            )
        loader, self.train_sampler = self.training_loader(dataset, **loader_kwargs)
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable(f"{ckpt_prefix}{stage.name}", loader)
        self.hparams.schedule.planned_steps = planned_steps(
            len(loader), self.hparams.number_of_epochs, self.grad_accumulation_factor
        )
        return loader

    def on_fit_start(self):
        """Resumes, then sets the rate of the next step."""
        super().on_fit_start()
        schedule, epochs = self.hparams.schedule, self.hparams.epoch_counter
        schedule.apply(self.optimizer)
        if if_main_process():
            # What follows the checkpoint is repeated.
            drop_later_epochs(self.hparams.train_log, epochs.current)
            if self.hparams.use_tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                folder = Path(self.hparams.output_folder) / "tensorboard"
                self.tensorboard = SummaryWriter(str(folder), purge_step=schedule.steps + 1)
        if sentence := schedule.warning():
            logger.warning(sentence)
        step_limit = self.optimizer_step_limit if self._optimizer_step_limit_exceeded else None
        if self._optimizer_step_limit_exceeded and not self.progress.inside_of_epoch:
            # No epoch follows.
            epochs.current = epochs.limit
        if epochs.current >= epochs.limit:
            folder = self.hparams.output_folder
            logger.info(already_finished_line(schedule, epochs.current, folder, step_limit))
        self.began_at = schedule.steps, schedule.seconds
        self.last_line_at = time.monotonic()

    def _fit_train(self, train_set, epoch, enable):
        """SpeechBrain's, with a time limit, of which the bar shows minutes."""
        schedule = self.hparams.schedule
        limited = schedule.max_minutes is not None
        until = Until(train_set, lambda: self._optimizer_step_limit_exceeded)
        with contextlib.closing(until), contextlib.ExitStack() as stack:
            if limited:
                bar = minutes_bar(schedule, enable, self.tqdm_barcolor["train"])
                self.bar = stack.enter_context(bar)
            super()._fit_train(until, epoch, enable and not limited)

    @property
    def _optimizer_step_limit_exceeded(self):
        """The limits in steps and in time."""
        return self.hparams.schedule.time_share >= 1 or super()._optimizer_step_limit_exceeded

    # ---- a step

    def compute_forward(self, batch, stage):
        """Calls the model, or its average in evaluation."""
        batch = batch.to(self.device, non_blocking=True)
        model = self.modules.model if stage == sb.Stage.TRAIN else self.evaluated
        return model(**self.model_inputs(batch, stage))

    def compute_objectives(self, predictions, batch, stage):
        """The model's own loss; keeps its terms for the report. May be extended."""
        terms = {**predictions.terms, "loss": predictions.loss}
        weight = self.weight_of(batch, stage)
        if stage == sb.Stage.TRAIN:
            self.progress.report(terms, weight, getattr(predictions, "statistics", None))
        else:
            self.means.add(terms, weight)
            self.evaluated_ids += batch.id
        return predictions.loss

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Restarts dead codes and updates the average and the learning rate after an optimizer
        step."""
        if not should_step:
            return
        restarted = self.model.after_optimizer_step(self.optimizer, self.step_taken)
        if not self.step_taken:
            self._skip_step()
            return
        self.progress.take()
        self.progress.restarted += restarted
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        schedule = self.hparams.schedule
        now = time.monotonic()
        seconds, self.last_step_at = now - self.last_step_at, now
        self.progress.seconds += seconds
        if schedule.max_minutes is not None:
            # All processes have to stop at the same step.
            seconds = float(broadcast_from_first(torch.tensor(seconds, device=self.device)))
        risen = schedule.cut_short_by_time
        schedule.advance(seconds)
        schedule.apply(self.optimizer)
        if schedule.cut_short_by_time and not risen:
            logger.info(
                f"the warm-up ends after {schedule.steps:,} steps, a tenth of the time "
                f"(warmup_steps: {schedule.warmup_steps:,})"
            )
        if schedule.time_share >= 1:
            logger.info(limit_line(schedule))
        elif self._optimizer_step_limit_exceeded:
            logger.info(f"limit of {self.optimizer_step_limit:,} steps reached")
        self._show_progress(now)

    def _show_progress(self, now):
        """Moves the bar of minutes, or logs a line per minute."""
        schedule, loss = self.hparams.schedule, self.avg_train_loss
        known = self.step > 1  # before, the epoch has no mean
        if known and self.bar is not None:
            move_bar(self.bar, schedule, loss)
        if known and self.noprogressbar and now - self.last_line_at >= SECONDS_BETWEEN_LINES:
            self.last_line_at = now
            logger.info(progress_line(schedule, loss, seconds_left(schedule, *self.began_at)))

    def _skip_step(self):
        """Counts a skipped step; ends the run, on all processes alike, if it does not recover."""
        self.progress.drop()
        count = self.progress.skipped_steps
        if self.recovers_from(count):
            logger.info(f"a step was skipped: its gradient is not finite ({count} in this epoch)")
            return
        means = ", ".join(
            f"{name} {value:.4g}" for name, value in self.progress.means.summary().items()
        )
        raise UserError(
            f"the gradient is not finite in {count} steps of this epoch (means so far: {means}); "
            "repeat the command to resume from the last checkpoint with a lower --learning_rate, a "
            "lower --max_grad_norm or --precision fp32"
        )

    # ---- an epoch

    def on_stage_start(self, stage, epoch=None):
        """Begins new means, or resumes those of an interrupted epoch."""
        self.last_step_at = time.monotonic()
        if stage == sb.Stage.TRAIN:
            self.progress.begin(self.hparams.seed + 7919 * epoch + 104729 * self.rank)
            return
        self.means, self.evaluated_ids = EpochMeans(), []
        # Through train(), which drops what was cached for earlier weights.
        self.evaluated.train()
        self.evaluated.eval()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Reports; after validation, saves; after the test, writes results and the export."""
        if stage == sb.Stage.TRAIN:
            if self.step % self.grad_accumulation_factor:
                # SpeechBrain drops an accumulation at the end of an epoch; so do the codes.
                self.model.after_optimizer_step(self.optimizer, taken=False)
            progress, stats = self.progress, self.training_statistics()
            speed = progress.units * self.world / max(progress.seconds, 1e-9)
            stats[f"{self.UNIT}_per_second"] = speed
            stats["skipped_steps"] = float(progress.skipped_steps)
            self.train_stats = stats
            self.trained = self.step, self.avg_train_loss
            return
        if stage == sb.Stage.VALID:
            self.stop_if_asked()
        stats = self.evaluation_statistics(stage)
        if not stats:
            raise self.no_evaluation(stage)
        if stage == sb.Stage.VALID:
            self._end_of_epoch(epoch, stats)
            self.stop_if_asked(saved=True)
        else:
            self._end_of_test({**stats, **self._count_evaluated()})

    def _count_evaluated(self):
        """How many clips and seconds all processes have evaluated."""
        seconds = sum(float(self.seconds_of(self.entries[key])) for key in self.evaluated_ids)
        parts = all_gather_object((len(self.evaluated_ids), seconds))
        clips, seconds = map(sum, zip(*parts, strict=True))
        return {"clips": clips, "seconds": round(seconds, 3)}

    def _end_of_epoch(self, epoch, stats):
        schedule = self.hparams.schedule
        meta = {
            "epoch": epoch,
            "steps": schedule.steps,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        self.hparams.train_logger.log_stats(meta, self.train_stats, stats)
        if self.tensorboard is not None:
            figures = {f"train/{name}": value for name, value in self.train_stats.items()}
            figures |= {f"valid/{name}": value for name, value in stats.items()}
            for name, value in {**meta, **figures}.items():
                self.tensorboard.add_scalar(name, value, schedule.steps)
        if if_main_process():
            folder = Path(self.hparams.output_folder) / "samples" / f"epoch_{epoch:04d}"
            self.write_epoch_samples(folder)
        # Every process: saving is collective. Plain floats: tensors would break every resume.
        self.checkpointer.save_and_keep_only(
            meta={VALID_LOSS: float(self.valid_loss(stats)), "epoch": epoch},
            num_to_keep=max(self.hparams.keep_checkpoints, self.hparams.average_checkpoints),
            min_keys=[VALID_LOSS],
            importance_keys=[],
            ckpt_predicate=lambda checkpoint: checkpoint.meta["end-of-epoch"],
        )
        # Those from within epochs are obsolete.
        self.checkpointer.delete_checkpoints(
            num_to_keep=0,
            ckpt_predicate=lambda checkpoint: not checkpoint.meta["end-of-epoch"],
            verbosity=logging.DEBUG,
        )

    # ---- the test

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Loads the best checkpoint, or the average of the last."""
        if self.checkpointer.find_checkpoint(max_key=max_key, min_key=min_key) is None:
            raise UserError(
                f"{self.checkpointer.checkpoints_dir} holds no checkpoint to evaluate; train first"
            )
        super().on_evaluate_start(max_key=max_key, min_key=min_key)
        if self.hparams.average_checkpoints > 1:
            chosen = choose_checkpoints(self.checkpointer, self.hparams.average_checkpoints)
            self.evaluated = self.model
            self.evaluated.load_state_dict(average_checkpoints(chosen))

    def _end_of_test(self, stats):
        output_folder = Path(self.hparams.output_folder)
        if if_main_process():
            self.export(output_folder / "export")
            logger.info(f"Exported to {output_folder / 'export'}")
            stats.update(self.write_test_samples(output_folder / "samples"))
            write_json(output_folder / "test_results.json", stats)
        # Collective again.
        self.hparams.train_logger.log_stats(
            {"epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
        )
