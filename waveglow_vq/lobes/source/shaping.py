"""The envelope of a log-mel on pulses."""

import functools

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.flows.envelope import MelPredictor

import torch
from torch.nn import functional as F

# Samples of a response, and of the transform that it comes from, in which it has died away.
RESPONSE, TRANSFORM = 512, 2048


def minimum_phase(pulses, log_mel, features):
    """Pulses through the all-pole filters of a log-mel (see
    :class:`~waveglow_vq.lobes.flows.envelope.MelPredictor`): as voices do, each period begins
    suddenly and dies away.

    The filters' responses are cut off after 512 samples, 23 ms, and each pulse has the response of
    the block that it falls into: so that what a sample is depends on no more than those before.

    Arguments
    ---------
    pulses : torch.Tensor
        ``[batch, N]``.
    log_mel : torch.Tensor
        ``[batch, n_mels, frames]``; the last frame is held where frames are missing.
    features : LogMel
        The feature contract.

    Returns
    -------
    torch.Tensor
        ``[batch, N]``, fp32.

    Example
    -------
    >>> features = LogMel()
    >>> pulses = torch.zeros(1, 2048)
    >>> pulses[:, 600] = 1
    >>> shaped = minimum_phase(pulses, torch.randn(1, 80, 9) - 5, features)
    >>> bool(shaped[:, :600].abs().max() < 1e-6), bool(shaped[:, 600:700].abs().max() > 0)
    (True, True)
    """
    total = pulses.shape[1]
    predictor = _predictor(features.contract).to(log_mel.device)(log_mel)
    block, blocks = predictor.block, -(-total // predictor.block)
    taps = F.pad(predictor.coefficients, (1, 0), value=1)
    place = torch.arange(blocks, device=taps.device).clamp_max(taps.shape[1] - 1)
    taps, gain = taps[:, place], predictor.log_gain[:, place, None].exp()
    response = torch.fft.irfft(gain / torch.fft.rfft(taps, TRANSFORM))[..., :RESPONSE]
    response = response.float().to(pulses.device)
    pulses = F.pad(pulses.float(), (0, blocks * block - total)).unflatten(1, (blocks, block))
    size = RESPONSE + block
    shaped = torch.fft.irfft(torch.fft.rfft(pulses, size) * torch.fft.rfft(response, size), size)
    length = (blocks - 1) * block + size
    shaped = F.fold(shaped.transpose(1, 2), (1, length), (1, size), stride=(1, block))
    return shaped[:, 0, 0, :total]


@functools.lru_cache(maxsize=4)
def _predictor(contract):
    return MelPredictor(LogMel(*contract))
