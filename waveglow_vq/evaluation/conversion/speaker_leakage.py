"""How much of the speaker is left in the codes, and what the codes cost.

A code that still says who speaks makes the speaker condition redundant, and conversion fails. Two
views: a linear probe, which finds whatever is linearly there in an utterance's mean, and the mutual
information between single codes and speakers. What a code costs at most is log2 of the codebook's
size; what it costs with an entropy coder depends on how even and how predictable the codes are.
"""

import math
import warnings

from waveglow_vq.evaluation.utterances import read_source

import numpy as np
import torch
from tqdm import tqdm


@torch.no_grad()
def code_leak(model, features, utterances, seed=0, progress=False):
    """Bitrate of the codes of a model in evaluation mode, and what they reveal of the speaker.

    Among the RecordedUtterances are some of every speaker; the probes are fitted to a part of them,
    by the seed, and asked about the others.

    Returns ``codes_per_second``; ``bits_per_second`` (:func:`entropy_bitrate`, and ``pitch``);
    ``mutual_information`` (:func:`mutual_information`); and a :func:`linear_probe` of each
    utterance's mean encoder output (``probe_encoder``), mean code vector (``probe_codes``) and
    relative frequencies of the codes (``probe_histograms``).

    Of several codebooks, bitrates and numbers of codes are sums, and the mutual information and the
    perplexity, which are of one of a code's indices, are means.
    """
    quantizer, conditioner = model.quantizer, model.conditioner
    device = next(model.parameters()).device
    size, codebooks = quantizer.codebook_size, conditioner.codebooks
    codes, encoded, decoded = [], [], []
    for utterance in tqdm(utterances, desc="coding", unit="utterance", disable=not progress):
        wav = read_source(utterance, features)[None].to(device)
        whole_hops = torch.nn.functional.pad(wav, (0, -wav.shape[1] % features.hop_length))
        inputs = conditioner.inputs(features(wav), whole_hops).features
        indices = conditioner.encode(inputs)
        encoded.append(conditioner.encoder(inputs)[0].mean(0).cpu())
        decoded.append(quantizer.decode(indices)[0].mean(0).cpu())
        codes.append(indices[0].reshape(-1, codebooks).cpu())
    speakers = [utterance.speaker for utterance in utterances]
    # The codes of each codebook by themselves.
    books = [[item[:, book] for item in codes] for book in range(codebooks)]
    histograms = np.concatenate([code_histograms(book, size) for book in books], axis=1)
    told = [mutual_information(book, speakers, size, seed=seed) for book in books]
    rate = features.sample_rate / conditioner.samples_per_code
    return {
        "codes_per_second": rate,
        "codebook_size": size,
        "codebooks": codebooks,
        "bits_per_second": _together([entropy_bitrate(book, rate, size, seed) for book in books])
        | {"pitch": conditioner.pitch_bits_per_second},
        "mutual_information": {
            name: float(np.mean([one[name] for one in told])) if codebooks > 1 else value
            for name, value in told[0].items()
        },
        "probe_encoder": linear_probe(torch.stack(encoded), speakers, seed=seed),
        "probe_codes": linear_probe(torch.stack(decoded), speakers, seed=seed),
        "probe_histograms": linear_probe(
            histograms / histograms.sum(1, keepdims=True), speakers, seed=seed
        ),
    }


def _together(costs):
    """What :func:`entropy_bitrate` gives for each of several codebooks, of all."""
    result = {name: sum(cost[name] for cost in costs) for name in costs[0]}
    perplexities = np.array([cost["perplexity"] for cost in costs])
    return result | {"perplexity": float(perplexities.prod() ** (1 / len(costs)))}


def linear_probe(features, labels, folds=5, seed=0):
    """How often a linear classifier names the speaker of an utterance that it was not fitted to.

    Multinomial logistic regression (L2 penalty 1 on features [N, D] of zero mean and unit
    variance), cross-validated: each utterance is named by a classifier fitted to the other folds,
    in which every speaker is represented. Speakers with fewer than two utterances are left out, and
    those with fewer than ``folds`` lower the number of folds.

    Returns ``accuracy``; ``majority``, the accuracy of always naming the most frequent speaker;
    ``chance``, of guessing (1 / speakers); ``utterances``, ``speakers``, ``folds``. Empty if fewer
    than two speakers have two utterances.

    Example
    -------
    >>> features = np.repeat(np.eye(3), 4, axis=0)
    >>> probe = linear_probe(features, ["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    >>> probe["accuracy"], probe["majority"], probe["folds"]
    (1.0, 0.333..., 4)
    """
    # scikit-learn comes with librosa.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = np.asarray(features, dtype=np.float64), np.asarray(labels)
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts >= 2])
    features, labels = features[kept], labels[kept]
    counts = counts[counts >= 2]
    if len(counts) < 2:
        return {}
    folds = int(min(folds, counts.min()))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    division = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A probe stopped after 500 steps is a slightly more regularized one.
        warnings.simplefilter("ignore", ConvergenceWarning)
        named = cross_val_predict(probe, features, labels, cv=division)
    return {
        "accuracy": float((named == labels).mean()),
        "majority": float(counts.max() / counts.sum()),
        "chance": 1 / len(counts),
        "utterances": len(labels),
        "speakers": len(counts),
        "folds": folds,
    }


def mutual_information(codes, speakers, size, shuffles=20, seed=0):
    """What one code says of who speaks, in bits.

        I = sum_{c,s} p(c,s) log2( p(c,s) / (p(c) p(s)) )

    with relative frequencies for p. Counted that way, I is above zero even if codes and speakers
    have nothing to do with each other: every speaker says something else, and finite counts
    scatter. So the same is counted with the utterances' speakers exchanged at random, I_0 (the mean
    over ``shuffles``); utterances stay whole, since it is of them that the scatter comes.

        bits = I - I_0
        share = (I - I_0) / (H - I_0),   H = min(H(speaker), H(code))

    ``share`` is the adjusted mutual information of Vinh, Epps and Bailey (JMLR 2010): 0 where the
    code says nothing, 1 where it says all that it can. ``bits`` is low where much is said, since
    I_0 then is more than the bias of I. Speakers of a single utterance are left out: their words
    cannot be told from their voice.

    ``codes`` are those of each utterance, integers from 0 to ``size`` - 1; negative ones are
    padding. ``speakers`` has one speaker for each.

    Returns ``plug_in`` (I), ``shuffled`` (I_0), ``bits``, ``share``, ``speaker_entropy`` and
    ``code_entropy`` (bits), ``utterances``, ``speakers``. Empty if fewer than two speakers have two
    utterances.

    Example
    -------
    >>> told = mutual_information([[0, 0], [0], [1, 1, 1], [1]], ["a", "a", "b", "b"], size=2)
    >>> round(told["plug_in"], 3), told["share"]
    (0.985, 1.0)
    """
    speakers = np.asarray(speakers)
    names, numbers, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    kept = counts[numbers] >= 2
    if (counts >= 2).sum() < 2:
        return {}
    histograms = code_histograms([c for c, k in zip(codes, kept, strict=True) if k], size)
    numbers = np.unique(numbers[kept], return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    plug_in, code_entropy, speaker_entropy = _information(histograms, numbers)
    shuffled = [
        _information(histograms, generator.permutation(numbers))[0] for _ in range(shuffles)
    ]
    expected = float(np.mean(shuffled))
    most = min(code_entropy, speaker_entropy)
    return {
        "plug_in": plug_in,
        "shuffled": expected,
        "bits": plug_in - expected,
        "share": (plug_in - expected) / (most - expected) if most > expected else 0.0,
        "speaker_entropy": speaker_entropy,
        "code_entropy": code_entropy,
        "utterances": len(numbers),
        "speakers": int(numbers.max()) + 1,
    }


def entropy_bitrate(codes, rate, size, seed=0):
    """What the codes cost, in bits per second, for coders of growing cleverness.

    ``uniform`` is log2(size) bits a code. ``unigram`` is the entropy of how often the codes are
    used. ``first_order`` is measured as an adaptive coder would pay it: half of the utterances, and
    then the other half, are coded by the statistics of their complement,

        -mean log2 q(c_t | c_{t-1}),   q(c | b) = (n(b,c) + T(b) q(c)) / (n(b) + T(b))

    with n the counts, T(b) the number of different codes seen after b (Witten and Bell, 1991) and
    q(c) the unigram counts plus one. It is an upper bound, which more data bring down; the plug-in
    estimate of a conditional entropy would be far below the truth wherever pairs of codes are
    rarely seen twice.

    ``codes`` and ``size`` are those of :func:`mutual_information`, ``rate`` is in codes per second,
    and the seed divides into halves. Returns ``uniform``, ``unigram`` and, from two utterances on,
    ``first_order``, in bits per second; ``perplexity`` of the unigram; ``codes_used``, ``codes``,
    the number of codes counted.

    Example
    -------
    >>> cost = entropy_bitrate([[0, 1, 2, 3] * 500] * 2, rate=10, size=4)
    >>> cost["uniform"], cost["unigram"], round(cost["first_order"], 2)
    (20.0, 20.0, 0.02)
    """
    items = [_valid(item) for item in codes]
    counts = np.bincount(np.concatenate(items), minlength=size)
    unigram = _entropy(counts)
    result = {
        "uniform": rate * math.log2(size),
        "unigram": rate * unigram,
        "perplexity": 2**unigram,
        "codes_used": int((counts > 0).sum()),
        "codes": int(counts.sum()),
    }
    if len(items) >= 2:
        order = np.random.default_rng(seed).permutation(len(items))
        halves = [[items[i] for i in order[k::2]] for k in (0, 1)]
        costs = [_coding_cost(halves[k], halves[1 - k], size) for k in (0, 1)]
        pairs = sum(number for _, number in costs)
        if pairs:
            result["first_order"] = rate * sum(bits for bits, _ in costs) / pairs
    return result


def code_histograms(codes, size):
    """How often each utterance uses each code, [utterances, size].

    Example
    -------
    >>> code_histograms([[0, 2, 2, -1], [1]], 3)
    array([[1., 0., 2.],
           [0., 1., 0.]])
    """
    return np.stack([np.bincount(_valid(item), minlength=size) for item in codes]).astype(float)


def _valid(codes):
    codes = np.asarray(codes).reshape(-1).astype(np.int64)
    return codes[codes >= 0]


def _entropy(counts):
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _information(histograms, numbers):
    """I(code; speaker) = H(code) + H(speaker) - H(code, speaker), H(code) and H(speaker)."""
    joint = np.zeros((numbers.max() + 1, histograms.shape[1]))
    np.add.at(joint, numbers, histograms)
    code_entropy, speaker_entropy = _entropy(joint.sum(0)), _entropy(joint.sum(1))
    return code_entropy + speaker_entropy - _entropy(joint), code_entropy, speaker_entropy


def _coding_cost(items, others, size):
    """Bits for the second and later codes of ``items`` by the statistics of ``others``, and how
    many codes these are."""
    unigram = np.bincount(np.concatenate(others), minlength=size) + 1.0
    unigram /= unigram.sum()
    pairs = np.concatenate([item[:-1] * size + item[1:] for item in others])
    seen, counts = np.unique(pairs, return_counts=True)
    before = np.bincount(seen // size, weights=counts, minlength=size)
    followers = np.bincount(seen // size, minlength=size).astype(float)
    pairs = np.concatenate([item[:-1] * size + item[1:] for item in items])
    if not len(pairs):
        return 0.0, 0
    first, second = pairs // size, pairs % size
    count = np.zeros(len(pairs))
    if len(seen):
        place = np.searchsorted(seen, pairs).clip(max=len(seen) - 1)
        count = np.where(seen[place] == pairs, counts[place], 0.0)
    total = before[first] + followers[first]
    known = (count + followers[first] * unigram[second]) / np.maximum(total, 1.0)
    # After a code that was never seen, or only at an end, the unigram is all there is.
    return float(-np.log2(np.where(total > 0, known, unigram[second])).sum()), len(pairs)
