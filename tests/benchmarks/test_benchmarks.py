import json
from functools import partial

from waveglow_vq.lobes.flows.network.wavenet import WaveNet

import pytest
import torch

from benchmarks import (
    inference,
    measuring,
    prior_comparison,
    run,
    speed,
    stream_memory,
    training_step,
)


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
    arguments = ["--only", "speed", "--sizes", "tiny", "--seconds", "0.05"]
    path = tmp_path / "speed.json"
    run.main([*arguments, "--train_batch", "1", "--repeats", "1", "--json", str(path)])
    report = json.loads(path.read_text())
    rows = {(r["size"], r["task"]): r for r in report["results"]}
    likelihood, training = rows["tiny", "likelihood"], rows["tiny", "training"]
    assert likelihood["audio_seconds"] == pytest.approx(5 * 256 / 22050)
    assert training["audio_seconds"] == pytest.approx(16 * 256 / 22050)
    assert training["gmac_per_audio_second"] == pytest.approx(
        3 * likelihood["gmac_per_audio_second"]
    )
    for row in rows.values():
        assert row["milliseconds"] > 0
    expected = likelihood["gmac_per_audio_second"] * likelihood["times_real_time"]
    assert likelihood["gmac_per_second"] == pytest.approx(expected)
    assert likelihood["share_of_peak"] == pytest.approx(expected / report["peak_gmac_per_second"])
    shown = capsys.readouterr().out
    assert "| tiny |" in shown and "threads: " in shown and "torch: " in shown


def test_the_largest_product_that_ends_in_time(monkeypatch):
    """Of one whose first call takes longer, as calls do that set something up, on a machine that
    makes 1000 multiplications a second."""
    taken = []

    def make(size):
        return lambda: taken.append(size), size**3

    monkeypatch.setattr(
        measuring, "seconds_of", lambda call, device: call() or taken[-1] ** 3 / 1e3
    )
    call, multiplications = measuring.largest_within(make, (2, 4, 8, 16), "cpu", seconds=0.512)
    assert taken == [2, 2, 4, 8] and multiplications == 8**3
    call()
    assert taken[-1] == 8


def test_inference_table(tmp_path, capsys, monkeypatch):
    # Half precision is slow on some processors: the smallest of couplings.
    smallest = partial(speed.load_vocoder, flow={"flows": 2, "channels": 4, "layers": 2})
    monkeypatch.setattr(inference, "load_vocoder", smallest)
    model, features = smallest("tiny", "cpu")
    macs = speed.macs_per_second_of_audio(model, features.sample_rate)["total"]
    path = tmp_path / "inference.json"
    arguments = ["--sizes", "tiny", "--seconds", "0.05", "--batch", "1", "2", "--repeats", "1"]
    inference.main([*arguments, "--no_hifigan", "--json", str(path)])
    report = json.loads(path.read_text())
    rows = {(r["dtype"], r["batch"]): r for r in report["results"]}
    assert set(rows) == {("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2)}
    for (dtype, batch), row in rows.items():
        assert row["audio_seconds"] == pytest.approx(4 * 256 / 22050)
        assert row["gmac_per_audio_second"] == pytest.approx(macs / 1e9)
        per_audio = row["milliseconds"] / 1000 / (batch * row["audio_seconds"])
        assert row["seconds_per_second"] == pytest.approx(per_audio)
        peak = report["peaks_gmac_per_second"][f"{dtype} convolution"]
        assert row["share_of_convolution_peak"] == pytest.approx(row["gmac_per_second"] / peak)
    assert "signal to error" in report["notes"]["tiny, bf16"]
    shown = capsys.readouterr().out
    assert "| tiny | bf16 | 2 |" in shown and "threads: " in shown


def test_multiplications_of_hifigan_are_counted_where_they_run():
    layers = [torch.nn.Conv1d(2, 3, 5, padding=2), torch.nn.ConvTranspose1d(3, 4, 4, 2, padding=1)]
    module = torch.nn.Sequential(*layers, torch.nn.Conv1d(4, 1, 3, padding=1))
    # At the frame rate, again (a transposed one at its inputs), and at twice the rate.
    assert inference.macs_of_one_frame(module, 2) == 2 * 3 * 5 + 3 * 4 * 4 + 2 * 4 * 1 * 3


@pytest.mark.parametrize("task", stream_memory.TASKS)
def test_memory_of_streams_is_that_of_a_whole_run(task):
    result = stream_memory.run("tiny", task, 1.0)
    assert result["peak_mib"] > 100 and result["compute_seconds"] > 0


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
    for arguments in (
        ["--only", "spede"],
        ["--seconds", "0"],
        ["--device", "nowhere"],
        ["--sizes", "tiny", "--waveglow_folder", "."],
        ["--only", "speed", "--seconds", "0"],
    ):
        with pytest.raises(SystemExit) as exit:
            run.main(arguments)
        assert exit.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")


GLOW = '''
import torch


class WaveGlow(torch.nn.Module):
    """Stands in for NVIDIA's: the same names of parameters, and a loss of them."""

    def __init__(self, n_mel_channels, n_flows, n_group, n_early_every, n_early_size, WN_config):
        super().__init__()
        self.sizes = (n_mel_channels, n_flows, n_group, n_early_every, n_early_size)
        assert self.sizes == (80, 2, 8, 4, 2), self.sizes
        assert WN_config == {"n_layers": 2, "n_channels": 4, "kernel_size": 3}, WN_config
        conv, normed = torch.nn.Conv1d, torch.nn.utils.weight_norm
        self.upsample = torch.nn.ConvTranspose1d(80, 80, 1024, stride=256)
        self.convinv, self.WN = torch.nn.ModuleList(), torch.nn.ModuleList()
        for _ in range(n_flows):
            mix, network = torch.nn.Module(), torch.nn.Module()
            mix.conv = conv(8, 8, 1, bias=False)
            network.start = normed(conv(4, 4, 1))
            network.end = conv(4, 8, 1)
            network.cond_layer = normed(conv(640, 16, 1))
            network.in_layers = torch.nn.ModuleList(normed(conv(4, 8, 3)) for _ in range(2))
            outputs = (8, 4)
            network.res_skip_layers = torch.nn.ModuleList(normed(conv(4, n, 1)) for n in outputs)
            self.convinv.append(mix)
            self.WN.append(network)

    def forward(self, forward_input):
        mel, audio = forward_input
        assert mel.shape == (1, 80, 5) and audio.shape == (1, 1024)
        return sum(p.square().sum() for p in self.parameters())


class WaveGlowLoss(torch.nn.Module):
    def __init__(self, sigma=1.0):
        super().__init__()

    def forward(self, output):
        return output
'''
TINY = ["--preset", "{flow: {flows: 2, channels: 4, layers: 2}}", "--samples", "1024"]


def training(*arguments):
    return run.main(["--only", "training", *TINY, "--repeats", "1", *arguments])


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_training_step_beside_a_clone(tmp_path, capsys):
    (tmp_path / "glow.py").write_text(GLOW)
    path = tmp_path / "step.json"
    training("--waveglow_folder", str(tmp_path), "--json", str(path))
    report = json.loads(path.read_text())
    rows = report["results"]
    assert len(rows) == 3 and rows[-1]["name"] == "NVIDIA/waveglow"
    assert rows[-1]["times_reference"] == 1.0
    # Two ways of computing the same.
    assert rows[0]["loss"] == rows[1]["loss"] != rows[2]["loss"]
    for row in rows:
        assert row["samples_per_second"] == pytest.approx(1024e3 / row["milliseconds"])
        expected = row["gmac_per_second"] / report["peak_gmac_per_second"]
        assert row["share_of_peak"] == pytest.approx(expected)
    groups = report["milliseconds_by_group"]
    assert list(groups) == ["waveglow-vq, plain", "NVIDIA/waveglow"]
    ours = groups["waveglow-vq, plain"]
    assert set(ours) == set(training_step.GROUPS)
    # Ours are normalized all together, by operations that others use, too.
    assert all(ours[name] > 0 for name in training_step.GROUPS if name != "weight norm")
    shown = capsys.readouterr().out
    assert "| waveglow-vq, memory_efficient |" in shown and "| weight norm |" in shown


def test_training_step_in_half_precision_without_a_clone():
    report = training("--dtype", "bf16")
    assert [r["name"] for r in report["results"]][0] == "waveglow-vq, plain"
    assert len(report["results"]) == 2 and report["results"][0]["times_reference"] == 1.0


def test_rows_of_the_training_step_leave_the_model_as_it_was():
    rows, _, _ = training_step.our_rows(training_step.parse(TINY))
    vocoder = rows[0].module.vocoder
    with rows[1].within():
        assert vocoder.memory_efficient
    assert not vocoder.memory_efficient


def test_groups_of_operations():
    group_of = training_step.group_of
    condition, dilated = [[1, 640, 5], [512, 640, 1]], [[1, 640, 5], [512, 640, 3]]
    assert group_of("aten::mkldnn_convolution", condition, 640) == "condition"
    assert group_of("aten::convolution_backward", dilated, 640) == "convolutions"
    assert group_of("aten::_weight_norm_interface", [], 640) == "weight norm"
    assert group_of("aten::cat", [], 640) == "fill and copy"
    assert group_of("aten::mul", condition, 640) == "other"


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--waveglow_folder", "/nowhere"], "no glow.py"),
        (["--samples", "1023"], "--samples 1023"),
        (["--preset", "flows"], "--preset flows"),
        (["--repeats", "0"], "--repeats"),
    ],
)
def test_wrong_options_of_the_training_step(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        training(*arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_only_the_published_architecture_is_compared(tmp_path, capsys):
    (tmp_path / "glow.py").write_text(GLOW)
    with pytest.raises(SystemExit):
        training("--waveglow_folder", str(tmp_path), "--size", "tiny")
    assert "--size nvidia256" in capsys.readouterr().err
