import json

from waveglow_vq.audio.features import LogMel
from waveglow_vq.evaluation.sound_quality import JUDGES
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.mel_consistency import mel_consistent
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.training.epoch_report import EpochMeans, reconstruct, write_samples

import pytest
import torch


@pytest.fixture(scope="module")
def model_and_features():
    torch.manual_seed(0)
    features = LogMel()
    vocoder = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    return WaveGlowVQ(MelConditioner(features, channels=16), vocoder).eval(), features


def utterance(features, samples=6400):
    wav = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    return "clip", wav, features(wav[None])[0].T


def test_means_are_weighted_and_plain_floats():
    means = EpochMeans()
    means.add({"nll": torch.tensor(1.0), "mel_l1": torch.tensor(0.0)}, weight=3)
    means.add({"nll": torch.tensor(5.0), "mel_l1": torch.tensor(4.0)}, weight=torch.tensor(1.0))
    assert means.summary() == {"nll": 2.0, "mel_l1": 1.0}
    assert all(type(value) is float for value in means.summary().values())


def test_means_of_nothing():
    assert EpochMeans().summary() == {}


def test_means_keep_no_graph():
    means = EpochMeans()
    means.add({"loss": torch.ones((), requires_grad=True) * 2}, weight=1)
    assert not means.sums["loss"].requires_grad


def test_reconstruction_has_the_length_of_the_recording(model_and_features):
    model, features = model_and_features
    _, wav, mel = utterance(features)
    output, seconds = reconstruct(model, wav, mel)
    assert output.shape == wav.shape and seconds > 0
    again, _ = reconstruct(model, wav, mel)
    assert torch.equal(output, again)
    other, _ = reconstruct(model, wav, mel, seed=1)
    assert not torch.equal(output, other)


def test_iterations_behind_the_flows(model_and_features, tmp_path):
    model, features = model_and_features
    name, wav, mel = utterance(features)
    with torch.no_grad():
        flows = model.sample(model.conditioner(mel.T[None]), generator=0)
    output, _ = reconstruct(model, wav, mel, features=features, refine=3)
    expected = mel_consistent(flows, mel.T[None], features, 3)[0, : len(wav)]
    assert torch.equal(output, expected)
    # Whatever they keep may be used with gradients later.
    mel_consistent(flows.requires_grad_(), mel.T[None], features, 3).sum().backward()
    errors = [
        write_samples(tmp_path, [(name, wav, mel, {})], model, features, refine=refine)
        for refine in (0, 3)
    ]
    assert errors[1]["log_mel_l1"] < errors[0]["log_mel_l1"]


def test_samples_pictures_and_scores(model_and_features, tmp_path):
    model, features = model_and_features
    results = write_samples(tmp_path / "samples", [(*utterance(features), {})], model, features)
    names = sorted(file.name for file in (tmp_path / "samples").iterdir())
    assert names == ["clip.png", "clip.wav", "clip_recording.wav"]
    assert {"log_mel_l1", "mel_cepstral_distortion", "real_time_factor"} <= results.keys()
    assert json.loads(json.dumps(results)) == results
    # An untrained model is far from what its log-mels give without it.
    assert results["no_model_log_mel_l1"] < 0.2 < results["log_mel_l1"]
    assert results["no_model_pulses_log_mel_l1"] < 0.2 and "recordings_voiced_share" in results
    assert {"no_model_mel_cepstral_distortion", "no_model_multi_resolution_stft"} <= results.keys()
    assert "recordings_log_mel_l1" not in results


def test_judges_hear_recordings_too(model_and_features, tmp_path, monkeypatch):
    model, features = model_and_features
    for name, judge in JUDGES.items():
        modules = ("math",) if name in ("dnsmos", "torchcrepe") else ("no_such_module",)
        judge = judge._replace(modules=modules, hear=lambda _, wav: [float(abs(wav).max())])
        monkeypatch.setitem(JUDGES, name, judge)
    clips = [(*utterance(features, 22050), {})]
    results = write_samples(tmp_path / "samples", clips, model, features)
    judged = {name for name in results if name.endswith("mos") or "period" in name}
    assert judged == {
        f"{row}dnsmos" for row in ("", "recordings_", "no_model_", "no_model_pulses_")
    }


def test_nothing_to_write(model_and_features, tmp_path):
    model, features = model_and_features
    assert write_samples(tmp_path / "samples", [], model, features) == {}
