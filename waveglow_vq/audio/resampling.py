"""Band-limited resampling by soxr, of whole waveforms and of streams."""

import math

from waveglow_vq.utils.windows import until_end

import soxr
import torch

# Soxr computes in fp64 at this quality.
_QUALITY = "VHQ"
# Samples of a whole waveform that are resampled at once.
_BLOCK = 2**16


def resample(wav, rate_in, rate_out):
    """Band-limited resampling of samples [..., N] by soxr at its highest quality, without delay, to
    [..., ceil(N * rate_out / rate_in)]; rates are in Hz.

    Time and memory grow with the samples in and out, whatever the ratio. Levels are kept to 0.01 dB
    up to 0.91 of the lower Nyquist frequency; everything above that frequency is attenuated by more
    than 140 dB. Gradients do not pass.

    Example
    -------
    >>> resample(torch.zeros(2, 441), 44100, 22050).shape
    torch.Size([2, 221])
    """
    if rate_in == rate_out:
        return wav
    shape = *wav.shape[:-1], -(-wav.shape[-1] * rate_out // rate_in)
    rows = wav.reshape(math.prod(shape[:-1]), wav.shape[-1])
    parts = (part for row in rows for part in resample_blocks(row.split(_BLOCK), rate_in, rate_out))
    return torch.cat([wav.new_empty(0), *parts]).view(shape)


def resample_blocks(blocks, rate_in, rate_out):
    """Resamples a waveform that comes in blocks [n] of any length: together, to the bit, what
    :func:`resample` returns for the whole.

    Example
    -------
    >>> wav = torch.rand(1000)
    >>> parts = list(resample_blocks(wav.split(300), 16000, 22050))
    >>> torch.equal(torch.cat(parts), resample(wav, 16000, 22050))
    True
    """
    stream, taken, given = None, 0, 0
    for block, ended in until_end(blocks):
        if ended and stream is None:
            return
        if not ended:
            like, taken = block, taken + len(block)
        else:
            # Silence after the end, longer than the last sample of the result.
            block = like.new_zeros(rate_in // rate_out + 2)
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        stream = stream or soxr.ResampleStream(rate_in, rate_out, 1, str(dtype)[6:], _QUALITY)
        part = stream.resample_chunk(block.to("cpu", dtype).contiguous().numpy(), last=ended)
        part = torch.from_numpy(part[: -(-taken * rate_out // rate_in) - given]).to(like)
        given += len(part)
        if len(part):
            yield part
