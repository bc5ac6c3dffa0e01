"""What a model has to be better than: sound made of the same log-mel without one."""

from waveglow_vq.lobes.mel_consistency import mel_consistent, shaped_noise

import torch

# Where the model has none of its own.
ITERATIONS = 20


def no_model_name(iterations):
    """How the row is called.

    Example
    -------
    >>> no_model_name(20)
    'no model, 20 iterations'
    """
    return f"no model, {iterations} iteration{'s' if iterations != 1 else ''}"


@torch.no_grad()
def without_model(recording, features, iterations=ITERATIONS, generator=0):
    """The log-mel of a recording [N] turned into sound [N] by mel-consistent iterations that begin
    with noise.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> without_model(torch.rand(8192), LogMel(), 2).shape
    torch.Size([8192])
    """
    wav = recording[None].cpu().float()
    log_mel = features(wav)
    noise = shaped_noise(log_mel, features, wav.shape[1], generator)
    return mel_consistent(noise, log_mel, features, iterations)[0]
