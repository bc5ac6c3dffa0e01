"""Converts every source utterance to every target, and judges the conversions."""

import copy
import math
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.io import write_wav
from waveglow_vq.audio.pitch import track_log_f0
from waveglow_vq.evaluation.baselines import without_model
from waveglow_vq.evaluation.judges import centroid, cosine
from waveglow_vq.evaluation.metrics import mel_cepstral_distortion
from waveglow_vq.evaluation.utterances import by_speaker, choose, log_f0_of, read_source
from waveglow_vq.inference.conversion.voices import (
    Voice,
    known_voice,
    unknown_voice,
    utterance_pitch,
)
from waveglow_vq.inference.conversion.whole_utterances import convert_utterances
from waveglow_vq.lobes.source.pitch_reader import is_readable

import torch
from tqdm import tqdm

# Speakers nearer than this in pitch: what is moved of nearly nothing says nothing.
MIN_SEMITONES = 2.0
# Recordings that stand for a voice.
REFERENCE_CLIPS = 10
# A conversion with fewer voiced frames than this has no pitch.
MIN_VOICED_FRAMES = 5


class Recordings(NamedTuple):
    """What is converted to whom, and what stands for the voices."""

    sources: list  # RecordedUtterances
    targets: list  # labels of speakers that the model knows
    train: list  # RecordedUtterances that stand for the voices of the targets
    all: list  # and for those of the speakers of the sources


class Judges(NamedTuple):
    """A SpeakerScorer, an ASRScorer and the judge of content of
    :data:`~waveglow_vq.evaluation.sound_quality.JUDGES`, each None where it is not to judge."""

    speaker: object = None
    words: object = None
    content: object = None


def conversion_matrix(
    model, features, labels, recordings, options, judges, samples_folder=None, progress=False
):
    """Converts every source utterance of ``recordings`` to every target other than its own speaker.

    The model is in evaluation mode and ``labels`` are its speakers. Of the options, ``mode``,
    ``sigma``, ``refine``, ``word_targets``, ``samples``, ``batch_size`` and ``seed`` are used. The
    recording, the reconstruction and some conversions of a few sources are written to
    ``samples_folder``.

    Returns
    -------
    conversions : list of dict
        For each ``utterance`` and ``target``: ``speaker``, ``seen``; ``to_target`` and
        ``to_source``, cosines to the voices, and ``before``, that of the recording to the
        target; ``f0_moved`` (see :func:`f0_moved`); ``voiced`` and ``source_voiced``, shares of
        voiced frames of conversion and recording; ``mcd`` and ``mcd_to_recording``, DTW-MCD in dB
        to the source's own reconstruction and to its recording; ``content``, the distance of
        content to the recording; ``errors``, ErrorCounts. What was not judged is None.
    originals : list of dict
        For each source ``utterance``: ``speaker``, ``seen``; the cosines ``recording_to_source``
        and ``reconstruction_to_source``; ``reconstruction_mcd`` and ``reconstruction_content``;
        ``recording_voiced`` and ``reconstruction_voiced``; the ErrorCounts ``recording_errors`` and
        ``reconstruction_errors``; the same three of ``no_model``, what the recording's log-mel
        gives without a model.
    """
    features_here = copy.deepcopy(features).cpu()
    voices = _Voices(judges.speaker, features_here, recordings, options.seed)
    word_judge, word_targets, seed = judges.words, options.word_targets, options.seed
    sources = recordings.sources
    heard = choose(sources, options.samples, f"{seed} samples") if samples_folder else []
    conversions, originals = [], []
    for source in tqdm(sources, desc="converting", unit="utterance", disable=not progress):
        wav = read_source(source, features_here)
        others = [target for target in recordings.targets if target != source.speaker]
        converted, reconstruction = _convert_all(
            model, features, wav, source, others, labels, options
        )
        listened = set()
        if word_judge is not None and source.text:
            listened = set(choose(others, word_targets, f"{seed} {source.name}"))
        original = {"utterance": source.name, "speaker": source.speaker, "seen": source.seen}
        recorded, tracks = voices.embed(wav), {}
        for name, signal in (("recording", wav), ("reconstruction", reconstruction)):
            tracks[name] = _track(signal, features_here)
            original[f"{name}_voiced"] = _voiced(tracks[name])
            original[f"{name}_to_source"] = voices.to_source(voices.embed(signal), source)
        unmodelled = without_model(wav, features_here, pulses=is_readable(features_here))
        signals = {"recording": wav, "no_model": unmodelled, "reconstruction": reconstruction}
        for name, signal in signals.items():
            original[f"{name}_errors"] = None
            if word_judge is not None and source.text:
                errors = word_judge.errors(source.text, signal, features.sample_rate)
                original[f"{name}_errors"] = errors
            if name != "recording":
                original[f"{name}_mcd"] = _mcd(wav, signal, features_here)
                original[f"{name}_content"] = _content(judges, wav, signal, features)
        originals.append(original)
        own_f0 = _median(tracks["recording"])
        for target, signal in zip(others, converted, strict=True):
            track = _track(signal, features_here)
            moved = f0_moved(own_f0, voices.median_log_f0(target), _median(track))
            voice, errors = voices.embed(signal), None
            if target in listened:
                errors = word_judge.errors(source.text, signal, features.sample_rate)
            conversions.append(
                {
                    "utterance": source.name,
                    "speaker": source.speaker,
                    "target": target,
                    "seen": source.seen,
                    "to_target": voices.to_target(voice, target),
                    "to_source": voices.to_source(voice, source),
                    "before": voices.to_target(recorded, target),
                    "f0_moved": moved,
                    "voiced": _voiced(track),
                    "source_voiced": original["recording_voiced"],
                    "mcd": _mcd(reconstruction, signal, features_here),
                    "mcd_to_recording": _mcd(wav, signal, features_here),
                    "content": _content(judges, wav, signal, features),
                    "errors": errors,
                }
            )
        if source in heard:
            folder = Path(samples_folder) / source.name
            shown = choose(others, word_targets, f"{seed} {source.name}")
            written = {f"to_{t}": s for t, s in zip(others, converted, strict=True) if t in shown}
            written |= {"recording": wav, "reconstruction": reconstruction}
            for name, signal in written.items():
                write_wav(folder / f"{name}.wav", signal, features.sample_rate)
    return conversions, originals


@torch.no_grad()
def _convert_all(model, features, wav, source, targets, labels, options):
    """Conversions of ``wav`` to the targets, and its reconstruction by its own speaker."""
    device = next(model.parameters()).device
    wav = wav.to(device)[None]
    counts = torch.tensor([wav.shape[1]])
    # Tracked once for all targets.
    pitch, own_statistics = None, None
    if model.uses_pitch or not source.seen:
        pitch, own_statistics = utterance_pitch(model, features, wav, counts)
    ids = torch.tensor([labels.index(target) for target in targets], device=device).long()
    if source.seen:
        own = known_voice(model, torch.tensor([labels.index(source.speaker)], device=device))
    elif model.speakers.hears_references:
        own = Voice(model.speakers(reference=features(wav)), own_statistics)
    else:
        own = unknown_voice(model)._replace(f0_statistics=own_statistics)

    def convert(target):
        batch = len(target.vector)
        return convert_utterances(
            model,
            features,
            wav.expand(batch, -1),
            None,
            target,
            options.mode,
            own.expand(batch),
            options.sigma,
            options.seed,
            None if pitch is None else pitch.expand(batch, -1, -1),
            options.refine,
        ).cpu()

    parts = [
        convert(known_voice(model, some)) for some in ids.split(options.batch_size) if len(some)
    ]
    return (list(torch.cat(parts)) if parts else []), convert(own)[0]


class _Voices:
    """Embeddings and median pitch of speakers, computed once for each."""

    def __init__(self, judge, features, recordings, seed):
        self.judge = judge
        self.features = features
        self.train = by_speaker(recordings.train)
        self.recordings = by_speaker(recordings.all)
        self.seed = seed
        self.embeddings = {}
        self.centroids = {}
        self.medians = {}

    def embed(self, wav):
        """The voice of a waveform, or None without a judge."""
        return None if self.judge is None else self.judge.embed(wav, self.features.sample_rate)

    def to_target(self, voice, target):
        """Cosine to the voice of a target: of its training clips."""
        return self._cosine(voice, target, self.train[target])

    def to_source(self, voice, source):
        """Cosine to the voice of a source: of its recordings other than this one, if there are
        any."""
        clips = [u for u in self.recordings[source.speaker] if u.name != source.name]
        return self._cosine(voice, source.speaker, clips or [source])

    def median_log_f0(self, target):
        """Median log-F0 of a target's training clips."""
        if target not in self.medians:
            tracks = [log_f0_of(clip, self.features) for clip in self.train[target]]
            self.medians[target] = _median(torch.cat(tracks))
        return self.medians[target]

    def _cosine(self, voice, speaker, clips):
        if voice is None:
            return None
        clips = choose(clips, REFERENCE_CLIPS, f"{self.seed} {speaker}")
        key = tuple(clip.name for clip in clips)
        if key not in self.centroids:
            self.centroids[key] = centroid(self._embedding(clip) for clip in clips)
        return cosine(voice, self.centroids[key])

    def _embedding(self, clip):
        if clip.name not in self.embeddings:
            self.embeddings[clip.name] = self.embed(read_source(clip, self.features))
        return self.embeddings[clip.name]


def f0_moved(source, target, conversion):
    """How far a conversion's pitch has moved from the source's to the target's.

        (median log F0 of the conversion - of the source) / (of the target - of the source)

    0: not at all; 1: all the way. The medians are None for what is not voiced. The result is None
    where source and target are less than 2 semitones apart, and 0 for a conversion without voice.

    Example
    -------
    >>> round(f0_moved(math.log(100), math.log(200), math.log(190)), 2)
    0.93
    >>> f0_moved(math.log(100), math.log(105), math.log(105)) is None
    True
    """
    if source is None or target is None:
        return None
    if abs(target - source) < MIN_SEMITONES * math.log(2) / 12:
        return None
    return 0.0 if conversion is None else (conversion - source) / (target - source)


def _track(wav, features):
    return track_log_f0(wav, features.sample_rate, features.hop_length)


def _voiced(log_f0):
    return float((log_f0 > 0).double().mean())


def _median(log_f0):
    log_f0 = log_f0[log_f0 > 0]
    return float(log_f0.median()) if len(log_f0) >= MIN_VOICED_FRAMES else None


def _content(judges, reference, estimate, features):
    if judges.content is None:
        return None
    distance = judges.content.score(reference, estimate, features.sample_rate)["content_distance"]
    return None if math.isnan(distance) else distance


def _mcd(reference, estimate, features):
    return mel_cepstral_distortion(reference, estimate, features)
