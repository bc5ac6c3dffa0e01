"""Copies of recordings: mono, 16 bit, at the model's rate, with the pitch beside them.

Training draws segments at random, so resampling and pitch tracking are done once and kept:

    <audio_folder>/<speaker>/<utterance id>.wav
    <audio_folder>/<speaker>/<utterance id>.pitch.npy     float32 [1 + samples // hop]: ln(F0 / Hz),
                                                          0 where unvoiced
    <audio_folder>/prepared.jsonl                         one line for each finished utterance

A line of the journal is written when both files are complete under their final names, so a run that
is killed at any moment loses only what was in work, and the next one goes on from there.
"""

import contextlib
import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.io import WavWriter, read_wav_and_rate
from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.audio.resampling import resample
from waveglow_vq.data.corpora.filters import Sound, loudest_window_dbfs
from waveglow_vq.data.corpora.levels import frame_energies, gain_to, high_pass
from waveglow_vq.data.corpora.missing_band import fill_band
from waveglow_vq.data.corpora.splits import hash_fraction
from waveglow_vq.data.manifests import PITCH_SUFFIX
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import atomic_write, user_path
from waveglow_vq.utils.journal import Journal, json_digest
from waveglow_vq.utils.validation import require_integer, require_number
from waveglow_vq.utils.workers import run_tasks, worker_count

import numpy as np
import torch
from tqdm import tqdm

logger = logging.getLogger(__name__)

JOURNAL = "prepared.jsonl"
TRIM_THRESHOLD_DB = -35.0
_TRIM_MARGIN_SECONDS = 0.1
_TRIM_HIGH_PASS_HZ = 120.0
_FULL_SCALE = 32767 / 32768  # the largest 16-bit sample
_VERSION = 1  # of the prepared files; those of another version are made again


class Preprocessing(NamedTuple):
    """How recordings are prepared.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    trim_silence : bool
        Whether silence before and after the speech is cut off.
    trim_threshold_db : float
        What is quieter than the loudest 20 ms by this much is silence; negative.
    hop_length : int
        Samples between frames of the pitch: that of the log-mel features.
    highpass_hz : float or None
        What lies below is removed, with zero phase: nothing changes from here on, and nothing is
        left an octave below. None: nothing is removed.
    loudness_dbfs : float, list of float, or None
        RMS level of the speech that every recording is brought to, by one factor; of two numbers,
        a level between them, which a hash of the recording's id chooses. A recording never clips
        (it ends at full scale, and is then quieter than asked for) and is raised by 20 dB at most.
        The filters judge it as it was before. None: levels stay.
    fill_band_db : float or None
        Slope in dB per octave, not positive, of the noise that fills the band above a recording's
        own (see waveglow_vq/data/corpora/missing_band.py). None: the band stays empty.
    """

    sample_rate: int = 22050
    trim_silence: bool = True
    trim_threshold_db: float = TRIM_THRESHOLD_DB
    hop_length: int = 256
    highpass_hz: float | None = None
    loudness_dbfs: float | list | None = None
    fill_band_db: float | None = None

    def stated(self):
        """The options, as reports and keys state them: without those that came later, where all of
        these are off, so that audio prepared before them is still up to date."""
        later = ("highpass_hz", "loudness_dbfs", "fill_band_db")
        is_used = any(getattr(self, name) is not None for name in later)
        return {k: v for k, v in self._asdict().items() if is_used or k not in later}

    def checked(self):
        """The options; a UserError if one cannot be used."""
        require_number("sample_rate", self.sample_rate, above=0)
        require_number("trim_threshold_db", self.trim_threshold_db, below=0)
        if self.highpass_hz is not None:
            require_number("highpass_hz", self.highpass_hz, above=0, below=self.sample_rate / 4)
        if self.fill_band_db is not None:
            require_number("fill_band_db", self.fill_band_db, most=0)
        levels = self.loudness_dbfs
        if levels is not None and not isinstance(levels, list | tuple):
            levels = [levels, levels]
        for level in levels or ():
            require_number("loudness_dbfs", level, most=0)
        if levels is not None and (len(levels) != 2 or levels[0] > levels[1]):
            raise UserError(
                f"loudness_dbfs: {self.loudness_dbfs!r}; it must be a number, or two, the lower"
                " first"
            )
        return self


class PreparedAudio(NamedTuple):
    """What is known of a prepared utterance."""

    sound: Sound  # length, and peak and loudness before any change of level, for the filters
    voiced_frames: int
    log_f0_mean: float  # over the voiced frames; 0 if there are none
    log_f0_std: float


def prepare_audio(utterances, audio_folder, preprocessing=None, num_workers=None):
    """Prepares the recordings that are missing or were prepared from other files or options.

    Arguments
    ---------
    utterances : list of Recording
        See `waveglow_vq.data.corpora.speaker_folders`.
    audio_folder : str or Path
        Where the prepared files go; made if missing.
    preprocessing : Preprocessing or None
        None for the defaults.
    num_workers : int or None
        Processes; None for the number of processors, at most 16. With 1 there is no second
        process.

    Returns
    -------
    prepared : dict
        Utterance id -> PreparedAudio.
    keys : dict
        Utterance id -> str, different when the source file or the preprocessing is.

    Raises
    ------
    waveglow_vq.errors.UserError
        If an audio file is missing or unusable; the sentence names it.
    """
    preprocessing = (preprocessing or Preprocessing()).checked()
    if num_workers is not None:
        require_integer("num_workers", num_workers, 1)
    audio_folder = user_path(audio_folder)
    keys = {u.id: _key_of(u, preprocessing) for u in utterances}
    journal = Journal(audio_folder / JOURNAL)
    prepared = {}
    for utterance in utterances:
        known = _find_prepared(journal, utterance.id, keys[utterance.id])
        if known and _files_are_whole(
            audio_folder, utterance, known.sound.num_samples, preprocessing.hop_length
        ):
            prepared[utterance.id] = known
    pending = [u for u in utterances if u.id not in prepared]
    if not pending:
        logger.info("%s: all %d utterances are prepared", audio_folder, len(utterances))
        return prepared, keys
    for speaker in sorted({u.speaker for u in pending}):
        (audio_folder / speaker).mkdir(parents=True, exist_ok=True)
    tasks = [(u, str(audio_folder), preprocessing) for u in pending]
    # Processes, not threads: the search for the best pitch path is a loop in Python.
    results = run_tasks(_prepare_task, tasks, worker_count(num_workers), "prepares audio")
    # Closed at once when anything goes wrong here: the processes would work on through the rest.
    with (
        journal,
        tqdm(desc="preparing audio", total=len(pending), unit="clip") as progress,
        contextlib.closing(results),
    ):
        for utterance, result in zip(pending, results, strict=True):
            _note_prepared(journal, utterance.id, keys[utterance.id], result)
            prepared[utterance.id] = result
            progress.update()
    return prepared, keys


def prepare_utterance(utterance, audio_folder, preprocessing):
    """Reads a recording and writes its prepared copy and its pitch.

    Channels are averaged, the mean (a DC offset) is removed, the rate is changed, what lies below
    `highpass_hz` is removed, silence at the ends is cut off, the missing band is filled, the level
    is changed. What then exceeds full scale is scaled down to it. The folder of the speaker has to
    exist.
    """
    wav, recorded_rate = read_wav_and_rate(utterance.path, mono="mix")
    rate, threshold = preprocessing.sample_rate, preprocessing.trim_threshold_db
    wav = resample(wav - wav.mean(), recorded_rate, rate)
    if preprocessing.highpass_hz is not None:
        wav = high_pass(wav.double(), rate, preprocessing.highpass_hz).float()
    if preprocessing.trim_silence:
        start, end = speech_bounds(wav, rate, threshold)
        wav = wav[start:end]
    if preprocessing.fill_band_db is not None:
        wav = fill_band(wav, rate, preprocessing.fill_band_db, recorded_rate, utterance.id)
    gain = 1.0
    if preprocessing.loudness_dbfs is not None:
        draw = hash_fraction(utterance.id, 0, "loudness")
        gain = gain_to(preprocessing.loudness_dbfs, wav, rate, threshold, draw)
    most = _FULL_SCALE / max(float(wav.abs().max()), 1e-9)
    level_before = min(1.0, most)
    recorded, wav = (wav * level_before).numpy(), wav * min(gain, most)
    track = track_f0(wav, rate, preprocessing.hop_length)
    log_f0 = torch.where(track.voiced, track.f0.clamp_min(1.0).log(), torch.zeros(())).numpy()
    wav_file, pitch_file = prepared_files(audio_folder, utterance)
    with WavWriter(wav_file, rate) as writer:
        writer.write(wav)
    # An open file: numpy would give the name another ending.
    with atomic_write(pitch_file) as part, open(part, "wb") as file:
        np.save(file, log_f0.astype(np.float32))
    voiced = log_f0[log_f0 > 0].astype(np.float64)
    return PreparedAudio(
        Sound(len(recorded), float(np.abs(recorded).max()), loudest_window_dbfs(recorded)),
        len(voiced),
        float(voiced.mean()) if len(voiced) else 0.0,
        float(voiced.std()) if len(voiced) else 0.0,
    )


def prepared_files(audio_folder, utterance):
    """Where the prepared audio and the pitch of a recording are."""
    folder = Path(audio_folder) / utterance.speaker
    return folder / f"{utterance.id}.wav", folder / f"{utterance.id}{PITCH_SUFFIX}"


def speech_bounds(wav, sample_rate, threshold_db=TRIM_THRESHOLD_DB):
    """Finds where the speech of `wav` [N] begins and ends: the samples from `start` to before
    `end`, with 0.1 s of what is around it. Frames of 20 ms that are quieter than the loudest one by
    the (negative) threshold are silence; of a signal that is silent throughout, all is kept.

    Frames are compared above 120 Hz: in VCTK rumble lies at -20 to -45 dB, hardly below weak
    consonants, and without it the noise is quieter by 12 dB.

    Example
    -------
    >>> wav = torch.zeros(60_000)
    >>> wav[20_000:40_000] = torch.sin(torch.arange(20_000) * 0.2)
    >>> speech_bounds(wav, 20_000)
    (17600, 42000)
    """
    heard = high_pass(wav.double(), sample_rate, _TRIM_HIGH_PASS_HZ)
    energy, frame = frame_energies(heard, sample_rate)
    loud = torch.nonzero(energy > energy.max() * 10 ** (threshold_db / 10)).flatten()
    if not len(loud):
        return 0, len(wav)
    margin = round(_TRIM_MARGIN_SECONDS * sample_rate)
    start = max(0, int(loud[0]) * frame - margin)
    return start, min(len(wav), (int(loud[-1]) + 1) * frame + margin)


def _find_prepared(journal, utterance_id, key):
    """What the journal knows of an utterance; None if that is nothing, or of another key."""
    try:
        known_key, samples, peak, loudness, *pitch = journal.entries[utterance_id]
        sound = Sound(int(samples), peak, -math.inf if loudness is None else loudness)
        return PreparedAudio(sound, *pitch) if known_key == key else None
    except (KeyError, ValueError, TypeError):
        return None


def _note_prepared(journal, utterance_id, key, prepared):
    sound = prepared.sound
    loudness = sound.loudness_dbfs if math.isfinite(sound.loudness_dbfs) else None
    journal.add(utterance_id, key, sound.num_samples, sound.peak, loudness, *prepared[1:])


def _prepare_task(task):
    return prepare_utterance(*task)


def _key_of(utterance, preprocessing):
    try:
        status = os.stat(utterance.path)
    except OSError as error:
        raise UserError(f"{utterance.path} cannot be read: {error.strerror}") from error
    identity = [
        utterance.speaker,
        utterance.source,
        status.st_size,
        status.st_mtime_ns,
        _VERSION,
        *preprocessing.stated().values(),
    ]
    return json_digest(identity)[:24]


def _files_are_whole(audio_folder, utterance, num_samples, hop_length):
    wav_file, pitch_file = prepared_files(audio_folder, utterance)
    frames = 1 + num_samples // hop_length
    try:
        # At least the bytes of the content: both formats have a header before it.
        return (
            os.stat(wav_file).st_size > 2 * num_samples and os.stat(pitch_file).st_size > 4 * frames
        )
    except OSError:
        return False
