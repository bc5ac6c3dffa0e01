"""The training loop that all recipes share, on SpeechBrain's own ``fit_batch``.

Authors
 * The waveglow-vq developers, 2026
"""

import importlib.util
import time
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizer_statistics import CodeStatistics, broadcast_from_first
from waveglow_vq.training.averaging import WeightAverage, average_saved_weights
from waveglow_vq.training.pipeline import planned_steps, segment_sampler
from waveglow_vq.training.report import EpochMeans, write_json, write_samples

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# The key in a checkpoint's meta by which the best one is found.
VALID_LOSS = "valid_loss"


class WaveGlowBrain(sb.Brain):
    """Trains a :class:`~waveglow_vq.lobes.model.WaveGlowVQ` on segments, evaluates it on whole
    utterances, and leaves samples, figures and an export.

    It expects ``modules: {model: ...}`` and, of ``hparams``, the keys of the LJSpeech recipe's
    YAML files below "Training", "Evaluation" and "Objects", where each is described. With more
    than one speaker, ``hparams["speakers"]`` says who they are, a
    :class:`~waveglow_vq.data.speakers.Speakers`.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        if not self.max_grad_norm > 0:
            raise UserError(
                f"max_grad_norm: {self.max_grad_norm}; it has to be positive (a large number such "
                "as 1e9 to clip nothing)"
            )
        if self.optimizer_step_limit is not None:
            # SpeechBrain hands it on as the text that stood on the command line.
            if not str(self.optimizer_step_limit).isdigit():
                raise UserError(
                    f"optimizer_step_limit: {self.optimizer_step_limit}; it is a number of steps"
                )
            self.optimizer_step_limit = int(self.optimizer_step_limit)
        _require("matplotlib", "the pictures of samples", "pip install waveglow-vq[train]")
        self.model = hparams["model"]
        self.features = hparams["features"]
        self.speakers = hparams.get("speakers")
        self.averaged = None
        if hparams["use_averaging"]:
            self.averaged = WeightAverage(self.model, hparams["averaging_decay"])
            if checkpointer is not None:
                checkpointer.add_recoverable("averaged", self.averaged)
        # What is evaluated and exported: the average where there is one.
        self.evaluated = self.model if self.averaged is None else self.averaged.module
        self.tensorboard = None
        if hparams["use_tensorboard"]:
            _require("tensorboard", "use_tensorboard", "pip install waveglow-vq[train]")
            if if_main_process():
                from torch.utils.tensorboard import SummaryWriter

                folder = Path(hparams["output_folder"]) / "tensorboard"
                self.tensorboard = SummaryWriter(str(folder))

    # ---- data and plan

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **loader_kwargs):
        """Training data are drawn by duration; with their number, the schedule is planned."""
        if stage == sb.Stage.TRAIN:
            sampler = segment_sampler(dataset, self.hparams.segments_per_epoch, self.hparams.seed)
            loader_kwargs["sampler"] = sampler
        loader = super().make_dataloader(dataset, stage, ckpt_prefix, **loader_kwargs)
        if stage == sb.Stage.TRAIN:
            if self.train_sampler is None:
                # SpeechBrain tells the epoch to samplers that it made itself, and to this one.
                self.train_sampler = sampler
            self.hparams.schedule.planned_steps = planned_steps(
                len(loader), self.hparams.number_of_epochs, self.grad_accumulation_factor
            )
        return loader

    def on_fit_start(self):
        """Resumes, then sets the rate of the next step."""
        super().on_fit_start()
        self.hparams.schedule.apply(self.optimizer)
        if self.hparams.schedule.time_share >= 1:
            # The time was spent before: no epoch follows.
            self.hparams.epoch_counter.current = self.hparams.epoch_counter.limit

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
        wav, wav_lens = batch.wav
        # Segments count alike; of utterances, seconds do.
        weight = len(wav) if stage == sb.Stage.TRAIN else wav_lens.double().sum() * wav.shape[1]
        self.means.add({**predictions.terms, "loss": predictions.loss}, weight)
        if predictions.statistics:
            self.codes.accumulate(predictions.statistics)
        if stage == sb.Stage.TRAIN:
            self.segments += len(wav)
        else:
            self._keep_utterances(batch, stage)
        return predictions.loss

    def check_loss_isfinite(self, loss):
        """SpeechBrain's check and patience, with advice."""
        try:
            super().check_loss_isfinite(loss)
        except ValueError:
            means = ", ".join(f"{name} {value:.4g}" for name, value in self.means.summary().items())
            raise UserError(
                f"the loss is not finite for the {self.nonfinite_count}th time in this epoch "
                f"(means so far: {means}); run the same command again to go on from the last "
                "checkpoint with a lower --learning_rate, a lower --max_grad_norm or "
                "--precision fp32"
            ) from None

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """What follows an optimizer step: dead codes, the average, the learning rate."""
        if not should_step:
            return
        if self.model.quantizer is not None:
            self.restarted += self.model.quantizer.after_optimizer_step(self.optimizer)
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        schedule = self.hparams.schedule
        now = time.monotonic()
        seconds, self.last_step_at = now - self.last_step_at, now
        if schedule.max_minutes is not None:
            # All processes have to stop at the same step.
            seconds = float(broadcast_from_first(torch.tensor(seconds, device=self.device)))
        schedule.advance(seconds)
        schedule.apply(self.optimizer)
        if schedule.time_share >= 1:
            # With the time spent, SpeechBrain is told that the steps are.
            self.optimizer_step_limit = self.optimizer_step

    # ---- an epoch

    def on_stage_start(self, stage, epoch=None):
        """Begins new means."""
        self.means, self.codes = EpochMeans(), CodeStatistics()
        self.kept, self.segments, self.restarted = [], 0, 0
        self.began = self.last_step_at = time.monotonic()
        if stage == sb.Stage.TRAIN:
            # A run that is resumed after an epoch draws the segments that it would have drawn.
            rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
            torch.manual_seed(self.hparams.seed + 7919 * epoch + 104729 * rank)
        else:
            # Through train(), so that nothing cached survives a change of the weights.
            self.evaluated.train()
            self.evaluated.eval()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Reports; after validation, saves; after the test, writes results and the export."""
        stats = self._statistics()
        if stage == sb.Stage.TRAIN:
            elapsed = time.monotonic() - self.began
            world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
            stats["segments_per_second"] = self.segments * world / max(elapsed, 1e-9)
            if self.model.quantizer is not None:
                stats["restarted_codes"] = float(self.restarted)
            self.train_stats = stats
        elif stage == sb.Stage.VALID:
            self._end_of_epoch(epoch, stats)
        else:
            self._end_of_test(stats)

    def _statistics(self):
        """Means of the loss terms and the figures of the codes, over all processes."""
        stats = self.means.summary()
        if self.model.quantizer is not None:
            rate = self.features.sample_rate / self.model.conditioner.samples_per_code
            codes = self.codes.summary(self.evaluated.quantizer.codebook, rate)
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
            num_to_keep=max(1, self.hparams.average_checkpoints),
            min_keys=[VALID_LOSS],
            importance_keys=[],
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
            state = average_saved_weights(self.checkpointer, self.hparams.average_checkpoints)
            self.evaluated = self.model
            self.evaluated.load_state_dict(state)

    def _end_of_test(self, stats):
        output_folder = Path(self.hparams.output_folder)
        if if_main_process():
            stats.update(self._write_samples(output_folder / "samples", scores=True))
            write_json(output_folder / "test_results.json", stats)
            self._export(output_folder / "export")
        # Collective again.
        self.hparams.train_logger.log_stats(
            {"epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
        )

    def _export(self, folder):
        from waveglow_vq.training.export import export_model

        text = (Path(self.hparams.output_folder) / "hyperparams.yaml").read_text("utf-8")
        interface = "WaveGlowVocoder" if self.model.quantizer is None else "SpeechCodec"
        labels = None
        if self.model.speakers is not None:
            interface, labels = "VoiceConverter", self.speakers.labels
        export_model(text, self.evaluated, folder, interface, labels)
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


def _require(module, what, remedy):
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what}: needs {module}, which is not installed; {remedy}")
