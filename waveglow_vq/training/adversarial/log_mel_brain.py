"""The training loop in which predicted log-mels have to look like recorded ones."""

from waveglow_vq.errors import UserError
from waveglow_vq.training.adversarial.adversarial_brain import AdversarialBrain
from waveglow_vq.training.adversarial.log_mel_discriminator import LogMelDiscriminator
from waveglow_vq.utils.masking import frame_mask

import speechbrain as sb
import torch


class LogMelBrain(AdversarialBrain):
    """Trains a model with codes, whose predicted log-mels also have to pass for recorded ones;
    ``hparams`` holds the keys of ``hparams/log_mels.yaml`` too.

    By its L1 alone a predicted log-mel is the median of all that it could be, blurred, of which no
    decoder makes speech.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        model = hparams["model"]
        if model.quantizer is None or not model.conditioner.gives_log_mel:
            raise UserError("adversary: the model predicts no log-mel; set it to False")
        self.n_mels = model.conditioner.n_mels
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)

    def make_discriminator(self):
        """One of log-mels. May be replaced."""
        return LogMelDiscriminator(self.n_mels)

    def compute_forward(self, batch, stage):
        """The model's losses, and in training the game's."""
        output = super().compute_forward(batch, stage)
        if stage != sb.Stage.TRAIN:
            return output
        predicted, target, lengths = output.log_mel
        mask = frame_mask(lengths, target.shape[-1])
        if mask is not None:
            # What is padding looks the same.
            predicted = torch.where(mask.bool(), predicted, target)
        gain, played = self.play(predicted, target)
        played = {name: term.detach() for name, term in played.items()}
        return output._replace(loss=output.loss + gain, terms={**output.terms, **played})

    def valid_loss(self, stats):
        """Of checkpoints against discriminators the last is the best: what they bring is no part of
        an L1, which is least where log-mels are blurred."""
        if self.adversary_has_begun:
            return -float(self.hparams.schedule.steps)
        return super().valid_loss(stats)
