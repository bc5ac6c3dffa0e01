from waveglow_vq.__main__ import main
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.source.pitch_rows import PitchRows
from waveglow_vq.lobes.source.pulses import pulse_train
from waveglow_vq.training.pitch.pitch_training import (
    pitch_examples,
    pitch_scores,
    train_pitch_reader,
    voices_to_train_on,
)
from waveglow_vq.training.pitch.variety import Variety

import pytest
import torch


def voice(hertz, seconds=1.2):
    """Pulses that decay, and silence before them."""
    frames = int(seconds * 22050 / 256)
    f0 = torch.full((1, frames + 1), float(hertz))
    rows = PitchRows(256, 22050).of(f0, torch.ones_like(f0))
    pulses = pulse_train(rows, 256, 22050)
    decay = torch.exp(-torch.arange(64) / 8.0)
    wav = torch.nn.functional.conv1d(pulses[None], decay[None, None], padding=63)[0, 0]
    noise = torch.randn(5000, generator=torch.Generator().manual_seed(int(hertz)))
    return torch.cat([0.001 * noise, 0.05 * wav])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    for hertz in (100, 140, 180, 220):
        write_wav(folder / f"{hertz}.wav", voice(hertz), 22050)
    return folder


def test_what_the_tracker_finds_is_learned(folder):
    examples = [pitch_examples(path, LogMel())[0] for path in sorted(folder.iterdir())]
    steps = []
    reader = train_pitch_reader(
        examples, 60, channels=16, after_step=lambda step, loss: steps.append(float(loss))
    )
    assert steps[-1] < 0.7 * steps[0]
    assert pitch_scores(reader, examples)["f1"] > 0.8
    again = train_pitch_reader(examples, 3, channels=16)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            again.parameters(),
            train_pitch_reader(examples, 3, channels=16).parameters(),
            strict=True,
        )
    )


def test_silence_is_no_example(tmp_path):
    write_wav(tmp_path / "silence.wav", torch.zeros(22050), 22050)
    assert pitch_examples(tmp_path / "silence.wav", LogMel()) == []


def test_copies_of_what_is_trained_on(folder):
    files = sorted(folder.iterdir())
    variety = Variety(copies=2, speeds=(0.5, 0.7))
    train, test = voices_to_train_on(files, LogMel(), ["*/100.wav"], variety)
    assert len(train) == 9 and [example.name for example in test] == [str(folder / "100.wav")]
    medians = [float(example.f0[example.f0 > 0].median()) for example in train]
    assert medians[0] == pytest.approx(140, rel=0.02)
    assert all(70 * 0.98 < hertz < 98 * 1.02 for hertz in medians[1:3])


def test_all_held_out(folder):
    with pytest.raises(UserError, match="no recording is left"):
        voices_to_train_on(sorted(folder.iterdir()), LogMel(), ["*"], Variety())


def test_command(folder, tmp_path, capsys):
    output = tmp_path / "reader.safetensors"
    arguments = ["train-pitch", str(folder), "--output", str(output), "--steps", "2"]
    assert main([*arguments, "--copies", "1", "--held_out", "*/100.wav"]) == 0
    assert output.stat().st_size < 2**20
    assert "*/100.wav: 1 recordings, f1" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "exists" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--force", "--speeds", "2", "1"])
    assert "--speeds must be two numbers in order" in capsys.readouterr().err
