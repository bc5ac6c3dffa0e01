"""Who speaks: the global condition, from a table of known speakers or from reference audio, and
the adversary that keeps speakers out of the codes.
"""

import copy

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.base import normalize_log_mel
from waveglow_vq.lobes.conditioners.speaker_embedding import shipped_speaker_embedding
from waveglow_vq.lobes.layers import ResidualStack
from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.distributed import mean_everywhere
from waveglow_vq.utils.masking import frame_mask, masked, masked_moments
from waveglow_vq.utils.validation import require_choice, require_integer, require_number

import torch
from torch import nn
from torch.nn import functional as F

SOURCES = ("table", "encoder", "pretrained")
# Number of a speaker that the model does not know.
UNKNOWN = -1
# Log-F0 of speech in general (158 Hz, a quarter of an octave's spread), until it is measured.
LOG_F0_MEAN = 5.06
LOG_F0_STD = 0.25
# The least standard deviation of a voice's log-F0, about a semitone: it is divided by.
MIN_LOG_F0_STD = 0.05


class SpeakerCondition(nn.Module):
    """Vectors of speakers, ``[batch, channels]``: the global condition of flows and decoder.

    With ``source: table`` every speaker has a learned vector. With ``source: encoder`` a small
    network computes it from reference audio, so that voices never seen have one too; the known
    speakers' mean vectors are kept, so that they can be named. With ``source: pretrained`` it is a
    learned projection of what the package's own encoder of speakers hears (see
    :class:`~waveglow_vq.lobes.conditioners.speaker_embedding.SpeakerEmbedding`), which is kept as
    it is and saved with the model. There is always a learned vector for speakers that are unknown,
    number -1.

    Arguments
    ---------
    max_speakers : int
        Room for so many speakers.
    channels : int
        Channels of the condition.
    source : str
        ``table``, ``encoder`` or ``pretrained``.
    dropout : float
        Share of the training items whose speaker is said to be unknown, which teaches that vector.
    features : LogMel
        The feature contract; for ``encoder`` and ``pretrained``.
    encoder_channels, encoder_layers : int
        Width and residual blocks of the encoder.

    Example
    -------
    >>> import torch
    >>> speakers = SpeakerCondition(10, channels=16)
    >>> speakers(torch.tensor([0, 9, -1])).shape
    torch.Size([3, 16])
    """

    def __init__(
        self,
        max_speakers,
        channels=64,
        source="table",
        dropout=0.0,
        features=None,
        encoder_channels=128,
        encoder_layers=3,
    ):
        super().__init__()
        require_choice("speaker_source", source, SOURCES)
        require_integer("max_speakers", max_speakers, 1)
        require_number("speaker_dropout", dropout, least=0, below=1)
        self.count = max_speakers
        self.channels = channels
        self.source = source
        self.dropout = dropout
        self.unknown = nn.Parameter(torch.randn(channels) * 0.1)
        if source == "table":
            self.table = nn.Embedding(max_speakers, channels)
        else:
            if source == "pretrained":
                self.encoder = PretrainedEncoder(features, channels)
            else:
                self.encoder = SpeakerEncoder(features, channels, encoder_channels, encoder_layers)
            # Mean vectors of the known speakers; the recipe fills them when training is over.
            self.register_buffer("centroids", torch.zeros(max_speakers, channels))
        statistics = torch.tensor([[LOG_F0_MEAN, LOG_F0_STD]]).repeat(max_speakers + 1, 1)
        # The last row is that of unknown speakers.
        self.register_buffer("log_f0", statistics)

    @property
    def hears_references(self):
        """Whether voices are told by reference audio."""
        return self.source != "table"

    def forward(self, ids=None, reference=None, reference_lengths=None):
        """Computes the global condition.

        Arguments
        ---------
        ids : torch.Tensor
            Numbers of the speakers, int64 ``[batch]``; -1 for unknown ones.
        reference : torch.Tensor
            Log-mels of the speakers, ``[batch, n_mels, frames]``, instead of their numbers.
        reference_lengths : torch.Tensor
            Their relative lengths, ``[batch]``, or None where nothing is padded.

        Returns
        -------
        torch.Tensor
            ``[batch, channels]``.
        """
        if reference is not None:
            if not self.hears_references:
                raise UserError(
                    "reference: this model knows its speakers by a table; train with "
                    "--speaker_source encoder or pretrained to convert to voices of reference audio"
                )
            vectors = self.encoder(reference, reference_lengths)
            known = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        else:
            table = self.table.weight if self.source == "table" else self.centroids
            vectors, known = table[ids.clamp_min(0)], ids >= 0
        if self.training and self.dropout:
            known = known & (torch.rand(len(vectors), device=vectors.device) >= self.dropout)
        # By a product, so that each parameter takes part in every step, as DDP wants it.
        known = known[:, None].to(vectors.dtype)
        return known * vectors + (1 - known) * self.unknown

    def f0_statistics(self, ids):
        """Mean and standard deviation of the speakers' log-F0, ``[batch, 2]``; ids as above."""
        return self.log_f0[torch.where(ids >= 0, ids, self.count)]

    def set_f0_statistics(self, statistics):
        """Takes the known speakers' ``[speakers, 2]``; what is unknown is their mean."""
        statistics = torch.as_tensor(statistics, dtype=self.log_f0.dtype)
        if len(statistics) > self.count:
            raise UserError(
                f"max_speakers: {self.count}; the corpus has {len(statistics)} speakers"
            )
        self.log_f0[: len(statistics)] = statistics.to(self.log_f0.device)
        self.log_f0[len(statistics) :] = statistics.mean(0).to(self.log_f0.device)

    def set_centroids(self, vectors):
        """Keeps the known speakers' mean vectors ``[speakers, channels]`` of the encoder."""
        self.centroids[: len(vectors)] = vectors.to(self.centroids)


def build_speakers(global_condition, **options):
    """A :class:`SpeakerCondition` of the given options, or None: what ``global_condition: none |
    speaker`` in the YAML files stands for.

    Example
    -------
    >>> build_speakers("none", max_speakers=10) is None
    True
    """
    require_choice("global_condition", global_condition, ("none", "speaker"))
    return None if global_condition == "none" else SpeakerCondition(**options)


class SpeakerEncoder(nn.Module):
    """Log-mels to speaker vectors: residual convolutions, mean and standard deviation over time,
    a projection. Trained with everything else, by what it is good for.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    outputs : int
        Channels of the vector.
    channels : int
        Width.
    layers : int
        Residual blocks.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> SpeakerEncoder(LogMel(), 16, channels=8)(torch.randn(2, 80, 50)).shape
    torch.Size([2, 16])
    """

    def __init__(self, features, outputs, channels=128, layers=3):
        super().__init__()
        self.start = nn.Conv1d(features.n_mels, channels, 3, padding=1)
        self.stack = ResidualStack(channels, layers)
        self.end = nn.Linear(2 * channels, outputs)

    def forward(self, log_mel, lengths=None):
        """``[batch, n_mels, frames]`` to ``[batch, outputs]``; lengths are relative."""
        mask = frame_mask(lengths, log_mel.shape[-1])
        x = self.start(masked(normalize_log_mel(log_mel), mask))
        x = at_least_fp32(F.gelu(self.stack(x, mask)))
        mean, variance = masked_moments(x, mask)
        return self.end(torch.cat([mean, (variance + 1e-4).sqrt()], dim=1)[..., 0])


class PretrainedEncoder(nn.Module):
    """Log-mels to speaker vectors: a learned projection of the SpeakerEmbedding that comes with the
    package, scaled to a mean square of 1; the embedding itself is not trained.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    outputs : int
        Channels of the vector.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> PretrainedEncoder(LogMel(), 16)(torch.randn(2, 80, 50)).shape
    torch.Size([2, 16])
    """

    def __init__(self, features, outputs):
        super().__init__()
        if features.contract != LogMel().contract:
            raise UserError(
                "speaker_source: pretrained hears log-mels of the feature contract only; "
                "with other features take encoder"
            )
        self.embedding = copy.deepcopy(shipped_speaker_embedding())
        self.scale = self.embedding.dimension**0.5
        self.end = nn.Linear(self.embedding.dimension, outputs)

    def forward(self, log_mel, lengths=None):
        """``[batch, n_mels, frames]`` to ``[batch, outputs]``; lengths are relative."""
        return self.end(self.scale * self.embedding(log_mel, lengths))


class SpeakerAdversary(nn.Module):
    """Tells the speaker from what is about to be quantized, and teaches the encoder not to let it:
    the gradient is reversed (Ganin and Lempitsky 2015, eq. 18), so that the classifier descends
    and the encoder ascends the same cross-entropy.

    Arguments
    ---------
    inputs : int
        Dimension of the vectors.
    max_speakers : int
        Room for so many speakers.
    channels : int
        Width of the classifier.

    Example
    -------
    >>> import torch
    >>> adversary = SpeakerAdversary(8, max_speakers=4)
    >>> adversary(torch.randn(2, 20, 8), torch.tensor([3, -1])).shape
    torch.Size([])
    """

    def __init__(self, inputs, max_speakers, channels=128):
        super().__init__()
        self.start = nn.Conv1d(inputs, channels, 3, padding=1)
        self.stack = ResidualStack(channels, 1)
        self.end = nn.Linear(2 * channels, max_speakers)

    def forward(self, vectors, ids, lengths=None):
        """Cross-entropy of the speakers, in nats, a scalar; unknown speakers do not count. In
        training it is that of all processes together, so each has to call it.

        ``vectors`` are ``[batch, codes, inputs]``, ``ids`` the numbers of the speakers, ``[batch]``
        (-1 for unknown ones), and ``lengths`` relative in codes, or None.
        """
        mask = frame_mask(lengths, vectors.shape[1])
        x = self.start(masked(reverse_gradient(vectors.transpose(1, 2)), mask))
        x = at_least_fp32(F.gelu(self.stack(x, mask)))
        mean, variance = masked_moments(x, mask)
        logits = self.end(torch.cat([mean, (variance + 1e-4).sqrt()], dim=1)[..., 0])
        known = ids >= 0
        loss = F.cross_entropy(logits.float(), ids.clamp_min(0), reduction="none")
        return mean_everywhere((loss * known).sum(), known.sum(), self.training)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        return -gradient


def reverse_gradient(x):
    """The identity, whose gradient is the negative one.

    Example
    -------
    >>> import torch
    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(3 * x).sum().backward()
    >>> x.grad
    tensor([-3., -3.])
    """
    return _Reversal.apply(x)
