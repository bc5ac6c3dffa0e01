"""What the quantisers share: frames, initialisation, restarts, statistics and the estimators."""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizer_statistics import (
    MERGE_TOLERANCE,
    all_reduce_sum,
    broadcast_from_first,
    choose_spread_frames,
    distinct_codes,
    merged_codes,
    move_idle_codes,
    perplexity,
    squared_distances,
)

import torch
from torch import nn

# Frames wanted for each code that is initialised: from fewer, whole groups of the data are missed.
FRAMES_PER_NEW_CODE = 4
# Share of the past that `usage()` keeps at each training step.
USAGE_DECAY = 0.99
# Frames that `encode` compares to the codebook at once.
ENCODE_CHUNK_FRAMES = 16384


class QuantizerOutput(NamedTuple):
    """What a quantiser returns.

    Arguments
    ---------
    quantized : torch.Tensor
        [B, T, D], the chosen codes; zeros where the input is padding.
    indices : torch.Tensor
        int64 [B, T]; -1 where the input is padding.
    losses : dict
        Scalars that already carry their weights: "commitment" and, for soft EM, "codebook".
    statistics : dict
        Detached tensors of this forward on this process: `used` (share of the codes),
        `perplexity`, `responsibility_perplexity`, `normalized_mse`, and what `CodeStatistics`
        sums up over an epoch: `counts` [K], `frames`, `squared_error`, `squared_deviation`,
        `mean_frame` [D].
    """

    quantized: torch.Tensor
    indices: torch.Tensor
    losses: dict
    statistics: dict


class Quantizer(nn.Module):
    """What both quantisers share.

    A subclass holds `codebook` [K, D] and defines how it learns: `_codebook_with_gradient` returns
    the codebook for this forward's graph, `_learn` the losses and the responsibility perplexity
    (and updates the codebook if it is not the optimizer's to update), and `_set_rows` replaces
    codes.
    """

    def __init__(
        self, codebook_size, codebook_dim, commitment_weight, estimator, initialization,
        restart_after,
    ):  # fmt: skip
        super().__init__()
        require_integer("codebook_size", codebook_size, 1)
        require_integer("codebook_dim", codebook_dim, 1)
        require_number("commitment_weight", commitment_weight, least=0.0)
        require_choice("estimator", estimator, ("ste", "rotation"))
        require_choice("initialization", initialization, ("data", "normal"))
        require_integer("restart_after", restart_after, 0)
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim
        self.commitment_weight = commitment_weight
        self.estimator = estimator
        self.initialization = initialization
        self.restart_after = restart_after
        self.frozen = False
        filled = codebook_size if initialization == "normal" else 0
        self.register_buffer("filled", torch.tensor(filled))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("unused_steps", torch.zeros(codebook_size, dtype=torch.int64))
        self.register_buffer("recent_counts", torch.zeros(codebook_size))
        # Frames, squared error and squared deviation, decayed like recent_counts.
        self.register_buffer("recent_totals", torch.zeros(3))
        # Recent encoder outputs, from which codes restart. Not a buffer: DistributedDataParallel
        # would send it around at every forward, and only the first process's is ever used.
        self._recent_frames = None

    def extra_repr(self):
        return (
            f"codebook_size={self.codebook_size}, codebook_dim={self.codebook_dim}, "
            f"estimator={self.estimator}, initialization={self.initialization}, "
            f"restart_after={self.restart_after}"
        )

    # ---- the interface

    def forward(self, x, lengths=None):
        """Quantises a batch. In training mode it also updates the statistics and, at first, the
        codebook; all processes of a distributed run then have to call it together.

        Arguments
        ---------
        x : torch.Tensor
            Encoder outputs [B, T, D], floating point.
        lengths : torch.Tensor
            [B], relative lengths in (0, 1]; frames beyond them are padding and take no part in
            anything. None: no padding.

        Returns
        -------
        output : QuantizerOutput

        Errors: `UserError` if the shape is wrong or a frame is not finite.
        """
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._forward(x, lengths)

    def _forward(self, x, lengths):
        frames, mask = self._valid_frames(x, lengths)
        fixed = frames.detach()
        updating = self.training and not self.frozen
        if updating:
            self._initialize(fixed)

        mean_frame = fixed.mean(dim=0)
        squared_deviation = (fixed - mean_frame).square().sum()
        totals = torch.stack([squared_deviation.new_tensor(float(len(fixed))), squared_deviation])
        if updating:
            totals = all_reduce_sum(totals.clone())
        # Frames that are all the same deviate by rounding only; nothing is divided by less.
        rounding = torch.finfo(fixed.dtype).eps ** 2 * fixed.square().sum(dim=1).mean() + 1e-30
        deviation = torch.maximum(totals[1] / totals[0], rounding)

        codebook = self._codebook_with_gradient(deviation).to(fixed.dtype)
        distances = squared_distances(fixed, codebook)
        indices = self._without_unfilled(distances.detach()).argmin(dim=1)
        chosen = codebook[indices]
        error = (fixed - chosen.detach()).square().sum()
        counts = torch.bincount(indices, minlength=self.codebook_size)

        everywhere = torch.cat([counts.to(fixed.dtype), error[None]])
        if updating:
            everywhere = all_reduce_sum(everywhere.clone())
        totals = torch.stack([totals[0], everywhere[-1], totals[0] * deviation])
        if updating:
            self._remember(fixed, everywhere[:-1], totals)
        losses, responsibility = self._learn(fixed, codebook, distances, indices, totals)
        commitment = (frames - chosen.detach()).square().sum(dim=1).mean()
        losses["commitment"] = self.commitment_weight * self._relative(commitment, deviation)

        output = estimate(frames, chosen, self.estimator)
        quantized = output.new_zeros(x.shape)
        quantized[mask] = output
        padded_indices = indices.new_full(mask.shape, -1)
        padded_indices[mask] = indices
        statistics = {
            "used": (counts > 0).to(fixed.dtype).mean(),
            "perplexity": perplexity(counts).to(fixed.dtype),
            "responsibility_perplexity": responsibility,
            "normalized_mse": error / torch.maximum(squared_deviation, rounding),
            "counts": counts,
            "frames": torch.tensor(len(fixed), device=x.device),
            "squared_error": error,
            "squared_deviation": squared_deviation,
            "mean_frame": mean_frame,
        }
        return QuantizerOutput(quantized, padded_indices, losses, statistics)

    @torch.no_grad()
    def encode(self, x, lengths=None):
        """Indices of the nearest codes: x [B, T, D] to int64 [B, T], -1 where x is padding."""
        with torch.autocast(device_type=x.device.type, enabled=False):
            frames, mask = self._valid_frames(x, lengths)
            codebook = self.codebook.to(frames.dtype)
            found = [
                self._without_unfilled(squared_distances(part, codebook)).argmin(dim=1)
                for part in frames.split(ENCODE_CHUNK_FRAMES)
            ]
        indices = torch.full(mask.shape, -1, device=x.device)
        indices[mask] = torch.cat(found)
        return indices

    def decode(self, indices):
        """Codes [..., D] of int64 `indices` [...]; -1, padding, becomes zeros.

        Errors: `UserError` for an index that is not in the codebook.
        """
        if indices.is_floating_point() or indices.dtype == torch.bool:
            raise UserError(f"code indices are whole numbers, not {indices.dtype}")
        if indices.numel() and (indices.min() < -1 or indices.max() >= self.codebook_size):
            raise UserError(
                f"code indices lie between {int(indices.min())} and {int(indices.max())}, but the "
                f"codebook has {self.codebook_size} codes: use 0 to {self.codebook_size - 1}, "
                "or -1 for padding"
            )
        padding = (indices < 0)[..., None]
        return self.codebook.detach()[indices.clamp_min(0)].masked_fill(padding, 0.0)

    def freeze(self):
        """Ends every update of the codebook and of its statistics, in training mode as well.

        Under DistributedDataParallel, freeze before the module is wrapped.
        """
        self.frozen = True

    def usage(self):
        """What the codes did over about the last hundred training steps.

        Returns
        -------
        usage : dict
            Plain floats: `used` (codes), `perplexity`, `distinct_codes`, `normalized_mse` and
            `unused_steps` (the longest that a code has been without use).
        """
        frames, error, deviation = self.recent_totals.double().tolist()
        scale = math.sqrt(deviation / frames) if frames > 0 and deviation > 0 else None
        return {
            "used": float((self.recent_counts > 1e-3 * USAGE_DECAY**100).sum()),
            "perplexity": float(perplexity(self.recent_counts)) if frames > 0 else 0.0,
            "distinct_codes": float(distinct_codes(self.codebook, data_deviation=scale)),
            "normalized_mse": error / deviation if deviation > 0 else 0.0,
            "unused_steps": float(self.unused_steps.max()),
        }

    @torch.no_grad()
    def set_codebook(self, codes):
        """Replaces the whole codebook by `codes` [K, D]; no initialisation follows."""
        if codes.shape != self.codebook.shape:
            raise UserError(
                f"the codebook has shape {list(self.codebook.shape)}, "
                f"the codes given have {list(codes.shape)}"
            )
        self._set_rows(torch.arange(self.codebook_size), codes.to(self.codebook))
        self.filled.fill_(self.codebook_size)
        self.unused_steps.zero_()

    @torch.no_grad()
    def after_optimizer_step(self, optimizer=None):
        """Restarts dead, merged and idle codes. Call it after every optimizer step: a parameter may
        not be replaced inside `forward`, where the graph still needs it.

        Dead is a code that no frame has chosen for `restart_after` training steps. Merged is one
        that lies on another, idle one that would do more good elsewhere (`move_idle_codes`); both
        are looked for every `restart_after` steps. They move to recent encoder outputs where
        codes are missing.

        Arguments
        ---------
        optimizer : torch.optim.Optimizer
            Holds the codebook; its moments of the restarted rows begin anew.

        Returns
        -------
        restarted : int
            Number of codes that were replaced.
        """
        if not self.training or self.frozen or not self.restart_after:
            return 0
        if int(self.filled) < self.codebook_size or self._recent_frames is None:
            return 0
        # The codebook is the same everywhere, the recent frames are not: the first process decides.
        rows, places = self._find_restarts()
        count = broadcast_from_first(torch.tensor(len(rows), device=places.device))
        if not int(count):
            return 0
        rows = broadcast_from_first(_resized(rows, int(count)))
        places = broadcast_from_first(_resized(places, int(count)))
        self._set_rows(rows, places, optimizer)
        self.unused_steps[rows] = 0
        return len(rows)

    # ---- the parts

    def _valid_frames(self, x, lengths):
        """Frames [N, D] that are not padding, at least in single precision, and their mask."""
        if x.dim() != 3 or x.shape[-1] != self.codebook_dim:
            raise UserError(
                f"the quantiser expects [batch, time, {self.codebook_dim}], got {list(x.shape)}: "
                "check codebook_dim against the encoder's output"
            )
        batch, time = x.shape[:2]
        if batch == 0 or time == 0:
            raise UserError(f"the quantiser got no frames: its input has shape {list(x.shape)}")
        mask = torch.ones(batch, time, dtype=torch.bool, device=x.device)
        if lengths is not None:
            if lengths.shape != (batch,) or not bool(((lengths > 0) & (lengths <= 1)).all()):
                raise UserError(
                    f"lengths are {batch} relative lengths in (0, 1], one for each sequence of "
                    f"the batch, got {lengths.tolist()}"
                )
            count = (lengths.to(x.device).double() * time).round().clamp_min(1)
            mask = torch.arange(time, device=x.device) < count[:, None]
        dtype = torch.promote_types(
            torch.promote_types(x.dtype, torch.float32), self.codebook.dtype
        )
        frames = x[mask].to(dtype)
        if not bool(torch.isfinite(frames).all()):
            raise UserError(
                "the quantiser's input holds NaN or infinite values: the encoder has diverged "
                "(lower the learning rate or check the audio)"
            )
        return frames, mask

    def _without_unfilled(self, distances):
        """Codes that initialisation has not reached yet are infinitely far; all of them count
        if it has not begun."""
        rows = torch.arange(self.codebook_size, device=distances.device)
        return distances.masked_fill((rows >= self.filled) & (self.filled > 0), math.inf)

    @torch.no_grad()
    def _initialize(self, frames):
        """Fills the codebook with frames, over several forwards if one holds too few."""
        filled = int(self.filled)
        if filled == self.codebook_size:
            return
        wanted = min(self.codebook_size - filled, max(1, len(frames) // FRAMES_PER_NEW_CODE))
        count = int(broadcast_from_first(torch.tensor(wanted, device=frames.device)))
        chosen, _, _ = choose_spread_frames(frames, count, self.codebook[:filled].to(frames.dtype))
        chosen = broadcast_from_first(chosen.contiguous())
        rows = torch.arange(filled, filled + count, device=frames.device)
        self._set_rows(rows, chosen.to(self.codebook.dtype))
        self.filled.fill_(filled + count)

    @torch.no_grad()
    def _remember(self, frames, counts, totals):
        """Updates usage and the recent frames; `counts` and `totals` are those of all processes."""
        self.steps += 1
        self.unused_steps += 1
        self.unused_steps[counts > 0] = 0
        self.recent_counts.mul_(USAGE_DECAY).add_(counts, alpha=1 - USAGE_DECAY)
        self.recent_totals.mul_(USAGE_DECAY).add_(totals, alpha=1 - USAGE_DECAY)
        if not self.restart_after:
            return
        capacity = FRAMES_PER_NEW_CODE * self.codebook_size
        if len(frames) > capacity:
            frames = frames[torch.randperm(len(frames), device=frames.device)[:capacity]]
        if self._recent_frames is not None:
            older = self._recent_frames.to(frames)[: capacity - len(frames)]
            frames = torch.cat([frames, older])
        self._recent_frames = frames.clone()

    def _find_restarts(self):
        """Rows [M] of the codes to be replaced, and their places [M, D] by the recent frames."""
        recent = self._recent_frames.to(self.codebook.dtype)
        codebook = self.codebook.detach()
        restart = self.unused_steps >= self.restart_after
        due = int(self.steps) % self.restart_after == 0
        frames, _, deviation = self.recent_totals.tolist()
        tolerance = MERGE_TOLERANCE * math.sqrt(deviation / frames) if frames > 0 else 0.0
        if due:
            restart |= merged_codes(codebook, tolerance)
        rows = restart.nonzero()[:, 0]
        places = codebook[:0]
        if len(rows):
            places, distances, _ = choose_spread_frames(recent, len(rows), codebook[~restart])
            # A frame that lies on a code would only merge again.
            useful = distances > tolerance**2
            rows, places = rows[useful], places[useful]
        elif due and self.codebook_size > 1:
            limit = max(1, self.codebook_size // 16)
            rows, places = move_idle_codes(recent, codebook, limit)
        return rows, places

    def _relative(self, squared, deviation):
        """A squared distance in units of the data's own mean squared deviation."""
        return squared / deviation


def _resized(tensor, count):
    """A contiguous tensor of `count` rows to receive another process's, or the same one's own."""
    return (
        tensor.contiguous() if len(tensor) == count else tensor.new_empty(count, *tensor.shape[1:])
    )


def estimate(frames, chosen, estimator):
    """The chosen codes by value, with the gradient for the frames that `estimator` names."""
    straight = frames - frames.detach()
    if estimator == "ste":
        return chosen + straight
    # Rotation trick: the code is (|e| / |x|) R x, with R and the ratio held fixed, and
    # R = I - 2 r r^T + 2 e^ x^^T for unit vectors x^, e^ and r along x^ + e^.
    fixed, codes = frames.detach(), chosen.detach()
    frame_norm = fixed.norm(dim=1, keepdim=True)
    code_norm = codes.norm(dim=1, keepdim=True)
    tiny = torch.finfo(frames.dtype).tiny
    unit_frame = fixed / frame_norm.clamp_min(tiny)
    unit_code = codes / code_norm.clamp_min(tiny)
    middle = unit_frame + unit_code
    middle_norm = middle.norm(dim=1, keepdim=True)
    middle = middle / middle_norm.clamp_min(tiny)
    turned = (
        frames
        - 2 * (frames * middle).sum(1, keepdim=True) * middle
        + 2 * (frames * unit_frame).sum(1, keepdim=True) * unit_code
    ) * (code_norm / frame_norm.clamp_min(tiny))
    # No rotation is defined for a zero vector or for opposite ones: these go straight through.
    defined = (frame_norm > 1e-3 * code_norm) & (middle_norm > 1e-3) & (code_norm > 0)
    return chosen + torch.where(defined, turned - turned.detach(), straight)


def require_integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} has to be a whole number of at least {least}, got {value!r}")


def require_number(name, value, least=None, above=None, below=None):
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (least is None or value >= least) and (above is None or value > above)
    if not good or (below is not None and value >= below):
        bounds = [
            f"{text} {bound}"
            for text, bound in (("at least", least), ("above", above), ("below", below))
            if bound is not None
        ]
        raise UserError(f"{name} has to be a number {' and '.join(bounds)}, got {value!r}")


def require_choice(name, value, choices):
    if value not in choices:
        raise UserError(f"{name} has to be one of {', '.join(choices)}, got {value!r}")
