"""The whole model: conditioner, quantizer and vocoder as one module."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.base import Conditioner
from waveglow_vq.lobes.conditioners.speaker_condition import UNKNOWN, SpeakerAdversary
from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.waveglow import draw_noise, negative_log_likelihood
from waveglow_vq.lobes.model_checks import check_parts
from waveglow_vq.lobes.model_output import ModelOutput, PredictedLogMel
from waveglow_vq.lobes.source.excitation import excited
from waveglow_vq.lobes.source.pitch_reader import shipped_pitch_reader as shipped_reader
from waveglow_vq.utils.masking import fill_padding, masked_l1, whole_lengths

import torch
from torch import nn

# What iterations behind the flows begin with where it is voiced.
SOURCES = ("flows", "pulses")


class WaveGlowVQ(nn.Module):
    """A conditioner and a vocoder, trained together; ``forward`` does all of a training step.

    Arguments
    ---------
    conditioner : Conditioner
        From features to what the flows are conditioned on.
    vocoder : WaveGlow
        The flows.
    sigma : float
        Standard deviation of the prior in the training loss.
    mel_weight : float
        Weight of the L1 between the predicted and the given log-mel.
    quantizer_weight : float
        Weight of the quantizer's own losses.
    envelope_gradient : bool
        Whether the likelihood's gradient reaches a predicted log-mel through the envelope.
    speakers : SpeakerCondition
        Who speaks; None for one speaker.
    condition_dropout : float
        Share of the training items whose local condition the flows do not see, so that they learn
        what the speaker alone says.
    adversary_weight : float
        Weight of the classifier that tells the speaker from what is quantized, and whose gradient
        is reversed; 0: none.
    source : str
        What iterations behind the flows begin with in voiced frames: ``flows``, or ``pulses``. See
        :mod:`~waveglow_vq.lobes.source`.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners import MelConditioner
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> vocoder = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> model = WaveGlowVQ(MelConditioner(features, channels=16), vocoder)
    >>> wav = torch.randn(2, 2048) * 0.1
    >>> sorted(model(wav, features(wav)).terms)
    ['nll']
    >>> condition = model.conditioner(features(wav))
    >>> model.sample(condition, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 2304])
    """

    def __init__(
        self,
        conditioner,
        vocoder,
        sigma=1.0,
        mel_weight=1.0,
        quantizer_weight=1.0,
        envelope_gradient=True,
        speakers=None,
        condition_dropout=0.0,
        adversary_weight=0.0,
        source="flows",
    ):
        super().__init__()
        if source not in SOURCES:
            raise UserError(f"source: {source!r}; it is one of {', '.join(SOURCES)}")
        self.source = source
        self.own_reader = ()  # not a part of the weights
        check_parts(conditioner, vocoder, sigma, speakers, condition_dropout)
        self.conditioner = conditioner
        self.vocoder = vocoder
        self.speakers = speakers
        self.condition_dropout = condition_dropout
        self.adversary_weight = adversary_weight
        self.adversary = None
        if adversary_weight:
            if speakers is None or self.quantizer is None:
                raise UserError("adversary_weight: it needs codes, and global_condition: speaker")
            self.adversary = SpeakerAdversary(self.quantizer.codebook_dim, speakers.count)
        self.sigma = sigma
        self.mel_weight = mel_weight
        self.quantizer_weight = quantizer_weight
        self.envelope_gradient = envelope_gradient
        # Training may leave the flows as they are, whose likelihood then is 0 in the terms.
        self.trains_flows = True
        # Buffers are constants, or the quantizer's and conditioner's, who keep them the same on
        # all processes themselves. DistributedDataParallel is not to send the first one's around
        # at each forward. It finds this list by its name; torch.compile puts a module in between.
        names = [name for name, _ in self.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = [*names, *(f"_orig_mod.{n}" for n in names)]

    @property
    def quantizer(self):
        """The quantizer, or None."""
        return self.conditioner.quantizer

    @property
    def changes_in_forward(self):
        """Whether a training forward changes the model, so that a step that is not taken has to be
        put back."""
        own = type(self.conditioner).after_optimizer_step
        return self.quantizer is not None or own is not Conditioner.after_optimizer_step

    def prepare_inference(self, dtype=None):
        """Folds weights for inference, with coupling networks in the given precision (None: that of
        the weights); see :mod:`~waveglow_vq.lobes.flows.inference_cache`."""
        prepare_inference(self, dtype)

    def after_optimizer_step(self, optimizer=None, taken=True):
        """Updates counts and restarts codes after every step of the optimizer, on all processes.

        Arguments
        ---------
        optimizer : torch.optim.Optimizer
            Holds the parameters; its moments of restarted codes begin again.
        taken : bool
            False if the step was left out, since the gradient was not finite. Then whatever the
            training forwards since the last call have changed is put back exactly.

        Returns
        -------
        int
            Number of codes that were restarted.
        """
        self.conditioner.after_optimizer_step(taken)
        if self.quantizer is None:
            return 0
        return self.quantizer.after_optimizer_step(optimizer, taken)

    def training_state(self):
        """State of this process that ``state_dict`` lacks and exact resuming needs: tensors,
        numbers, lists and dicts."""
        parts = {"quantizer": self.quantizer, "conditioner": self.conditioner}
        states = {name: part.training_state() for name, part in parts.items() if part is not None}
        return {name: state for name, state in states.items() if state}

    def load_training_state(self, state):
        """Loads what :meth:`training_state` gave, after ``load_state_dict``, which clears it."""
        for name, part in state.items():
            getattr(self, name).load_training_state(part)

    def forward(
        self,
        wav,
        mel,
        starts=None,
        history=None,
        wav_lens=None,
        mel_lens=None,
        speaker=None,
        pitch=None,
        f0_statistics=None,
        reference=None,
        reference_lens=None,
    ):
        """Losses of segments, or of whole utterances.

        The log-mel may reach further to both sides than the waveform, so that the conditioner
        sees more context than the flows are trained on.

        Arguments
        ---------
        wav : torch.Tensor
            ``[batch, samples]``, a multiple of the hop.
        mel : torch.Tensor
            Log-mel ``[batch, n_mels, frames]``.
        starts : torch.Tensor
            Frame of the log-mel on which each waveform begins, ``[batch]``; 0 where None.
        history : torch.Tensor
            The samples before each waveform, ``[batch, vocoder.history]``; zeros where None.
        wav_lens, mel_lens : torch.Tensor
            Relative lengths in (0, 1], ``[batch]``, or None where nothing is padded.
        speaker : torch.Tensor
            Numbers of the speakers, int64 ``[batch]``; -1, or None for all, where unknown. Not
            used by a model without speakers.
        pitch : torch.Tensor
            ``[batch, frames, 2]``; see :meth:`condition`.
        f0_statistics : torch.Tensor
            Of the speakers' log-F0, ``[batch, 2]``; None: those that the model has of them.
        reference : torch.Tensor
            Log-mels from which the speakers are known, ``[batch, n_mels, frames]``, for the
            encoder of speakers; None: by their numbers.
        reference_lens : torch.Tensor
            Their relative lengths, or None.

        Returns
        -------
        ModelOutput
        """
        if speaker is None:
            speaker = torch.full((len(wav),), UNKNOWN, device=wav.device)
        vectors, f0_statistics = self.global_condition(
            speaker, reference, reference_lens, f0_statistics
        )
        features, lens, target, *_ = self.conditioner.inputs(mel, wav, mel_lens, wav_lens, starts)
        condition = self.condition(features, lens, vectors, pitch, f0_statistics)
        if self.training and self.condition_dropout:
            kept = torch.rand(len(wav), 1, 1, device=wav.device) >= self.condition_dropout
            condition = condition._replace(local=condition.local * kept)
        if self.trains_flows or not self.training:
            z, logdet, samples = self.to_noise(
                wav, mel, condition, starts, history, wav_lens, mel_lens, vectors
            )
            nll = negative_log_likelihood(z, logdet, samples, self.sigma)
            # Every sample counts the same, in long utterances and in short ones.
            nll = (nll * samples).sum() / samples.sum()
        else:
            # Each parameter takes part in every step, as DDP wants it.
            nll = 0.0 * sum(p.sum() for p in self.vocoder.parameters())
        terms, loss, statistics, predicted = {"nll": nll}, nll, {}, None
        if condition.quantized is not None:
            terms.update(condition.quantized.losses)
            loss = loss + self.quantizer_weight * sum(condition.quantized.losses.values())
            statistics = condition.quantized.statistics
            if condition.log_mel is not None:
                predicted = PredictedLogMel(condition.log_mel, target, lens)
                terms["mel_l1"] = masked_l1(*predicted, self.training)
                loss = loss + self.mel_weight * terms["mel_l1"]
            if self.adversary is not None:
                code_lens = self.conditioner.code_lengths(lens, features.shape[-1])
                terms["adversary"] = self.adversary(condition.vectors, speaker, code_lens)
                loss = loss + self.adversary_weight * terms["adversary"]
        terms = {name: term.detach() for name, term in terms.items()}
        return ModelOutput(loss, terms, statistics, predicted)

    def global_condition(self, speaker, reference=None, reference_lens=None, f0_statistics=None):
        """Speaker vectors ``[batch, speakers.channels]`` and F0 statistics ``[batch, 2]``, both
        None without speakers; arguments as in :meth:`forward`."""
        if self.speakers is None:
            return None, f0_statistics
        if f0_statistics is None:
            f0_statistics = self.speakers.f0_statistics(speaker)
        return self.speakers(speaker, reference, reference_lens), f0_statistics

    def condition(self, features, lengths=None, speaker=None, pitch=None, f0_statistics=None):
        """Computes the condition of the flows from the features that the conditioner reads.

        Arguments
        ---------
        features : torch.Tensor
            Log-mel ``[batch, n_mels, frames]``, or waveform ``[batch, samples]`` for a
            conditioner of waveforms.
        lengths : torch.Tensor
            Their relative lengths, ``[batch]``, or None where nothing is padded.
        speaker : torch.Tensor
            Global condition of who is to speak, ``[batch, speakers.channels]``.
        pitch : torch.Tensor
            Normalized log-F0 and voicing, ``[batch, frames, 2]``, where the conditioner uses it;
            see :func:`~waveglow_vq.lobes.conditioners.pitch_condition.normalize_pitch`.
        f0_statistics : torch.Tensor
            Mean and standard deviation of the log-F0 of who is to speak, ``[batch, 2]``.

        Returns
        -------
        Condition
        """
        more = (pitch, f0_statistics) if self.uses_pitch else ()
        return self.conditioner(features, lengths, speaker, *more)

    def decode(
        self, indices, frames=None, lengths=None, speaker=None, pitch=None, f0_statistics=None
    ):
        """Computes the condition of the flows from codes; see the conditioner's ``decode``, and
        :meth:`condition` for speaker, pitch and statistics."""
        return self.conditioner.decode(indices, frames, lengths, speaker, pitch, f0_statistics)

    @property
    def uses_pitch(self):
        """Whether pitch is given beside the codes."""
        return self.conditioner.uses_pitch

    @property
    def reads_pitch(self):
        """Whether it takes the pitch off log-mels, for flows or iterations."""
        wanted = self.source == "pulses" or self.vocoder.excitation
        return wanted and self.vocoder.can_read_pitch and not self.uses_pitch

    @property
    def pitch_reader(self):
        """What reads the pitch off log-mels, of its export or the package; None where it is given
        beside codes."""
        if self.uses_pitch:
            return None
        device = next(self.parameters()).device
        return self.own_reader[0].to(device) if self.own_reader else shipped_reader(str(device))

    def excited(self, condition, lengths=None, wav=None, starts=None):
        """A Condition as the flows take it; see lobes/source/excitation.py."""
        if not self.vocoder.excitation:
            return condition.cropped(lengths=lengths)
        return excited(condition, self.vocoder, self.pitch_reader, lengths, wav, starts)

    def to_noise(
        self,
        wav,
        mel,
        condition,
        starts=None,
        history=None,
        wav_lens=None,
        mel_lens=None,
        speaker=None,
    ):
        """Maps waveforms to noise under a Condition; the other arguments are as in :meth:`forward`.

        Returns z ``[batch, group_size, groups]``, logdet ``[batch]``, and the samples of each item,
        ``[batch]``.
        """
        hop = self.vocoder.hop
        samples = torch.full((wav.shape[0],), wav.shape[-1], device=wav.device)
        if wav_lens is not None:
            samples = whole_lengths(wav_lens, wav.shape[-1] / hop) * hop
        inputs = self.conditioner.inputs(mel, wav, mel_lens, wav_lens, starts)
        if self.vocoder.excitation:
            recording = wav if wav_lens is None else fill_padding(wav, samples, 0.0)
            condition = self.excited(condition, inputs.lengths, recording, inputs.starts)
        else:
            condition = condition.cropped(inputs.frames, inputs.starts, inputs.lengths)
        local, log_mel = condition.local, condition.log_mel
        if log_mel is not None and not self.envelope_gradient:
            log_mel = log_mel.detach()
        # Where nothing is padded nobody has to look, which on a GPU would mean to wait.
        padded = samples if wav_lens is not None else None
        z, logdet = self.vocoder(wav, local, log_mel, speaker, padded, history)
        return z, logdet, samples

    def sample(
        self,
        condition,
        lengths=None,
        speaker=None,
        sigma=1.0,
        generator=None,
        after_flows=None,
    ):
        """Samples waveforms.

        Arguments
        ---------
        condition : Condition
            What the conditioner returned, or ``conditioner.decode``.
        lengths : torch.Tensor
            Relative lengths in (0, 1], ``[batch]``, or None where nothing is padded. An item is
            the same whatever it is batched with.
        speaker : torch.Tensor
            Global condition ``[batch, speakers.channels]``, or None.
        sigma : float
            Standard deviation of the noise: the sampling temperature.
        generator : torch.Generator or int
            Source of the noise. A number seeds every item alike, so that an item does not
            depend on its place in the batch.
        after_flows : callable
            See :meth:`~waveglow_vq.lobes.flows.waveglow.WaveGlow.inverse`; None for nothing.

        Returns
        -------
        torch.Tensor
            ``[batch, frames * hop]`` with the hop of the condition, zero where padded.
        """
        if sigma < 0:
            raise UserError(f"sigma: {sigma}; a standard deviation cannot be negative")
        frames = condition.local.shape[-1]
        samples = None if lengths is None else whole_lengths(lengths, frames) * condition.hop
        condition = self.excited(condition, lengths)
        local, log_mel = condition.local, condition.log_mel
        groups = frames * condition.hop // self.vocoder.group_size
        z = draw_noise(local, self.vocoder.group_size, groups, generator) * sigma
        return self.vocoder.inverse(z, local, log_mel, speaker, samples, after_flows=after_flows)
