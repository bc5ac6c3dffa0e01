from waveglow_vq.data.audio import read_wav
from waveglow_vq.inference.reconstruct import main

import pytest
import torch


@pytest.mark.parametrize("kind", ["vocoder_folder", "codec_folder"])
def test_reconstruct_from_the_command_line(kind, request, recording, tmp_path, capsys):
    folder = str(request.getfixturevalue(kind))
    names = [str(tmp_path / f"{i}.wav") for i in range(3)]
    main([folder, str(recording), names[0], "--device", "cpu"])
    assert "0.23 s at 22050 Hz" in capsys.readouterr().out
    main([folder, str(recording), names[1], "--device", "cpu", "--seed", "0"])
    main([folder, str(recording), names[2], "--device", "cpu", "--seed", "1", "--sigma", "0.5"])
    first, second, third = (read_wav(name, sample_rate=22050) for name in names)
    assert first.shape == (5000,)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_errors_are_sentences(vocoder_folder, recording, tmp_path, capsys):
    for arguments, word in (
        ([str(tmp_path / "missing"), str(recording), "out.wav"], "missing"),
        ([str(vocoder_folder), str(tmp_path / "in.wav"), "out.wav"], "in.wav"),
        ([str(vocoder_folder), str(recording), "out.wav", "--sigma", "-1"], "sigma"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--device", "cpu"])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and word in error and error.count("\n") == 1
