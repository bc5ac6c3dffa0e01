import math
from types import SimpleNamespace

from waveglow_vq.audio.features import LogMel
from waveglow_vq.evaluation.conversion import speaker_leakage
from waveglow_vq.evaluation.conversion.speaker_leakage import (
    code_histograms,
    code_leak,
    entropy_bitrate,
    linear_probe,
    mutual_information,
)
from waveglow_vq.evaluation.verdicts import code_verdict
from waveglow_vq.lobes.conditioners import MelVQConditioner
from waveglow_vq.lobes.quantizers import build_quantizer

import numpy as np
import pytest
import torch


def clouds(shift, speakers=4, utterances=30, dimensions=6, seed=0):
    """Unit normal vectors around centres that are ``shift`` apart on axes of their own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(speakers), utterances)
    centres = shift * np.eye(speakers, dimensions)
    return centres[labels] + rng.normal(size=(len(labels), dimensions)), labels


def test_probe_finds_what_is_there_and_nothing_else():
    probe = linear_probe(*clouds(12.0))
    assert probe == {
        "accuracy": 1.0,
        "majority": 0.25,
        "chance": 0.25,
        "utterances": 120,
        "speakers": 4,
        "folds": 5,
    }
    assert abs(linear_probe(*clouds(0.0, utterances=100))["accuracy"] - 0.25) < 0.1
    between = linear_probe(*clouds(2.0, utterances=100))["accuracy"]
    # The best possible for four unit normals 2 sqrt(2) apart is about 0.83.
    assert 0.7 < between < 0.9


def test_probe_is_asked_about_utterances_it_was_not_fitted_to():
    rng = np.random.default_rng(0)
    # More dimensions than utterances: fitted and asked on the same ones, it would be perfect.
    probe = linear_probe(rng.normal(size=(40, 200)), np.arange(40) % 4)
    assert probe["accuracy"] < 0.55


def test_probe_is_only_linear():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    radius = np.where(labels == 0, 1.0, 5.0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    circles = torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1))
    assert linear_probe(circles, labels)["accuracy"] < 0.7


def test_probe_scales_features():
    features, labels = clouds(12.0)
    assert linear_probe(features * 1e-6 + 100, labels)["accuracy"] == 1.0


def test_probe_and_rare_speakers():
    features, labels = clouds(12.0, utterances=6)
    names = np.array(["a", "b", "c", "d"])[labels]
    # Three of d, one of c: the first lowers the folds, the second is left out.
    kept = [*range(6), *range(6, 12), 12, *range(18, 21)]
    probe = linear_probe(features[kept], names[kept])
    assert (probe["folds"], probe["speakers"], probe["utterances"]) == (3, 3, 15)
    assert probe["majority"] == pytest.approx(6 / 15)
    assert linear_probe(features[:6], names[:6]) == {}
    assert linear_probe(features[[0, 6, 12]], names[[0, 6, 12]]) == {}


def test_probe_is_deterministic():
    assert linear_probe(*clouds(1.0)) == linear_probe(*clouds(1.0))


def utterances_of(distributions, per_speaker, length, seed=0):
    """Codes drawn independently from each speaker's distribution."""
    rng = np.random.default_rng(seed)
    codes = [
        torch.from_numpy(rng.choice(len(distribution), size=length, p=distribution))
        for distribution in distributions
        for _ in range(per_speaker)
    ]
    return codes, np.repeat(np.arange(len(distributions)), per_speaker)


def test_information_of_codes_that_are_the_speaker():
    told = mutual_information(*utterances_of(np.eye(8), 10, 50), size=8)
    assert told["plug_in"] == pytest.approx(3.0) and told["share"] == pytest.approx(1.0)
    assert told["speaker_entropy"] == pytest.approx(3.0) == told["code_entropy"]


def test_information_of_codes_that_have_nothing_to_do_with_the_speaker():
    rng = np.random.default_rng(0)
    even = np.full((10, 256), 1 / 256)
    told = mutual_information(*utterances_of(even, 8, 40), size=256)
    # Plug-in, independent data look like a large leak: that is the bias that is removed.
    assert told["plug_in"] > 0.3
    assert abs(told["bits"]) < 0.05 and abs(told["share"]) < 0.02
    # Each utterance has words of its own: only exchanging whole utterances accounts for them.
    codes = [rng.choice(rng.choice(256, 12, replace=False), size=60) for _ in range(80)]
    told = mutual_information(codes, np.arange(80) % 10, size=256)
    assert told["plug_in"] > 0.8 and abs(told["bits"]) < 0.08


def test_information_between_the_extremes_is_the_known_one():
    # Two speakers; with probability 1/2 the code names them, else it is one of both at random.
    distributions = np.array([[0.75, 0.25], [0.25, 0.75]])
    truth = 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    told = mutual_information(*utterances_of(distributions, 40, 2000), size=2)
    assert told["plug_in"] == pytest.approx(truth, abs=0.01)
    assert told["bits"] == pytest.approx(truth, abs=0.02)


def test_information_leaves_out_single_utterances_and_padding():
    codes = [[0, 0, -1], [0, -1, -1], [1, 1, 1], [1, -1, 1], [2, 2, 2]]
    told = mutual_information(codes, ["a", "a", "b", "b", "c"], size=3)
    assert (told["speakers"], told["utterances"]) == (2, 4)
    assert told["plug_in"] == pytest.approx(told["speaker_entropy"])
    assert mutual_information(codes, ["a", "a", "b", "c", "d"], size=3) == {}


def test_information_is_deterministic():
    codes, speakers = utterances_of(np.full((4, 16), 1 / 16), 4, 30)
    once = mutual_information(codes, speakers, size=16)
    assert once == mutual_information(codes, speakers, size=16)
    assert once["shuffled"] != mutual_information(codes, speakers, size=16, seed=1)["shuffled"]


def test_bitrate_of_known_sources():
    rng = np.random.default_rng(0)
    fair = [rng.integers(0, 16, 4000) for _ in range(6)]
    cost = entropy_bitrate(fair, rate=40, size=16)
    assert cost["uniform"] == 160 and cost["unigram"] == pytest.approx(160, abs=0.2)
    # Nothing to be predicted: a coder pays a little more for having looked.
    assert 160 < cost["first_order"] < 165
    skewed = [rng.choice(4, p=[0.5, 0.25, 0.125, 0.125], size=5000) for _ in range(4)]
    cost = entropy_bitrate(skewed, rate=1, size=4)
    assert cost["unigram"] == pytest.approx(1.75, abs=0.02)
    assert cost["perplexity"] == pytest.approx(2**1.75, rel=0.02)
    assert cost["first_order"] == pytest.approx(1.75, abs=0.02)


def test_bitrate_of_a_markov_chain():
    # With probability 0.9 the next code, else any of the other seven.
    rng = np.random.default_rng(0)
    steps = np.where(rng.random((8, 5000)) < 0.9, 1, rng.integers(2, 9, (8, 5000)))
    chains = list(np.cumsum(steps, axis=1) % 8)
    truth = -0.9 * math.log2(0.9) - 0.1 * math.log2(0.1 / 7)
    cost = entropy_bitrate(chains, rate=1, size=8)
    assert cost["unigram"] == pytest.approx(3.0, abs=0.01)
    assert cost["first_order"] == pytest.approx(truth, abs=0.03)


def test_bitrate_with_few_data_is_an_upper_bound():
    # 512 even codes in 600 frames: plug-in, the next code would seem to be certain.
    rng = np.random.default_rng(0)
    cost = entropy_bitrate([rng.integers(0, 512, 100) for _ in range(6)], rate=1, size=512)
    assert 8.9 < cost["first_order"] < 10


def test_bitrate_of_odd_inputs():
    cost = entropy_bitrate([torch.tensor([3, 3, -1, -1])], rate=2, size=4)
    assert cost["unigram"] == 0.0 and cost["codes"] == 2 and "first_order" not in cost
    assert cost["codes_used"] == 1 and cost["perplexity"] == 1.0
    # Utterances of one code have no pairs.
    assert "first_order" not in entropy_bitrate([[1], [2]], rate=2, size=4)


def test_histograms_do_not_count_padding():
    histograms = code_histograms([torch.tensor([0, 1, 1, -1]), [2]], 4)
    assert histograms.tolist() == [[1, 2, 0, 0], [0, 0, 1, 0]]


def test_several_codebooks_are_counted_by_themselves(monkeypatch):
    torch.manual_seed(0)
    options = {"codebook_size": 8, "codebook_dim": 6, "initialization": "normal"}
    quantizer = build_quantizer("ema", 2, "product", **options)
    conditioner = MelVQConditioner(LogMel(), quantizer, channels=8).eval()
    model = SimpleNamespace(
        quantizer=quantizer, conditioner=conditioner, parameters=conditioner.parameters
    )
    wavs = {name: 0.1 * torch.randn(4000 + 500 * n) for n, name in enumerate("abcd")}
    monkeypatch.setattr(speaker_leakage, "read_source", lambda one, features: wavs[one.id])
    spoken = [SimpleNamespace(id=name, speaker=f"p{n // 2}") for n, name in enumerate("abcd")]
    found = code_leak(model, LogMel(), spoken)
    codes = [conditioner.encode(LogMel()(wav[None]))[0] for wav in wavs.values()]
    rate, bits = 22050 / 512, found["bits_per_second"]
    assert (found["codebooks"], found["codebook_size"]) == (2, 8)
    assert bits["uniform"] == pytest.approx(6 * rate)
    assert bits["codes"] == 2 * sum(map(len, codes))
    both = [torch.cat(codes)[:, n].bincount(minlength=8).double() for n in range(2)]
    shares = [counts / counts.sum() for counts in both]
    entropies = [float(torch.special.entr(share).sum()) / math.log(2) for share in shares]
    assert bits["unigram"] == pytest.approx(rate * sum(entropies))
    assert bits["perplexity"] == pytest.approx(2 ** (sum(entropies) / 2))
    used = bits["codes_used"] == sum(int((counts > 0).sum()) for counts in both)
    assert used and 0 <= found["mutual_information"]["plug_in"] <= 1
    assert found["probe_histograms"]["utterances"] == 4
    assert "codes" in str(code_verdict(found))
