"""The training loop with discriminators."""

from waveglow_vq.training.adversarial.discriminating import adversarial_losses
from waveglow_vq.training.waveglow_brain import WaveGlowBrain


class AdversarialBrain(WaveGlowBrain):
    """Trains discriminators along, and the model against them, from ``adversary_after`` steps on;
    each has an optimizer, and both take a step, or none does.

    ``hparams`` holds ``adversary`` (False: without discriminators), ``adversary_after``,
    ``adversarial_weight``, ``feature_weight`` and ``discriminator_learning_rate`` too. It stands
    before a recipe's brain among the bases of a class.
    """

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        self.discriminator = self.make_discriminator() if hparams["adversary"] else None
        if self.discriminator is not None:
            modules = {**modules, "discriminator": self.discriminator}
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        if checkpointer is not None and self.discriminator is not None:
            # As they are where they were not trained along before.
            checkpointer.add_recoverable("discriminator", self.discriminator, optional_load=True)

    def make_discriminator(self):
        """The discriminators as one module, as ``adversarial_losses`` (discriminating.py) takes
        it."""
        raise NotImplementedError

    # ---- optimizers

    def init_optimizers(self):
        """One for the model, one for the discriminators."""
        discriminator = self.modules.pop("discriminator") if self.discriminator else None
        super().init_optimizers()
        if discriminator is None:
            return
        self.modules["discriminator"] = discriminator
        optimizer = self.opt_class(discriminator.parameters())
        self.optimizers_dict["discriminator"] = optimizer
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable(
                "discriminator_optimizer", optimizer, optional_load=True
            )

    def freeze_optimizers(self, optimizers):
        """Leaves out that of discriminators that have not begun."""
        own = ("discriminator",) * (not self.adversary_has_begun)
        return {name: x for name, x in optimizers.items() if name not in own}

    @property
    def adversary_has_begun(self):
        """Whether the discriminators are part of the next step."""
        after = self.hparams.adversary_after
        return self.discriminator is not None and self.hparams.schedule.steps >= after

    def may_read_late(self):
        """No: whether the adversary has begun depends on the steps that were taken."""
        return False

    def _set_rates(self):
        """That of the discriminators' optimizer follows the model's."""
        if self.discriminator is not None:
            rate = self.optimizer.param_groups[0]["lr"] / self.hparams.schedule.learning_rate
            for group in self.optimizers_dict["discriminator"].param_groups:
                group["lr"] = rate * self.hparams.discriminator_learning_rate

    def after_step(self):
        """And the rate of the discriminators' next step."""
        super().after_step()
        self._set_rates()

    def on_fit_start(self):
        """And the rate of the discriminators' first step."""
        super().on_fit_start()
        self._set_rates()

    # ---- a step

    def play(self, drawn, recorded):
        """What the game adds to the loss of a training step, and its terms, which are 0 before it
        has begun."""
        loss = drawn.new_zeros(())
        played = dict.fromkeys(("adversarial", "features", "discriminator"), loss)
        if self.adversary_has_begun:
            played = adversarial_losses(self.modules.discriminator, drawn, recorded)
            loss = loss + self.hparams.adversarial_weight * played["adversarial"]
            loss = loss + self.hparams.feature_weight * played["features"]
            # For the gradient of the discriminators: the figure is that of the model.
            own = played["discriminator"]
            loss = loss + (own - own.detach())
        return loss, played
