"""Every source utterance converted to every target, and judged.

Authors
 * The waveglow-vq developers, 2026
"""

import copy
import math
from pathlib import Path

from waveglow_vq.audio.io import write_wav
from waveglow_vq.evaluation.judges import centroid, cosine, error_rates
from waveglow_vq.evaluation.metrics import mel_cepstral_distortion
from waveglow_vq.evaluation.utterances import by_speaker, choose, log_f0_of, read_source
from waveglow_vq.inference.conversion.whole_utterances import (
    convert_utterances,
    track_log_f0,
    utterance_pitch,
)

import torch
from tqdm import tqdm

# Speakers nearer than this in pitch: what is moved of nearly nothing says nothing.
MIN_SEMITONES = 2.0
# Recordings that stand for a voice.
REFERENCE_CLIPS = 10
# A conversion with fewer voiced frames than this has no pitch.
MIN_VOICED_FRAMES = 5


def conversion_matrix(
    model,
    features,
    sources,
    targets,
    labels,
    train,
    recordings,
    mode="codes",
    sigma=1.0,
    speaker_judge=None,
    word_judge=None,
    word_targets=3,
    batch_size=8,
    seed=0,
    samples_folder=None,
    samples=3,
    progress=False,
):
    """Converts every source utterance to every target other than its own speaker.

    Arguments
    ---------
    model : WaveGlowVQ
        A model with speakers, in evaluation mode.
    features : LogMel
        Its features.
    sources : list of Utterance
        What is converted.
    targets : list of str
        Labels of speakers that the model knows.
    labels : list of str
        All of those, in the model's numbering.
    train, recordings : list of Utterance
        What stands for the voices of the targets, and of the speakers of the sources.
    mode, sigma
        See :func:`~waveglow_vq.inference.conversion.whole_utterances.convert_utterances`.
    speaker_judge, word_judge : SpeakerScorer, ASRScorer
        Or None.
    word_targets : int
        To how many targets' conversions of each source the word judge listens; all where None.
    batch_size : int
        Conversions that are computed together.
    seed : int
        Of the noise, and of what is drawn.
    samples_folder : str or Path
        Where the recording, the reconstruction and some conversions of a few sources are written.
    samples : int
        Of how many sources.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    conversions : list of dict
        For each ``utterance`` and ``target``: ``speaker``, ``seen``; ``to_target`` and
        ``to_source``, cosines to the voices, and ``before``, that of the recording to the
        target; ``f0_moved`` (see :func:`f0_moved`); ``mcd``, DTW-MCD in dB to the source's own
        reconstruction; ``errors``, ErrorCounts. What was not judged is None.
    originals : list of dict
        For each source ``utterance``: ``speaker``, ``seen``; the cosines ``recording_to_source``
        and ``reconstruction_to_source``; ``reconstruction_mcd``; the ErrorCounts
        ``recording_errors`` and ``reconstruction_errors``.
    """
    features_here = copy.deepcopy(features).cpu()
    voices = _Voices(speaker_judge, features_here, train, recordings, seed)
    heard = choose(sources, samples, f"{seed} samples") if samples_folder else []
    conversions, originals = [], []
    bar = tqdm(sources, desc="converting", unit="utterance", disable=not progress)
    for source in bar:
        wav = read_source(source, features_here)
        others = [target for target in targets if target != source.speaker]
        converted, reconstruction = _convert_all(
            model, features, wav, source, others, labels, mode, sigma, seed, batch_size
        )
        listened = set()
        if word_judge is not None and source.text:
            listened = set(choose(others, word_targets, f"{seed} {source.name}"))
        original = {"utterance": source.name, "speaker": source.speaker, "seen": source.seen}
        recorded = voices.embed(wav)
        for name, signal in (("recording", wav), ("reconstruction", reconstruction)):
            original[f"{name}_to_source"] = voices.to_source(voices.embed(signal), source)
            original[f"{name}_errors"] = None
            if word_judge is not None and source.text:
                errors = word_judge.errors(source.text, signal, features.sample_rate)
                original[f"{name}_errors"] = errors
        original["reconstruction_mcd"] = _mcd(wav, reconstruction, features_here)
        originals.append(original)
        own_f0 = _median(_voiced(wav, features_here))
        for target, signal in zip(others, converted, strict=True):
            moved = f0_moved(
                own_f0, voices.median_log_f0(target), _median(_voiced(signal, features_here))
            )
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
                    "mcd": _mcd(reconstruction, signal, features_here),
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
def _convert_all(model, features, wav, source, targets, labels, mode, sigma, seed, batch_size):
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
        own = torch.tensor([labels.index(source.speaker)], device=device)
        own = model.speakers(own), model.speakers.f0_statistics(own)
    elif model.speakers.source == "encoder":
        own = model.speakers(reference=features(wav)), own_statistics
    else:
        own = model.speakers(torch.tensor([-1], device=device)), own_statistics

    def convert(vectors, statistics):
        batch = len(vectors)
        return convert_utterances(
            model,
            features,
            wav.expand(batch, -1),
            None,
            vectors,
            statistics,
            mode,
            own[0].expand(batch, -1),
            own[1].expand(batch, -1),
            sigma,
            seed,
            None if pitch is None else pitch.expand(batch, -1, -1),
        ).cpu()

    parts = [
        convert(model.speakers(some), model.speakers.f0_statistics(some))
        for some in ids.split(batch_size)
        if len(some)
    ]
    return (list(torch.cat(parts)) if parts else []), convert(*own)[0]


class _Voices:
    """What the speaker judge and the pitch tracker say of speakers, computed once for each."""

    def __init__(self, judge, features, train, recordings, seed):
        self.judge = judge
        self.features = features
        self.train = by_speaker(train)
        self.recordings = by_speaker(recordings)
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

    0: not at all; 1: all the way.

    Arguments
    ---------
    source, target, conversion : float
        Median log-F0; None for what is not voiced.

    Returns
    -------
    float
        None where source and target are less than 2 semitones apart; 0 for a conversion that
        is not voiced.

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


def summarize(conversions, originals):
    """Means over the conversions: all, of speakers trained on, and of others.

    Arguments
    ---------
    conversions, originals : list of dict
        From :func:`conversion_matrix`.

    Returns
    -------
    dict
        ``all``, ``seen`` and ``unseen``: each a dictionary of figures; a group without
        conversions is left out, and so is what was not judged.
    """
    groups = {"all": (True, False), "seen": (True,), "unseen": (False,)}
    summary = {}
    for name, kinds in groups.items():
        chosen = [row for row in conversions if row["seen"] in kinds]
        if chosen:
            summary[name] = _summary(chosen, [row for row in originals if row["seen"] in kinds])
    return summary


def _summary(conversions, originals):
    pairs = {}
    for row in conversions:
        pairs.setdefault((row["speaker"], row["target"]), []).append(row)
    result = {
        "conversions": len(conversions),
        "utterances": len(originals),
        "speaker_pairs": len(pairs),
        "mcd_to_reconstruction_db": _mean(conversions, "mcd"),
        "reconstruction_mcd_db": _mean(originals, "reconstruction_mcd"),
    }
    if conversions[0]["to_target"] is not None:
        nearer = [row["to_target"] > row["to_source"] for row in conversions]
        pairs_nearer = [
            _mean(rows, "to_target") > _mean(rows, "to_source") for rows in pairs.values()
        ]
        result["similarity"] = {
            "to_target": _mean(conversions, "to_target"),
            "to_source": _mean(conversions, "to_source"),
            "share_nearer_to_target": sum(nearer) / len(nearer),
            "share_of_pairs_nearer_to_target": sum(pairs_nearer) / len(pairs_nearer),
            "recording_to_target": _mean(conversions, "before"),
            "recording_to_source": _mean(originals, "recording_to_source"),
            "reconstruction_to_source": _mean(originals, "reconstruction_to_source"),
        }
    moved = torch.tensor([r["f0_moved"] for r in conversions if r["f0_moved"] is not None])
    if len(moved):
        low, median, high = moved.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        result["f0_moved"] = {
            "median": median,
            "quartiles": [low, high],
            "conversions": len(moved),
            "min_semitones": MIN_SEMITONES,
        }
    words = {
        "recordings": error_rates(_counts(originals, "recording_errors")),
        "reconstructions": error_rates(_counts(originals, "reconstruction_errors")),
        "conversions": error_rates(_counts(conversions, "errors")),
    }
    if all(words.values()):
        result["words"] = words
    return result


def similarity_by_pair(conversions, key="to_target"):
    """Mean cosine for each source speaker and target.

    Arguments
    ---------
    conversions : list of dict
        From :func:`conversion_matrix`, judged by a speaker judge.
    key : str
        ``to_target`` or ``to_source``.

    Returns
    -------
    dict
        ``sources`` (speakers trained on first), ``unseen`` (those that were not), ``targets``, and
        ``values``, rows of sources and columns of targets; None where both are one.
    """
    seen = {row["speaker"]: row["seen"] for row in conversions}
    sources = sorted(seen, key=lambda speaker: (not seen[speaker], speaker))
    targets = sorted({row["target"] for row in conversions})
    cells = {}
    for row in conversions:
        cells.setdefault((row["speaker"], row["target"]), []).append(row)
    return {
        "sources": sources,
        "unseen": [speaker for speaker in sources if not seen[speaker]],
        "targets": targets,
        "values": [
            [_mean(cells[s, t], key) if (s, t) in cells else None for t in targets] for s in sources
        ],
    }


def _counts(rows, key):
    return [row[key] for row in rows if row[key] is not None]


def _mean(rows, key):
    values = _counts(rows, key)
    return sum(values) / len(values) if values else None


def _voiced(wav, features):
    log_f0 = track_log_f0(wav, features.sample_rate, features.hop_length)
    return log_f0[log_f0 > 0]


def _median(log_f0):
    return float(log_f0.median()) if len(log_f0) >= MIN_VOICED_FRAMES else None


def _mcd(reference, estimate, features):
    return mel_cepstral_distortion(reference, estimate, features)
