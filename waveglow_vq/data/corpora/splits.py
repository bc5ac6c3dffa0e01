"""Splits of a corpus of many speakers, and the manifests of such a corpus.

Every speaker of valid and test is in train too, except the speakers that are held out altogether,
whose utterances make a split of their own, "unseen".
"""

import logging
import math
from collections import Counter
from typing import NamedTuple

from waveglow_vq.data.corpora.preparation import hash_fraction
from waveglow_vq.data.corpora.speaker_folders import normalize_sentence
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_condition import MIN_LOG_F0_STD

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
UNSEEN = "unseen"
# For a corpus in which nothing is voiced: between the voices of men and women.
_NEUTRAL_LOG_F0 = (math.log(150.0), 0.2)


class Division(NamedTuple):
    """What `divide` returns.

    Arguments
    ---------
    parts : dict
        "train", "valid", "test" and "unseen" -> list of utterances, sorted by id.
    dropped : dict
        Reason -> sorted ids of the utterances that are in none of them.
    """

    parts: dict
    dropped: dict


def divide(utterances, split_ratio=(90, 5, 5), seed=0, unseen_speakers=0, disjoint_sentences=False):
    """Divides utterances into train, valid, test and unseen.

    Within every speaker, utterances are ranked by a hash of their id; the first `floor(n * share)`
    go to test, as many to valid, the rest to train.

    With `disjoint_sentences` the hash of the sentence decides instead, so that no sentence (case
    and punctuation aside) is in two of the splits; utterances without text go to train. Two kinds
    of utterances are then left out: those of a speaker who has nothing in train
    ("no_training_clip"), and those of unseen speakers whose sentence is in train
    ("sentence_in_train").

    Should valid or test stay empty, because every speaker has few utterances, it gets one from the
    speaker with the most, or the clips of one sentence.

    Arguments
    ---------
    utterances : list of Utterance
        All ids different.
    split_ratio : sequence of float
        Shares of train, valid and test, of any sum.
    seed : int
        Another seed, another division.
    unseen_speakers : int or list of str
        How many speakers (chosen by a hash of the label) or which are held out.
    disjoint_sentences : bool
        Whether no sentence may be in two splits.

    Returns
    -------
    Division

    Raises
    ------
    waveglow_vq.errors.UserError
        If the shares are no shares, a speaker to hold out is not there, or no utterance is left
        to train on.
    """
    if len(split_ratio) != 3 or min(split_ratio) < 0 or split_ratio[0] <= 0:
        raise UserError(
            f"split_ratio is {list(split_ratio)}, but has to give the shares of train, valid and"
            " test, none negative, and train more than 0"
        )
    held_out = choose_unseen({u.speaker for u in utterances}, unseen_speakers, seed)
    seen = sorted((u for u in utterances if u.speaker not in held_out), key=lambda u: u.id)
    unseen = sorted((u for u in utterances if u.speaker in held_out), key=lambda u: u.id)
    dropped = {}
    if disjoint_sentences:
        units, where = _by_sentence(seen, split_ratio, seed)
    else:
        units, where = _by_speaker(seen, split_ratio, seed)
    _fill_empty_splits(units, where, split_ratio, seed)
    parts = {name: [] for name in SPLITS}
    for unit, members in units.items():
        parts[where[unit]] += members

    if disjoint_sentences:
        trained = {u.speaker for u in parts["train"]}
        lost = [u.id for name in SPLITS for u in parts[name] if u.speaker not in trained]
        dropped["no_training_clip"] = sorted(lost)
        sentences = {normalize_sentence(u.text) for u in parts["train"]} - {""}
        known = [u.id for u in unseen if normalize_sentence(u.text) in sentences]
        dropped["sentence_in_train"] = known
        for name in SPLITS:
            parts[name] = [u for u in parts[name] if u.speaker in trained]
        unseen = [u for u in unseen if u.id not in set(known)]
    parts = {name: sorted(members, key=lambda u: u.id) for name, members in parts.items()}
    if not parts["train"]:
        raise UserError(
            f"no utterance is left to train on: {len(utterances)} were found, {len(unseen)} of them"
            " of unseen speakers"
        )
    return Division({**parts, UNSEEN: unseen}, dropped)


def choose_unseen(labels, unseen_speakers, seed=0):
    """Chooses the speakers to hold out.

    Arguments
    ---------
    labels : iterable of str
        All speakers.
    unseen_speakers : int or list of str
        How many, or which.
    seed : int
        Another seed, other speakers. With the same one, more speakers include the fewer.

    Returns
    -------
    set of str

    Raises
    ------
    waveglow_vq.errors.UserError
        If one of them is not there, or no other would be left.

    Example
    -------
    >>> choose_unseen(["p225", "p226"], ["p226"])
    {'p226'}
    """
    labels = set(labels)
    if isinstance(unseen_speakers, int):
        if not 0 <= unseen_speakers < max(1, len(labels)):
            raise UserError(
                f"unseen_speakers is {unseen_speakers}, but there are {len(labels)} speakers, of"
                " which at least one has to be trained on"
            )
        ranked = sorted(labels, key=lambda label: hash_fraction(label, seed, "unseen"))
        return set(ranked[:unseen_speakers])
    chosen = select_speakers(labels, unseen_speakers, "unseen_speakers")
    if chosen == labels:
        raise UserError("unseen_speakers names all speakers, so none is left to train on")
    return chosen


def select_speakers(labels, wanted, option):
    """Checks a list of speakers that somebody wrote down.

    Arguments
    ---------
    labels : iterable of str
        Those that there are.
    wanted : str or list
        A label, or labels; numbers are taken for labels too, as YAML writes those of LibriSpeech.
    option : str
        Its name, for the sentence.

    Returns
    -------
    set of str

    Raises
    ------
    waveglow_vq.errors.UserError
        If one is not there.
    """
    wanted = {str(label) for label in ([wanted] if isinstance(wanted, str) else wanted)}
    missing = sorted(wanted - set(labels))
    if missing:
        raise UserError(
            f"{option} names {', '.join(missing)}, but the speakers are {_shorten(sorted(labels))}"
        )
    return wanted


def pool_log_f0(prepared):
    """Mean and standard deviation of the log-F0 over the voiced frames of several utterances.

    Arguments
    ---------
    prepared : iterable of PreparedAudio
        Each with its own mean, standard deviation and number of voiced frames.

    Returns
    -------
    mean, std : float or None
        None if nothing is voiced. The standard deviation is at least 0.05.

    Example
    -------
    >>> from waveglow_vq.data.corpora.prepared_audio import PreparedAudio
    >>> pool_log_f0([PreparedAudio(None, 10, 5.0, 0.0), PreparedAudio(None, 30, 5.4, 0.0)])
    (5.3, 0.173...)
    """
    frames = total = squares = 0.0
    for item in prepared:
        frames += item.voiced_frames
        total += item.voiced_frames * item.log_f0_mean
        squares += item.voiced_frames * (item.log_f0_std**2 + item.log_f0_mean**2)
    if not frames:
        return None
    mean = total / frames
    return mean, max(math.sqrt(max(0.0, squares / frames - mean**2)), MIN_LOG_F0_STD)


def make_manifests(parts, prepared, info, sample_rate):
    """The contents of the manifests and of speakers.json.

    Arguments
    ---------
    parts : dict
        Split -> list of utterances.
    prepared : dict
        Utterance id -> PreparedAudio.
    info : dict
        Label -> what is known of the speaker; a speaker may be missing.
    sample_rate : int
        Of the prepared audio, in Hz.

    Returns
    -------
    manifests : dict
        Split -> id -> entry, as in `waveglow_vq.data.corpora.preparation` with `speaker`, `pitch`,
        `log_f0_mean` and `log_f0_std` (of the utterance itself; where nothing is voiced, those of
        all training utterances).
    speakers : dict
        Label -> {"train_clips", "log_f0_mean", "log_f0_std" (of the training utterances), "age",
        "gender", "accent", "region"}, sorted; the speakers of train only.
    """
    training = {}
    for utterance in parts["train"]:
        training.setdefault(utterance.speaker, []).append(prepared[utterance.id])
    everyone = pool_log_f0(p for items in training.values() for p in items) or _NEUTRAL_LOG_F0
    manifests = {}
    for name, utterances in parts.items():
        manifests[name] = {}
        for u in utterances:
            num_samples = prepared[u.id].sound.num_samples
            mean, std = pool_log_f0([prepared[u.id]]) or everyone
            manifests[name][u.id] = {
                "wav": f"{{data_root}}/{u.speaker}/{u.id}.wav",
                "num_samples": num_samples,
                "duration": num_samples / sample_rate,
                "text": u.text,
                "speaker": u.speaker,
                "pitch": f"{{data_root}}/{u.speaker}/{u.id}.pitch.npy",
                "log_f0_mean": mean,
                "log_f0_std": std,
            }
    speakers = {}
    for label in sorted(training):
        mean, std = pool_log_f0(training[label]) or everyone
        known = info.get(label, {})
        speakers[label] = {
            "train_clips": len(training[label]),
            "log_f0_mean": mean,
            "log_f0_std": std,
            **{field: known.get(field) for field in ("age", "gender", "accent", "region")},
        }
    return manifests, speakers


def _by_speaker(utterances, split_ratio, seed):
    by_speaker = {}
    for utterance in utterances:
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    where = {}
    for members in by_speaker.values():
        members = sorted(members, key=lambda u: hash_fraction(u.id, seed, "split"))
        # Rounding of the shares must not cost a clip: 0.3 + 1e-9 rather than 0.2999...
        valid, test = (
            math.floor(len(members) * share / sum(split_ratio) + 1e-9) for share in split_ratio[1:]
        )
        # The share of train is not 0, so the two together are less than all.
        names = ["valid"] * valid + ["test"] * test
        names += ["train"] * (len(members) - len(names))
        where.update((u.id, name) for u, name in zip(members, names, strict=True))
    return {u.id: [u] for u in utterances}, where


def _by_sentence(utterances, split_ratio, seed):
    units, where = {}, {}
    first, second = (sum(split_ratio[:n]) / sum(split_ratio) for n in (1, 2))
    for utterance in utterances:
        sentence = normalize_sentence(utterance.text)
        if not sentence:
            # Alone in its unit: an id has no space in front, so no sentence is mistaken for it.
            units[f" {utterance.id}"] = [utterance]
            where[f" {utterance.id}"] = "train"
            continue
        units.setdefault(sentence, []).append(utterance)
        fraction = hash_fraction(sentence, seed, "sentence")
        where[sentence] = "train" if fraction < first else "valid" if fraction < second else "test"
    return units, where


def _fill_empty_splits(units, where, split_ratio, seed):
    """Gives an empty split one unit of train, such that all its speakers stay in train."""
    clips = Counter(
        u.speaker for unit, name in where.items() if name == "train" for u in units[unit]
    )

    def rest(unit):
        taken = Counter(u.speaker for u in units[unit])
        return min(clips[speaker] - count for speaker, count in taken.items())

    for name, share in zip(SPLITS[1:], split_ratio[1:], strict=True):
        if share <= 0 or name in where.values():
            continue
        # A clip without text has no sentence that could be kept out of train, but is no harm.
        candidates = [unit for unit, split in where.items() if split == "train" and rest(unit) > 0]
        if not candidates:
            raise UserError(
                f"no speaker has enough utterances for the split {name}: give it the share 0 in"
                " split_ratio, or more utterances"
            )
        chosen = min(candidates, key=lambda unit: (-rest(unit), hash_fraction(unit, seed, name)))
        where[chosen] = name
        clips.subtract(u.speaker for u in units[chosen])
        logger.warning(
            "no speaker has utterances enough for the split %s at its share: it gets %d",
            name,
            len(units[chosen]),
        )


def _shorten(labels, most=12):
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
