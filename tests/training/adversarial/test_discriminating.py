"""The two sides of the game in one backward pass."""

from waveglow_vq.training.adversarial.discriminating import adversarial_losses

import pytest
import torch
from speechbrain.lobes.models.HifiGAN import HifiganDiscriminator

from tests.training.samples.tiny_discriminator import TinyDiscriminator


def test_each_side_has_its_own_gradient():
    discriminator = TinyDiscriminator()
    weight = discriminator.layer.weight
    sample = torch.randn(2, 512, requires_grad=True)
    recording = torch.randn(2, 512)
    losses = adversarial_losses(discriminator, sample, recording)
    assert weight.requires_grad
    (losses["adversarial"] + losses["features"]).backward(retain_graph=True)
    assert weight.grad is None and sample.grad.abs().sum() > 0
    sample.grad = None
    losses["discriminator"].backward()
    assert sample.grad is None and weight.grad.abs().sum() > 0
    # As of HiFi-GAN's equations, 1 and 2.
    real, fake = (discriminator(x[:, None])[0][0] for x in (recording, sample))
    expected = ((real - 1) ** 2).mean() + (fake**2).mean()
    assert torch.allclose(losses["discriminator"], expected)
    assert torch.allclose(losses["adversarial"], ((fake - 1) ** 2).mean())


@pytest.mark.slow
def test_with_those_of_hifi_gan():
    discriminator = HifiganDiscriminator()
    sample = torch.randn(1, 2048, requires_grad=True)
    losses = adversarial_losses(discriminator, sample, torch.randn(1, 2048))
    sum(losses.values()).backward()
    assert sample.grad.abs().sum() > 0
    assert all(p.grad is not None for p in discriminator.parameters())
