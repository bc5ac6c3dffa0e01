"""The base class of quantizers: frames, distances, losses, statistics and gradient estimators."""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers.restarts import USAGE_DECAY, CodebookRestarts
from waveglow_vq.lobes.quantizers.statistics import distinct_codes, perplexity, squared_distances
from waveglow_vq.utils.devices import exact
from waveglow_vq.utils.distributed import is_distributed, sum_everywhere, world_size
from waveglow_vq.utils.validation import require_choice, require_integer, require_number

import torch

# Frames that `encode` compares to the codebook at once.
ENCODE_CHUNK_FRAMES = 16384


class QuantizerOutput(NamedTuple):
    """Output of a quantizer.

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


class Quantizer(CodebookRestarts):
    """Base class of quantizers.

    A subclass holds `codebook` [K, D] and defines how it learns: `_codebook_with_gradient` returns
    the codebook for this forward's graph, `_summands` what it needs to know of the frames of all
    processes, `_learn` the losses and the responsibility perplexity (and updates the codebook if
    it is not the optimizer's to update), and `_set_rows` replaces codes.
    """

    codebooks = 1

    def __init__(
        self, codebook_size, codebook_dim, commitment_weight, estimator, initialization,
        restart_after,
    ):  # fmt: skip
        require_integer("codebook_size", codebook_size, 1)
        require_integer("codebook_dim", codebook_dim, 1)
        require_number("commitment_weight", commitment_weight, least=0.0)
        require_choice("estimator", estimator, ("ste", "rotation"))
        require_choice("initialization", initialization, ("data", "normal"))
        require_integer("restart_after", restart_after, 0)
        super().__init__(codebook_size, codebook_dim, initialization, restart_after)
        self.commitment_weight = commitment_weight
        self.estimator = estimator

    def extra_repr(self):
        return (
            f"codebook_size={self.codebook_size}, codebook_dim={self.codebook_dim}, "
            f"estimator={self.estimator}, initialization={self.initialization}, "
            f"restart_after={self.restart_after}"
        )

    # ---- the interface

    def forward(self, x, lengths=None):
        """Quantizes a batch. In training mode it also updates the statistics and, at first, the
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

        Errors: `UserError` if the shape is wrong and, in evaluation, if a frame is not finite. In
        training that shows in the losses: an error on one process would leave the others waiting.
        Take the step back then, by `after_optimizer_step(taken=False)`.
        """
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._forward(x, lengths)

    def _forward(self, x, lengths):
        frames, items, where = self._valid_frames(x, lengths, check=not self.training)
        fixed = frames.detach()
        updating = self.training and not self.frozen
        if updating:
            self._begin()
            self._initialize(fixed, items)

        shared = {}
        codebook = self._codebook_with_gradient(shared).to(fixed.dtype)
        distances = squared_distances(fixed, codebook)
        indices = self._without_unfilled(distances.detach()).argmin(dim=1)
        chosen = codebook[indices]
        errors = fixed - chosen.detach()
        own = {
            "frames": torch.full((), len(fixed), device=x.device),
            "mean_frame": fixed.mean(dim=0),
            "squared_error": errors.square().sum(),
            "counts": torch.zeros_like(self.unused_steps).scatter_add_(
                0, indices, torch.ones_like(indices)
            ),
        }
        own["squared_deviation"] = (fixed - own["mean_frame"]).square().sum()
        shared.update(self._totals(own, self._summands(fixed, errors, indices)))
        if updating:
            self._remember(fixed, items, shared)
        losses, responsibility = self._learn(fixed, codebook, distances, indices, shared)
        commitment = (frames - chosen.detach()).square().sum() / shared["share"]
        losses["commitment"] = self.commitment_weight * self._relative(commitment, shared)

        output = estimate(frames, chosen, self.estimator)
        statistics = {
            "used": (own["counts"] > 0).to(fixed.dtype).mean(),
            "perplexity": perplexity(own["counts"]).to(fixed.dtype),
            "responsibility_perplexity": responsibility,
            "normalized_mse": own["squared_error"]
            / torch.maximum(own["squared_deviation"], shared["rounding"]),
            **own,
        }
        batch, time = x.shape[:2]
        if where is not None:
            output = output.new_zeros(batch * time, x.shape[-1]).index_copy(0, where, output)
            indices = indices.new_full((batch * time,), -1).index_copy(0, where, indices)
        return QuantizerOutput(output.view(x.shape), indices.view(batch, time), losses, statistics)

    def _totals(self, own, summands):
        """Sums over the frames of all processes, and what follows from them.

        `frames`, `counts`, `squared_error`, `squared_deviation` from the common mean, and the
        summands; `deviation`, the mean squared one; `share`, by which a sum of this process's
        frames is divided for a loss.
        """
        together = self.training and is_distributed()
        frames = exact(own["frames"])
        own = dict(own)
        mean = exact(own.pop("mean_frame"))
        own.update(total=frames * mean, between=frames * mean.square().sum(), **summands)
        sums = sum_everywhere(own) if together else {k: exact(v) for k, v in own.items()}
        # Deviations from the common mean are those from each process's own and theirs from it.
        if together:
            between = sums["between"] - sums["total"].square().sum() / sums["frames"]
            sums["squared_deviation"] += between.clamp_min(0.0)
        dtype = own["squared_error"].dtype
        # Frames that are all the same deviate by rounding only; nothing is divided by less.
        size = (sums["between"] + sums["squared_deviation"]) / sums["frames"]
        rounding = torch.finfo(dtype).eps ** 2 * size + 1e-30
        deviation = torch.maximum(sums["squared_deviation"] / sums["frames"], rounding)
        sums["squared_deviation"] = deviation * sums["frames"]
        sums["deviation"], sums["rounding"] = deviation.to(dtype), rounding.to(dtype)
        sums["share"] = (sums["frames"] / (world_size() if together else 1)).to(dtype)
        return sums

    @torch.no_grad()
    def encode(self, x, lengths=None):
        """Indices of the nearest codes: x [B, T, D] to int64 [B, T], -1 where x is padding."""
        with torch.autocast(device_type=x.device.type, enabled=False):
            frames, _, where = self._valid_frames(x, lengths)
            codebook = self.codebook.to(frames.dtype)
            found = [
                self._without_unfilled(squared_distances(part, codebook)).argmin(dim=1)
                for part in frames.split(ENCODE_CHUNK_FRAMES)
            ]
        found = torch.cat(found)
        if where is not None:
            found = found.new_full((x.shape[0] * x.shape[1],), -1).index_copy(0, where, found)
        return found.view(x.shape[:2])

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
        self._before = None

    def usage(self):
        """Usage of the codes over about the last hundred training steps.

        Returns
        -------
        usage : dict
            Plain floats: `used` (codes), `perplexity`, `distinct_codes`, `normalized_mse` and
            `unused_steps` (the longest that a code has been without use).
        """
        frames, error, deviation = self.recent_totals.tolist()
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
        """Replaces the whole codebook by `codes` [K, D]; no initialization follows."""
        if codes.shape != self.codebook.shape:
            raise UserError(
                f"the codebook has shape {list(self.codebook.shape)}, "
                f"the codes given have {list(codes.shape)}"
            )
        self._set_rows(torch.arange(self.codebook_size), codes.to(self.codebook))
        self.filled.fill_(self.codebook_size)
        self.unused_steps.zero_()
        self._known = None

    # ---- the parts

    def _valid_frames(self, x, lengths, check=True):
        """Frames [N, D] that are not padding, at least in single precision; how many of them belong
        to each item; and their places among all B * T, or None where nothing is padded."""
        check_vectors(x, self.codebook_dim)
        batch, time = x.shape[:2]
        items, where = [time] * batch, None
        frames = x.reshape(batch * time, -1)
        if lengths is not None:
            # The one time that the host has to wait for the device.
            listed = lengths.tolist()
            if lengths.shape != (batch,) or not all(0 < length <= 1 for length in listed):
                raise UserError(
                    f"lengths are {batch} relative lengths in (0, 1], one for each sequence of "
                    f"the batch, got {listed}"
                )
            items = [max(1, round(length * time)) for length in listed]
        if sum(items) < batch * time:
            where = torch.arange(time) < torch.tensor(items)[:, None]
            where = where.flatten().nonzero()[:, 0].to(x.device, non_blocking=True)
            frames = frames.index_select(0, where)
        dtype = torch.promote_types(
            torch.promote_types(x.dtype, torch.float32), self.codebook.dtype
        )
        frames = frames.to(dtype)
        if check and not bool(torch.isfinite(frames).all()):
            raise UserError(
                "the quantizer's input holds NaN or infinite values: the encoder has diverged "
                "(lower the learning rate or check the audio)"
            )
        return frames, items, where

    def _without_unfilled(self, distances):
        """Codes that initialization has not reached yet are infinitely far; all of them count
        if it has not begun."""
        rows = torch.arange(self.codebook_size, device=distances.device)
        return distances.masked_fill((rows >= self.filled) & (self.filled > 0), math.inf)

    def _relative(self, squared, shared):
        """A squared distance in units of the data's own mean squared deviation."""
        return squared / shared["deviation"]


def check_vectors(x, dimensions):
    """Raises a `UserError` unless x is [B, T, `dimensions`]."""
    if x.dim() != 3 or x.shape[-1] != dimensions:
        raise UserError(
            f"the quantizer expects [batch, time, {dimensions}], got {list(x.shape)}: "
            "check codebook_dim against the encoder's output"
        )
    if not x.shape[0] or not x.shape[1]:
        raise UserError(f"the quantizer got no frames: its input has shape {list(x.shape)}")


def estimate(frames, chosen, estimator):
    """The chosen codes by value, with the gradient for the frames that `estimator` names; None:
    with none."""
    if estimator is None:
        return chosen
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
