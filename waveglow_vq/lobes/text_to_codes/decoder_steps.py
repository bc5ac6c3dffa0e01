"""The decoder of text-to-codes, one code at a time: with a cache of keys and values, and without.

Both have one form. ``step(codes, pitch)`` takes the latest code (and pitch) of every row, -1 at the
start, and returns what comes next: the logits of the code ``[R, K + 1]`` and of the pitch
``[R, levels + 1]`` or None, and the attention ``[R, S]``. ``select(rows)`` goes on with those rows
in place of the present ones, each as often as it is named.

What the decoder looks at may be bounded: a text is read from its beginning to its end, so what is
far from where it is being read has no say in the next code. Training needs no such bound, but an
attention that jumps, once, would skip words, or speak them again (as in Ping et al., "Deep Voice
3", 2018, whose bound is a window too).
"""

import torch
from torch.nn import functional as F

# Tokens before the furthest one that can be looked at where the attention is bounded.
LOOK_BACK = 4


class _Progress:
    """Tracks how far the texts have been read, and masks the tokens that are too far away."""

    def __init__(self, padding, look_ahead):
        self.padding, self.look_ahead = padding, look_ahead
        self.furthest = padding.new_zeros(len(padding), dtype=torch.long)

    def hidden(self):
        """bool ``[R, S]``; never all that is text."""
        if not self.look_ahead:
            return self.padding
        tokens = torch.arange(self.padding.shape[1], device=self.padding.device)
        ahead = tokens - self.furthest[:, None]
        return self.padding | (ahead < -LOOK_BACK) | (ahead > self.look_ahead)

    def move(self, attention):
        """Advances to the token with the most attention, if it is further than all before."""
        self.furthest = torch.maximum(self.furthest, attention.argmax(1))

    def select(self, rows):
        self.padding, self.furthest = self.padding[rows], self.furthest[rows]


class PlainSteps:
    """Runs the decoder over all codes at every step, as training does.

    The model is in evaluation mode, ``memory`` and ``padding`` are what its ``encode_text``
    returned, and ``speaker`` is as for its ``forward``, or None. ``look_ahead`` is how many tokens
    beyond the furthest one so far can be looked at, beside the LOOK_BACK before it; 0: all of the
    text.
    """

    def __init__(self, model, memory, padding, speaker=None, look_ahead=0):
        self.model, self.memory, self.padding, self.speaker = model, memory, padding, speaker
        self.codes = memory.new_zeros(len(memory), 0, dtype=torch.long)
        self.pitch = self.codes if model.pitch_levels else None
        self.progress = _Progress(padding, look_ahead)
        self.hidden_tokens = padding[:, None][:, :0]

    def step(self, codes, pitch=None):
        """See the module."""
        if bool((codes >= 0).all()):
            self.codes = torch.cat((self.codes, codes[:, None]), 1)
            if self.pitch is not None:
                self.pitch = torch.cat((self.pitch, pitch[:, None]), 1)
        latest = self.progress.hidden()[:, None]
        self.hidden_tokens = torch.cat((self.hidden_tokens, latest), 1)
        hidden, attention = self.model.decode_text(
            self.memory, self.padding, self.codes, self.pitch, self.speaker, self.hidden_tokens
        )
        self.progress.move(attention[:, -1])
        return _logits(self.model, hidden[:, -1]) + (attention[:, -1],)

    def select(self, rows):
        """See the module."""
        self.memory, self.padding = self.memory[rows], self.padding[rows]
        self.hidden_tokens = self.hidden_tokens[rows]
        self.progress.select(rows)
        self.codes = self.codes[rows]
        self.pitch = None if self.pitch is None else self.pitch[rows]
        self.speaker = None if self.speaker is None else self.speaker[rows]


class CachedSteps:
    """Computes only the latest code, from kept keys and values of the earlier ones; the same within
    rounding as :class:`PlainSteps`, whose arguments it takes."""

    def __init__(self, model, memory, padding, speaker=None, look_ahead=0):
        self.model, self.speaker = model, speaker
        self.progress = _Progress(padding, look_ahead)
        self.count = 0
        # Of each layer: keys and values [R, heads, codes or tokens, channels / heads].
        self.of_codes = [None] * len(model.decoder.layers)
        self.of_text = []
        for layer in model.decoder.layers:
            attention = layer.multihead_attn.att
            parts = zip(*(p.chunk(3) for p in _projection(attention)), strict=True)
            _, *projections = parts
            self.of_text.append(
                [_heads(F.linear(memory, w, b), attention.num_heads) for w, b in projections]
            )

    def step(self, codes, pitch=None):
        """See the module."""
        pitch = None if pitch is None else pitch[:, None]
        x = self.model.decoder_inputs(codes[:, None], pitch, self.speaker, self.count)
        looked_at, hidden_tokens = 0.0, self.progress.hidden()
        for number, layer in enumerate(self.model.decoder.layers):
            x = x + self._recall(number, layer.self_attn.att, layer.norm1(x))
            query = layer.norm2(x)
            found, weights = self._look(number, layer.multihead_attn.att, query, hidden_tokens)
            x = x + found
            x = x + layer.pos_ffn(layer.norm3(x))
            looked_at = looked_at + weights
        self.count += 1
        self.progress.move(looked_at)
        hidden = self.model.decoder.norm(x)[:, 0]
        return _logits(self.model, hidden) + (looked_at / len(self.of_text),)

    def _recall(self, number, attention, x):
        """Attention to the codes so far."""
        query, *latest = (
            _heads(part, attention.num_heads)
            for part in F.linear(x, *_projection(attention)).chunk(3, dim=-1)
        )
        if self.of_codes[number] is not None:
            earlier = self.of_codes[number]
            latest = [torch.cat(pair, 2) for pair in zip(earlier, latest, strict=True)]
        self.of_codes[number] = latest
        found = F.scaled_dot_product_attention(query, *latest)
        return attention.out_proj(found.transpose(1, 2).flatten(2))

    def _look(self, number, attention, x, hidden_tokens):
        """Attention to the text; and its weights ``[R, S]``, mean over heads."""
        channels = attention.embed_dim
        weight, bias = (p[:channels] for p in _projection(attention))
        query = _heads(F.linear(x, weight, bias), attention.num_heads)
        keys, values = self.of_text[number]
        scores = query @ keys.transpose(2, 3) / query.shape[3] ** 0.5
        weights = scores.masked_fill(hidden_tokens[:, None, None], -torch.inf).softmax(-1)
        found = attention.out_proj((weights @ values).transpose(1, 2).flatten(2))
        return found, weights.mean(1)[:, 0]

    def select(self, rows):
        """See the module."""
        self.progress.select(rows)
        self.of_text = [[part[rows] for part in parts] for parts in self.of_text]
        self.of_codes = [
            None if parts is None else [part[rows] for part in parts] for parts in self.of_codes
        ]
        self.speaker = None if self.speaker is None else self.speaker[rows]


def _projection(attention):
    """Weight and bias of query, key and value, one below the other."""
    return attention.in_proj_weight, attention.in_proj_bias


def _heads(x, heads):
    """``[R, T, channels]`` as ``[R, heads, T, channels / heads]``."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _logits(model, hidden):
    pitch = model.to_pitch(hidden).float() if model.pitch_levels else None
    return model.to_code(hidden).float(), pitch
