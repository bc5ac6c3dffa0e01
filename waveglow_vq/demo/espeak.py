"""Speech from the espeak-ng synthesizer, the same bits every time.

espeak-ng carries state from one utterance to the next: a repeated call gives other samples, but the
same sequence of calls in a fresh process gives the same ones, if the breath noise has a fixed seed.
So `synthesize` runs this file as a program in a process of its own, with only the standard library.
The synthesizer comes with espeakng-loader of the `[demo]` extra, licensed under GPL-3.0-or-later,
and is no part of this package.
"""

import array
import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE_RATE = 22050

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


def synthesize(utterances, on_utterance=None):
    """Speaks a sequence of utterances in a fresh process, each as an array of 16 bit samples (type
    code "h") at 22050 Hz.

    An utterance is a dict with "text"; "voice", such as "en-us+f3" (language + variant); "rate" in
    words per minute; "pitch" and "range" from 0 to 99 (50 is the voice's own). `on_utterance` is
    called after each, for a progress bar.
    """
    # Not at the top of the file: as a program, this file has only the standard library.
    from waveglow_vq.errors import UserError

    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "the demo corpus needs a speech synthesizer: pip install waveglow-vq[demo]"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        order = {
            "library": espeakng_loader.get_library_path(),
            "data": espeakng_loader.get_data_path(),
            "folder": folder,
            "utterances": utterances,
        }
        # -I: this file's folder and the caller's environment do not leak into the process.
        command = [sys.executable, "-I", str(Path(__file__).resolve())]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as messages:
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                encoding="utf-8",
            ) as process:
                process.stdin.write(json.dumps(order))
                process.stdin.close()
                for _ in process.stdout:
                    if on_utterance is not None:
                        on_utterance()
            if process.returncode:
                messages.seek(0)
                reason = messages.read().strip().splitlines() or ["no message"]
                raise UserError(f"speech synthesis failed: {reason[-1]}")
        speech = []
        for index in range(len(utterances)):
            samples = array.array("h")
            samples.frombytes(Path(folder, f"{index}.raw").read_bytes())
            speech.append(samples)
        return speech


def _set_voice(library, data_folder, voice):
    # espeak-ng reports an unknown language, but not an unknown variant.
    variant = voice.partition("+")[2]
    known = not variant or Path(data_folder, "voices", "!v", variant).is_file()
    if not known or library.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice!r}")


def _speak_order(order):
    library = ctypes.CDLL(order["library"])
    rate = library.espeak_Initialize(
        _AUDIO_OUTPUT_SYNCHRONOUS, 0, order["data"].encode(), _INITIALIZE_DONT_EXIT
    )
    if rate != SAMPLE_RATE:
        sys.exit(f"espeak-ng speaks at {rate} Hz instead of {SAMPLE_RATE} Hz")

    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    samples = array.array("h")

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(wav, num_samples, events):
        if wav and num_samples > 0:
            samples.frombytes(ctypes.string_at(wav, 2 * num_samples))
        return 0

    library.espeak_SetSynthCallback(collect)
    for index, utterance in enumerate(order["utterances"]):
        _set_voice(library, order["data"], utterance["voice"])
        for parameter, name in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
            library.espeak_SetParameter(parameter, utterance[name], 0)
        text = utterance["text"].encode()
        del samples[:]
        status = library.espeak_Synth(
            text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _CHARS_UTF8, None, None
        )
        if status != 0 or not samples:
            sys.exit(f"espeak-ng could not speak {utterance['text']!r} (status {status})")
        Path(order["folder"], f"{index}.raw").write_bytes(samples.tobytes())
        print(index, flush=True)


if __name__ == "__main__":
    _speak_order(json.loads(sys.stdin.buffer.read().decode("utf-8")))
