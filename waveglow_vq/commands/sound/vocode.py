"""Generate speech from log-mels, or from the log-mels of audio files."""

from waveglow_vq.audio.formats import sound_suffixes
from waveglow_vq.commands.arguments import (
    compute_arguments,
    file_arguments,
    overlap_argument,
    sampling_arguments,
)
from waveglow_vq.commands.common import load_model
from waveglow_vq.commands.file_plan import plan_files
from waveglow_vq.commands.file_processing import process, sound_seconds, write_blocks

EXAMPLES = """\
  waveglow-vq vocode EXPORT_FOLDER mel.npy speech.wav
  waveglow-vq vocode EXPORT_FOLDER recordings/ resynthesized/ --sigma 0.8 --dtype bf16

A log-mel is an array [80, frames] or [1, 80, frames]: natural logarithm of slaney-mel magnitudes,
as SpeechBrain's Tacotron2 and FastSpeech2 give it; .npy of numpy.save, .npz with one array, or
.pt or .pth of torch.save.
"""
LOG_MEL_SUFFIXES = (".npy", ".npz", ".pt", ".pth")


def add_arguments(parser):
    """Adds the arguments of the command."""
    file_arguments(parser, "log-mel (.npy, .pt), audio file, or a folder of them", "WAV or folder")
    sampling_arguments(parser)
    parser.add_argument(
        "--denoise", type=float, default=0.0, metavar="STRENGTH",
        help="subtract the model's own noise, 0.01 to 0.1 (default: 0, none)",
    )  # fmt: skip
    overlap_argument(parser)
    compute_arguments(parser)


def run(options):
    """Vocodes; returns the exit status."""
    from waveglow_vq.inference.log_mels import read_log_mel, refuse_other_kinds, warn_of_other_kinds

    suffixes = sound_suffixes() + LOG_MEL_SUFFIXES
    plan = plan_files(options.input, options.output, suffixes, ".wav", options.force)
    vocoder = load_model(options, "vocode", ("WaveGlowVocoder",))
    n_mels, rate = vocoder.mods.features.n_mels, vocoder.sample_rate
    sampling = {
        "sigma": options.sigma,
        "generator": options.seed,
        "denoise": options.denoise,
        "overlap_frames": options.overlap_frames,
        "refine": options.refine,
    }

    def seconds(source):
        if source.suffix.lower() in LOG_MEL_SUFFIXES:
            return read_log_mel(source, n_mels).shape[-1] * vocoder.hop_length / rate
        return sound_seconds(source)

    def work(source, output, advance):
        if source.suffix.lower() in LOG_MEL_SUFFIXES:
            mel = read_log_mel(source, n_mels)
            refuse_other_kinds(str(source), mel, vocoder.mods.features)
            warn_of_other_kinds(str(source), mel, vocoder.mods.features)
            blocks = vocoder.stream([mel], **sampling, chunk_frames=None)
        else:
            blocks = vocoder.stream_file(source, **sampling)
        write_blocks(output, blocks, rate, advance)

    return process(plan, work, seconds)
