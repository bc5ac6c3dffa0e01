"""Make speech from log-mels, or from sound files by way of their log-mels.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.commands.arguments import (
    compute_arguments,
    file_arguments,
    overlap_argument,
    sampling_arguments,
)
from waveglow_vq.commands.common import (
    load_model,
    plan_files,
    process,
    sound_seconds,
    write_blocks,
)
from waveglow_vq.data.sound_kinds import sound_suffixes
from waveglow_vq.errors import UserError
from waveglow_vq.files import user_path

EXAMPLES = """\
  waveglow-vq vocode EXPORT_FOLDER mel.npy speech.wav
  waveglow-vq vocode EXPORT_FOLDER recordings/ resynthesised/ --sigma 0.8 --dtype bf16

A log-mel is an array [80, frames] or [1, 80, frames]: natural logarithm of slaney-mel magnitudes,
as SpeechBrain's Tacotron2 and FastSpeech2 give it; .npy of numpy.save or .pt of torch.save.
"""
LOG_MEL_SUFFIXES = (".npy", ".pt")


def add_arguments(parser):
    """Adds what the command takes to its parser."""
    file_arguments(parser, "log-mel (.npy, .pt), sound file, or a folder of them", "WAV or folder")
    sampling_arguments(parser)
    parser.add_argument(
        "--denoise", type=float, default=0.0, metavar="STRENGTH",
        help="subtract the model's own noise, 0.01 to 0.1 (default: 0, none)",
    )  # fmt: skip
    overlap_argument(parser)
    compute_arguments(parser)


def run(options):
    """Vocodes; returns the exit status."""
    suffixes = sound_suffixes() + LOG_MEL_SUFFIXES
    plan = plan_files(options.input, options.output, suffixes, ".wav", options.force)
    vocoder = load_model(options, "vocode", ("WaveGlowVocoder",))
    n_mels, rate = vocoder.mods.features.n_mels, vocoder.sample_rate
    sampling = {
        "sigma": options.sigma,
        "generator": options.seed,
        "denoise": options.denoise,
        "overlap_frames": options.overlap_frames,
    }

    def seconds(source):
        if source.suffix.lower() in LOG_MEL_SUFFIXES:
            return read_log_mel(source, n_mels).shape[-1] * vocoder.hop_length / rate
        return sound_seconds(source)

    def work(source, output, advance):
        if source.suffix.lower() in LOG_MEL_SUFFIXES:
            mel = read_log_mel(source, n_mels)
            blocks = vocoder.stream([mel], **sampling, chunk_frames=None)
        else:
            blocks = vocoder.stream_file(source, **sampling)
        write_blocks(output, blocks, rate, advance)

    return process(plan, work, seconds)


def read_log_mel(path, n_mels=80):
    """Reads a log-mel, without executing anything that the file may hold.

    Arguments
    ---------
    path : str or Path
        ``.npy`` as ``numpy.save`` writes it, or ``.pt`` as ``torch.save`` does.
    n_mels : int
        Bands of the model.

    Returns
    -------
    torch.Tensor
        float32 ``[n_mels, T]``.

    Raises
    ------
    UserError
        If the file is missing, damaged, holds something else, another shape, NaN or infinity.

    Example
    -------
    >>> import tempfile
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "mel.npy"
    >>> np.save(path, np.zeros((1, 80, 12)))
    >>> read_log_mel(path).shape
    torch.Size([80, 12])
    """
    import numpy as np
    import torch

    path = user_path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    try:
        if path.suffix.lower() == ".npy":
            mel = np.load(path, allow_pickle=False)
            mel = torch.as_tensor(mel) if isinstance(mel, np.ndarray) else mel
        else:
            mel = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # numpy and torch raise half a dozen kinds for damaged files
        raise UserError(
            f"{path} cannot be read as a log-mel: it is damaged, or holds more than an array of "
            "numbers, and other objects are not loaded"
        ) from error
    if not torch.is_tensor(mel):
        raise UserError(f"{path} holds a {type(mel).__name__}, where a log-mel array is wanted")
    shape = list(mel.shape)
    if not mel.is_floating_point():
        raise UserError(f"{path}: a log-mel has floating-point numbers, not {mel.dtype}")
    if mel.dim() == 3 and len(mel) == 1:
        mel = mel[0]
    if mel.dim() != 2 or len(mel) != n_mels or not mel.shape[1]:
        transposed = mel.dim() == 2 and mel.shape[1] == n_mels
        hint = "; it seems to be transposed" if transposed else ""
        raise UserError(f"{path}: a log-mel [{n_mels}, frames] is wanted, not {shape}{hint}")
    mel = mel.float()
    if not bool(mel.isfinite().all()):
        raise UserError(f"{path}: the log-mel holds NaN or infinity")
    return mel
