"""Splits of a corpus, by hashes: the same ones each time, whatever else is in the corpus.

One speaker's recordings are split by their ids. Of many speakers, every speaker of valid and test
is in train too, except the speakers that are held out altogether, whose recordings make a split of
their own, "unseen". For a model of any voice, speakers are split instead (`split_voices`).
"""

import hashlib
import logging
import math
import re
from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from typing import NamedTuple

from waveglow_vq.data.corpora.speaker_folders import Recording, normalize_sentence
from waveglow_vq.errors import UserError
from waveglow_vq.utils.validation import require_choice, require_integer

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
UNSEEN = "unseen"


class SplitOptions(NamedTuple):
    """How the recordings of many speakers are split.

    Arguments
    ---------
    split_ratio : sequence of float
        Shares of train, valid and test within every speaker, of any sum.
    seed : int
        Another seed, another split.
    unseen_speakers : int or list of str
        How many speakers (chosen by a hash of the label) or which are held out.
    disjoint_sentences : bool
        Whether no sentence (case and punctuation aside) may be in two splits.
    split_by : str
        "clip": see `split_by_speaker`. "voice": see `split_voices`.
    held_out_speakers : list of str
        With "voice": speakers all of whose recordings are tested on.
    held_out_clips : list of str
        With "voice": recordings that are tested on, by their ids, or what these begin with up to
        a sign such as - or _.
    """

    split_ratio: tuple = (90, 5, 5)
    seed: int = 0
    unseen_speakers: int | list = 0
    disjoint_sentences: bool = False
    split_by: str = "clip"
    held_out_speakers: list = ()
    held_out_clips: list = ()

    def stated(self):
        """The options, as reports and fingerprints state them: labels sorted, of type str, and
        those of `split_voices` with it only."""
        options = self._replace(
            split_ratio=list(self.split_ratio),
            unseen_speakers=self.unseen_speakers
            if isinstance(self.unseen_speakers, int)
            else _labels(self.unseen_speakers),
            held_out_speakers=_labels(self.held_out_speakers),
            held_out_clips=_labels(self.held_out_clips),
        )
        later = () if self.split_by == "voice" else SplitOptions._fields[4:]
        return {name: value for name, value in options._asdict().items() if name not in later}

    def checked(self):
        """The options; a UserError if they do not fit together."""
        require_choice("split_by", self.split_by, ("clip", "voice"))
        if self.split_by == "clip" and (self.held_out_speakers or self.held_out_clips):
            raise UserError("held_out_speakers and held_out_clips need split_by: voice")
        if self.split_by == "voice" and self.disjoint_sentences:
            raise UserError("disjoint_sentences: it must be False with split_by: voice")
        return self


class Splits(NamedTuple):
    """The recordings of each split.

    Arguments
    ---------
    parts : dict
        Name of the split -> list of recordings, sorted by id; valid and test of `split_voices`
        are mixed.
    dropped : dict
        Reason -> sorted ids of the recordings that are in no split.
    """

    parts: dict
    dropped: dict


def hash_fraction(clip_id, seed, purpose):
    """A number in [0, 1) that depends on nothing but its arguments.

    Example
    -------
    >>> hash_fraction("LJ001-0001", 0, "split") == hash_fraction("LJ001-0001", 0, "split")
    True
    """
    digest = hashlib.sha256(f"{purpose}:{seed}:{clip_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def choose_subset(clips, max_utterances, seed=0):
    """Chooses `max_utterances` clips (None: all) by a hash of their `id`; a smaller subset is part
    of a larger one.
    """
    if max_utterances is None:
        return list(clips)
    require_integer("max_utterances", max_utterances, 1)
    return sorted(clips, key=lambda clip: hash_fraction(clip.id, seed, "subset"))[:max_utterances]


def split_by_id(recordings, splits, split_ratio, seed=0):
    """Splits recordings, all of different ids, by a hash of their id.

    The split of a recording depends on its own id and the seed only: neither the order of the list
    matters, nor does a new recording move the others. The one exception are corpora so small that a
    split would stay empty: it gets the recording nearest to its share, from a split with more than
    one.

    `split_ratio` holds shares of any sum, such as (90, 5, 5). Since every recording is drawn by
    itself, the sizes are close to the shares and not exactly theirs.

    Example
    -------
    >>> from waveglow_vq.data.corpora.speaker_folders import Recording
    >>> recordings = [Recording(f"LJ{i}", "", "", "") for i in range(1000)]
    >>> parts, _ = split_by_id(recordings, ("train", "test"), (90, 10))
    >>> {name: len(members) for name, members in parts.items()}
    {'train': 888, 'test': 112}
    """
    splits = list(splits)
    if len(set(splits)) != len(splits) or not splits:
        raise UserError(f"splits are {splits}, but must be different names")
    if len(splits) != len(split_ratio) or min(split_ratio) < 0 or sum(split_ratio) <= 0:
        raise UserError(
            f"split_ratio is {list(split_ratio)}, but has to give one share, not negative, for"
            f" each of the splits {splits}"
        )
    wanted = [name for name, share in zip(splits, split_ratio, strict=True) if share > 0]
    if len(recordings) < len(wanted):
        raise UserError(
            f"only {len(recordings)} recordings are left after filtering, too few for"
            f" {len(wanted)} splits ({', '.join(wanted)})"
        )
    ends = [end / sum(split_ratio) for end in accumulate(split_ratio)]
    fractions = {r.id: hash_fraction(r.id, seed, "split") for r in recordings}
    where = {
        key: splits[min(bisect_right(ends, fraction), len(splits) - 1)]
        for key, fraction in fractions.items()
    }
    for name in wanted:
        sizes = Counter(where.values())
        if not sizes[name]:
            end = ends[splits.index(name)]
            spare = [key for key, split in where.items() if sizes[split] > 1]
            where[min(spare, key=lambda key: (abs(fractions[key] - end), key))] = name
    parts = {name: [] for name in splits}
    for recording in sorted(recordings, key=lambda r: r.id):
        parts[where[recording.id]].append(recording)
    return Splits(parts, {})


def split_by_speaker(recordings, options=None):
    """Splits recordings of many speakers into train, valid, test and unseen.

    Within every speaker, recordings are ranked by a hash of their id; the first `floor(n * share)`
    go to valid, the next ones to test, the rest to train.

    With `disjoint_sentences` the hash of the sentence decides instead, so that no sentence (case
    and punctuation aside) is in two of the splits; recordings without text go to train. Two kinds
    of recordings are then left out: those of a speaker who has nothing in train
    ("no_training_clip"), and those of unseen speakers whose sentence is in train
    ("sentence_in_train").

    If valid or test stay empty, because every speaker has few recordings, it gets one from the
    speaker with the most, or those of one sentence.
    """
    split_ratio, seed, unseen_speakers, disjoint_sentences = (options or SplitOptions())[:4]
    _check_ratio(split_ratio)
    held_out = choose_unseen({u.speaker for u in recordings}, unseen_speakers, seed)
    seen = sorted((u for u in recordings if u.speaker not in held_out), key=lambda u: u.id)
    unseen = sorted((u for u in recordings if u.speaker in held_out), key=lambda u: u.id)
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
            f"no utterance is left to train on: {len(recordings)} were found, {len(unseen)} of them"
            " of unseen speakers"
        )
    return Splits({**parts, UNSEEN: unseen}, dropped)


def split_voices(recordings, options, single_voices=()):
    """Splits recordings such that valid and test hold voices that are not in train.

    Every speaker is in one split, which a hash of the label decides. Of `single_voices`, labels of
    speakers who are alone in their corpus, every prompt is: a sentence (case and punctuation
    aside), or a recording without text. What is held out by name goes to test, a clip with the
    others of its speaker or prompt; unseen speakers make a split of their own.
    """
    _check_ratio(options.split_ratio)
    labels = {r.speaker for r in recordings}
    unseen = choose_unseen(labels, options.unseen_speakers, options.seed)
    held_out = select_speakers(labels, options.held_out_speakers, "held_out_speakers")
    clips = _held_out_clips(recordings, options.held_out_clips)
    units = {}
    for r in recordings:
        if r.speaker not in unseen:
            prompt = normalize_sentence(r.text) or f" {r.id}"
            unit = (r.speaker, prompt) if r.speaker in single_voices else (r.speaker,)
            units.setdefault(" ".join(unit), []).append(r)
    parts = {name: [] for name in SPLITS}
    others = []
    for unit, members in units.items():
        if any(r.speaker in held_out for r in members):
            parts["test"] += members
        elif any(r.id in clips for r in members):
            parts["test"] += members
        else:
            others.append(Recording(unit, "", "", ""))
    for name, chosen in split_by_id(others, SPLITS, options.split_ratio, options.seed)[0].items():
        for unit in chosen:
            parts[name] += units[unit.id]
    if not parts["train"]:
        raise UserError("no recording is left to train on: all are held out")
    parts[UNSEEN] = [r for r in recordings if r.speaker in unseen]
    parts = {name: sorted(members, key=lambda r: r.id) for name, members in parts.items()}
    for name in SPLITS[1:]:
        # Some runs look at the first of them only, which should not be those of one corpus.
        parts[name].sort(key=lambda r: hash_fraction(r.id, options.seed, "order"))
    return Splits(parts, {})


def choose_unseen(labels, unseen_speakers, seed=0):
    """Chooses the speakers to hold out, by number or by label. With the same seed a larger number
    includes the speakers of a smaller one.

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
                " which at least one must be trained on"
            )
        ranked = sorted(labels, key=lambda label: hash_fraction(label, seed, "unseen"))
        return set(ranked[:unseen_speakers])
    chosen = select_speakers(labels, unseen_speakers, "unseen_speakers")
    if chosen == labels:
        raise UserError("unseen_speakers names all speakers, so none is left to train on")
    return chosen


def select_speakers(labels, wanted, option):
    """The set of labels that an option names; a UserError if the corpus lacks one. Numbers are
    taken as labels too, as YAML writes those of LibriSpeech.
    """
    wanted = {str(label) for label in ([wanted] if isinstance(wanted, str) else wanted)}
    missing = sorted(wanted - set(labels))
    if missing:
        raise UserError(
            f"{option} names {', '.join(missing)}, but the speakers are {_shorten(sorted(labels))}"
        )
    return wanted


def _labels(given):
    return sorted({str(label) for label in ([given] if isinstance(given, str | int) else given)})


def _check_ratio(split_ratio):
    if len(split_ratio) != 3 or min(split_ratio) < 0 or split_ratio[0] <= 0:
        raise UserError(
            f"split_ratio is {list(split_ratio)}, but has to give the shares of train, valid and"
            " test, none negative, and train more than 0"
        )


def _held_out_clips(recordings, named):
    """The ids of the recordings that are held out by name."""
    found = {}
    for name in _labels(named):
        begin = re.compile(re.escape(name) + r"(?![A-Za-z0-9])")
        found[name] = {r.id for r in recordings if begin.match(r.id)}
    if missing := [name for name, ids in found.items() if not ids]:
        raise UserError(f"held_out_clips names {_shorten(missing)}, but there is no such recording")
    return set().union(*found.values())


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
            "no speaker has enough utterances for the split %s at its share: it gets %d",
            name,
            len(units[chosen]),
        )


def _shorten(labels, most=12):
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
