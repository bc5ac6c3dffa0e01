"""Vector quantizers: soft-EM by gradient descent, and the exponential moving average baseline.

Both turn a sequence of vectors into a sequence of indices of the nearest of K codes. They share
one interface, initialize themselves from the data, restart codes that have died or merged, and
report statistics that cannot be fooled by merged codes (see `quantizer_statistics`).

References
----------
van den Oord et al., "Neural discrete representation learning", 2017 (arXiv:1711.00937).
Roy et al., "Theory and experiments on vector quantized autoencoders", 2018 (arXiv:1805.11063).
Fifty et al., "Restructuring vector quantization with the rotation trick", 2024
(arXiv:2410.06424).
"""

import inspect

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers.base import Quantizer, QuantizerOutput
from waveglow_vq.lobes.quantizers.groups import GROUPINGS, GroupedQuantizer
from waveglow_vq.lobes.quantizers.statistics import participating_dimensions, second_moments
from waveglow_vq.utils.validation import require_choice, require_integer, require_number

import torch
from torch import nn

__all__ = ["EMAQuantizer", "QuantizerOutput", "SoftEMQuantizer", "build_quantizer"]


class SoftEMQuantizer(Quantizer):
    """Vector quantizer whose codebook learns by soft expectation maximization and gradient descent.

    With d2_ik = |x_i - e_k|^2 and stop(.) for "no gradient":

        E-step:      q_ik       = stop(softmax_k(-beta d2_ik))
        M-step:      codebook   = mean_i sum_k q_ik beta |stop(x_i) - e_k|^2
        encoder:     commitment = mean_i |x_i - stop(e_z(i))|^2,     z(i) = argmin_k d2_ik
        output:      e_z + x - stop(x)

    so the forward is hard, the gradient of the reconstruction passes straight to the encoder, and
    it reaches the chosen code too.

    With a fixed beta this works in a window of scale only. Where beta d2 is small, all
    responsibilities are equal and the codes merge into one point; where it is large, they are
    one-hot and unused codes stay unused. With `temperature="relative"` everything is therefore
    measured by the data:

    - beta is multiplied by d / (2 m), with the mean squared distance m of the frames to their
      nearest codes and the number d of dimensions over which these errors spread: 1 is the
      temperature of a mixture of Gaussians with just these errors;
    - the commitment is divided by the mean squared deviation of the frames;
    - the optimizer moves the codes in units of their own error u = sqrt(m / D) per dimension: the
      codebook's gradient is multiplied by u, and the optimizer's step, in `after_optimizer_step`,
      by `step_factor` u. So one learning rate serves data of any scale.

    Adam moves every weight by about the learning rate. A vector of the encoder sums up many of
    them, and moves much faster than a code would. Codes that lag behind give the encoder the
    gradient of places where it no longer is, until all vectors have gone off in a few directions.
    Hence the factor; and as steps are in units of the error, codes that have arrived move little.

    Arguments
    ---------
    codebook_size : int
        Number of codes, K.
    codebook_dim : int
        Dimensions of a code, D.
    temperature : str
        "relative" (as above) or "fixed" (beta and steps in the units of the data).
    beta : float
        Inverse temperature.
    commitment_weight : float
        Weight of the commitment loss.
    codebook_weight : float
        Weight of the codebook loss.
    estimator : str
        Gradient for the encoder: "ste" passes it straight through, "rotation" turns and scales
        it as the frame is turned and scaled into its code (Fifty et al., 2024).
    initialization : str
        "data": the first training forwards fill the codebook with well spread frames, a quarter
        as many as a forward holds at most, until it is full. "normal": standard normal.
    restart_after : int
        Training steps without use after which a code is dead and restarts, and the interval at
        which merged and idle codes are looked for; 0 switches all of these off.
    step_factor : float
        By how much longer the steps of the codes are, see above; for the relative temperature.

    Example
    -------
    >>> quantizer = SoftEMQuantizer(codebook_size=16, codebook_dim=4)
    >>> output = quantizer(torch.randn(2, 50, 4))
    >>> output.quantized.shape, output.indices.shape
    (torch.Size([2, 50, 4]), torch.Size([2, 50]))
    >>> sorted(output.losses)
    ['codebook', 'commitment']
    >>> bool((quantizer.decode(output.indices) == output.quantized).all())
    True
    """

    def __init__(
        self,
        codebook_size,
        codebook_dim,
        temperature="relative",
        beta=1.0,
        commitment_weight=0.25,
        codebook_weight=1.0,
        estimator="ste",
        initialization="data",
        restart_after=50,
        step_factor=30.0,
    ):
        super().__init__(
            codebook_size, codebook_dim, commitment_weight, estimator, initialization,
            restart_after,
        )  # fmt: skip
        require_choice("temperature", temperature, ("relative", "fixed"))
        require_number("beta", beta, above=0.0)
        require_number("codebook_weight", codebook_weight, least=0.0)
        require_number("step_factor", step_factor, above=0.0)
        self.temperature = temperature
        self.step_factor = step_factor
        self.beta = beta
        self.codebook_weight = codebook_weight
        self.codebook = nn.Parameter(torch.randn(codebook_size, codebook_dim))
        # The codebook before the optimizer's step, and the unit in which that step counts.
        self._codebook_before_step = None
        self._step_unit = None

    def freeze(self):
        super().freeze()
        self.codebook.requires_grad_(False)
        self.codebook.grad = None

    def _relative(self, squared, shared):
        return squared / shared["deviation"] if self.temperature == "relative" else squared

    def _codebook_with_gradient(self, shared):
        codebook = self.codebook * 1.0
        if self.temperature == "relative" and codebook.requires_grad:
            # The unit is known only when the processes have added up their errors.
            codebook.register_hook(lambda gradient: gradient * self._unit(shared))
        return codebook

    def _unit(self, shared):
        return (_nearest(shared) / self.codebook_dim).sqrt().to(self.codebook.dtype)

    def _summands(self, frames, errors, indices):
        return {"moments": second_moments(errors)} if self.temperature == "relative" else {}

    def _learn(self, frames, codebook, distances, indices, shared):
        beta = self.beta
        if self.temperature == "relative":
            if self.training and not self.frozen:
                self._codebook_before_step = self.codebook.detach().clone()
                self._step_unit = self._unit(shared)
            dimensions = participating_dimensions(shared["moments"], shared["frames"])
            beta = (self.beta * dimensions / (2 * _nearest(shared))).to(frames.dtype)
        scaled = self._without_unfilled(beta * distances.detach())
        responsibilities = torch.softmax(-scaled, dim=1)
        loss = (responsibilities * beta * distances).sum() / shared["share"]
        sharing = torch.special.entr(responsibilities).sum(dim=1).mean().exp()
        return {"codebook": self.codebook_weight * loss}, sharing

    @torch.no_grad()
    def after_optimizer_step(self, optimizer=None, taken=True):
        if taken and self._codebook_before_step is not None and self.training and not self.frozen:
            step = self.codebook - self._codebook_before_step
            step = step * (self.step_factor * self._step_unit)
            self.codebook.copy_(self._codebook_before_step + step)
        self._codebook_before_step = None
        return super().after_optimizer_step(optimizer, taken)

    after_optimizer_step.__doc__ = Quantizer.after_optimizer_step.__doc__

    def _set_rows(self, rows, frames, optimizer=None):
        rows = rows.to(self.codebook.device)
        with torch.no_grad():
            self.codebook[rows] = frames
            if self._codebook_before_step is not None:
                # This move is no step of the optimizer, and is not to be scaled like one.
                self._codebook_before_step[rows] = frames
        state = optimizer.state.get(self.codebook, {}) if optimizer is not None else {}
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.shape == self.codebook.shape:
                value[rows] = 0.0


def _nearest(shared):
    """The mean squared distance of the frames to their nearest codes, and at least a hundredth of
    their deviation: frames that are codes, as just after initialization, would freeze all."""
    nearest = torch.maximum(shared["squared_error"], 0.01 * shared["squared_deviation"])
    return nearest / shared["frames"]


class EMAQuantizer(Quantizer):
    """Vector quantizer whose codes are moving averages of the frames that chose them.

    With n_k frames of sum s_k in this step and decay g:

        N_k <- g N_k + (1 - g) n_k,   S_k <- g S_k + (1 - g) s_k,   e_k = (S_k + c e_k) / (N_k + c)

    The smoothing c (`epsilon`) pulls a code to where it is, and not to the origin: a code without
    frames stays in its place. The commitment is measured by the data's own deviation.

    Arguments
    ---------
    codebook_size : int
        Number of codes, K.
    codebook_dim : int
        Dimensions of a code, D.
    decay : float
        Share of the past that is kept at each training step, in [0, 1).
    epsilon : float
        Smoothing of the counts.
    commitment_weight : float
        Weight of the commitment loss.
    estimator : str
        "ste" or "rotation", as in `SoftEMQuantizer`.
    initialization : str
        "data" or "normal", as in `SoftEMQuantizer`.
    restart_after : int
        As in `SoftEMQuantizer`.

    Example
    -------
    >>> quantizer = EMAQuantizer(codebook_size=16, codebook_dim=4)
    >>> sorted(quantizer(torch.randn(2, 50, 4)).losses)
    ['commitment']
    """

    def __init__(
        self,
        codebook_size,
        codebook_dim,
        decay=0.99,
        epsilon=1e-5,
        commitment_weight=0.25,
        estimator="ste",
        initialization="data",
        restart_after=50,
    ):
        super().__init__(
            codebook_size, codebook_dim, commitment_weight, estimator, initialization,
            restart_after,
        )  # fmt: skip
        require_number("decay", decay, least=0.0, below=1.0)
        require_number("epsilon", epsilon, above=0.0)
        self.decay = decay
        self.epsilon = epsilon
        self.register_buffer("codebook", torch.randn(codebook_size, codebook_dim))
        self.register_buffer("cluster_size", torch.ones(codebook_size))
        self.register_buffer("cluster_sum", self.codebook.clone())

    def _codebook_with_gradient(self, shared):
        # A copy: the update below must not reach into the graph of this forward.
        return self.codebook.clone()

    def _summands(self, frames, errors, indices):
        if not self.training or self.frozen:
            return {}
        sums = frames.new_zeros(self.codebook_size, self.codebook_dim)
        return {"sums": sums.index_add_(0, indices, frames)}

    def _learn(self, frames, codebook, distances, indices, shared):
        if self.training and not self.frozen:
            counts, sums = shared["counts"].to(self.codebook), shared["sums"].to(self.codebook)
            self.cluster_size.mul_(self.decay).add_(counts, alpha=1 - self.decay)
            self.cluster_sum.mul_(self.decay).add_(sums, alpha=1 - self.decay)
            pull = self.cluster_sum + self.epsilon * self.codebook
            self.codebook.copy_(pull / (self.cluster_size + self.epsilon)[:, None])
        return {}, torch.ones((), dtype=frames.dtype, device=frames.device)

    def _set_rows(self, rows, frames, optimizer=None):
        # One frame's weight: the sums must agree with the code, or the next update moves it away.
        rows = rows.to(self.codebook.device)
        self.codebook[rows] = frames
        self.cluster_size[rows] = 1.0
        self.cluster_sum[rows] = frames


def build_quantizer(codebook_update, codebooks=1, grouping="residual", **options):
    """The quantizer with the given codebook update, for YAML that switches between them.

    Arguments
    ---------
    codebook_update : str
        "soft_em" or "ema".
    codebooks : int
        How many codebooks, each of ``codebook_size`` codes, quantize a vector.
    grouping : str
        What each of several quantizes: see
        :class:`~waveglow_vq.lobes.quantizers.groups.GroupedQuantizer`.
    **options : dict
        Arguments of :class:`SoftEMQuantizer` and :class:`EMAQuantizer`; what only the other one
        knows is left out.

    Example
    -------
    >>> build_quantizer("ema", codebook_size=16, codebook_dim=4, temperature="relative")
    EMAQuantizer(codebook_size=16, codebook_dim=4, estimator=ste, initialization=data, \
restart_after=50)
    >>> build_quantizer("soft_em", 4, codebook_size=16, codebook_dim=8).codebook.shape
    torch.Size([4, 16, 8])
    """
    require_choice("codebook_update", codebook_update, ("soft_em", "ema"))
    require_integer("codebooks", codebooks, 1)
    require_choice("grouping", grouping, GROUPINGS)
    chosen, other = SoftEMQuantizer, EMAQuantizer
    if codebook_update == "ema":
        chosen, other = other, chosen
    known = inspect.signature(chosen).parameters
    foreign = [name for name in options if name not in known]
    for name in foreign:
        if name not in inspect.signature(other).parameters:
            raise UserError(f"{name}: no quantizer has an option of this name")
    options = {name: value for name, value in options.items() if name in known}
    if codebooks == 1:
        return chosen(**options)
    if grouping == "product":
        require_integer("codebook_dim", options["codebook_dim"], 1)
        if options["codebook_dim"] % codebooks:
            raise UserError(
                f"codebooks: {codebooks} equal parts do not make up the codebook_dim of "
                f"{options['codebook_dim']}"
            )
        options["codebook_dim"] //= codebooks
    stages = [chosen(**options) for _ in range(codebooks)]
    return GroupedQuantizer(stages, grouping, options.get("estimator", "ste"))
