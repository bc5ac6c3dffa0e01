"""The steps that a recursive filter is computed in."""

# Samples that one step of the recursion takes, at most: a compromise between the work of a step
# and the number of steps, measured on CPU (benchmarks/README.md).
STEP = 64


def step_of_block(block):
    """Samples of the steps that a block of the recursion is done in.

    Example
    -------
    >>> step_of_block(128), step_of_block(48), step_of_block(67)
    (64, 48, 1)
    """
    return max(size for size in range(1, STEP + 1) if block % size == 0)
