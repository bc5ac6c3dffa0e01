"""Communication of processes that train together; in a single process it does nothing.

All of them but `is_distributed`, `world_size` and `own_rank` are collective: every process has to
call them, in the same order. What depends on data may therefore decide over them only where it is
the same everywhere.
"""

import inspect

from waveglow_vq.utils.devices import exact

import torch
from torch.nn.parallel import DistributedDataParallel

# The gradients are sent around in so many parts: some flow steps at a time, while the backward pass
# goes on. More than torch's 25 MB at once gains nothing, and less than 1 MB costs latency.
BUCKETS, LEAST_MEGABYTES, MOST_MEGABYTES = 8, 1.0, 25.0


def is_distributed():
    """True if several processes train together."""
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


def world_size():
    """Number of processes that train together."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def own_rank():
    """Number of this process among them, from 0."""
    return torch.distributed.get_rank() if is_distributed() else 0


def data_parallel(module, device, find_unused_parameters=False):
    """Wraps a module so that the gradients of all processes are averaged.

    Gradients are views of the buckets that are sent, so that memory holds them once, and are copied
    there together, where torch can do that. The graph is not declared static: that
    only saves a search for unused parameters, which is off unless it is asked for; the steps of
    ``quantize_after`` would break it, and torch would keep the first step's graph in its outputs.

    Arguments
    ---------
    module : torch.nn.Module
        Of which any parameter is trained, and the same one in all processes.
    device : torch.device or str
        Where it is.
    find_unused_parameters : bool
        Whether some steps leave parameters out.

    Example
    -------
    >>> bucket_megabytes(torch.nn.Linear(1000, 2000))
    1.0
    """
    options = {"gradient_as_bucket_view": True, "bucket_cap_mb": bucket_megabytes(module)}
    if "batched_grad_copy" in inspect.signature(DistributedDataParallel).parameters:
        options["batched_grad_copy"] = True
    return DistributedDataParallel(
        module,
        device_ids=[device] if torch.device(device).type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
        **options,
    )


def bucket_megabytes(module):
    """How much of the gradients of a module is sent at once, in 2**20 bytes."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    total = sum(p.numel() * p.element_size() for p in trained) / 2**20
    return min(MOST_MEGABYTES, max(LEAST_MEGABYTES, total / BUCKETS))


def all_reduce_sum(tensor):
    """Sums `tensor` over all processes, in place, and returns it.

    Each part is added up in one place and then sent around, so the result has the same bits
    everywhere, and so has what is computed from it alone.
    """
    if is_distributed():
        torch.distributed.all_reduce(tensor)
    return tensor


def all_reduce_greatest(tensor):
    """The greatest of all processes' `tensor`, element by element, in place; returns it."""
    if is_distributed():
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor


def broadcast_from_first(tensor):
    """Gives every process the first one's `tensor`, in place, and returns it."""
    if is_distributed():
        torch.distributed.broadcast(tensor, src=0)
    return tensor


def least_everywhere(number, device):
    """The least of all processes' whole numbers."""
    if not is_distributed():
        return number
    least = torch.tensor(number, device=device)
    torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
    return int(least)


def greatest_everywhere(numbers, device):
    """The greatest of all processes' whole numbers, place by place, by one collective.

    Example
    -------
    >>> greatest_everywhere([0, 15], "cpu")
    [0, 15]
    """
    if not is_distributed():
        return numbers
    return all_reduce_greatest(torch.tensor(numbers, device=device)).tolist()


def sum_everywhere(parts):
    """Sums a dict of tensors over all processes, in double precision and by one collective.

    Example
    -------
    >>> sum_everywhere({"frames": torch.tensor(3), "mean": torch.ones(2)})["mean"]
    tensor([1., 1.], dtype=torch.float64)
    """
    parts = {name: exact(value.detach()) for name, value in parts.items()}
    if not is_distributed():
        return parts
    packed = all_reduce_sum(torch.cat([value.reshape(-1) for value in parts.values()]))
    sums = packed.split([value.numel() for value in parts.values()])
    return {name: s.view_as(parts[name]) for name, s in zip(parts, sums, strict=True)}


def mean_everywhere(total, count, together=True):
    """A mean over the items of all processes, with the right gradients: as DistributedDataParallel
    averages them over W processes, each process's loss is its own sum times W, over the number of
    all items.

    ``total`` and ``count`` are this process's scalars; the mean is 0 without items. ``together`` is
    False where processes go through different batches, as in evaluation: the mean is then this
    process's own, and none waits for another.

    Example
    -------
    >>> mean_everywhere(torch.tensor(6.0), torch.tensor(4))
    tensor(1.5000)
    """
    if not (together and is_distributed()):
        return total / count.clamp_min(1)
    count = all_reduce_sum(exact(count.detach()))
    return total * (world_size() / count.clamp_min(1)).to(total.dtype)


def gather_frames(frames, counts):
    """The frames ``[N, D]`` of all processes, in the order in which one process would have had
    them: samplers deal the items of a batch out in turn, so item j of process r is item j * W + r
    of all. ``counts`` holds the number of frames of each item.

    Example
    -------
    >>> gather_frames(torch.ones(3, 1), [2, 1]).shape
    torch.Size([3, 1])
    """
    if not is_distributed():
        return frames
    sizes = _all_gather(torch.tensor([len(counts), len(frames)], device=frames.device))
    items, longest = sizes.amax(dim=0).tolist()
    padded = torch.zeros(items, dtype=torch.int64)
    padded[: len(counts)] = torch.tensor(counts)
    counts = _all_gather(padded.to(frames.device)).tolist()
    padded = frames.new_zeros(longest, frames.shape[1])
    padded[: len(frames)] = frames
    gathered = _all_gather(padded)
    parts = [part[: sum(count)].split(count) for part, count in zip(gathered, counts, strict=True)]
    return torch.cat([part for item in zip(*parts, strict=True) for part in item])


def _all_gather(tensor):
    """[W, ...] of a tensor that has the same shape everywhere."""
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    torch.distributed.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


def all_gather_object(value):
    """The values of all processes, as a list in their order.

    Example
    -------
    >>> all_gather_object(3)
    [3]
    """
    if not is_distributed():
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
