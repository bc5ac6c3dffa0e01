"""What the commands share: which file becomes which, progress, the last line.

Authors
 * The waveglow-vq developers, 2026
"""

import contextlib
import errno
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.headers.kinds import how_to_convert
from waveglow_vq.errors import UserError, report_error, say
from waveglow_vq.utils import files
from waveglow_vq.utils.files import count_kinds, walk_files

# Values in a list that nobody wants to count.
MANY = 5
# What no other file would be spared either.
_OF_ALL_FILES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
# What each interface is for.
_COMMANDS_FOR = {
    "WaveGlowVocoder": "vocode",
    "SpeechCodec": "encode and decode",
    "VoiceConverter": "convert, and encode and decode where the model has codes",
    "TextToSpeech": "speak",
}


class Plan(NamedTuple):
    """What is to be done.

    Arguments
    ---------
    pairs : list of tuple
        Input file and output file, Paths.
    folder : Path
        Where the outputs go; None if the input is a single file.
    left_out : str
        What else a folder holds, in words.
    """

    pairs: list
    folder: Path
    left_out: str = ""


def plan_files(source, output, suffixes, new_suffix, force=False):
    """Which files become which, and whether that may be; before anything is computed.

    Arguments
    ---------
    source : str or Path
        A file, or a folder whose files are taken at any depth.
    output : str or Path
        For a file, the file to write, or a folder that exists, where it gets the input's name. For
        a folder, the folder to write to, which gets the same tree.
    suffixes : tuple of str
        The files of a folder that are taken, whatever the links on the way; what is left out is
        told. A file that is named may be of any kind.
    new_suffix : str
        Of the outputs.
    force : bool
        Whether outputs may exist.

    Returns
    -------
    Plan

    Raises
    ------
    UserError
        If there is nothing to do, an output exists, or two files would get one name.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "in" / "more").mkdir(parents=True)
    >>> (folder / "in" / "more" / "a.flac").touch()
    >>> plan = plan_files(folder / "in", folder / "out", (".wav", ".flac"), ".wav")
    >>> [(str(a.relative_to(folder)), str(b.relative_to(folder))) for a, b in plan.pairs]
    [('in/more/a.flac', 'out/more/a.wav')]
    """
    source, output = Path(source), Path(output)
    if not os.path.exists(source):  # where Path.exists fails for names that are too long
        raise UserError(f"INPUT: {source} does not exist")
    if source.is_dir():
        plan = _plan_folder(source, output, suffixes, new_suffix)
    else:
        if output.is_dir():
            output = output / source.with_suffix(new_suffix).name
        if output.suffix.lower() != new_suffix:
            raise UserError(f"OUTPUT: the name of a {new_suffix} file is wanted, not {output}")
        if source.suffix.lower() not in suffixes and (hint := _hint([source], suffixes)):
            raise UserError(f"INPUT: {source} is of a kind that is not read{hint}")
        if os.path.exists(output) and output.samefile(source):
            raise UserError(f"OUTPUT: {output} is the input itself; choose another name")
        plan = Plan([(source, output)], None)
    check_outputs([output for _, output in plan.pairs], force)
    return plan


def check_outputs(paths, force, option="OUTPUT"):
    """Nothing is overwritten that was not asked for.

    Example
    -------
    >>> check_outputs(["/"], force=False)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: OUTPUT: / exists; choose another name, or replace it with --force
    """
    taken = [str(path) for path in paths if os.path.exists(path) and not _is_empty_folder(path)]
    if taken and not force:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        be, them = ("exist", "them") if more else ("exists", "it")
        raise UserError(
            f"{option}: {taken[0]}{more} {be}; choose another name, or replace {them} with --force"
        )


def _is_empty_folder(path):
    return Path(path).is_dir() and not any(Path(path).iterdir())


@contextlib.contextmanager
def written_whole(path, option="OUTPUT"):
    """As :func:`waveglow_vq.utils.files.written_whole`, with a UserError if it cannot be
    written."""
    try:
        with files.written_whole(path) as part:
            yield part
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror}") from error


def _plan_folder(source, output, suffixes, new_suffix):
    files = walk_files(source)
    taken = [file for file in files if file.suffix.lower() in suffixes]
    left_out = [file for file in files if file.suffix.lower() not in suffixes]
    hint = _hint(left_out, suffixes)
    if not taken:
        kind = "sound files" if ".wav" in suffixes else f"{suffixes[0]} files"
        there = f", only {count_kinds(left_out)}{hint}" if left_out else ""
        raise UserError(f"INPUT: {source} holds no {kind}{there}")
    if output.exists() and not output.is_dir():
        raise UserError(f"OUTPUT: {output} is a file, but {source} is a folder; name a folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"OUTPUT: {output} is inside of {source}; choose another folder")
    pairs, names = [], {}
    for file in taken:
        name = file.relative_to(source).with_suffix(new_suffix)
        if name in names:
            raise UserError(
                f"{names[name]} and {file} would both be written to {output / name}; rename one of "
                "them, or move it elsewhere"
            )
        names[name] = file
        pairs.append((file, output / name))
    return Plan(pairs, output, count_kinds(left_out) + hint)


def _hint(paths, suffixes):
    """How sound of other kinds can be brought to one that is wanted."""
    return how_to_convert(paths) if ".wav" in suffixes else ""


def load_model(options, command, interfaces):
    """Loads the model of a command, as fast as it gets.

    Arguments
    ---------
    options : argparse.Namespace
        ``model``, ``device``, ``threads`` and, of commands that draw waveforms, ``dtype``.
    command : str
        Its name, for the error.
    interfaces : tuple of str
        Those that it can use.

    Returns
    -------
    ExportedInterface

    Raises
    ------
    UserError
        If it is no export, one for another command, or the device is not there.
    """
    from waveglow_vq.inference.exported_model import load_export
    from waveglow_vq.inference.loading import read_export_header

    import torch

    if options.threads is not None:
        if options.threads < 1:
            raise UserError(f"--threads: {options.threads}; at least 1 is needed")
        torch.set_num_threads(options.threads)
    if Path(options.model).is_file():
        raise UserError(
            f"MODEL: {options.model} is a file, and an export folder is wanted; of a published "
            "checkpoint, 'waveglow-vq import-checkpoint' makes one"
        )
    interface = read_export_header(options.model)["interface"]
    if interface in _COMMANDS_FOR and interface not in interfaces:
        raise UserError(
            f"MODEL: {options.model} is an export for {interface}, not for {command}; use "
            f"waveglow-vq {_COMMANDS_FOR[interface]}"
        )
    check_device(options.device)
    run_opts = {"device": options.device} if options.device else None
    model = load_export(options.model, run_opts=run_opts)
    if hasattr(options, "dtype"):
        model.prepare_inference(options.dtype)
    return model


def check_device(device):
    """A UserError where ``--device`` names none that is there."""
    from waveglow_vq.utils.devices import checked_device

    checked_device(device, "--device")


def print_report(report, as_json=False):
    """Prints a dict of plain values: a line each for people, or as JSON for machines.

    Example
    -------
    >>> print_report({"sample_rate": 22050, "pitch": None, "features": {"n_mels": 80, "hop": 256}})
    sample rate  22050
    features     n_mels 80, hop 256
    >>> print_report({"sample_rate": 22050, "pitch": None}, as_json=True)
    {"sample_rate": 22050, "pitch": null}
    """
    if as_json:
        print(json.dumps(report))
        return
    lines = {
        name.replace("_", " "): _in_words(value)
        for name, value in report.items()
        if value is not None
    }
    width = max(map(len, lines), default=0)
    for name, words in lines.items():
        print(f"{name:<{width}}  {words}")


def _in_words(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        count = f"{len(value)}: " if len(value) > MANY else ""
        return count + ", ".join(map(str, value)) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def sound_seconds(path):
    """Seconds of a sound file, from its header."""
    from waveglow_vq.audio.sound_files import audio_info

    info = audio_info(path)
    return info.num_samples / info.sample_rate


def write_blocks(path, blocks, sample_rate, advance):
    """Writes a waveform that comes in blocks ``[n]`` as a WAV file, whole or not at all.

    Arguments
    ---------
    path : str or Path
        Where to.
    blocks : iterable of torch.Tensor
        Samples; computed while they are written.
    sample_rate : int
        In Hz.
    advance : callable
        Told the seconds of each block.
    """
    from waveglow_vq.audio.blocks import WavWriter

    with WavWriter(path, sample_rate) as writer:
        for block in blocks:
            writer.write(block)
            advance(block.shape[-1] / sample_rate)


def process(plan, work, total_seconds, what=""):
    """Goes through the files, shows how far it is, and says at the end how long it took.

    Arguments
    ---------
    plan : Plan
        From :func:`plan_files`.
    work : callable
        ``work(input, output, advance)`` makes one output; it calls ``advance(seconds)`` for each
        piece of sound that is done. What it writes is to be whole or not there.
    total_seconds : callable
        ``total_seconds(input)``, the seconds of sound of a file; None where nobody knows before.
    what : str or callable
        For the last line: what was done; or what tells it, given the seconds of sound.

    Returns
    -------
    int
        The exit status: 1 if files of a folder could not be processed; the others were.

    Raises
    ------
    UserError
        If the only file cannot be processed, an option is wrong, or nothing can be written. Any
        other exception is the matter of its file, and the others are processed.
    """
    from tqdm import tqdm

    seconds, done, failed, begin = 0.0, 0, [], time.perf_counter()
    alone = plan.folder is None
    total, shown = len(plan.pairs), None
    if alone and total_seconds is None:
        total, shown = None, "{n:.0f} s [{elapsed}]"
    elif alone:
        total = total_seconds(plan.pairs[0][0])
        shown = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
    bar = tqdm(
        total=total,
        unit="file",
        bar_format=shown,
        disable=None,  # where nobody looks
        delay=1,
    )

    def advance(more):
        nonlocal seconds
        seconds += more
        if alone:
            # Not beyond the end by rounding.
            bar.update(more if bar.total is None else min(more, bar.total - bar.n))

    with bar:
        for source, output in plan.pairs:
            try:
                work(source, output, advance)
            except UserError as error:
                named = any(str(file) in str(error) for file in (source, output))
                # A sentence that names neither file is about an option, and holds for all files;
                # unless it did not hold for another.
                if alone or not (named or done):
                    raise
                failed.append(error if named else f"{source}: {error}")
            except OSError as error:
                sentence = f"{error.filename or output}: {error.strerror or error}"
                if alone or error.errno in _OF_ALL_FILES:
                    raise UserError(sentence) from error
                failed.append(sentence)
            except Exception as error:
                if alone:
                    raise
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                failed.append(f"{source}: {why} (a defect; given alone, it is traced)")
            else:
                done += 1
            if not alone:
                bar.update()
    elapsed = time.perf_counter() - begin
    if done:
        files = f"{done} file{'s' if done > 1 else ''}"
        where = plan.pairs[0][1] if alone else f"{plan.folder}: {files}"
        said = what(seconds) if callable(what) else what
        print(
            f"{where}: {seconds:.2f} s{' ' if said else ''}{said}, computed in {elapsed:.2f} s "
            f"(real-time factor {elapsed / max(seconds, 1e-9):.3f})"
        )
    if plan.left_out:
        say(f"left out: {plan.left_out}")
    for error in failed:
        report_error(error)
    if failed:
        say(f"{len(failed)} of {len(plan.pairs)} files could not be processed")
    return 1 if failed else 0
