"""WaveGlow: a chain of flows between waveforms and Gaussian noise."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.conv1x1 import InvertibleConv1x1
from waveglow_vq.lobes.flows.coupling import AffineCoupling, FlowStep
from waveglow_vq.lobes.flows.envelope import EnvelopeContext, EnvelopeFlow, MelPredictor
from waveglow_vq.lobes.flows.film import FiLM
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import Chain, FlowContext, squeeze, unsqueeze
from waveglow_vq.lobes.flows.upsampling import HOPS, LearnedUpsampling, interpolate_frames
from waveglow_vq.lobes.source.excitation import excitation as excitation_of
from waveglow_vq.lobes.source.pitch_reader import is_readable
from waveglow_vq.lobes.source.pitch_rows import ROWS
from waveglow_vq.lobes.source.pulses import continued
from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.validation import require_choice

import torch
from torch import nn


class WaveGlow(nn.Module):
    """WaveGlow (Prenger, Valle and Catanzaro 2018), with the envelope flow in front by option.

        z = f_K ... f_1 (squeeze(envelope(wav))),
        log p(wav) = log N(z; 0, sigma^2 I) + sum of the flows' log-determinants

    Every ``early_every`` flows, ``early_size`` channels leave the chain as part of z.

    Arguments
    ---------
    features : LogMel
        The feature contract: the hop, and what the envelope needs to know of the mel.
    condition_channels : int
        Channels of the local condition.
    condition_hop : int
        Samples per frame of the local condition; None for the hop of the features.
    prior : str
        ``envelope``: whiten by the log-mel's own spectral envelope first, so that the flows
        model a nearly white signal of unit variance. ``white``: the original.
    group_size : int
        Samples that are squeezed into the channels of one group.
    flows : int
        Number of flow steps.
    early_every : int
        Flow steps between two early outputs; 0 for none.
    early_size : int
        Channels of an early output.
    layers : int
        Dilated layers of each coupling network.
    channels : int
        Channels of each coupling network.
    kernel_size : int
        Taps of the dilated convolutions.
    condition_geometry : str
        ``frame``: project the condition at frame rate, then interpolate. ``group``: interpolate
        to group rate, then project. ``sample``: NVIDIA's learned upsampling to sample rate by a
        transposed convolution of four hops, squeezed into groups, then projected.
    use_film : bool
        Whether every flow step begins with a conditional affine flow.
    use_weight_norm : bool
        Whether the coupling networks are weight-normalized.
    speaker_channels : int
        Channels of the global condition; 0 for none.
    log_scale_bound : float
        Largest magnitude of a log-scale.
    envelope : dict
        Arguments of :class:`MelPredictor`, for ``prior: envelope``.
    transform : callable
        Makes a :class:`~waveglow_vq.lobes.flows.transforms.Transform` of one's own, from the number
        of channels, with which every flow step begins; None: none.
    memory_efficient : bool
        Whether training keeps the inputs of the flow steps alone, and computes their activations
        again in the backward pass: a third more time, for a fraction of the memory.
    excitation : bool
        Whether the flows see pulses at the pitch, whose rows then lie behind the channels of the
        local condition (see source/excitation.py).

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> features = LogMel()
    >>> model = WaveGlow(features, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> wav = torch.randn(2, 2048) * 0.1
    >>> log_mel = features(wav)
    >>> z, logdet = model(wav, log_mel, log_mel=log_mel)
    >>> z.shape, logdet.shape
    (torch.Size([2, 8, 256]), torch.Size([2]))
    >>> torch.allclose(model.inverse(z, log_mel, log_mel=log_mel), wav, atol=1e-4)
    True
    """

    def __init__(
        self,
        features,
        condition_channels=80,
        condition_hop=None,
        prior="envelope",
        group_size=8,
        flows=6,
        early_every=4,
        early_size=2,
        layers=5,
        channels=64,
        kernel_size=3,
        condition_geometry="frame",
        use_film=False,
        use_weight_norm=True,
        speaker_channels=0,
        log_scale_bound=8.0,
        envelope=None,
        transform=None,
        memory_efficient=False,
        excitation=False,
    ):
        super().__init__()
        require_choice("prior", prior, ("envelope", "white"))
        require_choice("condition_geometry", condition_geometry, ("frame", "group", "sample"))
        self.hop, self.sample_rate = features.hop_length, features.sample_rate
        self.condition_hop = condition_hop or self.hop
        if self.condition_hop % group_size or self.hop % group_size:
            raise UserError(
                f"group_size: {group_size} does not divide the hop of {self.hop} samples, or that "
                f"of the condition, {self.condition_hop}"
            )
        self.condition_channels = condition_channels
        self.speaker_channels = speaker_channels
        self.group_size = group_size
        self.early_every = early_every
        self.early_size = early_size
        self.use_film = use_film
        self.memory_efficient = memory_efficient
        self.excitation = excitation
        if excitation and self.condition_hop != self.hop:
            raise UserError("excitation: it is for conditions with the frames of the log-mel")
        # Whether the reader that comes with the package knows such log-mels.
        self.can_read_pitch = is_readable(features)
        self.condition_geometry = condition_geometry
        self.envelope = None
        if prior == "envelope":
            self.envelope = EnvelopeFlow(MelPredictor(features, **(envelope or {})))
        self.upsample = None
        if condition_geometry == "sample":
            self.upsample = LearnedUpsampling(condition_channels, self.condition_hop, group_size)
            condition_channels = condition_channels * group_size
        self.steps = Chain()
        remaining = group_size
        for k in range(flows):
            if early_every > 0 and k > 0 and k % early_every == 0:
                remaining -= early_size
            kept = remaining // 2
            if kept < 1:
                raise UserError(
                    "flows, early_every, early_size: too many early outputs for group_size "
                    f"{group_size}; no channels are left at flow {k + 1}"
                )
            network = WaveNet(
                kept + (group_size if excitation else 0),
                2 * (remaining - kept),
                channels,
                layers,
                kernel_size,
                condition_channels,
                speaker_channels,
                use_weight_norm,
            )
            film = None
            if use_film:
                film = FiLM(remaining, condition_channels, speaker_channels, log_scale_bound)
            coupling = AffineCoupling(network, kept, log_scale_bound)
            own = None if transform is None else transform(remaining)
            conv, first = InvertibleConv1x1(remaining), group_size - remaining
            self.steps.append(FlowStep(conv, coupling, film, own, first))

    @property
    def history(self):
        """Samples before a segment that its likelihood depends on."""
        return 0 if self.envelope is None else self.envelope.order

    @property
    def receptive_field(self):
        """Samples to either side that a sample depends on, without the envelope's memory."""
        # A pulse is shared with the sample that follows.
        return self.group_size * (self.steps.receptive_field + self.excitation)

    @property
    def overlap_frames(self):
        """The receptive field in whole frames: the overlap that a slice needs on either side."""
        return math.ceil(self.receptive_field / self.hop)

    @property
    def condition_reach(self):
        """Frames of the local condition, before and after its own, that what is at a place of a
        frame depends on besides: the upsampling's, or the interpolation's."""
        return (HOPS - 1, 0) if self.condition_geometry == "sample" else (0, 1)

    def __getstate__(self):
        # Copies are without compiled flows and CUDA graphs, which replace the method.
        return {name: x for name, x in self.__dict__.items() if name != "inverse_flows"}

    def with_following(self, local, frames):
        """The local condition of so many frames, with the one that follows: where it is missing,
        the last one is held, and its pulses go on. Without excitation, the condition as it is."""
        if not self.excitation or local.shape[-1] > frames:
            return local
        rows = continued(local[:, -ROWS:], self.hop, self.sample_rate)
        held = torch.cat([local[:, :-ROWS], local[:, :-ROWS, -1:]], dim=-1)
        return torch.cat([held, rows], dim=1)

    def _flow_context(self, local, speaker, samples, total, padded=None):
        """Brings the condition to the rate of the geometry, and makes the padding mask."""
        groups = total // self.group_size
        per_frame = self.condition_hop // self.group_size
        source = None
        if self.excitation:
            local = self.with_following(local, total // self.hop)
            local, rows = local[:, :-ROWS], local[:, -ROWS:]
            source = excitation_of(rows, self.hop, self.sample_rate)[:, :total]
            source = squeeze(source.to(local.dtype), self.group_size)
        if self.condition_geometry == "group":
            local, per_frame = interpolate_frames(local, per_frame)[..., :groups], 1
        elif self.condition_geometry == "sample":
            local, per_frame = self.upsample(local)[..., :groups], 1
        mask = None
        if padded is None:
            padded = samples is not None and bool((samples < total).any())
        if padded:
            ends = samples[:, None, None] // self.group_size
            mask = (torch.arange(groups, device=local.device) < ends).to(local.dtype)
        return FlowContext(local, speaker, mask, per_frame, source)

    def forward(self, wav, local, log_mel=None, speaker=None, samples=None, history=None):
        """From waveforms to noise.

        Arguments
        ---------
        wav : torch.Tensor
            ``[batch, samples]``, a multiple of the hop.
        local : torch.Tensor
            Local condition ``[batch, condition_channels, frames]``, ``samples / hop`` frames or,
            for segments of longer utterances, the frame that follows too.
        log_mel : torch.Tensor
            ``[batch, n_mels, frames]`` for the envelope; not used by ``prior: white``.
        speaker : torch.Tensor
            Global condition ``[batch, speaker_channels]``, or None.
        samples : torch.Tensor
            Samples of each item that are not padding, ``[batch]``, or None for all; multiples
            of the group size. Padding has no influence on the other results.
        history : torch.Tensor
            ``[batch, history]``, the samples before the segments; None for utterances.

        Returns
        -------
        z : torch.Tensor
            ``[batch, group_size, groups]``; zero where padded.
        logdet : torch.Tensor
            ``[batch]``.
        """
        x = at_least_fp32(wav)[:, None]
        logdet = x.new_zeros(len(x))
        if self.envelope is not None:
            x, logdet = self.envelope(x, EnvelopeContext(log_mel, history, samples))
        z, term = self.forward_flows(x[:, 0], local, speaker, samples)
        return z, logdet + term

    def forward_flows(self, error, local, speaker=None, samples=None):
        """From what the envelope leaves of waveforms, or with ``prior: white`` from waveforms, to
        noise: the opposite of :meth:`inverse_flows`. Arguments and results as in
        :meth:`forward`."""
        x = squeeze(at_least_fp32(error), self.group_size)
        context = self._flow_context(local, speaker, samples, error.shape[-1])
        z, logdet = self.steps(x, context, self.memory_efficient)
        return (z if context.mask is None else z * context.mask), logdet

    def inverse(
        self,
        z,
        local,
        log_mel=None,
        speaker=None,
        samples=None,
        history=None,
        after_flows=None,
    ):
        """From noise to waveforms ``[batch, samples]``, zero where padded; arguments as in
        :meth:`forward`, and ``after_flows``, a function of what the flows give,
        ``[batch, samples]`` to the same, or None."""
        wav = self.inverse_flows(z, local, speaker, samples)
        if after_flows is not None:
            wav = after_flows(wav)
        if self.envelope is not None:
            wav = self.envelope.inverse(wav[:, None], EnvelopeContext(log_mel, history))[:, 0]
        if samples is not None:
            wav = wav * (torch.arange(wav.shape[-1], device=wav.device) < samples[:, None])
        return wav

    def inverse_flows(self, z, local, speaker=None, samples=None, spare=(0, 0), padded=None):
        """From noise to what the flows make of it, before the envelope's filter,
        ``[batch, samples]``, zero where padded: with ``prior: white``, the waveforms themselves.
        Arguments as in :meth:`forward`.

        A result depends on noise no further away than :attr:`receptive_field`, so that slices of
        long utterances can be computed for themselves, with some frames more at either end:
        ``spare``, at the begin and at the end, are there for the layers to see, and not part of the
        result. They are computed no longer than the flows that are left can see them.

        ``padded`` says whether any item is padded; None: ``samples`` are looked at, which on a GPU
        means to wait for them.
        """
        total = z.shape[-1] * self.group_size
        context = self._flow_context(local, speaker, samples, total, padded)
        per_frame, ahead = self.hop // self.group_size, self.steps.receptive_field

        def narrow(step, x, _):
            nonlocal ahead, spare, context
            ahead -= step.receptive_field
            unseen = [max(0, frames - math.ceil(ahead / per_frame)) for frames in spare]
            if not any(unseen):
                return x, context
            spare = [frames - gone for frames, gone in zip(spare, unseen, strict=True)]
            left, right = (frames * per_frame for frames in unseen)
            context = self._without_frames(context, *unseen)
            return x[..., left : x.shape[-1] - right], context

        x = self.steps.inverse(z, context, narrow)
        return unsqueeze(x if context.mask is None else x * context.mask)

    def _without_frames(self, context, left, right):
        """The context without frames of the features at its begin and its end."""
        per_frame = self.hop // (self.group_size * context.groups_per_frame)
        last = context.local.shape[-1] - right * per_frame
        if right and context.groups_per_frame > 1:
            last += 1  # towards which the one before it is interpolated
        local = context.local[..., left * per_frame : last]
        groups = self.hop // self.group_size
        mask, source = (
            None if x is None else x[..., left * groups : x.shape[-1] - right * groups]
            for x in (context.mask, context.source)
        )
        return context._replace(local=local, mask=mask, source=source)


def negative_log_likelihood(z, logdet, samples, sigma=1.0):
    """Negative log-likelihood in nats per sample, ``[batch]``, without its constant, as vocoders
    report it:

        (sum z^2 / (2 sigma^2) - logdet) / samples

    The constant left out is ``0.5 * log(2 pi sigma^2)``, with the standard deviation ``sigma`` of
    the prior. ``z`` is ``[batch, group_size, groups]``, zero where padded; ``logdet`` is
    ``[batch]``, and ``samples`` the number of those of each item.

    Example
    -------
    >>> import torch
    >>> negative_log_likelihood(torch.ones(1, 8, 10), torch.zeros(1), 80)
    tensor([0.5000])
    """
    return (z.square().sum(dim=(1, 2)) / (2 * sigma**2) - logdet) / samples


def draw_noise(like, channels, groups, generator=None):
    """Standard normal noise ``[batch, channels, groups]``, drawn item by item and in the order of
    time, so that a longer draw begins with a shorter one's numbers.

    ``like`` gives batch size, device and, at least fp32, the type; the generator is as in
    :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.sample`.
    """
    items = []
    for _ in range(like.shape[0]):
        source = generator
        if isinstance(generator, int):
            source = torch.Generator().manual_seed(generator)
        # Without a generator of its own, drawn where it is needed; else where it lives.
        device = like.device if source is None else source.device
        items.append(
            torch.randn(groups, channels, generator=source, device=device, dtype=torch.float32)
        )
    return torch.stack(items).transpose(1, 2).to(like.device, at_least_fp32(like).dtype)
