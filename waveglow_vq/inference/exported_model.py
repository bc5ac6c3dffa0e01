"""Base class of the interfaces to WaveGlow models: features, fast path, noise."""

from waveglow_vq.audio.blocks import read_blocks
from waveglow_vq.audio.io import audio_info_for_model, read_for_model
from waveglow_vq.errors import UserError
from waveglow_vq.inference.base import ExportedInterface, find_interface
from waveglow_vq.inference.inputs import as_generator, as_path, as_sound, as_wav_batch
from waveglow_vq.inference.loading import read_export_header
from waveglow_vq.inference.sampling_graphs import graph_sampling
from waveglow_vq.inference.streaming.noise import discard_noise
from waveglow_vq.inference.streaming.refining import (
    as_iterations,
    pitch_reader,
    refined,
    stream_refined,
)
from waveglow_vq.inference.streaming.waveform import is_long
from waveglow_vq.utils.devices import warn_of_slow_half
from waveglow_vq.utils.masking import relative_lengths
from waveglow_vq.utils.validation import require_choice

import torch

# Precisions of the fast path.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ExportedModel(ExportedInterface):
    """Base class of the interfaces to exported WaveGlow models.

    ``modules`` are ``model`` (:class:`~waveglow_vq.lobes.model.WaveGlowVQ`) and ``features``
    (:class:`~waveglow_vq.audio.features.LogMel`); ``hparams`` may name the ``interface`` that the
    export is for, ``sampling_sigma``, ``refine`` and ``speakers``.
    """

    MODULES_NEEDED = ["model", "features"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # What the fast path computes with, and by; see prepare_inference.
        self._cuda_graphs = "auto"
        self._dtype = "fp32" if self._why_not(self.precision) else self.precision
        # An export that asks for what its model cannot do.
        if self.iterations(None):
            pitch_reader(self.mods.model, self.mods.features)

    @property
    def sample_rate(self):
        """Rate of the waveforms in Hz."""
        return self.mods.features.sample_rate

    @property
    def min_samples(self):
        """The least length of a waveform in samples: what the log-mel's reflection needs."""
        return self.mods.features.margin + 1

    def prepare_inference(self, dtype="fp32", compile=False, cuda_graphs="auto"):
        """Chooses the precision of the coupling networks and folds their weights for the fast path
        (see :mod:`~waveglow_vq.lobes.flows.inference_cache`). Otherwise that happens before the
        first waveform is drawn, in the precision that the model was loaded with, and again whenever
        the weights have changed.

        Arguments
        ---------
        dtype : str
            ``fp32``, ``bf16`` or ``fp16``. What the flows compute beside their networks, and the
            envelope's filter, stays at fp32 at least.
        compile : bool
            On a CPU, whether the flows go through ``torch.compile``, for streams and log-mels of
            few different lengths: each new length is compiled again, which takes minutes for large
            models. On a GPU, the same as ``cuda_graphs=True``.
        cuda_graphs : str or bool
            On a GPU, whether the flows are replayed from CUDA graphs, for lengths that are rounded
            up (see :mod:`~waveglow_vq.inference.sampling_graphs`), which takes the CPU out of the
            way. ``auto``, as without this call: from the second time of a length on; True: from the
            first on; False: never.

        Returns
        -------
        ExportedModel
            Itself.

        Raises
        ------
        UserError
            If there is no such precision, or not on this device, or graphs where is no GPU.
        """
        if dtype not in DTYPES:
            raise UserError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
        if why := self._why_not(dtype):
            raise UserError(f"dtype: {why}")
        warn_of_slow_half(f"dtype {dtype}", dtype, self.device_type)
        require_choice("cuda_graphs", cuda_graphs, ("auto", True, False))
        if cuda_graphs is True and self.device_type != "cuda":
            raise UserError(f"cuda_graphs: True needs a GPU, not {self.device}; give auto or False")
        flows = self.mods.model.vocoder
        flows.__dict__.pop("inverse_flows", None)
        self._dtype, self._cuda_graphs = dtype, cuda_graphs
        if compile and self.device_type == "cuda":
            self._cuda_graphs = True
        elif compile:
            flows.inverse_flows = torch.compile(flows.inverse_flows)
        return self._prepare()

    def _why_not(self, dtype):
        """Why the fast path cannot compute in a precision here; None if it can."""
        if dtype == "fp32" or (dtype, self.device_type) == ("bf16", "cpu"):
            return None
        if self.device_type not in ("cpu", "cuda"):
            return f"on {self.device}, models compute in fp32; use fp32"
        if self.device_type == "cpu":
            return f"fp16 needs a GPU, not {self.device}; use bf16 or fp32"
        if dtype == "bf16" and not torch.cuda.is_bf16_supported():
            return f"{self.device} does not compute in bf16; use fp16 or fp32"
        return None

    def _follow(self, device):
        super()._follow(device)
        self._dtype = "fp32" if self._why_not(self._dtype) else self._dtype

    def _prepare(self):
        """Itself, with the fast path prepared."""
        if not self.mods.model.training:
            self.mods.model.prepare_inference(DTYPES[self._dtype])
            if self._cuda_graphs and self.device_type == "cuda":
                graph_sampling(self.mods.model.vocoder, after=0 if self._cuda_graphs is True else 1)
        return self

    def load_audio(self, path, savedir=None):
        """Reads an audio file at any rate, mono or not, at the model's rate.

        Arguments
        ---------
        path : str, Path or binary file
            The audio file, or one in memory such as ``io.BytesIO``.
        savedir : str
            Not used: files are local.

        Returns
        -------
        torch.Tensor
            Samples at the model's rate, float32 ``[N]``.

        Raises
        ------
        UserError
            If the file is missing, damaged, too short, or holds NaN.
        """
        wav = read_for_model(as_sound(path), self.sample_rate, self.min_samples)
        return wav.to(self.device)

    def stream_file(self, path, sigma=None, generator=None):
        """Analyzes an audio file of any length and synthesizes it again, block by block;
        overridden."""
        raise NotImplementedError

    def reconstruct_file(self, path, output_path=None, sigma=None, generator=None, **options):
        """Analyzes an audio file of any length and synthesizes it again, in memory for the result
        and some seconds.

        Arguments
        ---------
        path : str or Path
            The audio file, at any rate, mono or not.
        output_path : str or Path
            Where to write the result (16-bit, at the model's rate); None: nowhere. An error leaves
            nothing half-written there.
        sigma, generator, **options
            As for ``stream_file``.

        Returns
        -------
        torch.Tensor
            ``[1, N]`` at the model's rate, as long as the recording.
        """
        blocks = self.stream_file(path, sigma=sigma, generator=generator, **options)
        return self._collect(blocks, output_path)

    def _read_blocks(self, path):
        """Blocks ``[n]`` of an audio file on the model's device, and their samples together."""
        path = as_sound(path)
        _, samples = audio_info_for_model(path, self.sample_rate, self.min_samples)
        blocks = read_blocks(path, self.sample_rate, self.min_samples)
        return (block.to(self.device) for block in blocks), samples

    def _wav_batch(self, wavs, wav_lens=None):
        """Waveforms ``[B, N]`` with zeros where padded, and the samples of each, ``[B]``."""
        return as_wav_batch(wavs, wav_lens, self.min_samples, self.device)

    def iterations(self, refine):
        """Number of mel-consistent iterations that a call asks for, None for the export's; a
        UserError if it is none, or the model knows no log-mel."""
        return as_iterations(self.mods.model, self.refine if refine is None else refine)

    def _sample(self, condition, counts, sigma, generator, refine, after_flows=None):
        """Draws waveforms ``[B, 1, N]`` from a condition, ``counts`` frames of each item."""
        iterations = self.iterations(refine)
        lengths = relative_lengths(counts, condition.local.shape[-1])
        waveforms = self._prepare().mods.model.sample(
            condition,
            lengths,
            sigma=self._sigma(sigma),
            generator=as_generator(generator),
            after_flows=after_flows,
        )
        model, features = self.mods.model, self.mods.features
        return refined(waveforms, condition, model, features, iterations, lengths)[:, None]

    def _stream(self, conditions, sigma, generator, refine, **options):
        """Waveform blocks ``[B, n]`` from Conditions; the options are those of
        :func:`~waveglow_vq.inference.streaming.waveform.stream_waveform`."""
        return stream_refined(
            self._prepare().mods.model,
            self.mods.features,
            conditions,
            self.iterations(refine),
            sigma=self._sigma(sigma),
            generator=as_generator(generator),
            context=self.inference_ctx,
            **options,
        )

    def _is_long(self, frames):
        """Whether items of so many frames are streamed, so that memory stays bounded."""
        return is_long(self.mods.model.vocoder, frames)

    def _stream_items(self, stream, counts, total, generator):
        """Draws the items of a batch one by one, each as it would be drawn alone, into
        ``[B, 1, max(counts)]``, zero where padded.

        ``stream(item, generator)`` yields the waveform of item number ``item`` in blocks, of
        ``counts[item]`` samples together. Noise is drawn for ``total`` samples of each item: what a
        batch drawn at once takes from a ``torch.Generator``.
        """
        generator = as_generator(generator)
        shape = len(counts), 1, max(counts)
        waveforms = torch.zeros(shape, device=self.device, dtype=torch.float32)
        for item, count in enumerate(counts):
            done = 0
            for block in stream(item, generator):
                block = block[..., : count - done]
                waveforms[item, 0, done : done + block.shape[-1]] = block
                done += block.shape[-1]
            discard_noise(generator, total - count, self.device)
        return waveforms


def load_export(source, **kwargs):
    """Loads an export folder with the interface that it names.

    Arguments
    ---------
    source : str or Path
        The export folder.
    **kwargs : dict
        As for ``from_hparams`` of the interface.

    Returns
    -------
    ExportedInterface
        A ``WaveGlowVocoder``, a ``SpeechCodec``, ...
    """
    interface = read_export_header(as_path("source", source))["interface"]
    return find_interface(interface).from_hparams(source, **kwargs)
