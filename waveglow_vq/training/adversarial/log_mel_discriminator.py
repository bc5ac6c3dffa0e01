"""Discriminators of log-mels."""

from waveglow_vq.lobes.conditioners.base import normalize_log_mel

import torch
from torch import nn
from torch.nn import functional as F

SLOPE = 0.2


class LogMelDiscriminator(nn.Module):
    """Tells log-mels of recordings from predicted ones, in several resolutions of time.

    Each is a few convolutions over bands and frames (as the discriminators of MelGAN, Kumar et al.
    2019, are over samples), that see the place of a band beside its value; the next one sees means
    of two frames of what the one before saw. Called as SpeechBrain's ``HifiganDiscriminator``.

    Arguments
    ---------
    n_mels : int
        Bands.
    scales : int
        Resolutions.
    channels : int
        Channels of the first convolution.

    Example
    -------
    >>> import torch
    >>> scores, features = LogMelDiscriminator(80, scales=2)(torch.randn(3, 1, 80, 64))
    >>> [tuple(score.shape) for score in scores], len(features), len(features[0])
    ([(3, 1, 10, 8), (3, 1, 10, 4)], 2, 4)
    """

    def __init__(self, n_mels, scales=3, channels=32):
        super().__init__()
        place = torch.linspace(-1, 1, n_mels)[None, None, :, None]
        self.register_buffer("place", place, persistent=False)
        self.parts = nn.ModuleList(self._part(channels) for _ in range(scales))

    @staticmethod
    def _part(c):
        layers = [
            nn.Conv2d(2, c, 5, 2, 2),
            nn.Conv2d(c, 2 * c, 3, 2, 1),
            nn.Conv2d(2 * c, 4 * c, 3, 2, 1),
            nn.Conv2d(4 * c, 4 * c, 3, 1, 1),
            nn.Conv2d(4 * c, 1, 3, 1, 1),
        ]
        return nn.ModuleList(nn.utils.parametrizations.weight_norm(layer) for layer in layers)

    def forward(self, log_mel):
        """Judges log-mels.

        Arguments
        ---------
        log_mel : torch.Tensor
            ``[batch, 1, n_mels, frames]``.

        Returns
        -------
        scores : list of torch.Tensor
            One map for each resolution, near 1 where it looks recorded and 0 where it does not.
        features : list of lists of torch.Tensor
            The hidden layers of each, in units of their own mean magnitude in each item:
            their scale drifts while they are trained, and distances between them should not.
        """
        x, scores, features = normalize_log_mel(log_mel), [], []
        for i, part in enumerate(self.parts):
            x = F.avg_pool2d(x, (1, 2), ceil_mode=True) if i else x
            hidden, own = torch.cat([x, self.place.expand_as(x)], dim=1), []
            for layer in part[:-1]:
                hidden = F.leaky_relu(layer(hidden), SLOPE)
                size = hidden.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
                own.append(hidden / size.clamp_min(1e-8))
            scores.append(part[-1](hidden))
            features.append(own)
        return scores, features
