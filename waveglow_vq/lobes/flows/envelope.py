"""Linear prediction from the log-mel, and the envelope flow that whitens speech with it.

The mel already says what the spectral envelope and the loudness are. The envelope flow applies
that exactly and without parameters, so that the learned flows only model what the mel does not
say. From a log-mel frame: divide every band by its filter's area, interpolate the log-magnitudes
over frequency, power spectrum -> autocorrelation by inverse FFT -> lag window and white-noise
correction -> Levinson-Durbin -> predictor a and gain g (Makhoul 1975, "Linear prediction: a
tutorial review", section III).
"""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.filters.blockwise import filter_blocks, recursive_filter_blocks
from waveglow_vq.lobes.filters.kernels import kernels_for
from waveglow_vq.lobes.flows.transforms import Transform
from waveglow_vq.lobes.flows.upsampling import interpolate_frames
from waveglow_vq.utils.devices import at_least_fp32, in_float64, returned, supports_float64
from waveglow_vq.utils.validation import require_integer

import numpy as np
import torch
from torch import nn

# Predictors, of all items of a batch together, that are made at once: their spectra stay in a
# cache. Those of 10 s take twice as long in one piece, in page faults.
PREDICTORS_AT_ONCE = 64


class Predictor(NamedTuple):
    """Linear predictors that hold for blocks of ``block`` samples each.

    Arguments
    ---------
    coefficients : torch.Tensor
        a_1 ... a_P of ``1 + sum_k a_k z^-k``, ``[batch, blocks, order]``.
    log_gain : torch.Tensor
        Logarithm of the gain g, ``[batch, blocks]``.
    block : int
        Samples in a block.
    """

    coefficients: torch.Tensor
    log_gain: torch.Tensor
    block: int


def levinson_durbin(autocorrelation):
    """Solves the normal equations of linear prediction by the Levinson-Durbin recursion.

        k_i = -(r_i + sum_{j<i} a_j r_{i-j}) / E_{i-1},   E_i = (1 - k_i^2) E_{i-1}
        a_j <- a_j + k_i a_{i-j},   a_i = k_i

    From r_0 ... r_P, positive definite, ``[..., order + 1]``, fp64 for high orders, to a_1 ... a_P,
    ``[..., order]``, whose all-pole filter 1 / A is stable, and the energy of the prediction error
    E_P, ``[...]``.

    Example
    -------
    >>> import torch
    >>> a, error = levinson_durbin(torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64))
    >>> [round(value, 2) + 0.0 for value in a.tolist()], error.item()
    ([-0.5, 0.0], 0.75)
    """
    kernels = kernels_for(autocorrelation)
    if kernels is not None:
        return kernels.levinson(autocorrelation)
    r = autocorrelation
    error = r[..., 0]
    a = r[..., :0]
    for i in range(1, r.shape[-1]):
        earlier = r[..., 1:i].flip(-1)
        reflection = -(r[..., i] + (a * earlier).sum(-1)) / error
        a = torch.cat([a + reflection[..., None] * a.flip(-1), reflection[..., None]], dim=-1)
        error = error * (1 - reflection**2)
    return a, error


class MelPredictor(nn.Module):
    """Linear predictors from log-mel frames. Has no parameters; differentiable.

    Arguments
    ---------
    features : LogMel
        What the log-mels are: the filter bank, the window and the rate are read from it.
    order : int
        Order P of the predictors.
    updates_per_frame : int
        Predictors per hop. The log-mel is interpolated linearly in time to the centre of each.
    lag_window_hz : float
        Bandwidth of the Gaussian lag window in Hz; 0 for none.
    white_noise_correction : float
        r_0 is raised by this fraction, which bounds the dynamic range of the envelope.
    gain_db : float
        Calibration of the gain in dB, such that whitened speech has unit variance: the mel
        averages magnitudes, and the mean of magnitudes is less than their root mean square.
    tilt_above_bands_db : float
        Slope in dB per kHz with which the envelope goes on above the last band.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> predictor = MelPredictor(LogMel(), order=16)(torch.zeros(2, 80, 5))
    >>> predictor.coefficients.shape, predictor.log_gain.shape, predictor.block
    (torch.Size([2, 10, 16]), torch.Size([2, 10]), 128)
    """

    def __init__(
        self,
        features,
        order=128,
        updates_per_frame=2,
        lag_window_hz=0.0,
        white_noise_correction=1e-5,
        gain_db=1.0,
        tilt_above_bands_db=0.0,
    ):
        super().__init__()
        require_integer("order", order, 1)
        if updates_per_frame < 1 or features.hop_length % updates_per_frame:
            raise UserError(
                f"updates_per_frame: {updates_per_frame} does not divide the hop of "
                f"{features.hop_length} samples"
            )
        self.order = order
        self.block = features.hop_length // updates_per_frame
        self.updates_per_frame = updates_per_frame
        self.hop_length = features.hop_length
        bank = features.filter_bank.double().cpu().numpy()
        bins = bank.shape[1]
        weights = bank.sum(axis=1)
        if not weights.all():
            raise UserError(
                f"n_mels: {features.n_mels} bands are too many for an n_fft of {features.n_fft}; "
                "the envelope cannot use bands that are empty"
            )
        # A band one or two bins wide has its peak on a bin, its centroid between bins.
        centres = (bank * np.arange(bins)).sum(axis=1) / weights
        matrix = np.stack(
            [np.interp(np.arange(bins), centres, row) for row in np.eye(len(centres))], axis=1
        )
        hz_per_bin = features.sample_rate / features.n_fft
        khz_above = np.clip(np.arange(bins) - centres[-1], 0, None) * hz_per_bin / 1000
        log_power = khz_above * tilt_above_bands_db + gain_db
        # Magnitudes of the windowed transform -> power per sample: / sum of squared window.
        log_power = log_power * math.log(10) / 10
        log_power = log_power - math.log(features.window.double().square().sum().item())
        offset = log_power - 2 * matrix @ np.log(weights)
        lags = np.arange(order + 1)
        angle = 2 * math.pi * lag_window_hz * lags / features.sample_rate
        lag_window = np.exp(-0.5 * angle**2)
        lag_window[0] += white_noise_correction
        for name, value in (("interpolation", 2 * matrix), ("offset", offset)):
            self.register_buffer(name, torch.from_numpy(value), persistent=False)
        self.register_buffer("lag_window", torch.from_numpy(lag_window), persistent=False)

    def _apply(self, fn, recurse=True):
        # .half() or .float() must not round these, only .to(device) may move them, and not to a
        # device that has no fp64: what is computed with them is then computed on the CPU.
        device = fn(torch.empty(0, device=self.offset.device)).device
        if not supports_float64(device):
            device = torch.device("cpu")
        for name, value in self.named_buffers(recurse=False):
            setattr(self, name, value.to(device))
        return self

    def forward(self, log_mel):
        """The Predictor of a log-mel ``[batch, n_mels, frames]``, for
        ``frames * updates_per_frame`` blocks, fp64; on the CPU if the device of the log-mel has no
        fp64."""
        with torch.autocast(log_mel.device.type, enabled=False):
            log_mel = interpolate_frames(in_float64(log_mel), self.updates_per_frame)
            portions = [log_mel]
            if log_mel.device.type == "cpu" and kernels_for(log_mel) is not None:
                # No graph of it is wanted.
                portions = log_mel.split(max(1, PREDICTORS_AT_ONCE // len(log_mel)), dim=-1)
            solved = zip(*map(self._solve, portions), strict=True)
            a, error = (torch.cat(parts, dim=1) for parts in solved)
            return Predictor(a, 0.5 * error.log(), self.block)

    def power(self, log_mel):
        """Power spectra ``[batch, frames, bins]`` of log-mels in fp64."""
        return (self.interpolation @ log_mel + self.offset[:, None]).exp().transpose(1, 2)

    def _solve(self, log_mel):
        autocorrelation = torch.fft.irfft(self.power(log_mel))[..., : self.order + 1]
        return levinson_durbin(autocorrelation * self.lag_window)


def prediction_error(wav, predictor, history=None):
    """e_n = (x_n + sum_k a_{t(n),k} x_{n-k}) / g_{t(n)}, all samples in parallel.

    The waveform ``[batch, samples]`` is a multiple of the block, and the Predictor has at least
    ``samples / block`` blocks; further ones are not used. ``history`` ``[batch, order]`` are the
    samples before the first; zeros where None, as at the start of an utterance.
    """
    batch, samples = wav.shape
    blocks, order = samples // predictor.block, predictor.coefficients.shape[-1]
    if history is None:
        history = wav.new_zeros(batch, order)
    padded = torch.cat([history.to(wav.dtype), wav], dim=-1)
    # [batch, blocks, order + block]: every block with the samples before it.
    spans = padded.unfold(-1, order + predictor.block, predictor.block)
    taps = predictor.coefficients[:, :blocks].flip(-1)
    taps = torch.cat([taps, torch.ones_like(taps[..., :1])], dim=-1).to(wav.dtype)
    inverse_gain = (-predictor.log_gain[:, :blocks]).exp().to(wav.dtype)
    error = filter_blocks(spans, taps) * inverse_gain[..., None]
    return error.flatten(1)


def all_pole(error, predictor, history=None):
    """x_n = g_{t(n)} e_n - sum_k a_{t(n),k} x_{n-k}, the inverse of :func:`prediction_error`, with
    the same shapes."""
    batch, samples = error.shape
    blocks, order = samples // predictor.block, predictor.coefficients.shape[-1]
    gain = predictor.log_gain[:, :blocks].exp().to(error.dtype)
    driven = (error.unflatten(-1, (blocks, predictor.block)) * gain[..., None]).flatten(1)
    if history is None:
        history = error.new_zeros(batch, order)
    coefficients = predictor.coefficients[:, :blocks].to(error.dtype)
    return recursive_filter_blocks(driven, coefficients, history.to(error.dtype))


class EnvelopeFlow(Transform):
    """Whitens a waveform by the envelope of its own mel, exactly and invertibly:

        forward   e_n = (x_n + sum_k a_{t(n),k} x_{n-k}) / g_{t(n)}
        logdet    - sum_n log g_{t(n)}      (the Jacobian is triangular with 1 / g on its diagonal)
        inverse   x_n = g_{t(n)} e_n - sum_k a_{t(n),k} x_{n-k}

    The idea is that of PriorGrad (Lee et al. 2022) and SpecGrad (Koizumi et al. 2022) for
    diffusion and of LPCNet (Valin and Skoglund 2019) for autoregressive vocoders.

    Arguments
    ---------
    predictor : MelPredictor
        Makes the predictors from the log-mel.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> features = LogMel()
    >>> wav = torch.randn(2, 2048) * 0.1
    >>> flow = EnvelopeFlow(MelPredictor(features, order=16))
    >>> context = EnvelopeContext(features(wav))
    >>> e, logdet = flow(wav[:, None], context)
    >>> torch.allclose(flow.inverse(e, context)[:, 0], wav, atol=1e-5), logdet.shape
    (True, torch.Size([2]))
    """

    def __init__(self, predictor):
        super().__init__()
        self.predictor = predictor

    @property
    def order(self):
        """Samples of history that a segment needs to be whitened as within its utterance."""
        return self.predictor.order

    def forward(self, x, context):
        """See :class:`Transform`; x is ``[batch, 1, samples]``."""
        x = at_least_fp32(x)
        with torch.autocast(x.device.type, enabled=False):
            predictor = self.predictor(context.log_mel)
            # In fp64, since the error is small against the speech that it is a difference of.
            error = prediction_error(in_float64(x[:, 0]), predictor, _history(context))
            blocks = x.shape[-1] // predictor.block
            log_gain = predictor.log_gain[:, :blocks]
            if context.samples is not None:
                samples = context.samples.to(log_gain.device)[:, None]
                starts = torch.arange(blocks, device=log_gain.device) * predictor.block
                within = (samples - starts).clamp(0, predictor.block)
            else:
                within = torch.full_like(log_gain, predictor.block)
            logdet = -(log_gain * within).sum(-1)
            return returned(error, x)[:, None], returned(logdet, x)

    def inverse(self, y, context):
        """See :class:`Transform`; y is ``[batch, 1, samples]``."""
        y = at_least_fp32(y)
        with torch.autocast(y.device.type, enabled=False):
            predictor = self.predictor(context.log_mel)
            # In fp64: a recursion of high order carries rounding errors on.
            x = all_pole(in_float64(y[:, 0]), predictor, _history(context))
            return returned(x, y)[:, None]


def _history(context):
    return None if context.history is None else in_float64(context.history)


class EnvelopeContext(NamedTuple):
    """What the envelope flow is conditioned on.

    Arguments
    ---------
    log_mel : torch.Tensor
        ``[batch, n_mels, frames]``; where the frame that follows a segment is given too, the
        last predictor is interpolated towards it.
    history : torch.Tensor
        The ``order`` samples before a segment, ``[batch, order]``, or None.
    samples : torch.Tensor
        Number of samples of each item that are not padding, ``[batch]``, or None for all.
    """

    log_mel: torch.Tensor
    history: torch.Tensor | None = None
    samples: torch.Tensor | None = None
