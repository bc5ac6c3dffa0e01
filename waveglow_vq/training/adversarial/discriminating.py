"""Discriminators, and what they say of samples."""

import contextlib

import torch
from speechbrain.lobes.models.HifiGAN import (
    DiscriminatorLoss,
    GeneratorLoss,
    MelganFeatureLoss,
    MSEDLoss,
    MSEGLoss,
)
from torch.nn.parallel import DistributedDataParallel


def adversarial_losses(discriminator, sample, recording):
    """The losses of both sides of HiFi-GAN's game, for one backward pass: that of the discriminator
    has gradients for its weights, those of the sample for the sample only.

    Arguments
    ---------
    discriminator : torch.nn.Module
        SpeechBrain's ``HifiganDiscriminator``, or one that returns alike, wrapped by
        DistributedDataParallel or not.
    sample, recording : torch.Tensor
        ``[batch, samples]``.

    Returns
    -------
    dict
        ``discriminator``, ``adversarial`` (how far the scores of the sample are from those of
        recordings) and ``features``.
    """
    # One call, which is what DistributedDataParallel expects before a backward pass.
    both = torch.cat([recording, sample.detach()])[:, None]
    scores, seen = discriminator(both)
    real, fake = zip(*(score.chunk(2) for score in scores), strict=True)
    own = DiscriminatorLoss(MSEDLoss())(scores_fake=list(fake), scores_real=list(real))
    seen = [[x[: len(recording)].detach() for x in layers] for layers in seen]
    if isinstance(discriminator, DistributedDataParallel):
        discriminator = discriminator.module
    with _without_gradients(discriminator):
        scores, features = discriminator(sample[:, None])
    loss = GeneratorLoss(
        mseg_loss=MSEGLoss(),
        mseg_loss_weight=1.0,
        feat_match_loss=MelganFeatureLoss(),
        feat_match_loss_weight=1.0,
    )
    terms = loss(None, scores_fake=scores, feats_fake=features, feats_real=seen)
    return {
        "discriminator": own["D_loss"],
        "adversarial": terms["G_mse_fake_loss"],
        "features": terms["G_feat_match_loss"],
    }


@contextlib.contextmanager
def _without_gradients(module):
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
