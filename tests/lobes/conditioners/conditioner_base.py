"""What the tests of conditioners share."""

import torch

from tests.lobes.flows.transform_base import random_tensor, randomized

HOP = 16


def ready(conditioner):
    """With biases and codes that are not near zero, so that padding could be seen."""
    return randomized(conditioner, 0.1).eval()


def mels(frames, batch=1, seed=0):
    return 2 * random_tensor(batch, 8, frames, seed=seed) - 5


def same(found, expected, atol=1e-5):
    # The predicted log-mel is fp32 by contract.
    torch.testing.assert_close(found, expected, rtol=0, atol=atol, check_dtype=False)


def assert_items_equal_themselves_alone(
    conditioner, items, length_of, code_length_of, who=None, atol=1e-12
):
    """The batch is padded with values that would be heard if they were used.

    ``who`` names further arguments of ``forward``, each ``[items, ...]``; pitch is cut to the
    item's frames where it is alone, and at random behind them in the batch.
    """
    longest = max(item.shape[-1] for item in items)
    batch = torch.cat(
        [torch.nn.functional.pad(x, (0, longest - x.shape[-1]), value=3.0) for x in items]
    )
    lengths = torch.tensor([item.shape[-1] / longest for item in items])
    who = who or {}
    both = conditioner(batch, lengths, **who)
    for b, item in enumerate(items):
        own = {name: value[b : b + 1] for name, value in who.items()}
        if "pitch" in own:
            own["pitch"] = own["pitch"][:, : item.shape[-1]]
        alone = conditioner(item, **own)
        frames = length_of(item)
        assert alone.local.shape[-1] == frames
        same(both.local[b, :, :frames], alone.local[0])
        if alone.log_mel is not None:
            mel_frames = alone.log_mel.shape[-1]
            same(both.log_mel[b, :, :mel_frames], alone.log_mel[0])
        if alone.quantized is not None:
            codes = code_length_of(item)
            assert alone.quantized.indices.shape == (1, codes)
            # The codes hide small differences, the vectors before them do not.
            vectors = conditioner.encoder(batch, lengths)[b, :codes]
            same(vectors, conditioner.encoder(item)[0], atol=atol)
            same(both.vectors[b, :codes], vectors, atol=0)
            indices = both.quantized.indices[b]
            assert torch.equal(indices[:codes], alone.quantized.indices[0])
            assert (indices[codes:] == -1).all()
            assert torch.equal(conditioner.encode(batch, lengths)[b], indices)
            same(both.quantized.quantized[b, :codes], alone.quantized.quantized[0])
    return both
