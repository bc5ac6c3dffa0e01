import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from subprocess import PIPE

from waveglow_vq.audio.io import read_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import WaveGlowVocoder
from waveglow_vq.inference.log_mels import read_log_mel

import numpy as np
import pytest
import torch

from tests.commands.conftest import tree
from tests.inference.conftest import CPU


@pytest.fixture
def mel():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(80, 30, generator=generator) - 5


def assert_16_bit(path, expected):
    torch.testing.assert_close(read_wav(path, 22050), expected.clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_sound_file(vocoder_folder, recording, tmp_path, run, refused):
    out = tmp_path / "deep" / "out.wav"
    command = ["vocode", vocoder_folder, recording, out, "--device", "cpu"]
    status, said, error = run(*command)
    assert (status, error) == (0, "")
    assert said.startswith(f"{out}: 0.23 s, computed in ") and "(real-time factor " in said
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    expected = vocoder.reconstruct_file(recording, generator=0)[0]
    assert_16_bit(out, expected)
    assert tree(tmp_path) == {"deep/out.wav"}
    first = out.read_bytes()
    assert "--force" in refused(*command, "--sigma", "0.3")
    assert out.read_bytes() == first
    for options in (["--seed", "1"], ["--sigma", "0.3"], ["--denoise", "1.0"]):
        assert run(*command, "--force", *options)[0] == 0
        assert out.read_bytes() != first, options
    assert run(*command, "--force", "--refine", "2")[0] == 0
    assert_16_bit(out, vocoder.reconstruct_file(recording, generator=0, refine=2)[0])
    assert run(*command, "--force", "--dtype", "bf16")[0] == 0
    assert run(*command, "--force", "--seed", "0", "--overlap_frames", "100")[0] == 0
    assert_16_bit(out, expected)


def test_a_log_mel_of_another_kind_does_not_end_the_folder(vocoder_folder, mel, tmp_path, run):
    (tmp_path / "mels").mkdir()
    np.save(tmp_path / "mels" / "decibels.npy", mel.numpy() * 8.7)
    np.savez(tmp_path / "mels" / "natural.npz", mel=mel.numpy().astype(">f4"))
    status, _, error = run("vocode", vocoder_folder, tmp_path / "mels", tmp_path / "out")
    assert status == 1 and "1 of 2 files could not be processed" in error
    assert "decibels.npy: its values go from" in error and "it seems to be in dB" in error
    assert tree(tmp_path / "out") == {"natural.wav"}


def test_log_mels(vocoder_folder, mel, tmp_path, run):
    (tmp_path / "mels" / "more").mkdir(parents=True)
    np.save(tmp_path / "mels" / "a.npy", mel.numpy())
    torch.save(mel[None, :, :20].double(), tmp_path / "mels" / "more" / "b.pt")
    out = tmp_path / "out"
    status, said, _ = run("vocode", vocoder_folder, tmp_path / "mels", out, "--seed", "3")
    assert status == 0 and f"{out}: 2 files: 0.58 s" in said
    assert tree(out) == {"a.wav", "more/b.wav"}
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    assert_16_bit(out / "a.wav", vocoder.decode_spectrogram(mel, generator=3)[0])
    assert_16_bit(out / "more" / "b.wav", vocoder.decode_spectrogram(mel[:, :20], generator=3)[0])


def test_bad_files_of_a_folder_do_not_stop_the_others(vocoder_folder, mel, tmp_path, run):
    source, out = tmp_path / "mels", tmp_path / "out"
    source.mkdir()
    np.save(source / "a.npy", mel.T.numpy())
    (source / "b.wav").write_bytes(b"no sound")
    np.save(source / "c.npy", mel.numpy())
    status, said, error = run("vocode", vocoder_folder, source, out)
    assert status == 1 and f"{out}: 1 file:" in said and tree(out) == {"c.wav"}
    first, second, last = error.splitlines()
    assert first.startswith(f"error: {source / 'a.npy'}") and "transposed" in first
    assert second.startswith(f"error: {source / 'b.wav'}")
    assert last == "2 of 3 files could not be processed"


def test_refusals(vocoder_folder, codec_folder, recording, mel, tmp_path, refused):
    out = tmp_path / "out.wav"
    (tmp_path / "cut.wav").write_bytes(recording.read_bytes()[:2000])
    np.save(tmp_path / "mel.npy", mel.numpy()[:40])
    for arguments, words in (
        ([codec_folder, recording], "is an export for SpeechCodec"),
        ([tmp_path / "missing", recording], "missing does not exist"),
        ([vocoder_folder, tmp_path / "in.wav"], "in.wav does not exist"),
        ([vocoder_folder, tmp_path / "cut.wav"], "cut.wav is truncated"),
        ([vocoder_folder, tmp_path / "mel.npy"], "mel.npy: expected a log-mel [80, frames]"),
        ([vocoder_folder, recording, "--sigma", "-1"], "sigma"),
        ([vocoder_folder, recording, "--refine", "-1"], "refine: -1"),
        ([vocoder_folder, recording, "--denoise", "-1"], "denoise"),
        ([vocoder_folder, recording, "--overlap_frames", "-1"], "overlap_frames"),
        ([vocoder_folder, recording, "--dtype", "int8"], "int8"),
        ([vocoder_folder, recording, "--device", "gpu"], "gpu"),
    ):
        assert words in refused("vocode", *arguments[:2], out, *arguments[2:]), words
    # A wrong option is not a matter of one file.
    folder = recording.parent
    assert "sigma" in refused("vocode", vocoder_folder, folder, tmp_path / "a", "--sigma", "-1")
    assert tree(tmp_path) == {"cut.wav", "mel.npy"}


def test_interrupted_it_leaves_nothing_behind(vocoder_folder, tmp_path):
    np.save(tmp_path / "mel.npy", np.full((80, 40000), -5.0))
    out = tmp_path / "out" / "long.wav"
    command = [sys.executable, "-m", "waveglow_vq", "vocode", str(vocoder_folder)]
    command += [str(tmp_path / "mel.npy"), str(out), "--device", "cpu", "--threads", "1"]
    # What runs in the background of a shell ignores the signal, and so would its children.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=heed)
    while process.poll() is None and not tree(tmp_path) - {"mel.npy"}:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate()
    assert (process.returncode, said) == (130, ""), error
    assert error.splitlines()[-1] == "interrupted" and "Traceback" not in error
    assert tree(tmp_path) == {"mel.npy"}


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_log_mel_files_are_checked_and_never_executed(mel, tmp_path):
    trace = tmp_path / "executed"
    np.save(tmp_path / "objects.npy", np.array([Payload(trace)]), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Payload(trace)))
    torch.save(Payload(trace), tmp_path / "pickle.pt")
    torch.save({"mel": mel, "text": "what was said"}, tmp_path / "dict.pt")
    torch.save({"text": "what was said"}, tmp_path / "text.pth")
    np.savez(tmp_path / "several.npz", quiet=mel.numpy() - 3, loud=mel.numpy())
    np.savez(tmp_path / "none.npz")
    torch.save(mel.T, tmp_path / "transposed.pt")
    torch.save(mel[None].expand(2, -1, -1), tmp_path / "batch.pt")
    torch.save(mel[:, :0], tmp_path / "empty.pt")
    torch.save(mel.long(), tmp_path / "whole.pt")
    torch.save(mel / 0, tmp_path / "infinite.pt")
    np.save(tmp_path / "cut.npy", mel.numpy())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-100])
    for name, words in (
        ("objects.npy", "other objects are not loaded"),
        ("pickle.npy", "other objects are not loaded"),
        ("pickle.pt", "other objects are not loaded"),
        ("dict.pt", r"holds 2 arrays \('mel', 'text'\), not one log-mel"),
        ("text.pth", "holds a str"),
        ("several.npz", r"holds 2 arrays \('quiet', 'loud'\)"),
        ("none.npz", "holds 0 arrays"),
        ("transposed.pt", r"got \[30, 80\]; it seems to be transposed"),
        ("batch.pt", r"got \[2, 80, 30\]$"),
        ("empty.pt", r"got \[80, 0\]$"),
        ("whole.pt", "floating-point numbers, not torch.int64"),
        ("infinite.pt", "NaN or infinity"),
        ("cut.npy", "cannot be read as a log-mel"),
        ("missing.npy", "does not exist"),
    ):
        with pytest.raises(UserError, match=words) as error:
            read_log_mel(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
    assert not trace.exists()
    torch.save(mel[None].half(), tmp_path / "good.pt")
    assert torch.equal(read_log_mel(tmp_path / "good.pt"), mel.half().float())
    torch.save({"mel": mel}, tmp_path / "good.pth")
    np.savez(tmp_path / "good.npz", mel.numpy().astype(">f8")[:, ::-1])
    assert torch.equal(read_log_mel(tmp_path / "good.pth"), mel)
    assert torch.equal(read_log_mel(tmp_path / "good.npz"), mel.flip(1))
