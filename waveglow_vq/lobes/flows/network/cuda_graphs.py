"""CUDA graphs of the coupling networks in training: each network is two launches for the CPU, one
forward and one backward, instead of hundreds.

A graph is a recorded sequence of kernels with fixed addresses: what goes in is copied into static
tensors, what comes out is copied from others, and parameters are read where they are, which an
optimizer and ``load_state_dict`` leave as it is. A forward of the chain whose shapes, types and
autocast are those of the one before it is worth capturing. All networks are then captured as
``torch.cuda.make_graphed_callables`` does it: warmed up on a side stream, forwards in the order of
the chain, then backwards in the opposite order, all from one memory pool. So what the first
network's backward has freed may be what another works in, and **replays have to come in the order
of the captures**. A forward that is out of turn is computed plainly: while the backward of an
earlier one is still to come, in another order, with another context, shape or type, without
gradients, or with ``memory_efficient``, ``torch.compile`` or ``torch.export``.

It differs from ``make_graphed_callables`` in two places. Gradients are returned as copies, of all
parameters together: autograd would keep them as ``.grad`` otherwise, and the next replay would
write to them, which is wrong where gradients are accumulated. And networks are captured with
aliases of their parameters, so that neither hooks of the parameters nor the nodes by which
DistributedDataParallel collects gradients, made on another stream, have a part in it. Those see the
gradients of each replay as any others: each process captures for itself, and the order of reduction
is the same. Nothing random happens in a coupling network, and a scale of the loss is but a factor
of the gradient that comes in.

No hooks of modules *within* a coupling network are called in a replay. Copies of a model, pickled
or not, are without graphs (see :class:`~waveglow_vq.lobes.flows.inference_cache.InferenceCache`).
"""

import functools
import logging
import weakref
from typing import NamedTuple

from waveglow_vq.lobes.flows.transforms import FlowContext

import torch
from torch.autograd.function import once_differentiable

logger = logging.getLogger(__name__)

# Devices that have graphs.
DEVICES = ("cuda",)
# Runs before a capture, in which libraries choose and compile what they need.
WARM_UPS = 3
# Shapes, of a whole forward, that a model has graphs of at the same time.
MOST_SHAPES = 4


def graph_networks(vocoder, wanted=True):
    """Has the coupling networks of a WaveGlow trained by CUDA graphs, where that is possible, or,
    if not ``wanted``, no longer.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> vocoder = WaveGlow(LogMel(), flows=2, layers=2, channels=8, prior="white")
    >>> graph_networks(vocoder)
    >>> vocoder(torch.randn(1, 512), torch.randn(1, 80, 3))[0].shape  # plainly, on a CPU
    torch.Size([1, 8, 64])
    """
    networks = [step.coupling.network for step in vocoder.steps]
    for network in networks:
        vars(network).pop("forward", None)
    if wanted:
        graphs = TrainingGraphs(vocoder, networks)
        for number, network in enumerate(networks):
            network.forward = functools.partial(graphs, number)


class CapturedGraph:
    """A graph, and the tensors that every replay writes its results to."""

    def __init__(self, graph, results):
        self.graph, self.results = graph, results

    def replay(self):
        """Runs it on what is in its static tensors now; returns the results."""
        self.graph.replay()
        return self.results


class GraphPool:
    """Captures graphs on a device, all from one memory pool and on one stream."""

    def __init__(self, device):
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.handle = torch.cuda.graph_pool_handle()

    def warm_up(self, run, times=WARM_UPS):
        """Runs what is to be captured."""
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.stream):
            for _ in range(times):
                run()
        torch.cuda.synchronize(self.device)

    def capture(self, run):
        """Captures ``run()``, a sequence of tensors or None, which it does not compute yet."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, as that which pins batches, may go on. A failure leaves the stream as is.
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.device(self.device), torch.cuda.stream(current):
            with torch.cuda.graph(graph, self.handle, self.stream, "thread_local"):
                results = run()
        return CapturedGraph(graph, results)


def autocast_state(device):
    """Whether autocast is on for a device, and its type."""
    enabled = torch.is_autocast_enabled(device.type)
    return enabled, torch.get_autocast_dtype(device.type) if enabled else None


def autocast_again(device, state):
    """The context of an :func:`autocast_state`, without the cache, whose casts of weights would be
    those of the capture for ever."""
    enabled, dtype = state
    if not enabled:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype, cache_enabled=False)


def log_failure(error, what):
    """Says in one sentence that a capture failed, and what is done instead."""
    while error.__context__ is not None:
        error = error.__context__  # the first one, not that of the capture's end
    reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    logger.warning("no CUDA graphs, since a capture failed (%s): %s", reason, what)


class TrainingGraphs:
    """The coupling networks of a WaveGlow in the order of its chain; called in the place of their
    ``forward``, with the number of the network in front."""

    def __init__(self, vocoder, networks):
        self.vocoder, self.networks = vocoder, networks
        self.plain = [network.forward for network in networks]
        self.pool = None
        self.captured = {}  # signature of the first network's call -> _GraphedChain
        self.has_failed = False
        self.recorded, self.recording = [], []  # signatures of the last whole forward, of this one
        self.chain, self.turn = None, 0  # what is replayed in this forward, and the next network

    def __call__(self, number, x, context=FlowContext()):
        """As the network's own ``forward``."""
        if not self._can_serve(x):
            return self.plain[number](x, context)
        signature = _signature(x, context)
        if number == 0:
            self._begin(signature, context)
        chain = self.chain
        if chain is not None and number == self.turn and chain.knows(number, signature, context):
            self.turn += 1
            return chain.replay(number, x)
        if number == len(self.recording):
            self.recording.append(signature)
            if len(self.recording) == len(self.networks):
                self.recorded = self.recording
        return self.plain[number](x, context)

    def _can_serve(self, x):
        return (
            x.device.type in DEVICES
            and torch.is_grad_enabled()
            and not (self.has_failed or self.vocoder.memory_efficient)
            and not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
        )

    def _begin(self, signature, context):
        """Finds or captures what the forward that begins is replayed by."""
        self.chain, self.turn, self.recording = None, 0, []
        if any(chain.is_in_use() for chain in self.captured.values()):
            return
        chain = self.captured.get(signature)
        if chain is not None and chain.addresses != chain.present_addresses():
            # The parameters were moved, or frozen; and so they were for the others.
            self.captured.clear()
            self.recorded, chain = [], None
        if chain is None and self._is_worth_capturing(signature):
            chain = self.captured[signature] = self._capture(self.recorded)
        if chain is not None:
            chain.begin(context)
        self.chain = chain

    def _is_worth_capturing(self, signature):
        same_context = {known[1:] for known in self.recorded} == {signature[1:]}
        again = same_context and self.recorded[0] == signature
        return again and len(self.captured) < MOST_SHAPES

    def _capture(self, signatures):
        try:
            device = signatures[0][0].device
            self.pool = self.pool or GraphPool(device)
            return _GraphedChain(self.pool, self.networks, signatures)
        except Exception as error:  # of drivers, libraries and allocators, each of its own kind
            log_failure(error, "training goes on without them")
            self.has_failed, self.pool = True, None
            self.captured.clear()
            return None


class Kind(NamedTuple):
    """What a tensor has in common with the static one that it is copied to."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool

    @classmethod
    def of(cls, value):
        """That of a tensor; what is none is returned as it is."""
        if not torch.is_tensor(value):
            return value
        return cls(value.shape, value.dtype, value.device, value.requires_grad)

    def static(self):
        """A tensor of this kind."""
        shape, *options = self
        names = ("dtype", "device", "requires_grad")
        return torch.zeros(shape, **dict(zip(names, options, strict=True)))


def _signature(x, context):
    """What a call has to have in common with the one that was captured: of x, of each field of the
    context, and the state of autocast."""
    return (*map(Kind.of, (x, *context)), autocast_state(x.device))


class _GraphedChain:
    """Graphs of all networks for one shape."""

    def __init__(self, pool, networks, signatures):
        self.signatures = signatures
        # Every network has the same context, which is copied once.
        fields = (kind.static() if isinstance(kind, Kind) else kind for kind in signatures[0][1:-1])
        self.context, self.given = FlowContext(*fields), FlowContext()
        # Of the parameters, as they are now; dicts are looked up again.
        self.owners = [
            (module._parameters, name)
            for network in networks
            for module in network.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]
        self.addresses = self.present_addresses()
        self.uses = []
        self.networks = [
            _GraphedNetwork(network, signature[0].static(), self.context, signature[-1])
            for network, signature in zip(networks, signatures, strict=True)
        ]
        for network in self.networks:
            pool.warm_up(network.run_both)
        for network in self.networks:
            network.forward = pool.capture(network.run_forward)
        for network in reversed(self.networks):
            network.backward = pool.capture(network.run_backward)

    def present_addresses(self):
        """Where the parameters are, and whether they are trained."""
        found = (parameters[name] for parameters, name in self.owners)
        return [(parameter.data_ptr(), parameter.requires_grad) for parameter in found]

    def is_in_use(self):
        """Whether a backward pass needs what a replay has left."""
        self.uses = [use for use in self.uses if use() is not None]
        return bool(self.uses)

    def begin(self, context):
        """Takes the context of all networks."""
        self.given = context
        with torch.no_grad():
            for static, value in zip(self.context, context, strict=True):
                if torch.is_tensor(static):
                    static.copy_(value)

    def knows(self, number, signature, context):
        """Whether the call of a network is the one that was captured."""
        same = all(a is b for a, b in zip(context, self.given, strict=True) if torch.is_tensor(a))
        return same and self.signatures[number] == signature

    def replay(self, number, x):
        """What a network gives for x in the present context."""
        network, use = self.networks[number], _Use()
        self.uses.append(weakref.ref(use))
        values = x, *(value for value in self.given if torch.is_tensor(value))
        if number == len(self.networks) - 1:
            self.given = FlowContext()  # nothing is held between the steps
        return _Replay.apply(network, use, *values, *network.used_parameters)


class _Use:
    """Lives as long as a backward pass may come that needs what a replay has left."""


class _GraphedNetwork:
    """A network with static tensors, and its two graphs."""

    def __init__(self, network, x, context, autocast):
        self.network, self.x, self.context, self.autocast = network, x, context, autocast
        self.values = [x, *(value for value in context if torch.is_tensor(value))]
        self.parameters = dict(network.named_parameters())
        self.aliases = {
            name: parameter.detach().requires_grad_(parameter.requires_grad)
            for name, parameter in self.parameters.items()
        }
        self.inputs = [v for v in (*self.values, *self.aliases.values()) if v.requires_grad]
        self.output = self.gradient = self.forward = self.backward = None

    def run_forward(self):
        """The output, whose autograd graph is kept for :meth:`run_backward`."""
        own = vars(self.network)
        forward = own.pop("forward")  # what leads here
        try:
            with torch.enable_grad(), autocast_again(self.x.device, self.autocast):
                arguments = self.x, self.context
                self.output = torch.func.functional_call(self.network, self.aliases, arguments)
        finally:
            own["forward"] = forward
        return [self.output.detach()]

    def run_backward(self):
        """Gradients of the inputs that have one; None of those that the output does not need."""
        output, self.output = self.output, None
        with torch.autocast(self.x.device.type, enabled=False):
            return torch.autograd.grad(output, self.inputs, self.gradient, allow_unused=True)

    def run_both(self):
        """To warm up."""
        (output,) = self.run_forward()
        if self.gradient is None:
            self.gradient = torch.zeros_like(output)
        self.run_backward()

    @functools.cached_property
    def used_parameters(self):
        """Those that have a gradient; known when all is captured."""
        trained = [p for p in self.parameters.values() if p.requires_grad]
        gradients = self.backward.results[len(self.inputs) - len(trained) :]
        return [p for p, g in zip(trained, gradients, strict=True) if g is not None]

    def copied(self, gradients):
        """A copy of the gradients: of each of the values, None where it has none, and of the
        parameters that are used."""
        gradients = iter(gradients)
        of_values = [next(gradients) if value.requires_grad else None for value in self.values]
        of_values = [None if gradient is None else gradient.clone() for gradient in of_values]
        of_parameters = [gradient for gradient in gradients if gradient is not None]
        # One launch for many tensors.
        copies = torch._foreach_mul(of_parameters, 1.0) if of_parameters else []
        return *of_values, *copies


class _Replay(torch.autograd.Function):
    """One use of a :class:`_GraphedNetwork`."""

    @staticmethod
    def forward(ctx, network, use, x, *others):
        ctx.network, ctx.use = network, use
        network.x.copy_(x)
        (output,) = network.forward.replay()
        return output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        if ctx.use is None:
            raise RuntimeError(
                "a training step by CUDA graphs has one backward pass, and this is the second one; "
                "set cuda_graphs: False"
            )
        ctx.use, network = None, ctx.network
        network.gradient.copy_(gradient)
        return None, None, *network.copied(network.backward.replay())
