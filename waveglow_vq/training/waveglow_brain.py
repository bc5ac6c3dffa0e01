"""The training loop of vocoders, codecs and converters."""

import copy
from collections import Counter
from pathlib import Path

from waveglow_vq.data.loaders import collate_utterances, training_loader
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.network.cuda_graphs import graph_networks
from waveglow_vq.lobes.quantizers.statistics import CodeStatistics
from waveglow_vq.training.compilation import compile_coupling_networks
from waveglow_vq.training.epoch_report import write_samples
from waveglow_vq.training.model_brain import ModelBrain
from waveglow_vq.utils.distributed import all_gather_object
from waveglow_vq.utils.masking import none_if_whole, whole_lengths
from waveglow_vq.utils.validation import require_choice, require_number

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class WaveGlowBrain(ModelBrain):
    """Trains a :class:`~waveglow_vq.lobes.model.WaveGlowVQ` on segments and evaluates it on whole
    utterances.

    Besides the keys of its base, ``hparams`` holds those of ``hparams/segments.yaml``,
    ``features``, ``sampling_sigma``, ``refine`` and, with several speakers, ``speakers``, a
    :class:`~waveglow_vq.data.speakers.Speakers`.
    """

    UNIT = "segments"

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.features = hparams["features"]
        self.speakers = hparams.get("speakers")
        # Where the log-mels of training are computed: on a GPU, or by the processes of the loader.
        self.makes_log_mels = self.device_type == "cuda"
        self.own_features = copy.deepcopy(self.features).to(self.device)
        self._use_cuda_graphs(hparams.get("cuda_graphs", "auto"))
        require_number("flows_from", self.flows_from, least=0, most=1)

    def _use_cuda_graphs(self, wanted):
        require_choice("cuda_graphs", wanted, ("auto", True, False))
        obstacles = {
            f"there are none on {self.device}": self.device_type != "cuda",
            "--compile excludes them": self.compile or self.compile_module_keys is not None,
            "memory_efficient excludes them": self.model.vocoder.memory_efficient,
        }
        reason = next((text for text, is_so in obstacles.items() if is_so), None)
        if wanted is True and reason is not None:
            raise UserError(f"cuda_graphs: {reason}; give auto or False")
        if wanted and reason is None:
            graph_networks(self.model.vocoder)

    def _compile(self):
        """SpeechBrain's, but with --compile alone the coupling networks only."""
        if not self.compile or self.compile_module_keys is not None:
            super()._compile()
            return
        compile_coupling_networks(
            self.model,
            mode=self.compile_mode,
            fullgraph=self.compile_using_fullgraph,
            dynamic=self.compile_using_dynamic_shape_tracing,
        )

    # ---- data

    def training_loader(self, dataset, **loader_kwargs):
        """Draws training data by duration."""
        return training_loader(
            dataset,
            segments_per_epoch=self.hparams.segments_per_epoch,
            seed=self.hparams.seed,
            rank=self.rank,
            world=self.world,
            batch_size=self.hparams.batch_size,
            log_mels=not self.makes_log_mels,
            **loader_kwargs,
        )

    def evaluation_options(self):
        """Whole utterances, without unreadable ones."""
        return {"batch_size": self.hparams.valid_batch_size, "collate_fn": collate_utterances}

    # ---- a step

    @property
    def flows_from(self):
        """Share of the run before which the flows are left as they begin."""
        return getattr(self.hparams, "flows_from", 0.0)

    def may_read_late(self):
        """Not where the next step depends on how many were taken."""
        return self.flows_from == 0 and super().may_read_late()

    def on_fit_batch_start(self, batch, should_step):
        """Decides whether the flows take part."""
        super().on_fit_batch_start(batch, should_step)
        self.model.trains_flows = self.hparams.schedule.share >= self.flows_from

    def model_inputs(self, batch, stage):
        """Keyword arguments of the model's ``forward``."""
        if stage == sb.Stage.TRAIN and hasattr(batch, "add_log_mels"):
            batch.add_log_mels(self.own_features)
        wav, wav_lens = batch.wav
        mel, mel_lens = batch.mel
        inputs = {"wav": wav, "mel": mel.transpose(1, 2), "mel_lens": none_if_whole(mel_lens)}
        inputs.update(self.speaker_inputs(batch))
        if stage != sb.Stage.TRAIN:
            return {**inputs, "wav_lens": none_if_whole(wav_lens)}
        inputs["starts"] = batch.start
        if hasattr(batch, "history"):
            inputs["history"] = batch.history.data
        return inputs

    def speaker_inputs(self, batch):
        """The arguments about the speaker, if the model has speakers."""
        if self.model.speakers is None or not hasattr(batch, "speaker"):
            return {}
        inputs = {"speaker": batch.speaker}
        if hasattr(batch, "pitch"):
            inputs["pitch"] = batch.pitch.data
            inputs["f0_statistics"] = batch.f0_statistics.data
        if hasattr(batch, "reference"):
            inputs["reference"] = batch.reference.data.transpose(1, 2)
            inputs["reference_lens"] = none_if_whole(batch.reference.lengths)
        return inputs

    def weight_of(self, batch, stage):
        """Segments in training, samples in evaluation."""
        wav, wav_lens = batch.wav
        if stage == sb.Stage.TRAIN:
            return len(wav)
        return whole_lengths(wav_lens, wav.shape[1]).sum()

    def compute_objectives(self, predictions, batch, stage):
        """The model's own loss; keeps codes and utterances for the report."""
        loss = super().compute_objectives(predictions, batch, stage)
        if stage != sb.Stage.TRAIN:
            if predictions.statistics:
                self.codes.accumulate(predictions.statistics)
            self._keep_utterances(batch, stage)
        return loss

    def evaluate_batch(self, batch, stage):
        """SpeechBrain's, if anything of the batch could be read."""
        self._note_skipped_clips(batch.skipped)
        if not hasattr(batch, "wav"):
            return torch.zeros(())
        return super().evaluate_batch(batch, stage)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Notes unreadable clips before what follows any step."""
        for sentences in batch.skipped:
            self._note_skipped_clips(sentences)
        super().on_fit_batch_end(batch, outputs, loss, should_step)

    def _note_skipped_clips(self, sentences):
        for sentence in sentences:
            if self.progress.note_skipped_clip(sentence):
                logger.warning(f"a clip is skipped: {sentence}", main_process_only=False)
            limit = self.hparams.max_skipped_clips
            if len(self.progress.skipped_clips) > limit:
                raise UserError(
                    f"{sentence.rstrip('.')}; more than {limit} clips cannot be read "
                    "(max_skipped_clips): repair the corpus or prepare it again"
                )

    # ---- an epoch

    def on_stage_start(self, stage, epoch=None):
        """Begins the statistics of codes and the utterances for samples."""
        super().on_stage_start(stage, epoch)
        if stage != sb.Stage.TRAIN:
            self.codes, self.kept = CodeStatistics(), []

    def training_statistics(self):
        """Adds the figures of the codes."""
        stats = {**super().training_statistics(), **self._code_figures(self.progress.codes)}
        if self.model.quantizer is not None:
            stats["restarted_codes"] = float(self.progress.restarted)
        return stats

    def evaluation_statistics(self, stage):
        """Adds the figures of the codes."""
        return {**super().evaluation_statistics(stage), **self._code_figures(self.codes)}

    def _code_figures(self, codes):
        """Over all processes."""
        if self.model.quantizer is None:
            return {}
        rate = self.features.sample_rate / self.model.conditioner.samples_per_code
        figures = codes.summary(self.evaluated.quantizer.codebook, rate)
        if "used" in figures:
            figures = {"used_codes": figures.pop("used"), **figures}
        return figures

    def seconds_of(self, entry):
        """By the number of samples."""
        return entry["num_samples"] / self.features.sample_rate

    @property
    def interface(self):
        """Vocoder, codec or converter."""
        from waveglow_vq.export.folder import interface_of

        return interface_of(self.model)

    @property
    def inference_options(self):
        """The voice, and the mode without codes."""
        if self.model.speakers is None:
            return []
        mode = [] if self.model.quantizer is not None else ["--mode", "latent_swap"]
        return ["--speaker", str(self.speakers.labels[0]), *mode]

    def no_evaluation(self, stage):
        """No clip of a split can be read."""
        return UserError(
            f"none of the clips of {stage.name.lower()}.json can be read; see the warnings, "
            "repair the corpus or prepare it again"
        )

    def valid_loss(self, stats):
        """Likelihood and predicted log-mel. The quantizer's losses are relative to the codes, and
        cannot be compared across epochs."""
        return stats["nll"] + self.model.mel_weight * stats.get("mel_l1", 0.0)

    # ---- the test

    def _end_of_test(self, stats):
        skipped = Counter()
        for clips in all_gather_object(self.progress.skipped_clips):
            skipped.update(clips)
        super()._end_of_test(stats)
        if if_main_process():
            for sentence, count in skipped.items():
                logger.warning(f"skipped {count} times in this run: {sentence}")

    def export(self, folder):
        """Exports the evaluated model."""
        from waveglow_vq.export.folder import export_model

        text = (Path(self.hparams.output_folder) / "hyperparams.yaml").read_text("utf-8")
        labels = None if self.model.speakers is None else self.speakers.labels
        export_model(text, self.evaluated, folder, self.interface, labels)

    # ---- samples

    def _keep_utterances(self, batch, stage):
        """Keeps the first utterances of a stage for samples: (id, wav, mel, who)."""
        wanted = self.hparams.samples_per_epoch
        if stage == sb.Stage.TEST:
            wanted = self.hparams.test_samples
        who = self.speaker_inputs(batch)
        who.pop("reference_lens", None)
        rows = zip(batch.id, *batch.wav, *batch.mel, strict=True)
        for b, (name, wav, wav_len, mel, mel_len) in enumerate(rows):
            if len(self.kept) >= wanted or not if_main_process():
                return
            samples = whole_lengths(wav_len, len(wav))
            frames = whole_lengths(mel_len, len(mel))
            own = {key: self.on_device(value[b : b + 1]) for key, value in who.items()}
            if "reference" in own:
                count = whole_lengths(batch.reference.lengths[b], len(mel))
                own["reference"] = own["reference"][..., :count]
            wav, mel = self.on_device(wav[:samples]), self.on_device(mel[:frames])
            self.kept.append((name, wav, mel, own))

    def write_epoch_samples(self, folder):
        """Reconstructions of validation clips."""
        if self.kept:
            self._write_samples(folder, scores=False)

    def write_test_samples(self, folder):
        """Reconstructions of test clips, and their scores."""
        return self._write_samples(folder, scores=True)

    def _write_samples(self, folder, scores):
        # A run that began without the key, and is resumed, goes on without.
        refine = getattr(self.hparams, "refine", 0)
        sigma, model = self.hparams.sampling_sigma, self.evaluated
        return write_samples(folder, self.kept, model, self.features, sigma, scores, refine)
