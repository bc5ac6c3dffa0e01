"""Training through the flows in little memory: activations are recomputed, not stored.

Flows are invertible, so a chain of them need not keep what it computed on the way: backpropagation
begins with the chain's output, and on its way to the front recovers the input of each transform
from its output (RevNet, Gomez et al. 2017, algorithm 1; i-RevNet, Jacobsen et al. 2018). At any
time the activations of one transform alone are held. What a transform recomputes for its inverse,
the output of its network above all, is what its gradient needs too: so every network is evaluated
once in the forward and once in the backward pass, which makes about 4/3 of the multiplications.

What is recovered is rounded, and so are the recovered inputs of networks. WaveGlow begins anew at
each of its early outputs, so the error has a few inverses to grow in, no more. It stays below that
of the gradient's own rounding, in fp32 as in half precision.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.lobes.flows.transforms import FlowContext, leaf

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call


def recomputed(steps, x, context=FlowContext()):
    """Runs a chain of flow steps, and recomputes it when the gradient is asked for.

    Output and gradients are those of the steps called one after another. The gradient cannot
    be differentiated again.

    Arguments
    ---------
    steps : iterable of torch.nn.Module
        With ``forward`` of the contract in transforms.py, and ``transforms`` that it consists of,
        with ``rebuild``.
    x : torch.Tensor
        ``[batch, channels, groups]``.
    context : FlowContext
        What the steps are conditioned on.

    Returns
    -------
    y : torch.Tensor
        ``[batch, channels, groups]``.
    logdet : torch.Tensor
        ``[batch]``.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.lobes.flows.transforms import AffineCoupling, FlowStep, InvertibleConv1x1
    >>> from waveglow_vq.lobes.flows.wavenet import WaveNet
    >>> step = FlowStep(InvertibleConv1x1(4), AffineCoupling(WaveNet(2, 4), kept=2))
    >>> y, logdet = recomputed([step], torch.randn(2, 4, 10))
    >>> (y.square().sum() - logdet.sum()).backward()
    >>> y.shape, logdet.shape, step.conv.weight.grad.shape
    (torch.Size([2, 4, 10]), torch.Size([2]), torch.Size([4, 4]))
    """
    held, rest = _Held(), context._replace(local=None, speaker=None)
    logdet, steps = 0, list(steps)
    for k, step in enumerate(steps):
        # Conditions and parameters are inputs of their own: so gradients reach them through the
        # graph, and whoever waits for them there (DDP, accumulation, hooks) notices nothing.
        inputs = (x, context.local, context.speaker, *step.parameters())
        x, term = _Step.apply(step, rest, held, k == len(steps) - 1, *inputs)
        logdet = logdet + term
    return x, logdet


class _Held:
    """What the steps of a chain hand on to each other in the backward pass: the output of the step
    whose turn it is, in the beginning that of the last."""

    def __init__(self):
        self.y = None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, step, context, held, is_last, x, local, speaker, *parameters):
        ctx.step, ctx.context, ctx.held, ctx.is_last = step, context, held, is_last
        device = x.device.type
        # The cache of autocast is of no use, as each parameter is cast once, and what it
        # remembers of a pass without gradient would be wrong for one with gradient.
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
            "cache_enabled": False,
        }
        with torch.autocast(**ctx.autocast):
            y, logdet = step(x, context._replace(local=local, speaker=speaker))
        # Of all outputs of the chain only the last one is kept.
        ctx.save_for_backward(y if is_last else None, local, speaker, *parameters)
        return y, logdet

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_logdet):
        y, *conditions_and_parameters = ctx.saved_tensors
        y = y if ctx.is_last else ctx.held.y
        needed = ctx.needs_input_grad[5:]
        # Copies that begin a graph of their own: the gradient of a piece ends at them, and hooks
        # of the true parameters do not take it for the whole.
        copies = [
            leaf(t) if wanted else t
            for t, wanted in zip(conditions_and_parameters, needed, strict=True)
        ]
        (local, speaker), parameters = copies[:2], copies[2:]
        context = ctx.context._replace(local=local, speaker=speaker)
        gradients = [None] * len(copies)
        end = len(parameters)
        for transform in reversed(ctx.step.transforms):
            names = [name for name, _ in transform.named_parameters()]
            begin = end - len(names)
            own = dict(zip(names, parameters[begin:end], strict=True))
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                parts, again, logdet = functional_call(
                    _Rebuild(transform),
                    {f"transform.{name}": parameter for name, parameter in own.items()},
                    (y, context),
                )
            places = [i for i in (0, 1, *range(2 + begin, 2 + end)) if needed[i]]
            y = torch.cat([part.detach() for part in parts], dim=1)
            grad_y, *found = _gradients(
                parts, [copies[i] for i in places], again, logdet, grad_y, grad_logdet
            )
            for i, gradient in zip(places, found, strict=True):
                if gradient is not None:
                    gradients[i] = gradient if gradients[i] is None else gradients[i] + gradient
            # Before the next transform takes memory, what this one has taken is given back.
            del parts, again, logdet, found
            end = begin
        ctx.held.y = y
        return (None,) * 4 + (grad_y if ctx.needs_input_grad[4] else None, *gradients)


def _gradients(parts, others, y, logdet, grad_y, grad_logdet):
    """Of x, given by its parts, and of other leaves, None where they take no part."""
    # As the gradients of any training step: not under autocast.
    with torch.autocast(y.device.type, enabled=False):
        of_parts_and_others = torch.autograd.grad(
            (y, logdet), (*parts, *others), (grad_y, grad_logdet), allow_unused=True
        )
    of_parts = of_parts_and_others[: len(parts)]
    return torch.cat(of_parts, dim=1), *of_parts_and_others[len(parts) :]


class _Rebuild(nn.Module):
    """``rebuild`` of a transform in the place where functional_call looks, ``forward``."""

    def __init__(self, transform):
        super().__init__()
        self.transform = transform

    def forward(self, y, context):
        return self.transform.rebuild(y, context)
