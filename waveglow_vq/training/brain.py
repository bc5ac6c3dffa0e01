"""The training loop that all recipes share.

Authors
 * The waveglow-vq developers, 2026
"""

import logging
import time
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.processes import broadcast_from_first, everyones
from waveglow_vq.lobes.quantizer_statistics import CodeStatistics
from waveglow_vq.training.averaging import (
    WeightAverage,
    average_checkpoints,
    choose_checkpoints,
)
from waveglow_vq.training.pipeline import (
    collate_utterances,
    part_of,
    planned_steps,
    training_loader,
)
from waveglow_vq.training.progress import Progress
from waveglow_vq.training.report import (
    EpochMeans,
    drop_later_epochs,
    write_json,
    write_samples,
)
from waveglow_vq.training.steps import CarefulBrain

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# The key in a checkpoint's meta by which the best one is found.
VALID_LOSS = "valid_loss"


class WaveGlowBrain(CarefulBrain):
    """Trains a :class:`~waveglow_vq.lobes.model.WaveGlowVQ` on segments, evaluates it on whole
    utterances, and leaves samples, figures and an export.

    It expects ``modules: {model: ...}`` and, of ``hparams``, the keys of the LJSpeech recipe's
    YAML files below "Training", "Evaluation" and "Objects", where each is described. With more
    than one speaker, ``hparams["speakers"]`` says who they are, a
    :class:`~waveglow_vq.data.speakers.Speakers`.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.model = hparams["model"]
        self.features = hparams["features"]
        self.speakers = hparams.get("speakers")
        self.progress = Progress(self.model)
        self.averaged = None
        if hparams["use_averaging"]:
            self.averaged = WeightAverage(self.model, hparams["averaging_decay"])
        if checkpointer is not None:
            checkpointer.add_recoverable("progress", self.progress, optional_load=True)
            if self.averaged is not None:
                checkpointer.add_recoverable("averaged", self.averaged)
        # What is evaluated and exported: the average where there is one.
        self.evaluated = self.model if self.averaged is None else self.averaged.module
        self.tensorboard = None

    # ---- data and plan

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **loader_kwargs):
        """Training data are drawn by duration; with their number, the schedule is planned.
        Evaluation is shared among the processes."""
        if stage != sb.Stage.TRAIN:
            return super().make_dataloader(
                part_of(dataset, self.rank, self.world),
                stage,
                ckpt_prefix,
                collate_fn=collate_utterances,
                **loader_kwargs,
            )
        loader, self.train_sampler = training_loader(
            dataset,
            segments_per_epoch=self.hparams.segments_per_epoch,
            seed=self.hparams.seed,
            rank=self.rank,
            world=self.world,
            **loader_kwargs,
        )
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
            # What follows the checkpoint will happen again.
            drop_later_epochs(self.hparams.train_log, epochs.current)
            if self.hparams.use_tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                folder = Path(self.hparams.output_folder) / "tensorboard"
                self.tensorboard = SummaryWriter(str(folder), purge_step=schedule.steps + 1)
        if schedule.time_share >= 1:
            # The time was spent before: no epoch follows.
            epochs.current = epochs.limit

    # ---- a step

    def model_inputs(self, batch, stage):
        """Keyword arguments of the model's ``forward``."""
        wav, wav_lens = batch.wav
        mel, mel_lens = batch.mel
        inputs = {"wav": wav, "mel": mel.transpose(1, 2), "mel_lens": mel_lens}
        inputs.update(self.speaker_inputs(batch))
        if stage != sb.Stage.TRAIN:
            return {**inputs, "wav_lens": wav_lens}
        inputs["starts"] = batch.start
        if hasattr(batch, "history"):
            inputs["history"] = batch.history.data
        return inputs

    def speaker_inputs(self, batch):
        """Those of the arguments that say who speaks, where the model asks for it."""
        if self.model.speakers is None or not hasattr(batch, "speaker"):
            return {}
        inputs = {"speaker": batch.speaker}
        if hasattr(batch, "pitch"):
            inputs["pitch"] = batch.pitch.data
            inputs["f0_statistics"] = batch.f0_statistics.data
        if hasattr(batch, "reference"):
            inputs["reference"] = batch.reference.data.transpose(1, 2)
            inputs["reference_lens"] = batch.reference.lengths
        return inputs

    def compute_forward(self, batch, stage):
        """One call of the model; its average in evaluation, where there is one."""
        batch = batch.to(self.device)
        model = self.modules.model if stage == sb.Stage.TRAIN else self.evaluated
        return model(**self.model_inputs(batch, stage))

    def compute_objectives(self, predictions, batch, stage):
        """The model's own loss; keeps what the epoch's report needs."""
        terms = {**predictions.terms, "loss": predictions.loss}
        if stage == sb.Stage.TRAIN:
            # Segments count alike; of utterances, seconds do.
            self.progress.report(terms, len(batch.wav.data), predictions.statistics)
            return predictions.loss
        wav, wav_lens = batch.wav
        self.means.add(terms, wav_lens.double().sum() * wav.shape[1])
        if predictions.statistics:
            self.codes.accumulate(predictions.statistics)
        self._keep_utterances(batch, stage)
        return predictions.loss

    def evaluate_batch(self, batch, stage):
        """SpeechBrain's, for a batch of which something could be read."""
        self._note_skipped_clips(batch.skipped)
        if not hasattr(batch, "wav"):
            return torch.zeros(())
        return super().evaluate_batch(batch, stage)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """What follows an optimizer step: dead codes, the average, the learning rate. Nothing of
        all this, where there was none."""
        for sentences in batch.skipped:
            self._note_skipped_clips(sentences)
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
        schedule.advance(seconds)
        schedule.apply(self.optimizer)
        if schedule.time_share >= 1:
            # With the time spent, SpeechBrain is told that the steps are.
            self.optimizer_step_limit = self.optimizer_step

    def _skip_step(self):
        """Counts; ends the run where it does not recover, on all processes alike."""
        self.progress.drop()
        count = self.progress.skipped_steps
        if self.recovers_from(count):
            logger.info(f"a step was skipped: its gradient is not finite ({count} in this epoch)")
            return
        means = ", ".join(
            f"{name} {value:.4g}" for name, value in self.progress.means.summary().items()
        )
        raise UserError(
            f"loss or gradient are not finite for the {count}th time in this epoch (means so far: "
            f"{means}); run the same command again to go on from the last checkpoint with a lower "
            "--learning_rate, a lower --max_grad_norm or --precision fp32"
        )

    def _note_skipped_clips(self, sentences):
        for sentence in sentences:
            if self.progress.note_skipped_clip(sentence):
                logger.warning(f"a clip is skipped: {sentence}", main_process_only=False)
            limit = self.hparams.max_skipped_clips
            if len(self.progress.skipped_clips) > limit:
                raise UserError(
                    f"{sentence}; more than {limit} clips cannot be read (max_skipped_clips): "
                    "repair the corpus or prepare it anew"
                )

    # ---- an epoch

    def on_stage_start(self, stage, epoch=None):
        """Begins new means, or goes on with those of the epoch that was interrupted."""
        self.last_step_at = time.monotonic()
        if stage == sb.Stage.TRAIN:
            self.progress.begin(self.hparams.seed + 7919 * epoch + 104729 * self.rank)
            return
        self.means, self.codes, self.kept = EpochMeans(), CodeStatistics(), []
        # Through train(), so that nothing cached survives a change of the weights.
        self.evaluated.train()
        self.evaluated.eval()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Reports; after validation, saves; after the test, writes results and the export."""
        if stage == sb.Stage.TRAIN:
            progress = self.progress
            if self.step % self.grad_accumulation_factor:
                # SpeechBrain drops an accumulation that the epoch's end cuts off; so do the codes.
                self.model.after_optimizer_step(self.optimizer, taken=False)
            stats = self._statistics(progress.means, progress.codes)
            stats["segments_per_second"] = (
                progress.segments * self.world / max(progress.seconds, 1e-9)
            )
            if self.model.quantizer is not None:
                stats["restarted_codes"] = float(progress.restarted)
            stats["skipped_steps"] = float(progress.skipped_steps)
            self.train_stats = stats
            return
        stats = self._statistics(self.means, self.codes)
        if not stats:
            raise UserError(
                f"none of the clips of {stage.name.lower()}.json can be read; see the warnings, "
                "repair the corpus or prepare it anew"
            )
        if stage == sb.Stage.VALID:
            self._end_of_epoch(epoch, stats)
        else:
            self._end_of_test(stats)

    def _statistics(self, means, codes):
        """Means of the loss terms and the figures of the codes, over all processes."""
        stats = means.summary()
        if self.model.quantizer is not None:
            rate = self.features.sample_rate / self.model.conditioner.samples_per_code
            codes = codes.summary(self.evaluated.quantizer.codebook, rate)
            if "used" in codes:
                codes = {"used_codes": codes.pop("used"), **codes}
            stats.update(codes)
        return stats

    def _end_of_epoch(self, epoch, stats):
        schedule = self.hparams.schedule
        meta = {
            "epoch": epoch,
            "steps": schedule.steps,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        self.hparams.train_logger.log_stats(meta, self.train_stats, stats)
        if self.tensorboard is not None:
            for name, value in {**meta, **_prefixed("train", self.train_stats)}.items():
                self.tensorboard.add_scalar(name, value, schedule.steps)
            for name, value in _prefixed("valid", stats).items():
                self.tensorboard.add_scalar(name, value, schedule.steps)
        if if_main_process() and self.kept:
            folder = Path(self.hparams.output_folder) / "samples" / f"epoch_{epoch:04d}"
            self._write_samples(folder, scores=False)
        # Every process: saving is collective. Plain floats: tensors would break every resume.
        self.checkpointer.save_and_keep_only(
            meta={VALID_LOSS: self._valid_loss(stats), "epoch": epoch},
            num_to_keep=max(self.hparams.keep_checkpoints, self.hparams.average_checkpoints),
            min_keys=[VALID_LOSS],
            importance_keys=[],
            ckpt_predicate=lambda checkpoint: checkpoint.meta["end-of-epoch"],
        )
        # Those from inside of epochs have served.
        self.checkpointer.delete_checkpoints(
            num_to_keep=0,
            ckpt_predicate=lambda checkpoint: not checkpoint.meta["end-of-epoch"],
            verbosity=logging.DEBUG,
        )

    def _valid_loss(self, stats):
        """By what the best checkpoint is chosen: likelihood and predicted log-mel. The quantiser's
        own losses are relative to the state of the codes, and no measure across epochs."""
        return float(stats["nll"] + self.model.mel_weight * stats.get("mel_l1", 0.0))

    # ---- the test

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Loads the best checkpoint, and averages saved ones where that is asked for."""
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
        skipped = self._everyones_skipped_clips()
        if if_main_process():
            stats.update(self._write_samples(output_folder / "samples", scores=True))
            write_json(output_folder / "test_results.json", stats)
            self._export(output_folder / "export")
            for sentence, count in skipped.items():
                logger.warning(f"skipped {count} times in this run: {sentence}")
        # Collective again.
        self.hparams.train_logger.log_stats(
            {"epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
        )

    def _everyones_skipped_clips(self):
        """Sentences about unreadable clips, and how often, over all processes."""
        total = {}
        for clips in everyones(self.progress.skipped_clips):
            for sentence, count in clips.items():
                total[sentence] = total.get(sentence, 0) + count
        return total

    def _export(self, folder):
        from waveglow_vq.training.export import export_model, interface_of

        text = (Path(self.hparams.output_folder) / "hyperparams.yaml").read_text("utf-8")
        labels = None if self.model.speakers is None else self.speakers.labels
        export_model(text, self.evaluated, folder, interface_of(self.model), labels)
        logger.info(f"Exported to {folder}")

    # ---- samples

    def _keep_utterances(self, batch, stage):
        """Keeps the first utterances of a stage, as (id, wav, mel, who)."""
        wanted = self.hparams.samples_per_epoch
        if stage == sb.Stage.TEST:
            wanted = self.hparams.test_samples
        who = self.speaker_inputs(batch)
        lens = who.pop("reference_lens", None)
        rows = zip(batch.id, *batch.wav, *batch.mel, strict=True)
        for b, (name, wav, wav_len, mel, mel_len) in enumerate(rows):
            if len(self.kept) >= wanted or not if_main_process():
                return
            samples = int((wav_len * len(wav)).round())
            frames = int((mel_len * len(mel)).round())
            own = {key: value[b : b + 1] for key, value in who.items()}
            if "reference" in own:
                own["reference"] = own["reference"][..., : int((lens[b] * mel.shape[0]).round())]
            self.kept.append((name, wav[:samples], mel[:frames], own))

    def _write_samples(self, folder, scores):
        return write_samples(
            folder, self.kept, self.evaluated, self.features, self.hparams.sampling_sigma, scores
        )


def _prefixed(prefix, stats):
    return {f"{prefix}/{name}": value for name, value in stats.items()}
