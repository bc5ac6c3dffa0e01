"""A small speech corpus, generated here: no download, the same bits each time.

    waveglow-vq demo-corpus demo_data --utterances 64

writes `demo_data/metadata.csv` (id|text|normalized text) and `demo_data/wavs/DM001-0001.wav`, ...
(22050 Hz, mono, 16 bit), as LJSpeech has it. DM001 is the first synthetic speaker; with
`--speakers 2` there is also DM002, and so on. With `--layout vctk` the same clips lie as in VCTK
0.80: `wav48/DM001/DM001_001.wav`, `txt/DM001/DM001_001.txt` and `speaker-info.txt`. All speakers
say the same sentences, under the same numbers, so that a converted clip can be compared with the
target's own. The corpus shows that everything works; only recordings show how good a model is.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.demo.espeak import SAMPLE_RATE, synthesize
from waveglow_vq.demo.sentences import MAX_TEXTS, demo_texts
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import file_checksum

import numpy as np
import soundfile
from tqdm import tqdm

RECORD = "demo_corpus.json"
VERSION = 1  # of this generator; a corpus of another version is generated again

LAYOUTS = ("ljspeech", "vctk")

_OUR_FILES = re.compile(
    r"metadata\.csv|wavs/DM\d{3}-\d{4}\.wav|speaker-info\.txt"
    r"|wav48/(DM\d{3})/\1_\d{3,4}\.wav|txt/(DM\d{3})/\2_\d{3,4}\.txt"
)
# A folder with one of these, but without our record, holds another corpus.
_OF_A_CORPUS = ("metadata.csv", "wav48", "speaker-info.txt")
_LEVEL_DBFS = -22.0  # RMS of a clip, about that of LJSpeech
_PEAK_LIMIT = 0.95
_NOISE_DBFS = -60.0  # RMS of the room: no recording has digital silence
_FADE_SECONDS = 0.01
_PAUSE_SECONDS = 0.1  # of room noise before and after the speech


class DemoSpeaker(NamedTuple):
    """A synthetic speaker: espeak-ng voice, words per minute, pitch and its range (0 to 99), and
    gender and accent for VCTK's list of speakers."""

    voice: str
    rate: int
    pitch: int
    range: int
    gender: str
    accent: str


# The first few differ most: the first four by at least 3 semitones in median pitch (212, 95, 254
# and 76 Hz).
DEMO_SPEAKERS = (
    DemoSpeaker("en-us+f3", 160, 50, 55, "F", "American"),
    DemoSpeaker("en-us+m3", 155, 40, 50, "M", "American"),
    DemoSpeaker("en-us+f2", 175, 75, 60, "F", "American"),
    DemoSpeaker("en-us+m5", 150, 20, 40, "M", "American"),
    DemoSpeaker("en-us+linda", 150, 50, 50, "F", "American"),
    DemoSpeaker("en-gb-scotland+m7", 160, 30, 45, "M", "Scottish"),
    DemoSpeaker("en-gb-x-rp+f5", 170, 60, 60, "F", "English"),
    DemoSpeaker("en-gb-x-rp+m1", 165, 60, 60, "M", "English"),
)


def speaker_name(speaker):
    """The name of a speaker by index from 0.

    Example
    -------
    >>> speaker_name(0)
    'DM001'
    """
    return f"DM{speaker + 1:03d}"


def speak_demo_texts(speaker, utterances, on_utterance=None):
    """Speaks the first demo texts with the voice of one of `DEMO_SPEAKERS`, as 16 bit integers at
    22050 Hz. Clips do not depend on the number of texts. `on_utterance` is called after each, for a
    progress bar.
    """
    identity = DEMO_SPEAKERS[speaker]
    requests = []
    for index, (text, normalized) in enumerate(demo_texts(utterances)):
        # Tempo and pitch vary a little, in a fixed pattern.
        requests.append(
            {
                "text": normalized or text,
                "voice": identity.voice,
                "rate": identity.rate + (7 * index) % 19 - 9,
                "pitch": identity.pitch + (5 * index) % 11 - 5,
                "range": identity.range,
            }
        )
    speech = synthesize(requests, on_utterance)
    return [
        _record(np.frombuffer(samples, dtype=np.int16), seed=(VERSION, speaker, index))
        for index, samples in enumerate(speech)
    ]


def _record(speech, seed):
    """Gives synthetic speech the level, the edges and the background of a recording."""
    signal = speech.astype(np.float64) / 32768.0
    fade = np.linspace(0.0, 1.0, round(_FADE_SECONDS * SAMPLE_RATE))
    signal[: len(fade)] *= fade
    signal[-len(fade) :] *= fade[::-1]
    gain = 10.0 ** (_LEVEL_DBFS / 20) / np.sqrt(np.mean(signal**2))
    signal *= min(gain, _PEAK_LIMIT / np.abs(signal).max())
    signal = np.pad(signal, round(_PAUSE_SECONDS * SAMPLE_RATE))
    noise = np.random.default_rng(seed).standard_normal(len(signal))
    signal += 10.0 ** (_NOISE_DBFS / 20) * noise
    return np.round(signal * 32767.0).clip(-32768, 32767).astype(np.int16)


def generate_demo_corpus(output_folder, utterances=64, speakers=1, layout="ljspeech"):
    """Generates the corpus, unless the folder holds it already.

    `layout` is "ljspeech" or "vctk" (0.80, but at 22050 Hz); there are at most `MAX_TEXTS`
    utterances per speaker and `len(DEMO_SPEAKERS)` speakers. The record is `demo_corpus.json`.

    Example
    -------
    >>> generate_demo_corpus("demo_data", utterances=0)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --utterances is 0; it must be from 1 to 9999
    """
    for option, value, most in (
        ("--utterances", utterances, MAX_TEXTS),
        ("--speakers", speakers, len(DEMO_SPEAKERS)),
    ):
        if not 1 <= value <= most:
            raise UserError(f"{option} is {value}; it must be from 1 to {most}")
    if layout not in LAYOUTS:
        raise UserError(f"--layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
    output_folder = Path(output_folder)
    record_file = output_folder / RECORD
    request = {
        "version": VERSION,
        "layout": layout,
        "utterances": utterances,
        "voices": [identity.voice for identity in DEMO_SPEAKERS[:speakers]],
    }
    record = _read_record(output_folder)
    if record.get("request") == request and _is_intact(output_folder, record):
        return output_folder

    try:
        output_folder.mkdir(parents=True, exist_ok=True)
        # Marks the folder as ours before anything else; complete only at the end.
        old_files = record.get("files", {})
        record_file.write_text(json.dumps({"files": old_files}), "utf-8")
        files = _write_corpus(output_folder, utterances, speakers, layout)
        for stale in set(old_files) - set(files):
            (output_folder / stale).unlink(missing_ok=True)
        _remove_empty_folders(output_folder, old_files)
        record = {"request": request, "files": files}
        record_file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{output_folder}: the demo corpus cannot be written: {error}") from error
    return output_folder


def _write_corpus(output_folder, utterances, speakers, layout):
    """Writes clips and texts; returns their names and checksums."""
    files = {}
    with tqdm(total=speakers * utterances, desc="demo corpus", unit="clip") as progress:
        for speaker in range(speakers):
            clips = speak_demo_texts(speaker, utterances, progress.update)
            for index, clip in enumerate(clips):
                file = output_folder / _clip_name(speaker, index, layout)
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(file, clip, SAMPLE_RATE, subtype="PCM_16")
                files[file.relative_to(output_folder).as_posix()] = file_checksum(file)
    for name, text in _text_files(utterances, speakers, layout).items():
        file = output_folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8"))
        files[name] = file_checksum(file)
    return files


def _clip_name(speaker, index, layout):
    name = speaker_name(speaker)
    if layout == "vctk":
        return f"wav48/{name}/{name}_{index + 1:03d}.wav"
    return f"wavs/{name}-{index + 1:04d}.wav"


def _text_files(utterances, speakers, layout):
    """Names and contents of the text files."""
    texts = [(text, normalized or text) for text, normalized in demo_texts(utterances)]
    if layout == "ljspeech":
        rows = [
            f"{Path(_clip_name(speaker, index, layout)).stem}|{text}|{spoken}\n"
            for speaker in range(speakers)
            for index, (text, spoken) in enumerate(texts)
        ]
        return {"metadata.csv": "".join(rows)}
    files = {
        f"txt/{speaker_name(speaker)}/{speaker_name(speaker)}_{index + 1:03d}.txt": f"{spoken}\n"
        for speaker in range(speakers)
        for index, (_, spoken) in enumerate(texts)
    }
    # Two spaces between the fields, as in VCTK. Synthetic voices have no age and no region.
    rows = ["ID  AGE  GENDER  ACCENTS  REGION\n"]
    for speaker, identity in enumerate(DEMO_SPEAKERS[:speakers]):
        rows.append(f"{speaker_name(speaker)}  0  {identity.gender}  {identity.accent}\n")
    return {**files, "speaker-info.txt": "".join(rows)}


def _remove_empty_folders(output_folder, old_files):
    """Removes folders of another layout, or of speakers that are no longer asked for."""
    folders = {parent for name in old_files for parent in Path(name).parents if parent.name}
    for folder in sorted(folders, reverse=True):  # the inner ones first
        folder = output_folder / folder
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _read_record(output_folder):
    record_file = output_folder / RECORD
    if not record_file.exists():
        for name in _OF_A_CORPUS:
            if (output_folder / name).exists():
                raise UserError(
                    f"{output_folder} holds another corpus (it has {name} and no {RECORD});"
                    " choose another folder"
                )
        return {}
    try:
        record = json.loads(record_file.read_text("utf-8"))
        # Files in the record may be replaced, but only those that this module writes.
        ours = all(_OUR_FILES.fullmatch(name) for name in record["files"])
        return record if ours else {}
    except (ValueError, KeyError, TypeError):
        return {}  # damaged: generate again


def _is_intact(output_folder, record):
    return all(
        (output_folder / name).is_file() and file_checksum(output_folder / name) == checksum
        for name, checksum in record["files"].items()
    )
