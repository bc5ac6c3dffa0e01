"""The envelope's recursions as numba kernels, for CPU."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

# Samples whose sums over the past are taken together, before they are put into each other. The
# sums then do not wait for the sample just computed. Measured: 2, 8 and 16 are slower.
TILE = 4
# Below so many samples, or rows, per thread, threads cost more than they give.
SAMPLES_PER_THREAD = 16384
ROWS_PER_THREAD = 512


class NumbaKernels:
    """The kernels for CPU, in fp64. Compiled on first use, in about a second; the result is kept
    beside this file or, where that cannot be written, in numba's folder of the user or nowhere.
    Threads may share it."""

    def __init__(self, numba, cache):
        # Sums may be reordered and fused; infinities and NaN stay what they are. No threads of
        # numba's own: its pools do not bear being called from several threads, or a fork.
        compile_ = functools.partial(
            numba.njit, nogil=True, cache=cache, fastmath={"reassoc", "contract", "nsz"}
        )
        self._recursion = compile_(_recursion)
        self._levinson = compile_(_levinson)

    def recursive_filter(self, driven, coefficients, history):
        """See :func:`~waveglow_vq.lobes.filters.blockwise.recursive_filter_blocks`."""
        order = coefficients.shape[-1]
        padded = torch.nn.functional.pad(history, (0, driven.shape[-1]))
        latest_last = coefficients.flip(-1)
        arrays = padded, driven.contiguous(), latest_last
        _by_rows(self._recursion, SAMPLES_PER_THREAD // driven.shape[-1], *arrays)
        return padded[:, order:]

    def levinson(self, autocorrelation):
        """See :func:`~waveglow_vq.lobes.flows.envelope.levinson_durbin`."""
        *shape, lags = autocorrelation.shape
        rows = autocorrelation.reshape(-1, lags).contiguous()
        coefficients, error = rows.new_empty(len(rows), lags - 1), rows.new_empty(len(rows))
        _by_rows(self._levinson, ROWS_PER_THREAD, rows, coefficients, error)
        return coefficients.view(*shape, lags - 1), error.view(shape)


def _by_rows(kernel, least, *tensors):
    """Has the rows done by as many threads as torch uses, each at least ``least`` of them."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    rows = len(arrays[0])
    threads = max(1, min(torch.get_num_threads(), rows, rows // max(1, least)))
    if threads == 1:
        kernel(*arrays)
        return
    parts = zip(*(np.array_split(array, threads) for array in arrays), strict=True)
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, *part) for part in parts]:
            done.result()


def _recursion(padded, driven, coefficients):
    """The recursion of ``recursive_filter_blocks``; ``padded [batch, order + samples]`` begins
    with the history, goes on with zeros, and takes the result. Coefficients have the latest
    sample's last."""
    batch, samples = driven.shape
    blocks, order = coefficients.shape[1:]
    block = samples // blocks
    sums = np.empty(TILE)
    for b in range(batch):
        x = padded[b]
        for t in range(blocks):
            a = coefficients[b, t]
            for first in range(t * block, (t + 1) * block, TILE):
                size = min(TILE, (t + 1) * block - first)
                for j in range(size):
                    # What is not computed yet is zero, and adds nothing.
                    past = x[first + j : first + j + order]
                    total = 0.0
                    for k in range(order):
                        total += a[k] * past[k]
                    sums[j] = driven[b, first + j] - total
                for j in range(size):
                    value = sums[j]
                    x[order + first + j] = value
                    for later in range(j + 1, min(size, j + 1 + order)):
                        sums[later] -= a[order - (later - j)] * value


def _levinson(autocorrelation, coefficients, error):
    """The recursion of ``levinson_durbin``, row by row. Autocorrelation and predictor are kept
    backwards too, so that all loops run forwards through memory."""
    rows, order = coefficients.shape
    reversed_r, reversed_a = np.empty(order + 1), np.empty(order)
    for row in range(rows):
        for i in range(order + 1):
            reversed_r[order - i] = autocorrelation[row, i]
        energy = autocorrelation[row, 0]
        for i in range(order):
            a, mirrored = coefficients[row, :i], reversed_a[order - i :]
            earlier = reversed_r[order - i :]
            total = reversed_r[order - i - 1]
            for j in range(i):
                total += a[j] * earlier[j]
            reflection = -total / energy
            for j in range(i):
                one, other = a[j], mirrored[j]
                a[j] = one + reflection * other
                mirrored[j] = other + reflection * one
            coefficients[row, i] = reversed_a[order - 1 - i] = reflection
            energy *= 1 - reflection * reflection
        error[row] = energy
