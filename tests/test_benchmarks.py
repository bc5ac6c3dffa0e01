import json

from waveglow_vq.lobes.wavenet import WaveNet

import pytest
import torch

from benchmarks import prior_comparison, run, speed


def test_multiplications_of_the_published_model():
    """Counted by hand from the paper's sizes: 2756.25 groups per second, 12 flows of 8 layers."""
    model, features = speed.load_vocoder("nvidia256", "cpu")
    macs = speed.macs_per_second_of_audio(model, features.sample_rate)
    giga = {name: value / 1e9 for name, value in macs.items()}
    assert giga["dilated"] == pytest.approx(2756.25 * 96 * 256 * 512 * 3 / 1e9)
    assert giga["condition"] == pytest.approx(2756.25 * 96 * 640 * 512 / 1e9)
    assert giga["residual_skip"] == pytest.approx(32.5, abs=0.05)
    assert giga["total"] == pytest.approx(223.9, abs=0.05)
    parts = [value for name, value in giga.items() if name != "total"]
    assert sum(parts) == pytest.approx(giga["total"])


def test_multiplications_are_those_of_the_layers_as_defined(monkeypatch):
    """At one frame of condition per 256 samples, every convolution is counted where it runs when
    nothing is folded."""

    def without_folds(network, x, context):
        hidden, _ = network.start(x), network.local(context.local)
        for dilated, residual_skip in zip(network.dilated, network.residual_skip, strict=True):
            hidden = residual_skip(dilated(hidden)[:, : network.channels])[:, : network.channels]
        return network.end(hidden)

    monkeypatch.setattr(WaveNet, "forward", without_folds)
    model, features = speed.load_vocoder("tiny", "cpu")
    executed = 0

    def count(layer, inputs, output):
        nonlocal executed
        executed += layer.weight.numel() * output.shape[0] * output.shape[-1]

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv1d):
            layer.register_forward_hook(count)
    frames = 4
    with torch.inference_mode():
        model.sample(model.conditioner(torch.zeros(1, 80, frames)), generator=0)
    macs = speed.macs_per_second_of_audio(model, features.sample_rate)
    counted = macs["total"] - macs["invertible"] - macs["envelope"]
    assert counted * frames * 256 / features.sample_rate == pytest.approx(executed)


def test_speed_table(tmp_path, capsys):
    arguments = ["--sizes", "tiny", "--tasks", "inference", "training", "--seconds", "0.05"]
    path = tmp_path / "speed.json"
    run.main([*arguments, "--train_batch", "1", "--repeats", "1", "--json", str(path)])
    report = json.loads(path.read_text())
    rows = {(r["size"], r["task"]): r for r in report["results"]}
    inference, training = rows["tiny", "inference"], rows["tiny", "training"]
    assert inference["audio_seconds"] == pytest.approx(5 * 256 / 22050)
    assert training["audio_seconds"] == pytest.approx(16 * 256 / 22050)
    assert training["gmac_per_audio_second"] == pytest.approx(
        3 * inference["gmac_per_audio_second"]
    )
    for row in rows.values():
        assert row["milliseconds"] > 0
    expected = inference["gmac_per_audio_second"] * inference["times_real_time"]
    assert inference["gmac_per_second"] == pytest.approx(expected)
    assert inference["share_of_peak"] == pytest.approx(expected / report["peak_gmac_per_second"])
    shown = capsys.readouterr().out
    assert "| tiny |" in shown and "threads: " in shown and "torch: " in shown


def test_envelope_alone_has_no_parameters_and_inverts():
    model, features = prior_comparison.envelope_alone(24)
    assert not list(model.parameters()) and model.vocoder.history == 24
    wav = 0.1 * torch.randn(1, 2048, generator=torch.Generator().manual_seed(0))
    log_mel = features(wav)
    z, _ = model.vocoder(wav, log_mel, log_mel)
    torch.testing.assert_close(
        model.vocoder.inverse(z, log_mel[..., :8], log_mel[..., :9]), wav, rtol=0, atol=1e-5
    )


def test_table_of_the_priors():
    rows = {
        "alone": {"nll": -5.304, "log_mel_l1": 0.449},
        "trained": {"nll": -5.7, "log_mel_l1": 0.4, "steps": 100, "minutes": 2.04},
    }
    assert prior_comparison.table(rows).splitlines()[2:] == [
        "| alone | none | none | -5.30 | 0.45 |",
        "| trained | 100 | 2.0 | -5.70 | 0.40 |",
    ]


def test_wrong_options_are_a_sentence(capsys):
    for arguments in (["--only", "spede"], ["--seconds", "0"], ["--device", "nowhere"]):
        with pytest.raises(SystemExit) as exit:
            run.main(arguments)
        assert exit.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")
