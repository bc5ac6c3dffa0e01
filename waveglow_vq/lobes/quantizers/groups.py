"""Several codebooks for each vector: product and residual quantization.

References
----------
Jégou et al., "Product quantization for nearest neighbor search", 2011 (IEEE TPAMI 33).
Juang and Gray, "Multiple stage vector quantization for speech coding", 1982 (ICASSP).
Zeghidour et al., "SoundStream: an end-to-end neural audio codec", 2021 (arXiv:2107.03312).
"""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers.base import QuantizerOutput, check_vectors, estimate
from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.validation import require_choice

import torch
from torch import nn

GROUPINGS = ("product", "residual")


class GroupedQuantizer(nn.Module):
    """Quantizes each vector by N codebooks; the rate is N log2(K) bits a vector.

    With codebook n's nearest code q_n(.) and stop(.) for "no gradient":

        product:    x = (x_1, ..., x_N) in equal parts,      y = (q_1(x_1), ..., q_N(x_N))
        residual:   x_1 = x,  x_{n+1} = x_n - stop(q_n(x_n)),    y = sum_n q_n(x_n)
        losses:     mean_n of codebook n's, on its x_n
        output:     y + x - stop(x)

    Each codebook is a quantizer by itself, which initializes, restarts and measures itself on what
    it is given. All else is as for :class:`~waveglow_vq.lobes.quantizers.base.Quantizer`, but for
    the indices, [B, T, N].

    Arguments
    ---------
    stages : list of Quantizer
        The codebooks, of one size: of D / N dimensions for product, of D for residual.
    grouping : str
        "product" or "residual".
    estimator : str
        "ste" or "rotation", of the whole vector; the stages' own are not used.

    Example
    -------
    >>> from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer
    >>> quantizer = GroupedQuantizer([EMAQuantizer(16, 4) for _ in range(2)], "residual")
    >>> output = quantizer(torch.randn(2, 50, 4))
    >>> output.quantized.shape, output.indices.shape
    (torch.Size([2, 50, 4]), torch.Size([2, 50, 2]))
    >>> quantizer = quantizer.eval()
    >>> codes = quantizer(torch.randn(2, 50, 4)).indices
    >>> quantizer.decode(codes).shape
    torch.Size([2, 50, 4])
    """

    def __init__(self, stages, grouping="residual", estimator="ste"):
        super().__init__()
        require_choice("grouping", grouping, GROUPINGS)
        require_choice("estimator", estimator, ("ste", "rotation"))
        self.grouping = grouping
        self.estimator = estimator
        self.stages = nn.ModuleList(stages)
        self.codebooks = len(self.stages)
        self.codebook_size = stages[0].codebook_size
        parts = self.codebooks if grouping == "product" else 1
        self.codebook_dim = parts * stages[0].codebook_dim
        for stage in self.stages:
            # Gives the codes alone: how the gradient passes is decided for the whole vector.
            stage.estimator = None

    @property
    def codebook(self):
        """The codebooks [N, K, D / N], or [N, K, D] of residuals; a copy."""
        return torch.stack([stage.codebook.detach() for stage in self.stages])

    def forward(self, x, lengths=None):
        """As :meth:`Quantizer.forward <waveglow_vq.lobes.quantizers.base.Quantizer.forward>`, with
        indices [B, T, N].

        Of the statistics, `counts` [N, K], `codebook_deviation` [N] and `codebook_mean` are of each
        codebook; `squared_error`, `squared_deviation` and `mean_frame` of the whole vectors; `used`
        is the mean over the codebooks, and perplexities are geometric means.
        """
        check_vectors(x, self.codebook_dim)
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._forward(at_least_fp32(x), lengths)

    def _forward(self, x, lengths):
        if lengths is not None:
            lengths = lengths.cpu()  # once, for all stages
        outputs, parts, left = [], self._parts(x), x
        for stage, part in zip(self.stages, parts, strict=True):
            outputs.append(stage(left if part is None else part, lengths))
            if part is None:
                left = left - outputs[-1].quantized.detach()
        chosen = self._joined([output.quantized for output in outputs])
        indices = torch.stack([output.indices for output in outputs], dim=-1)
        if lengths is not None:
            # Padding, whatever it holds, gives zeros and is given no gradient.
            x = torch.where(indices[..., :1] >= 0, x, chosen.detach())
        quantized = estimate(x.flatten(0, 1), chosen.flatten(0, 1), self.estimator).view(x.shape)
        losses = {
            name: torch.stack([output.losses[name] for output in outputs]).mean()
            for name in outputs[0].losses
        }
        statistics = self._statistics([output.statistics for output in outputs])
        return QuantizerOutput(quantized, indices, losses, statistics)

    def _parts(self, x):
        """What each stage is given of x; None for what the ones before have left."""
        if self.grouping == "product":
            return x.chunk(self.codebooks, dim=-1)
        return [None] * self.codebooks

    def _joined(self, parts):
        return torch.cat(parts, dim=-1) if self.grouping == "product" else sum(parts)

    def _statistics(self, stages):
        found = {name: torch.stack([stage[name] for stage in stages]) for name in stages[0]}
        error, deviation = self._overall(found["squared_error"], found["squared_deviation"])
        mean = found["mean_frame"]
        tiny = torch.finfo(deviation.dtype).tiny
        return {
            "used": found["used"].mean(),
            "perplexity": found["perplexity"].log().mean().exp(),
            "responsibility_perplexity": found["responsibility_perplexity"].log().mean().exp(),
            "normalized_mse": error / deviation.clamp_min(tiny),
            "frames": found["frames"][0],
            "counts": found["counts"],
            "mean_frame": mean.flatten() if self.grouping == "product" else mean[0],
            "squared_error": error,
            "squared_deviation": deviation,
            "codebook_mean": mean,
            "codebook_deviation": found["squared_deviation"],
        }

    def _overall(self, errors, deviations):
        """Of the whole vector: parts add up; of residuals the first deviates as the vector does,
        and the last one's error is what is left."""
        if self.grouping == "product":
            return errors.sum(), deviations.sum()
        return errors[-1], deviations[0]

    @torch.no_grad()
    def encode(self, x, lengths=None):
        """Indices of the nearest codes: x [B, T, D] to int64 [B, T, N], -1 where x is padding."""
        check_vectors(x, self.codebook_dim)
        found, left = [], at_least_fp32(x)
        for stage, part in zip(self.stages, self._parts(left), strict=True):
            found.append(stage.encode(left if part is None else part, lengths))
            if part is None:
                left = left - stage.decode(found[-1])
        return torch.stack(found, dim=-1)

    def decode(self, indices):
        """Vectors [..., D] of int64 `indices` [..., N]; -1, padding, becomes zeros.

        Errors: `UserError` for another number of codebooks, or an index that is in none.
        """
        if not indices.dim() or indices.shape[-1] != self.codebooks:
            raise UserError(
                f"code indices have the shape {list(indices.shape)}, but there are "
                f"{self.codebooks} codebooks: use [..., {self.codebooks}]"
            )
        parts = zip(self.stages, indices.unbind(dim=-1), strict=True)
        return self._joined([stage.decode(part) for stage, part in parts])

    def freeze(self):
        """As :meth:`Quantizer.freeze <waveglow_vq.lobes.quantizers.base.Quantizer.freeze>`."""
        for stage in self.stages:
            stage.freeze()

    def usage(self):
        """As :meth:`Quantizer.usage <waveglow_vq.lobes.quantizers.base.Quantizer.usage>`: codes are
        counted over all codebooks, the perplexity is their geometric mean."""
        stages = [stage.usage() for stage in self.stages]
        found = {name: [stage[name] for stage in stages] for name in stages[0]}
        totals = torch.stack([stage.recent_totals for stage in self.stages])
        error, deviation = map(float, self._overall(totals[:, 1], totals[:, 2]))
        logs = [math.log(max(value, 1e-12)) for value in found["perplexity"]]
        return {
            "used": sum(found["used"]),
            "perplexity": math.exp(sum(logs) / len(logs)) if all(found["perplexity"]) else 0.0,
            "distinct_codes": sum(found["distinct_codes"]),
            "normalized_mse": error / deviation if deviation > 0 else 0.0,
            "unused_steps": max(found["unused_steps"]),
        }

    def after_optimizer_step(self, optimizer=None, taken=True):
        """As :meth:`Quantizer.after_optimizer_step
        <waveglow_vq.lobes.quantizers.restarts.CodebookRestarts.after_optimizer_step>`; returns the
        number of restarted codes of all codebooks."""
        return sum(stage.after_optimizer_step(optimizer, taken) for stage in self.stages)

    def training_state(self):
        """What the codebooks' ``training_state`` gives."""
        return {"stages": [stage.training_state() for stage in self.stages]}

    def load_training_state(self, state):
        """Loads what :meth:`training_state` gave, after ``load_state_dict``."""
        for stage, part in zip(self.stages, state["stages"], strict=True):
            stage.load_training_state(part)

    def extra_repr(self):
        return f"grouping={self.grouping}, estimator={self.estimator}"
