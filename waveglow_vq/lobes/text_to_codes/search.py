"""Search for codes, one after the other: greedy, sampling and beam search."""

import math
from typing import NamedTuple

from waveglow_vq.utils.devices import exact, supports_float64
from waveglow_vq.utils.validation import require_choice, require_integer, require_number

import torch

METHODS = ("greedy", "sample", "beam")


class SearchOptions(NamedTuple):
    """Options of the search.

    Arguments
    ---------
    method : str
        ``greedy`` takes the most probable code; ``sample`` draws one; ``beam`` looks for the most
        probable sequence (of a given length: log-probabilities are divided by
        length ** length_penalty).
    temperature : float
        Of ``sample``: logits are divided by it. Below 1 the probable codes become more so.
    top_k : int
        Of ``sample``: draw among the so many most probable codes; 0 for all.
    top_p : float
        Of ``sample``: draw among the most probable codes that together have this probability
        (Holtzman et al., "The curious case of neural text degeneration", 2020).
    beam_size : int
        Of ``beam``: sequences that are pursued at a time.
    length_penalty : float
        Of ``beam``.
    look_ahead : int
        The decoder may look at so many tokens beyond the furthest one that it has read (and at a
        few before), so that it cannot lose its place in the text; 0: at all of them.

    Example
    -------
    >>> SearchOptions("sample", top_p=0.9).checked().top_p
    0.9
    >>> SearchOptions("best").checked()
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: method: 'best' is not one of greedy, sample, beam
    """

    method: str = "greedy"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beam_size: int = 4
    length_penalty: float = 1.0
    look_ahead: int = 6

    def checked(self):
        """Returns itself; raises a UserError for an option that is out of range."""
        require_choice("method", self.method, METHODS)
        require_number("temperature", self.temperature, above=0)
        require_integer("top_k", self.top_k, 0)
        require_number("top_p", self.top_p, above=0, most=1)
        require_integer("beam_size", self.beam_size, 1)
        require_number("length_penalty", self.length_penalty, least=0)
        require_integer("look_ahead", self.look_ahead, 0)
        return self


class Limits(NamedTuple):
    """What the codes of an utterance have to keep to: ``least`` and ``most`` of them, int64
    ``[B]``, and ``longest_runs``, how often each code may stand in a row, int64 ``[K]``."""

    least: torch.Tensor
    most: torch.Tensor
    longest_runs: torch.Tensor


class Generated(NamedTuple):
    """Generated codes.

    Arguments
    ---------
    codes : torch.Tensor
        int64 ``[B, T]``, -1 where padded.
    pitch : torch.Tensor
        Level of pitch beside each, int64 ``[B, T]``, -1 where padded; None without pitch.
    attention : torch.Tensor
        ``[B, T, S]``: where the decoder looked when it chose each code; 0 where padded.
    stopped : torch.Tensor
        bool ``[B]``: whether the end came by itself, and not by the limit on the length.
    log_probability : torch.Tensor
        Of codes and end together, in nats, ``[B]``.
    """

    codes: torch.Tensor
    pitch: torch.Tensor | None
    attention: torch.Tensor
    stopped: torch.Tensor
    log_probability: torch.Tensor

    @property
    def counts(self):
        """Codes of each item, int64 ``[B]``."""
        return (self.codes >= 0).sum(1)


def search_codes(steps, limits, options, generator=None):
    """Chooses codes until the end (code K) is chosen, or the limit on the length is reached.

    Pitch is always the most probable one. An item's codes are those it would have alone. ``steps``
    are the decoder (:mod:`~waveglow_vq.lobes.text_to_codes.decoder_steps`). A generator that is a
    number seeds every item alike. An option that is out of range is a UserError.
    """
    options.checked()
    if options.method == "beam":
        return _beam(steps, limits, options)
    return _one_by_one(steps, limits, options, generator)


def _one_by_one(steps, limits, options, generator):
    """Greedy search, and sampling."""
    least, most, longest = limits
    rows, device = len(most), most.device
    numbers = _uniform_numbers(generator, rows, int(most.max()) + 1, device)
    latest = torch.full((rows,), -1, device=device)
    pitch, runs = latest, torch.zeros_like(latest)
    stopped = torch.zeros(rows, dtype=torch.bool, device=device)
    running, total = ~stopped, exact(torch.zeros(rows, device=device))
    chosen, pitches, looked_at = [], [], []
    # What a row does after its end is computed, and left out.
    for count in range(int(most.max()) + 1):
        logits, pitch_logits, attention = steps.step(latest, pitch)
        log_probabilities = logits.log_softmax(-1)
        allowed = _allowed(logits, latest, runs, count, least, longest)
        if options.method == "greedy":
            code = allowed.argmax(-1)
        else:
            code = _draw(allowed, options, numbers[:, count])
        # One code more than the most is only looked at, as it may be the end.
        ended = running & (code == logits.shape[-1] - 1)
        over = running & ~ended & (count >= most)
        own = log_probabilities.gather(1, code[:, None])[:, 0]
        total = total + torch.where(running & ~over, exact(own), 0.0)
        stopped, running = stopped | ended, running & ~ended & ~over
        if not bool(running.any()):
            break
        pitch = None if pitch_logits is None else pitch_logits.argmax(-1)
        runs = torch.where(code == latest, runs + 1, 1)
        # A row that has ended goes on with any code; the end itself is none.
        latest = torch.where(running, code, 0)
        chosen.append(torch.where(running, code, -1))
        looked_at.append(attention * running[:, None])
        if pitch is not None:
            pitches.append(torch.where(running, pitch, -1))
    codes = torch.stack(chosen, 1)
    return Generated(
        codes,
        torch.stack(pitches, 1) if pitches else None,
        torch.stack(looked_at, 1),
        stopped,
        total,
    )


def _allowed(logits, latest, runs, count, least, longest):
    """Logits without what must not follow: an early end, and more of what was repeated enough."""
    logits = logits.clone()
    end = logits.shape[-1] - 1
    logits[:, end] = logits[:, end].masked_fill(count < least, -torch.inf)
    if count:
        spent = runs >= longest[latest]
        own = logits.gather(1, latest[:, None])[:, 0].masked_fill(spent, -torch.inf)
        logits = logits.scatter(1, latest[:, None], own[:, None])
    return logits


def _draw(logits, options, numbers):
    """Draws by the inverse of the distribution function, in the order of probability: one number
    per item and step, whatever the options."""
    probabilities, order = (logits / options.temperature).softmax(-1).sort(descending=True)
    if options.top_k:
        probabilities[:, options.top_k :] = 0.0
    before = probabilities.cumsum(-1) - probabilities
    # Those before which top_p is not yet reached: always the first.
    probabilities = probabilities.masked_fill(before >= options.top_p, 0.0)
    sums = exact(probabilities).cumsum(-1)
    place = (sums <= numbers[:, None] * sums[:, -1:]).sum(-1)
    # Never one that was left out, even where rounding makes the number reach the sum.
    place = torch.minimum(place, (probabilities > 0).sum(-1) - 1)
    return order.gather(1, place[:, None])[:, 0]


def _uniform_numbers(generator, rows, count, device):
    """fp64, where the device has that, ``[rows, count]`` in [0, 1)."""
    kind = torch.float64 if supports_float64(device) else torch.float32
    if isinstance(generator, int):
        source = torch.Generator().manual_seed(generator)
        numbers = torch.rand(count, generator=source, dtype=torch.float64)
        return numbers.to(kind).to(device).expand(rows, -1)
    source = torch.device("cpu") if generator is None else generator.device
    numbers = torch.rand(rows, count, generator=generator, dtype=torch.float64, device=source)
    return numbers.to(kind).to(device)


class _Beam(NamedTuple):
    """A finished sequence: its score, the sum of its log-probabilities, codes, pitch, attention,
    and whether it ended by itself."""

    score: float
    total: float
    codes: torch.Tensor
    pitch: torch.Tensor | None
    attention: torch.Tensor
    stopped: bool


def _beam(steps, limits, options):
    """Beam search; every item has beams of its own, and stops when none can become better."""
    least, most, longest = limits
    items, width, device = len(most), options.beam_size, most.device
    steps.select(torch.arange(items, device=device).repeat_interleave(width))
    rows = torch.arange(items * width, device=device)
    per_row = Limits(*(limit.repeat_interleave(width) for limit in limits[:2]), longest)
    latest = torch.full((items * width,), -1, device=device)
    pitch, runs = latest, torch.zeros_like(latest)
    # All beams of an item begin alike: only one of them counts.
    totals = exact(torch.full((items, width), -torch.inf, device=device))
    totals[:, 0] = 0.0
    codes = latest[:, None][:, :0]
    pitches, looked_at = codes, None
    best, running = [None] * items, set(range(items))
    for count in range(int(most.max()) + 1):
        logits, pitch_logits, attention = steps.step(latest, pitch)
        if looked_at is None:
            looked_at = attention[:, None][:, :0]
        end = logits.shape[-1] - 1
        allowed = _allowed(logits, latest, runs, count, per_row.least, longest)
        own = torch.where(allowed.isinf(), allowed, logits.log_softmax(-1))
        scores = totals.view(-1, 1) + exact(own)
        kept = codes, pitches, looked_at
        for item in sorted(running):
            own = scores[item * width : (item + 1) * width]
            row = int(own[:, end].argmax())
            # An end counts if it is among the continuations that would be pursued.
            if own[row, end] >= own.flatten().topk(width).values[-1]:
                total = float(own[row, end])
                _keep(best, item, row + item * width, total, kept, count, True, options)
            if count >= int(most[item]) and best[item] is None:
                # None has ended: the most probable one is cut off.
                row = int(totals[item].argmax())
                total = float(totals[item, row])
                _keep(best, item, row + item * width, total, kept, count, False, options)
        going_on = scores[:, :end].reshape(items, -1)
        totals, index = going_on.topk(width, dim=1)
        rows = (index // end + torch.arange(items, device=device)[:, None] * width).flatten()
        code = (index % end).flatten()
        for item in sorted(running):
            if _is_decided(best[item], totals[item], count, int(most[item]), options):
                running.remove(item)
        if not running:
            break
        steps.select(rows)
        pitch = None if pitch_logits is None else pitch_logits.argmax(-1)[rows]
        runs = torch.where(code == latest[rows], runs[rows] + 1, 1)
        latest = code
        codes = torch.cat((codes[rows], code[:, None]), 1)
        looked_at = torch.cat((looked_at[rows], attention[rows][:, None]), 1)
        if pitch is not None:
            pitches = torch.cat((pitches[rows], pitch[:, None]), 1)
    has_pitch = steps.model.pitch_levels > 0
    return Generated(
        _pad([beam.codes for beam in best], -1),
        _pad([beam.pitch for beam in best], -1) if has_pitch else None,
        _pad([beam.attention for beam in best], 0.0),
        torch.tensor([beam.stopped for beam in best], device=device),
        torch.tensor([beam.total for beam in best], dtype=totals.dtype, device=device),
    )


def _keep(best, item, row, total, kept, count, stopped, options):
    """Keeps a finished sequence if it is the item's best."""
    score = _score(total, count + 1, options)
    if math.isinf(total) or best[item] is not None and score <= best[item].score:
        return
    codes, pitches, looked_at = kept
    pitch = pitches[row] if pitches.shape[1] else None
    best[item] = _Beam(score, total, codes[row], pitch, looked_at[row], stopped)


def _score(total, length, options):
    return total / length**options.length_penalty


def _is_decided(best, totals, count, most, options):
    """Whether no beam can become better than what has ended: as log-probabilities only fall, a beam
    is at best as good as if it had the greatest length already and nothing were to be added."""
    if count >= most:
        return True
    if best is None:
        return False
    return _score(float(totals.max()), most + 1, options) <= best.score


def _pad(items, value):
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=value)
