"""The sequence model of text-to-speech: text tokens to the codes of a trained codec.

An encoder-decoder Transformer (Vaswani et al. 2017; for speech, Li et al. 2019) on SpeechBrain's
layers, with what keeps the attention monotonic:

- Positions are sinusoids with a learned scale; those of the text advance by the average codes per
  token (Ping et al., "Deep Voice 3", 2018).
- Every token predicts by itself which codes it sounds like; the decoder's attention is trained on
  the alignment that follows
  (:func:`~waveglow_vq.lobes.text_to_codes.alignment_loss.forward_sum`).
- Codes that the decoder reads in training are hidden at random.
- In generation, the decoder attends to tokens near its position
  (:mod:`~waveglow_vq.lobes.text_to_codes.decoder_steps`).
- The end is one more code; its earliest and latest place, and how often a code may be repeated,
  follow the training data (:meth:`TextToCodes.fit_statistics`).
"""

from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.text_to_codes.alignment_loss import forward_sum
from waveglow_vq.lobes.text_to_codes.decoder_steps import CachedSteps, PlainSteps
from waveglow_vq.lobes.text_to_codes.positions import sinusoids
from waveglow_vq.lobes.text_to_codes.search import Limits, SearchOptions, search_codes
from waveglow_vq.utils.distributed import mean_everywhere
from waveglow_vq.utils.masking import whole_lengths
from waveglow_vq.utils.validation import require_number

import torch
from speechbrain.lobes.models.transformer.Transformer import TransformerDecoder, TransformerEncoder
from torch import nn
from torch.nn import functional as F

# Tokens' worth of codes that every utterance has beside its text: pauses at both ends.
SPARE_TOKENS = 10
# How much shorter or longer for its text than all of the training data an utterance may become.
RATE_MARGIN = 1.25


class TextToCodesOutput(NamedTuple):
    """Output of a training step.

    Arguments
    ---------
    loss : torch.Tensor
        What is minimized, a scalar.
    terms : dict
        Detached scalars: ``nll`` (of a code or the end, given the ones before, in nats),
        ``accuracy`` (share of them that are the most probable ones), ``reading`` (the forward-sum
        loss of the codes given each token alone), ``attention`` (cross entropy from that alignment
        to the decoder's attention, in nats) and, with pitch, ``pitch_nll`` and ``pitch_accuracy``.
    attention : torch.Tensor
        ``[batch, codes + 1, tokens]``, mean over heads and layers: row t is where the decoder
        looked when it chose code t, the last one when it chose the end.
    """

    loss: torch.Tensor
    terms: dict
    attention: torch.Tensor


class TextToCodes(nn.Module):
    """Text tokens to codes and, for codecs that have it, pitch beside each code.

    Arguments
    ---------
    vocabulary_size : int
        Number of text tokens.
    codebook_size : int
        Number of codes; the end is code number ``codebook_size``.
    channels : int
        Width of the layers; a multiple of ``2 * heads``.
    heads : int
        Attention heads of a layer.
    encoder_layers, decoder_layers : int
        Transformer layers.
    convolutions : int
        Convolutional layers of kernel size 5 before the encoder, which see a token's neighbours.
    feedforward_channels : int
        Width inside of the layers' feed-forward parts.
    dropout : float
        In the layers.
    code_dropout : float
        Share of the codes that the decoder cannot read in training.
    max_speakers : int
        Room for so many speakers; 0 for a single one.
    pitch_levels : int
        Levels of pitch beside unvoiced (which is 0); 0 for codecs without pitch.
    reading_weight, attention_weight : float
        Weights of these terms of the loss; without the first, the second has no meaning.

    Example
    -------
    >>> model = TextToCodes(30, 64, channels=32, heads=2, encoder_layers=1, decoder_layers=1)
    >>> tokens, codes = torch.randint(1, 30, (2, 7)), torch.randint(64, (2, 20))
    >>> output = model(tokens, torch.tensor([1.0, 0.6]), codes, torch.tensor([1.0, 0.5]))
    >>> output.attention.shape, sorted(output.terms)
    (torch.Size([2, 21, 7]), ['accuracy', 'attention', 'nll', 'reading'])
    >>> model.fit_statistics([(7, codes[0], None), (4, codes[1, :10], None)])
    >>> generated = model.eval().generate(tokens, torch.tensor([1.0, 0.6]))
    >>> generated.codes.shape[0], generated.attention.shape[1:] == (generated.codes.shape[1], 7)
    (2, True)
    """

    def __init__(
        self,
        vocabulary_size,
        codebook_size,
        channels=256,
        heads=4,
        encoder_layers=3,
        decoder_layers=3,
        convolutions=2,
        feedforward_channels=1024,
        dropout=0.1,
        code_dropout=0.3,
        max_speakers=0,
        pitch_levels=0,
        reading_weight=1.0,
        attention_weight=1.0,
    ):
        super().__init__()
        if channels % (2 * heads):
            raise UserError(f"channels: {channels}; it must be a multiple of {2 * heads}")
        for name, value in (("dropout", dropout), ("code_dropout", code_dropout)):
            require_number(name, value, least=0, below=1)
        self.vocabulary_size, self.codebook_size = vocabulary_size, codebook_size
        self.max_speakers, self.pitch_levels = max_speakers, pitch_levels
        self.code_dropout = code_dropout
        self.reading_weight, self.attention_weight = reading_weight, attention_weight

        self.tokens = nn.Embedding(vocabulary_size, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, 5, padding=2) for _ in range(convolutions)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(convolutions))
        layer = {"d_ffn": feedforward_channels, "nhead": heads, "d_model": channels}
        layer.update(dropout=dropout, activation=nn.GELU, normalize_before=True)
        self.encoder = TransformerEncoder(encoder_layers, **layer)
        self.decoder = TransformerDecoder(decoder_layers, **layer)
        self.text_scale = nn.Parameter(torch.ones(()))
        self.code_scale = nn.Parameter(torch.ones(()))
        # Before the first code there is one more, which stands for those that are hidden too.
        self.codes = nn.Embedding(codebook_size + 1, channels)
        self.to_code = nn.Linear(channels, codebook_size + 1)
        self.to_sound = nn.Linear(channels, codebook_size)  # of a token by itself
        if pitch_levels:
            self.pitches = nn.Embedding(pitch_levels + 2, channels)
            self.to_pitch = nn.Linear(channels, pitch_levels + 1)
        if max_speakers:
            self.speakers = nn.Embedding(max_speakers, channels)
        self.dropout = nn.Dropout(dropout)
        # What fit_statistics reads off the training data; until then, hardly any limits.
        self.register_buffer("codes_per_token", torch.tensor(3.0))
        self.register_buffer("least_rate", torch.tensor(0.0))
        self.register_buffer("greatest_rate", torch.tensor(20.0))
        self.register_buffer("longest_runs", torch.full((codebook_size,), 1000))

    # ---- what the training data say

    @torch.no_grad()
    def fit_statistics(self, utterances):
        """Measures the rate of speech and the repetitions of codes in the training data, once,
        before training; the buffers hold the result. The utterances, at least one, are the number
        of tokens, codes ``[T]`` and pitch (not used) of each."""
        tokens, lengths = [], []
        longest = torch.zeros(self.codebook_size, dtype=torch.long)
        for count, codes, *_ in utterances:
            tokens.append(count)
            lengths.append(len(codes))
            values, runs = torch.unique_consecutive(codes.cpu().long(), return_counts=True)
            longest.scatter_reduce_(0, values, runs, "amax")
        if not tokens:
            raise UserError("there are no utterances to train on")
        tokens, lengths = torch.tensor(tokens).double(), torch.tensor(lengths).double()
        rates = lengths / (tokens + SPARE_TOKENS)
        self.codes_per_token.fill_(float(lengths.sum() / tokens.sum()))
        self.least_rate.fill_(float(rates.min()))
        self.greatest_rate.fill_(float(rates.max()))
        # One more than was seen, so that a code of which few were seen is not held to them.
        self.longest_runs.copy_(longest + 1)

    def limits(self, token_counts):
        """The Limits of texts of so many tokens, int64 ``[B]``: least and most codes, ``[B]``; and
        how often each code may follow itself, ``[K]``."""
        spoken = token_counts + SPARE_TOKENS
        least = (spoken * self.least_rate / RATE_MARGIN).floor().long().clamp(min=1)
        most = (spoken * self.greatest_rate * RATE_MARGIN).ceil().long()
        return Limits(least, torch.maximum(least, most), self.longest_runs)

    # ---- training

    def forward(self, tokens, token_lens, codes, code_lens, speaker=None, pitch=None):
        """Computes the loss of a training step.

        Arguments
        ---------
        tokens : torch.Tensor
            int64 ``[B, S]``.
        token_lens : torch.Tensor
            Relative lengths in (0, 1], ``[B]``.
        codes : torch.Tensor
            int64 ``[B, T]``.
        code_lens : torch.Tensor
            Relative lengths in (0, 1], ``[B]``.
        speaker : torch.Tensor
            Numbers of the speakers, int64 ``[B]``; with ``max_speakers`` only.
        pitch : torch.Tensor
            Level of pitch beside each code, int64 ``[B, T]``; with ``pitch_levels`` only.

        Returns
        -------
        TextToCodesOutput
        """
        counts = whole_lengths(code_lens, codes.shape[1])
        memory, padding = self.encode_text(tokens, token_lens, speaker)
        hidden, attention = self.decode_text(memory, padding, codes, pitch, speaker)
        steps = torch.arange(hidden.shape[1], device=codes.device)
        valid = steps <= counts[:, None]
        targets = F.pad(codes, (0, 1)).masked_fill(steps == counts[:, None], self.codebook_size)
        loss, nll, accuracy = self._cross_entropy(self.to_code(hidden), targets, valid)
        terms = {"nll": nll, "accuracy": accuracy}
        if self.pitch_levels:
            # At the end there is no pitch.
            voiced = valid & (steps < counts[:, None])
            pitches = self.to_pitch(hidden), F.pad(pitch, (0, 1)), voiced
            own, terms["pitch_nll"], terms["pitch_accuracy"] = self._cross_entropy(*pitches)
            loss = loss + own
        parts = self._reading(memory, padding, codes, counts, attention)
        (reading, looks), (terms["reading"], terms["attention"]) = parts
        loss = loss + self.reading_weight * reading + self.attention_weight * looks
        return TextToCodesOutput(loss, terms, attention.detach())

    def _cross_entropy(self, logits, targets, valid):
        """The loss, and the mean negative log-likelihood and accuracy, over what is not padding."""
        logits, targets, count = logits[valid].float(), targets[valid], valid.sum()
        total = F.cross_entropy(logits, targets, reduction="sum")
        accuracy = (logits.argmax(-1) == targets).float().mean()
        mean = mean_everywhere(total, count, together=self.training)
        return mean, (total / count).detach(), accuracy

    def _reading(self, memory, padding, codes, counts, attention):
        """The terms ``reading`` and ``attention``: for the loss, and to be reported."""
        sounds = self.to_sound(memory).float().log_softmax(-1)
        scores = sounds.gather(2, codes[:, None].expand(-1, sounds.shape[1], -1)).transpose(1, 2)
        token_counts = (~padding).sum(1)
        likelihood, places = forward_sum(scores, counts, token_counts)
        # The end is read off the last token.
        places = F.pad(places, (0, 0, 0, 1))
        items = torch.arange(len(codes), device=codes.device)
        places[items, counts, token_counts - 1] = 1.0
        # A place that the decoder does not look at at all costs no more than this lets it.
        looks = -(places * (attention.float() + 1e-5).log()).sum()
        sums = (-likelihood.sum(), counts.sum()), (looks, (counts + 1).sum())
        means = [mean_everywhere(*part, together=self.training) for part in sums]
        return means, [(t / n).detach() for t, n in sums]

    # ---- the network

    def encode_text(self, tokens, token_lens=None, speaker=None):
        """Encodes tokens to the memory that the decoder attends to, ``[B, S, channels]``, and its
        padding, bool ``[B, S]``, True where padded. Arguments as for :meth:`forward`; without
        lengths, nothing is padded."""
        if token_lens is None:
            token_lens = torch.ones(len(tokens), device=tokens.device)
        counts = whole_lengths(token_lens, tokens.shape[1])
        places = torch.arange(tokens.shape[1], device=tokens.device)
        padding = places >= counts[:, None]
        x = self.tokens(tokens)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            inside = norm(x).masked_fill(padding[..., None], 0.0)
            x = x + self.dropout(F.gelu(convolution(inside.transpose(1, 2)))).transpose(1, 2)
        x = x + self.text_scale * sinusoids(places * self.codes_per_token, x.shape[2])
        x, _ = self.encoder(self.dropout(x), src_key_padding_mask=padding)
        return x + self._speaker(speaker), padding

    def decoder_inputs(self, codes, pitch=None, speaker=None, first=0):
        """Decoder inputs ``[B, T, channels]`` for these codes, the first of which is number
        ``first``. Codes and pitch are -1 where there is none, as before the first code."""
        x = self.codes(torch.where(codes < 0, self.codebook_size, codes))
        if self.pitch_levels:
            x = x + self.pitches(torch.where(pitch < 0, self.pitch_levels + 1, pitch))
        places = torch.arange(first, first + codes.shape[1], device=codes.device)
        return x + self.code_scale * sinusoids(places, x.shape[2]) + self._speaker(speaker)

    def decode_text(self, memory, padding, codes, pitch=None, speaker=None, hidden_tokens=None):
        """Runs the decoder over known codes, with memory and padding of :meth:`encode_text`; other
        arguments are as for :meth:`forward`. ``hidden_tokens``, bool ``[B, T + 1, S]``, are what
        the decoder cannot look at, at t; None: nothing.

        Returns ``hidden`` ``[B, T + 1, channels]``, at t from the codes before t; and the attention
        ``[B, T + 1, S]``, mean over layers and heads.
        """
        codes = F.pad(codes, (1, 0), value=-1)
        pitch = None if pitch is None else F.pad(pitch, (1, 0), value=-1)
        if self.training and self.code_dropout:
            hidden = torch.rand(codes.shape, device=codes.device) < self.code_dropout
            codes = codes.masked_fill(hidden, -1)
            pitch = None if pitch is None else pitch.masked_fill(hidden, -1)
        x = self.dropout(self.decoder_inputs(codes, pitch, speaker))
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        if hidden_tokens is not None:
            heads = self.decoder.layers[0].multihead_attn.att.num_heads
            hidden_tokens = hidden_tokens.repeat_interleave(heads, 0)
        hidden, _, attention = self.decoder(
            x, memory, later, memory_mask=hidden_tokens, memory_key_padding_mask=padding
        )
        return hidden, torch.stack(attention).mean(0)

    def _speaker(self, speaker):
        if not self.max_speakers:
            return 0.0
        if speaker is None:
            raise UserError("speaker: the model has several; say which one is to speak")
        return self.speakers(speaker)[:, None]

    # ---- generation

    @torch.no_grad()
    def generate(
        self, tokens, token_lens=None, speaker=None, search=None, generator=None, use_cache=True
    ):
        """Generates codes for texts. An item's codes do not depend on its batch.

        Arguments
        ---------
        tokens, token_lens, speaker
            As for :meth:`forward`; without lengths, nothing is padded.
        search : SearchOptions
            How codes are chosen; None: greedily.
        generator : int, torch.Generator or None
            Source of random numbers. A number seeds every item alike, so that an item does not
            depend on its place in the batch.
        use_cache : bool
            Whether keys and values of earlier codes are kept; the result is the same without.

        Returns
        -------
        Generated
            See :func:`~waveglow_vq.lobes.text_to_codes.search.search_codes`.
        """
        search = search or SearchOptions()
        memory, padding = self.encode_text(tokens, token_lens, speaker)
        make = CachedSteps if use_cache else PlainSteps
        steps = make(self, memory, padding, speaker, search.look_ahead)
        return search_codes(steps, self.limits((~padding).sum(1)), search, generator)

    # ---- what the shared training loop asks of a model

    changes_in_forward = False

    def after_optimizer_step(self, optimizer=None, taken=True):
        """Does nothing; returns 0."""
        return 0

    def training_state(self):
        """Empty: there is no state beside the weights."""
        return {}

    def load_training_state(self, state):
        """The counterpart of :meth:`training_state`."""
