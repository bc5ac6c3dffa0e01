"""Going through the files of a plan: progress, errors, the last line."""

import errno
import time

from waveglow_vq.errors import UserError, report_error, say

# Errors that every other file would meet too.
_OF_ALL_FILES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


def sound_seconds(path):
    """Seconds of an audio file, from its header."""
    from waveglow_vq.audio.sound_files import audio_info

    info = audio_info(path)
    return info.num_samples / info.sample_rate


def write_blocks(path, blocks, sample_rate, advance):
    """Writes blocks ``[n]`` of a waveform, computed meanwhile, to a WAV file, whole or not at all.
    ``advance`` is told the seconds of each block.
    """
    from waveglow_vq.audio.io import WavWriter

    with WavWriter(path, sample_rate) as writer:
        for block in blocks:
            writer.write(block)
            advance(block.shape[-1] / sample_rate)


def process(plan, work, total_seconds, what=""):
    """Processes the files of a plan with a progress bar; prints the time it took. Returns the exit
    status: 1 if files of a folder could not be processed; the others were.

    ``work(input, output, advance)`` makes one output; it calls ``advance(seconds)`` for each piece
    of sound that is done. What it writes is to be whole or not there. ``total_seconds(input)`` is
    the sound of a file, None where nobody knows before. ``what`` is, for the last line, what was
    done; or what tells it, given the seconds of sound.

    A UserError ends it if the only file cannot be processed, an option is wrong, or nothing can be
    written. Any other exception is the matter of its file, and the others are processed.
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
                failed.append(f"{source}: {why} (a bug; process this file alone for a traceback)")
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
