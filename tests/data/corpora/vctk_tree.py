"""Trees in the two layouts of VCTK, with noise for speech or with empty files."""

from waveglow_vq.data.corpora.vctk import LAYOUTS

import numpy as np
import soundfile

HEADERS = {
    "0.80": "ID  AGE  GENDER  ACCENTS  REGION  \n",
    "0.92": "ID  AGE  GENDER  ACCENTS  REGION COMMENTS \n",
}
RATE = 48000


def voice(seconds, rate=RATE, f0=120.0, seed=0, level=0.1):
    """Something with a pitch: harmonics of a slowly moving tone, and noise at -60 dB."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(f0 * (1 + 0.02 * np.sin(2 * np.pi * 2 * time))) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    return level * tone + level * 1e-3 * np.random.default_rng(seed).standard_normal(len(time))


def sound_path(root, layout, utterance_id, mic="mic1"):
    speaker = utterance_id.split("_")[0]
    name = f"{utterance_id}.wav" if layout == "0.80" else f"{utterance_id}_{mic}.flac"
    return root / LAYOUTS[layout] / speaker / name


def write_sound(root, layout, utterance_id, signal=None, mic="mic1", rate=RATE):
    """A recording; without a signal an empty file."""
    path = sound_path(root, layout, utterance_id, mic)
    path.parent.mkdir(parents=True, exist_ok=True)
    if signal is None:
        open(path, "wb").close()
    else:
        soundfile.write(path, signal, rate, subtype="PCM_16")
    return path


def write_text(root, utterance_id, text):
    folder = root / "txt" / utterance_id.split("_")[0]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{utterance_id}.txt", "w", encoding="utf-8") as file:
        file.write(text + "\n")


def write_info(root, layout, rows):
    """Rows as in the release: (label with p, rest of the line)."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{label if layout == '0.92' else label.removeprefix('p')}  {rest}\n"
        for label, rest in rows
    ]
    (root / "speaker-info.txt").write_text(HEADERS[layout] + "".join(lines), "utf-8")


def write_small(root, layout, clips=None, seconds=1.0):
    """Speakers with so many clips each, half of them with a higher voice; texts for all."""
    clips = clips or {"p225": 4, "p226": 4, "p227": 2}
    for number, (speaker, count) in enumerate(clips.items()):
        for index in range(1, count + 1):
            # Numbers have gaps, as in the corpus.
            utterance_id = f"{speaker}_{2 * index:03d}"
            signal = voice(seconds, f0=110.0 * (1 + number % 2), seed=index)
            write_sound(root, layout, utterance_id, signal)
            write_text(root, utterance_id, f"Text of {utterance_id}.")
    write_info(root, layout, [(label, "23  F    English    Surrey") for label in clips])
    return root


def write_full(root, layout, texts, info):
    """A tree of true size with empty recordings: every text, p315 without; in 0.92 s5 too.

    Arguments
    ---------
    texts : dict
        Utterance id -> text, of the 108 speakers of release 0.80 that have texts.
    info : str
        The content of speaker-info.txt.
    """
    ids = [*texts, *(f"p315_{number:03d}" for number in range(1, 173))]
    if layout == "0.92":
        extra = {f"s5{i[4:]}": text for i, text in texts.items() if i.startswith("p225_")}
        texts = {**texts, **extra}
        ids += extra
    for speaker in {i.split("_")[0] for i in ids}:
        (root / LAYOUTS[layout] / speaker).mkdir(parents=True)
        if speaker != "p315":
            (root / "txt" / speaker).mkdir(parents=True)
    for utterance_id in ids:
        microphones = ["mic1", "mic2"] if layout == "0.92" else [None]
        if utterance_id.startswith("p280_"):
            microphones = microphones[:1]
        for mic in microphones:
            open(sound_path(root, layout, utterance_id, mic), "wb").close()
    for utterance_id, text in texts.items():
        with open(root / "txt" / utterance_id.split("_")[0] / f"{utterance_id}.txt", "w") as file:
            file.write(text + "\n")
    (root / "speaker-info.txt").write_text(info, "utf-8")
    return root
