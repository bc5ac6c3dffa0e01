"""Unit vectors of who speaks, heard in a log-mel by what is trained for it alone."""

import functools
import math

from waveglow_vq.pretrained import read_weights, save_weights, shipped
from waveglow_vq.utils.devices import exact
from waveglow_vq.utils.masking import frame_mask

import torch
from torch import nn
from torch.nn import functional as F

# Of the mixture, and of the vector.
COMPONENTS, DIMENSION = 64, 128
# Cepstra of a frame, and of how many the change is taken too, over so many frames to either side.
CEPSTRA, CHANGING, AROUND = 32, 8, 4
# So many frames count as much for a component as what is expected of it.
RELEVANCE = 16.0
# Frames this far below the loud ones (log-mel, on the mean of the bands) count half.
QUIETER, STEEPNESS = 2.5, 3.0


class SpeakerEmbedding(nn.Module):
    """Hears who speaks in a log-mel: a vector of length 1, near those of the same voice.

    Frames x_t, of cepstra and their change, belong to the components k of a Gaussian mixture, which
    are sounds of speech, with probabilities r_tk, which also count how loud a frame is. What is
    said decides how often a component occurs; who says it, where its frames lie (Reynolds, Quatieri
    and Dunn 2000, eq. 7 to 13; Campbell, Sturim and Reynolds 2006). A projection A keeps of these
    deviations what differs among speakers:

        m_k = sqrt(pi_k) (sum_t r_tk (x_t - mu_k) / sigma_k) / (sum_t r_tk + RELEVANCE)
        v = A (m - m_0) / |A (m - m_0)|

    Arguments
    ---------
    n_mels : int
        Bands of the log-mel.
    components : int
        Of the mixture.
    dimension : int
        Of the vector.

    Example
    -------
    >>> vectors = SpeakerEmbedding(components=4)(torch.randn(2, 80, 90) - 5)
    >>> vectors.shape, vectors.norm(dim=1).allclose(torch.ones(2))
    (torch.Size([2, 128]), True)
    """

    def __init__(self, n_mels=80, components=COMPONENTS, dimension=DIMENSION):
        super().__init__()
        values = CEPSTRA + CHANGING
        self.dimension = dimension
        # Buffers: nothing here is trained by gradients.
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("centres", torch.randn(components, values))
        self.register_buffer("variances", torch.ones(components, values))
        self.register_buffer("origin", torch.zeros(components * values))
        self.register_buffer("projection", torch.randn(components * values, dimension))
        place = (torch.arange(n_mels) + 0.5) * math.pi / n_mels
        cosines = (place * torch.arange(CEPSTRA)[:, None]).cos() * math.sqrt(2 / n_mels)
        self.register_buffer("cosines", cosines, persistent=False)

    def forward(self, log_mel, lengths=None):
        """``[batch, n_mels, frames]`` to ``[batch, dimension]``, fp32; lengths are relative, or
        None where nothing is padded."""
        with torch.autocast(log_mel.device.type, enabled=False):
            deviations = self.deviations(*self.frames(log_mel, lengths))
            vectors = (deviations - self.origin) @ exact(self.projection)
            return F.normalize(vectors, dim=1).to(torch.promote_types(log_mel.dtype, torch.float32))

    def frames(self, log_mel, lengths=None):
        """Values ``[batch, frames, CEPSTRA + CHANGING]`` and how much each frame counts, ``[batch,
        frames]``. The first cepstrum is relative to its mean, so that level does not count. In
        fp64, as what follows are small differences of large numbers."""
        log_mel = exact(log_mel)
        total, mask = log_mel.shape[-1], frame_mask(lengths, log_mel.shape[-1])
        level = log_mel.mean(1)
        last = torch.full((len(log_mel), 1), total - 1, device=log_mel.device)
        if mask is not None:
            last = mask.sum(-1) - 1
            level = level.masked_fill(~mask[:, 0], torch.nan)
        loud = level.nanquantile(0.9, dim=1, keepdim=True)
        counts = ((level - loud + QUIETER) * STEEPNESS).sigmoid().nan_to_num(0.0)
        cepstra = (exact(self.cosines) @ log_mel).transpose(1, 2)
        mean = (cepstra[..., 0] * counts).sum(1) / counts.sum(1)
        cepstra = torch.cat([cepstra[..., :1] - mean[:, None, None], cepstra[..., 1:]], dim=-1)
        place, changing = torch.arange(total, device=log_mel.device), cepstra[..., :CHANGING]
        # The last frame is held.
        after = torch.minimum(place + AROUND, last)[..., None].expand(-1, -1, CHANGING)
        before = torch.minimum((place - AROUND).clamp_min(0), last)[..., None].expand_as(after)
        change = (changing.gather(1, after) - changing.gather(1, before)) / 2
        return torch.cat([cepstra, change], dim=-1), counts

    def log_likelihoods(self, frames):
        """Of frames ``[..., values]`` under each component and its weight, up to a constant,
        ``[..., components]``."""
        frames, precision = exact(frames), 1 / exact(self.variances)
        squares = frames.square() @ precision.T - 2 * frames @ (self.centres * precision).T
        squares = squares + (self.centres.square() * precision + self.variances.log()).sum(1)
        return self.weights.log() - squares / 2

    def deviations(self, frames, counts):
        """sqrt(pi_k) m_k of what :meth:`frames` gives, ``[batch, components * values]``."""
        shares = self.log_likelihoods(frames).softmax(dim=-1) * counts[..., None]
        occupied = shares.sum(1)[..., None]
        moved = shares.transpose(1, 2) @ exact(frames) - occupied * self.centres
        moved = moved / self.variances.sqrt() / (occupied + RELEVANCE)
        return (self.weights.sqrt()[:, None] * moved).flatten(1)


@functools.cache
def shipped_speaker_embedding():
    """The SpeakerEmbedding that comes with the package, for log-mels of the feature contract. One
    for all: do not move it, but copy it.

    Example
    -------
    >>> shipped_speaker_embedding()(torch.randn(1, 80, 90) - 5).shape
    torch.Size([1, 128])
    """
    return shipped("speaker_encoder.safetensors", _embedding_of)


def read_speaker_embedding(path):
    """The SpeakerEmbedding that :func:`save_speaker_embedding` wrote; a UserError if the file does
    not hold one."""
    return read_weights(path, _embedding_of, "an encoder of speakers")


def _embedding_of(weights):
    return SpeakerEmbedding(
        components=len(weights["centres"]), dimension=weights["projection"].shape[1]
    )


def save_speaker_embedding(embedding, path):
    """Writes the weights of a SpeakerEmbedding in fp16, as safetensors."""
    save_weights(embedding, path)
