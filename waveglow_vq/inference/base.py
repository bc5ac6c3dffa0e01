"""What all interfaces of exports share: strict offline loading, speakers, writing of sound.

Authors
 * The waveglow-vq developers, 2026
"""

import math

from waveglow_vq.data.blocks import WavWriter
from waveglow_vq.errors import UserError
from waveglow_vq.files import user_path
from waveglow_vq.inference.loading import HPARAMS_FILE, LABELS_FILE, read_export_header

import torch
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.fetching import FetchSource


class ExportedInterface(Pretrained):
    """What training exported, in use. The subclasses say what it does.

    ``hparams`` may name the ``interface`` that the export is for, ``sampling_sigma`` and
    ``speakers``.
    """

    MODULES_NEEDED = ["model"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in self.MODULES_NEEDED:
            if name not in self.mods:
                raise UserError(f"modules: '{name}' is missing; {type(self).__name__} needs it.")
        self.check_model()

    @classmethod
    def from_hparams(cls, source, hparams_file=HPARAMS_FILE, **kwargs):
        """Loads an export folder, offline and strictly.

        The YAML of an export names the Python classes that it builds: load exports from people
        you trust only. Weights are read without executing code.

        Arguments
        ---------
        source : str or Path or FetchSource
            The export folder. The hub is asked only where a
            ``speechbrain.utils.fetching.FetchSource`` says so explicitly: a misspelt path is an
            error, not a download.
        hparams_file : str
            Name of the YAML file in it.
        **kwargs : dict
            As for any SpeechBrain interface, for instance ``run_opts={"device": "cuda"}``. A
            ``savedir`` is not used for a local folder, which is read where it is.

        Returns
        -------
        ExportedInterface

        Raises
        ------
        UserError
            If the folder is missing, incomplete, damaged, or an export for another interface.
        """
        _check_device(kwargs.get("run_opts"))
        if not isinstance(source, FetchSource):
            source = user_path(source)
            header = read_export_header(source, hparams_file)
            _check_interface(cls, header["interface"], source)
            if header.get("speakers") is not None and not (source / LABELS_FILE).is_file():
                raise UserError(f"{source} has no {LABELS_FILE}: the speaker labels are missing.")
            # A file of the same name that an earlier model left in savedir would be preferred.
            kwargs["savedir"] = None
            kwargs |= cls.read_parts(source, header, kwargs.get("run_opts"))
            source = str(source)
        return super().from_hparams(source, hparams_file=hparams_file, **kwargs)

    @classmethod
    def read_parts(cls, folder, header, run_opts):
        """What the constructor takes beside what the YAML of an export says, a dict; overridden."""
        return {}

    def check_model(self):
        """Raises a UserError if this interface cannot use the model; overridden."""

    @property
    def sampling_sigma(self):
        """Standard deviation of the noise, unless a call says otherwise."""
        return float(getattr(self.hparams, "sampling_sigma", 1.0))

    @property
    def speakers(self):
        """Labels of the speakers in the order of their numbers; empty for one speaker."""
        encoder = getattr(self.hparams, "speakers", None)
        return [] if encoder is None else [encoder.ind2lab[i] for i in range(len(encoder))]

    def _collected(self, blocks, output_path=None):
        """Blocks ``[n]`` as a whole ``[1, N]``, written to a file too where one is given."""
        if output_path is None:
            return torch.cat(list(blocks))[None]
        collected = []
        with WavWriter(output_path, self.sample_rate) as writer:
            for block in blocks:
                writer.write(block)
                collected.append(block)
        return torch.cat(collected)[None]

    def _checked_sigma(self, sigma):
        if sigma is None:
            sigma = self.sampling_sigma
        if not (0 <= sigma < math.inf):
            raise UserError(f"sigma: {sigma}; it has to be a number of at least 0")
        return float(sigma)


def _check_interface(cls, name, source):
    # A subclass of the named interface loads it too.
    if name not in (known.__name__ for known in cls.__mro__):
        raise UserError(
            f"{source} is an export for {name}, not for {cls.__name__}: load it with "
            f"waveglow_vq.inference.{name}.from_hparams."
        )


def _check_device(run_opts):
    device = run_opts.get("device") if isinstance(run_opts, dict) else None
    device = getattr(run_opts, "device", device)
    if device and str(device).startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {device} was asked for, but torch finds no CUDA device here.")
