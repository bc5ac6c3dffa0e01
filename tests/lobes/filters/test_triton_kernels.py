"""The kernels for CUDA: on a GPU where there is one, else by Triton's interpreter."""

from waveglow_vq.lobes.filters import triton_kernels
from waveglow_vq.lobes.filters.blockwise import recursive_filter_blocks
from waveglow_vq.lobes.flows.envelope import levinson_durbin

import pytest
import torch

from tests.lobes.filters.test_numba_kernels import (
    assert_close_to,
    small_case,
    spectra,
    speech_case,
)
from tests.lobes.triton_interpreter import (
    DEVICE,
    run_by_the_interpreter,
    runs_elsewhere,
    runs_here,
)

pytest.importorskip("triton")


@runs_elsewhere
def test_by_the_interpreter():
    run_by_the_interpreter(__file__)


# Where a gradient is wanted, the plain forms serve.


def plain_recursion(driven, coefficients, history):
    return recursive_filter_blocks(driven.clone().requires_grad_(), coefficients, history).detach()


def plain_levinson(r):
    return [x.detach() for x in levinson_durbin(r.clone().requires_grad_())]


CASES = {
    "speech": lambda: speech_case(3),
    "speech, a batch": lambda: speech_case(2, batch=2),
    # Orders and steps that are powers of two and that are not; blocks of one step and of several.
    **{
        f"{blocks} blocks of {block}, order {order}": (
            lambda blocks=blocks, order=order, block=block: small_case(blocks, order, block)
        )
        for blocks, order, block in [
            (1, 1, 1), (3, 1, 7), (4, 5, 6), (5, 16, 4), (2, 3, 67), (2, 70, 96), (2, 9, 256),
        ]
    },
}  # fmt: skip


@runs_here
@pytest.mark.parametrize("case", CASES)
def test_recursion_equals_the_plain_one(case):
    inputs = CASES[case]()
    expected = plain_recursion(*inputs)
    moved = [x.to(DEVICE) for x in inputs]
    copies = [x.clone() for x in moved]
    assert_close_to(triton_kernels.recursive_filter(*moved).cpu(), expected)
    assert all(torch.equal(a, b) for a, b in zip(moved, copies, strict=True))


@runs_here
@pytest.mark.parametrize("order", [1, 2, 7, 16, 128])
def test_levinson_equals_the_plain_one(order):
    r = spectra(4, range_db=10.0)[:, : order + 1].reshape(2, 2, -1)
    for found, expected in zip(
        triton_kernels.levinson(r.to(DEVICE)), plain_levinson(r), strict=True
    ):
        assert_close_to(found.cpu(), expected)
