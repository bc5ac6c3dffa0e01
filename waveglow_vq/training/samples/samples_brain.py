"""The training loop of the second stage."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.model import ModelOutput
from waveglow_vq.training.adversarial.adversarial_brain import AdversarialBrain
from waveglow_vq.training.epoch_report import EpochMeans
from waveglow_vq.training.run.console import SECONDS_BETWEEN_LINES
from waveglow_vq.training.samples.drawing import draw_samples
from waveglow_vq.training.samples.sample_losses import LEAST_SAMPLES, SampleLosses
from waveglow_vq.training.samples.warm_start import RECORD, load_start
from waveglow_vq.utils.masking import whole_lengths

import speechbrain as sb
import torch
from speechbrain.lobes.models.HifiGAN import HifiganDiscriminator
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# Seed of the noise of every utterance in validation.
VALIDATION_SEED = 0


class SamplesBrain(AdversarialBrain):
    """Trains a vocoder on samples besides the likelihood; ``hparams`` holds the keys of
    ``hparams/samples.yaml`` too. It stands before a recipe's brain among the bases of a class.

    In each step, samples are drawn in the place of the segments, with gradients through the inverse
    flows and the mel-consistent iterations, and compared with the recordings. From
    ``adversary_after`` steps on, discriminators are trained along, with an optimizer of their own;
    both optimizers take a step, or none does.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        if checkpointer is None or checkpointer.find_checkpoint() is None:
            # Before the base class copies the model for its average.
            hparams["model"].load_state_dict(load_start(hparams))
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.sample_losses = SampleLosses(self.features.sample_rate).to(self.device)
        self.record = SamplesRecord()
        self.test_data = None
        shortest = hparams["segment_frames"] * self.features.hop_length
        if shortest < LEAST_SAMPLES:
            raise UserError(
                f"segment_frames: {hparams['segment_frames']} are {shortest} samples; the stage "
                f"of samples takes at least {LEAST_SAMPLES}"
            )
        if checkpointer is not None:
            checkpointer.add_recoverable(RECORD, self.record)

    def make_discriminator(self):
        """HiFi-GAN's, of several periods and scales. May be replaced."""
        return HifiganDiscriminator()

    def _use_cuda_graphs(self, wanted):
        # A graph keeps the activations of its latest call, and a network has two before a backward.
        if wanted is True:
            raise UserError("cuda_graphs: the stage of samples excludes them; give auto or False")
        super()._use_cuda_graphs(False if wanted == "auto" else wanted)

    # ---- the start

    def know_corpus(self, **splits):
        """Keeps the test, for the likelihood at the start."""
        super().know_corpus(**splits)
        self.test_data = splits.get("test")

    def on_fit_start(self):
        """Where the run begins, measures the likelihood before."""
        super().on_fit_start()
        if self.record.nll_at_start is None and self.test_data is not None:
            self.record.nll_at_start = self._test_nll()
            logger.info(f"test nll of the model to begin with: {self.record.nll_at_start:.4f}")

    def _test_nll(self):
        means = EpochMeans()
        loader = self.make_dataloader(self.test_data, sb.Stage.TEST, ckpt_prefix=None)
        self.evaluated.train()
        self.evaluated.eval()
        with torch.no_grad(), self.evaluation_ctx:
            for step, batch in enumerate(loader):
                if self.debug and step == self.debug_batches:
                    break
                if hasattr(batch, "wav"):
                    terms = super().compute_forward(batch, sb.Stage.TEST).terms
                    means.add({"nll": terms["nll"]}, self.weight_of(batch, sb.Stage.TEST))
        self.evaluated.train()
        return means.summary().get("nll", float("nan"))

    # ---- a step

    def compute_forward(self, batch, stage):
        """The likelihood, and in training and validation the losses of samples."""
        output = super().compute_forward(batch, stage)
        if stage == sb.Stage.TEST:
            return output
        inputs = self.model_inputs(batch, stage)
        inputs = {name: self.on_device(value) for name, value in inputs.items()}
        options = self.hparams.sample_sigma, self.hparams.refine_in_training
        if stage == sb.Stage.VALID:
            terms = self._utterance_losses(inputs, *options)
            loss = self.hparams.nll_weight * output.loss + self._weighted(terms)
            return output._replace(loss=loss, terms={**output.terms, **terms})
        margin = self.hparams.margin_frames
        sample = draw_samples(self.model, self.own_features, inputs, *options, margin)
        terms = self.sample_losses(sample, inputs["wav"])
        loss = self.hparams.nll_weight * output.loss + self._weighted(terms)
        if self.discriminator is not None:
            gain, played = self.play(sample, inputs["wav"])
            loss, terms = loss + gain, terms | played
        terms = {name: term.detach() for name, term in terms.items()}
        return ModelOutput(loss, {**output.terms, **terms}, output.statistics)

    def _weighted(self, terms):
        mel = self.hparams.sample_mel_weight * terms["sample_mel"]
        return mel + self.hparams.sample_stft_weight * terms["sample_stft"]

    def _utterance_losses(self, inputs, sigma, iterations):
        """Of whole utterances, every sample of which counts the same."""
        wav, lengths = inputs["wav"], inputs.get("wav_lens")
        drawn = draw_samples(
            self.evaluated, self.own_features, inputs, sigma, iterations, generator=VALIDATION_SEED
        )
        counts = [wav.shape[1]] * len(wav)
        if lengths is not None:
            counts = whole_lengths(lengths, wav.shape[1]).tolist()
        totals = {"sample_mel": 0.0, "sample_stft": 0.0}
        for sound, recording, count in zip(drawn, wav, counts, strict=True):
            losses = self.sample_losses(sound[None, :count], recording[None, :count])
            totals = {name: total + losses[name] * count for name, total in totals.items()}
        return {name: total / sum(counts) for name, total in totals.items()}

    def valid_loss(self, stats):
        """What is minimized, without the adversary, which plays otherwise in each epoch."""
        return self.hparams.nll_weight * stats["nll"] + self._weighted(stats)

    # ---- reports

    def evaluation_statistics(self, stage):
        """Adds to the test the likelihood at the start."""
        stats = super().evaluation_statistics(stage)
        if stage == sb.Stage.TEST and stats and self.record.nll_at_start is not None:
            stats["nll_at_start"] = self.record.nll_at_start
        return stats

    def _show_progress(self, now):
        due = self.noprogressbar and now - self.last_line_at >= SECONDS_BETWEEN_LINES
        super()._show_progress(now)
        if due:
            means = self.progress.means
            terms = (f"{name} {float(x) / means.weight:.4g}" for name, x in means.sums.items())
            logger.info(f"means of this epoch: {', '.join(terms)}")


class SamplesRecord:
    """What a run of this stage keeps besides; a checkpoint has its file in this stage only.

    Arguments
    ---------
    nll_at_start : float
        Of the test with the model that the run has begun with; None: not known yet.

    Example
    -------
    >>> file = getfixture("tmp_path") / "record.ckpt"
    >>> SamplesRecord(-3.5).save(file)
    >>> record = SamplesRecord()
    >>> record.load(file, end_of_epoch=True)
    >>> record.nll_at_start
    -3.5
    """

    def __init__(self, nll_at_start=None):
        self.nll_at_start = nll_at_start

    @mark_as_saver
    def save(self, path):
        """Writes it."""
        torch.save({"nll_at_start": self.nll_at_start}, path)

    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Reads it."""
        self.nll_at_start = torch.load(path, weights_only=True)["nll_at_start"]


register_checkpoint_hooks(SamplesRecord)
