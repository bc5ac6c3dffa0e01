"""NVIDIA's own WaveGlow, from a clone of github.com/NVIDIA/waveglow that the user names, with the
weights of ours.
"""

import contextlib
import importlib.util
import warnings
from pathlib import Path
from unittest import mock

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.checkpoints.names import published_names
from waveglow_vq.errors import UserError

import torch


def load_glow(folder):
    """The module glow.py of a clone of NVIDIA/waveglow."""
    path = Path(folder) / "glow.py"
    if not path.is_file():
        raise UserError(f"--waveglow_folder {folder}: there is no glow.py of NVIDIA/waveglow in it")
    spec = importlib.util.spec_from_file_location("nvidia_waveglow_glow", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec.loader.exec_module(module)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise UserError(f"--waveglow_folder {folder}: glow.py fails to load: {error}") from None
    if not hasattr(torch, "qr"):  # torch means to remove it
        torch.qr = torch.linalg.qr
    return module


def their_model(glow, vocoder):
    """Their model with the architecture and the weights of a vocoder of ours."""
    if vocoder.envelope is not None or vocoder.upsample is None or vocoder.use_film:
        raise UserError(
            "--waveglow_folder: the model is not of the published architecture; take --size "
            "nvidia256 for it"
        )
    network = vocoder.steps[0].coupling.network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of functions that torch has newer names for
        model = glow.WaveGlow(
            n_mel_channels=vocoder.condition_channels,
            n_flows=len(vocoder.steps),
            n_group=vocoder.group_size,
            n_early_every=vocoder.early_every,
            n_early_size=vocoder.early_size,
            WN_config={
                "n_layers": len(network.dilated),
                "n_channels": network.channels,
                "kernel_size": network.kernel_size,
            },
        )
    model.load_state_dict(published_names(vocoder.state_dict()))
    return model.to(vocoder.upsample.weight.device)


@contextlib.contextmanager
def their_noise(z):
    """Within it, their ``infer`` takes the noise ``[batch, group_size, groups]`` of ours; and it
    runs on CPU, although it asks for tensors on a GPU."""
    position = z.shape[1]

    class Noise:
        def __init__(self, batch, channels, groups):
            nonlocal position
            # Drawn from the end of the chain to its front, and again at every call.
            position = (position if position > 0 else z.shape[1]) - channels
            self.values = z[:, position : position + channels]

        def normal_(self):
            return self.values

    with (
        mock.patch("torch.cuda.FloatTensor", Noise),
        mock.patch("torch.cuda.HalfTensor", Noise),
    ):
        yield
