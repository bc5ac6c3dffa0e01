"""CUDA graphs of sampling: the flows of a WaveGlow, from noise to their signal, are one launch.

A graph has one shape. So lengths are rounded up, by at most an eighth: noise is padded with zeros
and the condition with its last frame, what is padded is masked in the flows as that of shorter
items in a batch is, and cut off behind them. The result is that of the plain flows, rounding apart.
What is followed by spare frames, as the windows of a stream are, has one length for many calls, and
is not rounded.

Graphs are captured when their shape comes again, kept by last use, and share one memory pool and
one stream: whoever calls on another stream gets what the plain flows give. They read the weights as
they were prepared (see :mod:`~waveglow_vq.lobes.flows.inference_cache`), and are dropped together
when those are prepared again, or moved.
"""

import threading
from collections import OrderedDict

from waveglow_vq.lobes.flows.inference_cache import InferenceCache
from waveglow_vq.lobes.flows.network import cuda_graphs
from waveglow_vq.lobes.flows.network.cuda_graphs import autocast_again, autocast_state, log_failure

import torch

# Graphs, and shapes that are counted, at the same time.
MOST_GRAPHS = 16
# Samples of a whole batch from which on the launches do not matter, while the memory does.
MOST_SAMPLES = 2**22
# Lengths that are distinguished between a power of two and the next one.
STEPS = 8
LEAST_FRAMES = 16


def graph_sampling(vocoder, after=1):
    """Replaces ``vocoder.inverse_flows`` by one that uses CUDA graphs, where it is not replaced
    already. The first ``after`` calls of a shape are plain. The vocoder is prepared for inference.
    Transforms of one's own may do what no graph can, so a vocoder with them stays as it is.
    """
    if "inverse_flows" in vars(vocoder) or any(step.own is not None for step in vocoder.steps):
        return
    vocoder.inverse_flows = SamplingGraphs(vocoder, after)


def rounded_frames(frames):
    """The length that a number of frames is rounded up to.

    Example
    -------
    >>> [rounded_frames(frames) for frames in (1, 16, 17, 100, 128, 129, 689)]
    [16, 16, 18, 104, 128, 144, 704]
    """
    if frames <= LEAST_FRAMES:
        return LEAST_FRAMES
    step = 2 ** ((frames - 1).bit_length() - 1) // STEPS
    return -(-frames // step) * step


class SamplingGraphs:
    """Called in the place of ``inverse_flows``; see there."""

    def __init__(self, vocoder, after=1):
        self.vocoder, self.after = vocoder, after
        self.plain = vocoder.inverse_flows
        self.caches = [part for part in vocoder.modules() if isinstance(part, InferenceCache)]
        self.weights = list(vocoder.parameters())
        self.lock = threading.Lock()  # of the static tensors
        self.pool = self.stream = self.state = None
        self.graphs = OrderedDict()  # shape -> _GraphedFlows, or how often it came
        self.has_failed = False

    def __call__(self, z, local, speaker=None, samples=None, spare=(0, 0), padded=None):
        """As ``WaveGlow.inverse_flows``."""
        if self._can_serve(z):
            with self.lock:
                result = self._replayed(z, local, speaker, samples, tuple(spare), padded)
            if result is not None:
                return result
        return self.plain(z, local, speaker, samples, spare, padded)

    def _can_serve(self, z):
        return (
            z.device.type in cuda_graphs.DEVICES
            and not (self.has_failed or torch.is_grad_enabled())
            and not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
            and len(z) * z.shape[-1] * self.vocoder.group_size <= MOST_SAMPLES
        )

    def _replayed(self, z, local, speaker, samples, spare, padded):
        """The result; None if it has to be computed plainly."""
        hop, size = self.vocoder.hop, self.vocoder.group_size
        frames, rest = divmod(z.shape[-1] * size, hop)
        per_frame, uneven = divmod(hop, self.vocoder.condition_hop)
        if rest or uneven or not 0 < frames * per_frame <= local.shape[-1] or not self._is_valid():
            return None
        local = self.vocoder.with_following(local, frames)
        stream = _stream_of(z.device)
        self.stream = stream if self.stream is None else self.stream
        if stream != self.stream:
            return None
        length = frames if spare[1] else rounded_frames(frames)
        is_masked = length > frames or (samples is not None and padded is not False)
        kinds = [x if x is None else (x.shape[:2], x.dtype, x.device) for x in (z, local, speaker)]
        key = (*kinds, length, is_masked, spare, autocast_state(z.device))

        def capture():
            graphed = _GraphedFlows(self.plain, z, local, speaker)
            graphed.capture(self.pool, length * hop // size, length * per_frame, spare, is_masked)
            return graphed

        graphed = self._known(key, capture, z.device)
        if graphed is None:
            return None
        graphed.take(z, local, speaker, samples, size)
        (signal,) = graphed.graph.replay()
        return signal[:, : (frames - sum(spare)) * hop].clone()

    def _is_valid(self):
        """Whether the weights are prepared. If they are not what the graphs have, these are
        dropped."""
        caches = [part.prepared() for part in self.caches]
        if any(cache is None for cache in caches):
            return False
        addresses = [weight.data_ptr() for weight in self.weights]
        before, self.state = self.state, (caches, addresses)
        if before is None or before[1] != addresses or any(map(_is_not, before[0], caches)):
            self.graphs.clear()
        return True

    def _known(self, key, capture, device):
        """What was captured of a shape, or is now; None if it is to be computed plainly."""
        known = self.graphs.pop(key, 0)
        if isinstance(known, int) and known < self.after:
            known += 1
        elif isinstance(known, int):
            try:
                self.pool = self.pool or cuda_graphs.GraphPool(device)
                # Not of inference mode, whose tensors could not be written to outside of it.
                with torch.inference_mode(False), torch.no_grad():
                    known = capture()
            except Exception as error:  # of drivers, libraries and allocators
                log_failure(error, "sampling goes on without them")
                self.has_failed, self.pool = True, None
                self.graphs.clear()
                return None
        self.graphs[key] = known
        while len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)
        return None if isinstance(known, int) else known


class _GraphedFlows:
    """The graph of one shape, and its static tensors, made like those of a call."""

    def __init__(self, flows, z, local, speaker):
        self.flows, self.autocast = flows, autocast_state(z.device)
        self.z, self.local = (torch.zeros_like(x[..., :1]) for x in (z, local))
        self.speaker = None if speaker is None else torch.zeros_like(speaker)
        self.samples = self.graph = None

    def capture(self, pool, groups, columns, spare, is_masked):
        """Captures the flows of so many groups, and columns of the condition."""
        self.z = self.z.repeat(1, 1, groups)
        # With the frame that follows, towards which the last one is interpolated.
        self.local = self.local.repeat(1, 1, columns + 1)
        if is_masked:
            self.samples = torch.zeros(len(self.z), dtype=torch.int64, device=self.z.device)

        def run():
            with autocast_again(self.z.device, self.autocast):
                inputs = self.z, self.local, self.speaker, self.samples
                return [self.flows(*inputs, spare, is_masked)]

        pool.warm_up(run, 1)
        self.graph = pool.capture(run)

    def take(self, z, local, speaker, samples, group_size):
        """Fills the static tensors. What is behind z is masked, and where the condition has no
        following frame, its last one is held."""
        groups, columns = z.shape[-1], min(local.shape[-1], self.local.shape[-1])
        self.z[..., :groups].copy_(z)
        self.z[..., groups:].zero_()
        self.local[..., :columns].copy_(local[..., :columns])
        self.local[..., columns:].copy_(self.local[..., columns - 1 : columns])
        if speaker is not None:
            self.speaker.copy_(speaker)
        if self.samples is not None:
            if samples is None:
                self.samples.fill_(groups * group_size)
            else:
                self.samples.copy_(samples)


def _is_not(one, other):
    return one is not other


def _stream_of(device):
    """Number of the stream that is current."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
