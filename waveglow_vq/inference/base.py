"""Base class of the interfaces: strict offline loading, speakers, writing of audio."""

from pathlib import Path

from waveglow_vq.audio.io import WavWriter
from waveglow_vq.errors import UserError
from waveglow_vq.inference.builders import build_errors
from waveglow_vq.inference.inputs import as_number, as_path
from waveglow_vq.inference.loading import (
    HPARAMS_FILE,
    LABELS_FILE,
    READER_FILE,
    read_export_header,
)
from waveglow_vq.inference.running import check_run_opts, default_dtype
from waveglow_vq.lobes.source.pitch_reader import read_pitch_reader
from waveglow_vq.utils.devices import warn_of_slow_half
from waveglow_vq.utils.files import model_checksum

import torch
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.autocast import AMPConfig, TorchAutocast
from speechbrain.utils.fetching import FetchSource

# The classes that exports may name, by their names.
_INTERFACES = {}


def find_interface(name):
    """The subclass of :class:`ExportedInterface` with this name."""
    if name not in _INTERFACES:
        raise UserError(
            f"interface: {name!r} is not an interface of this version of waveglow-vq; install a "
            "newer one to load the export."
        )
    return _INTERFACES[name]


class ExportedInterface(Pretrained):
    """Base class of the interfaces to exported models. Subclasses are known by their names, which
    exports hold.

    ``hparams`` may name the ``interface`` that the export is for, ``sampling_sigma``, ``refine``
    and ``speakers``.
    """

    MODULES_NEEDED = ["model"]
    # Caches, which copies do not take with them.
    CACHES = ("_known_checksum",)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _INTERFACES.setdefault(cls.__name__, cls)

    def __init__(self, modules=None, hparams=None, run_opts=None, **kwargs):
        super().__init__(modules, hparams, check_run_opts(run_opts), **kwargs)
        warn_of_slow_half(f"precision {self.precision}", self.precision, self.device_type)
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
        kwargs["run_opts"] = check_run_opts(kwargs.get("run_opts"))
        if not isinstance(source, FetchSource):
            source = as_path("source", source)
            hparams_file = _name_in(source, hparams_file)
            header = read_export_header(source, hparams_file)
            _check_interface(cls, header["interface"], source)
            if header.get("speakers") is not None and not (source / LABELS_FILE).is_file():
                raise UserError(f"{source} has no {LABELS_FILE}: the speaker labels are missing.")
            # A file of the same name that an earlier model left in savedir would be preferred.
            kwargs["savedir"] = None
            kwargs |= cls.read_parts(source, header, kwargs["run_opts"])
            source = str(source)
        # Models are built and computed in fp32, whatever a program has made torch's default.
        with default_dtype(torch.float32), build_errors(Path(str(source), hparams_file)):
            loaded = super().from_hparams(source, hparams_file=hparams_file, **kwargs)
        path = Path(str(source), READER_FILE)
        if path.is_file():
            loaded.mods.model.own_reader = (read_pitch_reader(path),)
        return loaded

    @classmethod
    def read_parts(cls, folder, header, run_opts):
        """Further arguments of the constructor, a dict; overridden."""
        return {}

    def check_model(self):
        """Raises a UserError if this interface cannot use the model; overridden."""

    @property
    def sampling_sigma(self):
        """Standard deviation of the noise, unless a call says otherwise."""
        return float(getattr(self.hparams, "sampling_sigma", 1.0))

    @property
    def refine(self):
        """Number of mel-consistent iterations, unless a call says otherwise."""
        return getattr(self.hparams, "refine", 0)

    @property
    def checksum(self):
        """:func:`~waveglow_vq.utils.files.model_checksum` of the model, computed again if a weight
        was moved or changed in place."""
        model = self.mods.model
        state = [(name, x.data_ptr(), x._version) for name, x in model.state_dict().items()]
        known = getattr(self, "_known_checksum", None)
        if known is None or known[0] != state:
            known = self._known_checksum = (state, model_checksum(model))
        return known[1]

    @property
    def speakers(self):
        """Labels of the speakers in the order of their numbers; empty for one speaker."""
        encoder = getattr(self.hparams, "speakers", None)
        return [] if encoder is None else [encoder.ind2lab[i] for i in range(len(encoder))]

    def _collect(self, blocks, output_path=None):
        """Joins blocks ``[n]`` to ``[1, N]`` and writes them to a file, if one is given."""
        if output_path is None:
            return torch.cat(list(blocks))[None]
        output_path = as_path("output_path", output_path)
        parts = []
        with WavWriter(output_path, self.sample_rate) as writer:
            for block in blocks:
                writer.write(block)
                parts.append(block)
        return torch.cat(parts)[None]

    def _sigma(self, sigma):
        return as_number("sigma", self.sampling_sigma if sigma is None else sigma)

    def _apply(self, fn, recurse=True):
        """Called by ``to()``, ``cuda()``, ``half()``: weights may move to another device, and stay
        in fp32."""
        probe = torch.zeros(1, dtype=torch.float32, device=next(self.parameters()).device)
        try:
            probe = fn(probe)
        except Exception as error:  # devices that are missing have errors of their own
            reason = str(error).partition("\n")[0]
            raise UserError(f"the interface cannot be moved there: {reason}") from error
        if probe.dtype != torch.float32:
            raise UserError(
                f"the weights of an interface stay in fp32 and cannot become {probe.dtype}; "
                "prepare_inference('bf16'), or 'fp16' on a GPU, has it compute in half precision"
            )
        super()._apply(fn, recurse)
        self._follow(probe.device)
        return self

    def _follow(self, device):
        """Adapts to the device of the weights."""
        self.device, self.device_type = str(device), device.type
        dtype = AMPConfig.from_name(self.precision).dtype
        self.inference_ctx = TorchAutocast(device_type=device.type, dtype=dtype)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in self.CACHES}


def _check_interface(cls, name, source):
    # A subclass of the named interface loads it too.
    if name not in (known.__name__ for known in cls.__mro__):
        raise UserError(
            f"{source} is an export for {name}, not for {cls.__name__}: load it with "
            f"waveglow_vq.inference.{name}.from_hparams."
        )


def _name_in(folder, hparams_file):
    """Name of the YAML file in an export folder, of which the whole path may be given too."""
    if not isinstance(hparams_file, (str, Path)):
        kind = type(hparams_file).__name__
        raise UserError(f"hparams_file: expected the name of a file in {folder}, got {kind}")
    name = Path(hparams_file)
    if name.is_absolute():
        if name.parent.resolve() != folder.resolve():
            raise UserError(f"hparams_file: {name} is not in {folder}; give a file of the export")
        name = Path(name.name)
    return str(name)
