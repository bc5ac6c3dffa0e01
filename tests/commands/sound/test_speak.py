from argparse import Namespace

from waveglow_vq.audio.io import read_wav
from waveglow_vq.commands.sound import speak
from waveglow_vq.inference import TextToSpeech
from waveglow_vq.inference.text_to_speech import PAUSE
from waveglow_vq.lobes.text_to_codes.search import METHODS

import pytest
import torch

from tests.commands.conftest import tree
from tests.inference.conftest import CPU, LABELS

LONG = "The quick fox? It jumps over!"


def sounds_like(path, wav):
    torch.testing.assert_close(read_wav(path, 22050), wav[0].clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_text(speech_folders, tmp_path, run):
    export, out = speech_folders("plain"), tmp_path / "out.wav"
    status, said, error = run("speak", export, LONG, out, "--device", "cpu")
    tts = TextToSpeech.from_hparams(export, run_opts=CPU)
    expected = tts.synthesize(LONG, generator=0)
    assert (status, error) == (0, "")
    assert said.startswith(f"{out}: {expected.shape[1] / 22050:.2f} s, computed in")
    sounds_like(out, expected)
    for options, call in (
        (["--seed", 1], {"generator": 1}),
        (["--pause", 0.5], {"pause": 0.5}),
        (["--sigma", 0.1], {"sigma": 0.1}),
        (["--refine", 2], {"refine": 2}),
        (["--method", "greedy"], {"search": {"method": "greedy"}}),
        (["--method", "beam", "--beam_size", 2], {"search": {"method": "beam", "beam_size": 2}}),
        (["--temperature", 3.0, "--top_k", 9], {"search": {"temperature": 3.0, "top_k": 9}}),
        (["--top_p", 0.5], {"search": {"top_p": 0.5}}),
        (["--look_ahead", 1], {"search": {"look_ahead": 1}}),
    ):
        assert run("speak", export, LONG, out, "--force", *options)[0] == 0
        sounds_like(out, tts.synthesize(LONG, **{"generator": 0} | call))


def test_the_help_names_what_is_so(run):
    """It is written without what it would have to import."""
    said = " ".join(run("speak", "--help")[1].split())
    assert f"silence between sentences (default: {PAUSE:g})" in said
    *others, last = METHODS
    assert f"{', '.join(others)} or {last}" in said


def test_a_speaker(speech_folders, tmp_path, run):
    export, out = speech_folders("pitch"), tmp_path / "out.wav"
    status, said, _ = run("speak", export, "--speaker", "p226", "Go.", out)
    assert status == 0 and "in the voice of p226" in said
    tts = TextToSpeech.from_hparams(export, run_opts=CPU)
    sounds_like(out, tts.synthesize("Go.", "p226", generator=0))


def test_a_text_file(speech_folders, tmp_path, run):
    export, source = speech_folders("plain"), tmp_path / "story.txt"
    source.write_text(LONG)
    (tmp_path / "sounds").mkdir()
    assert run("speak", export, "--text_file", source, tmp_path / "sounds")[0] == 0
    tts = TextToSpeech.from_hparams(export, run_opts=CPU)
    sounds_like(tmp_path / "sounds" / "story.wav", tts.synthesize(LONG, generator=0))


def test_bad_lines_do_not_stop_the_others(speech_folders, tmp_path, run):
    export, source, out = speech_folders("plain"), tmp_path / "lines.txt", tmp_path / "out"
    source.write_text("Go.\n\nДа.\nYes! It's so.\n---\n", "utf-8")
    status, said, error = run("speak", export, "--lines", source, out)
    assert status == 1 and tree(out) == {"0001.wav", "0004.wav"} and f"{out}: 2 files" in said
    lines = error.splitlines()
    assert lines[0].startswith(f"error: {source}, line 3: ") and "'д'" in lines[0]
    assert lines[1].startswith(f"error: {source}, line 5: there is nothing to say")
    assert lines[2:] == ["2 of 4 files could not be processed"]
    tts = TextToSpeech.from_hparams(export, run_opts=CPU)
    sounds_like(out / "0004.wav", tts.synthesize("Yes! It's so.", generator=0))


def test_a_picture_of_the_attention(speech_folders, tmp_path, run, refused):
    pytest.importorskip("matplotlib", reason="needs pip install waveglow-vq[plots]")
    export, out, picture = speech_folders("plain"), tmp_path / "a.wav", tmp_path / "a.png"
    assert run("speak", export, LONG, out, "--attention", picture)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    tts = TextToSpeech.from_hparams(export, run_opts=CPU)
    sounds_like(out, tts.synthesize(LONG, generator=0))
    out.unlink()
    assert "a.png exists" in refused("speak", export, LONG, out, "--attention", picture)
    assert not out.exists()


def test_a_bound_on_the_length_is_told(speech_folders, tmp_path, run, caplog):
    assert run("speak", speech_folders("endless"), "Go.", tmp_path / "out.wav")[0] == 0
    ours = [record for record in caplog.records if record.name.startswith("waveglow_vq")]
    warnings = [record for record in ours if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "'go.' did not end by itself" in warnings[0].getMessage()


def test_refusals(speech_folders, codec_folder, vocoder_folder, tmp_path, run, refused):
    plain, out = speech_folders("plain"), tmp_path / "out.wav"
    story, odd, blank = (tmp_path / name for name in ("story.txt", "odd.txt", "blank.txt"))
    story.write_text("Go.")
    odd.write_bytes(b"\xff\xfe")
    blank.write_text("\n \n")
    taken = tmp_path / "taken.wav"
    taken.write_bytes(b"what was there")
    for arguments, words in (
        (
            [codec_folder, "Go.", out],
            "for SpeechCodec, which speak cannot use; use waveglow-vq encode",
        ),
        ([vocoder_folder, "Go.", out], "for WaveGlowVocoder, which speak cannot"),
        ([tmp_path / "no", "Go.", out], "does not exist"),
        ([plain, "", out], "TEXT: there is nothing to say"),
        ([plain, " \n ", out], "nothing to say"),
        ([plain, "?!", out], "nothing to say"),
        ([plain, "Да.", out], "TEXT: the tokenizer was trained on texts without 'д'"),
        ([plain, "Go.", tmp_path / "out.mp3"], "expected a .wav file name, got"),
        ([plain, "Go.", tmp_path], "expected a .wav file name, got"),
        ([plain, "Go.", taken], "taken.wav exists; choose another name"),
        ([plain, story, out], "is a file; read it with --text_file"),
        ([plain, "--text_file", story, taken], "taken.wav exists"),
        ([plain, "--text_file", "Go.", out], "TEXT: Go. does not exist"),
        ([plain, "--text_file", odd, out], "odd.txt is not text in UTF-8"),
        ([plain, "--text_file", blank, out], "blank.txt: there is nothing to say"),
        ([plain, "--lines", blank, tmp_path / "o"], "blank.txt holds no text"),
        ([plain, "--lines", story, taken], "taken.wav is a file; with --lines, name a folder"),
        ([plain, "--lines", story, tmp_path / "o", "--attention", "a.png"], "--attention"),
        ([plain, "Go.", out, "--attention", "a.doc"], "expected a .png file name"),
        ([plain, "Go.", out, "--speaker", "p225"], "single voice"),
        ([speech_folders("voices"), "Go.", out], "3 voices, such as 'p225'"),
        ([speech_folders("voices"), "Go.", out, "--speaker", "p2"], "'p2' is not one of the 3"),
        ([plain, "Go.", out, "--method", "best"], "'best' is not one of greedy, sample, beam"),
        ([plain, "Go.", out, "--top_p", "1.5"], "top_p: 1.5"),
        ([plain, "Go.", out, "--temperature", "0"], "temperature: 0.0"),
        ([plain, "Go.", out, "--beam_size", "0"], "beam_size: 0"),
        ([plain, "Go.", out, "--look_ahead", "-1"], "look_ahead: -1"),
        ([plain, "Go.", out, "--sigma", "-1"], "sigma: -1.0"),
        ([plain, "Go.", out, "--pause", "-1"], "pause: -1.0"),
        ([plain, "--lines", story, tmp_path / "o", "--top_k", "-1"], "top_k: -1"),
    ):
        assert words in refused("speak", *arguments), arguments
    status, _, error = run("speak", plain, "Go.", out, "--methd", "greedy")
    assert status == 2 and "unrecognized arguments: --methd" in error
    assert taken.read_bytes() == b"what was there"
    assert tree(tmp_path) == {"story.txt", "odd.txt", "blank.txt", "taken.wav"}


def test_other_commands_refuse_it(speech_folders, recording, tmp_path, refused):
    plain, out = speech_folders("plain"), tmp_path / "out.wav"
    for command, *more in (
        ["vocode", recording, out],
        ["encode", recording, tmp_path / "out.wvq"],
        ["convert", recording, out, "--speaker", LABELS[0]],
    ):
        sentence = refused(command, plain, *more)
        assert f"for TextToSpeech, which {command} cannot use; use waveglow-vq speak" in sentence


def test_lines_are_numbered_as_in_an_editor(tmp_path):
    (tmp_path / "l.txt").write_bytes("One\x0b\u2028.\r\n\r\nTwo\x1c\x85.\rThree.".encode())
    options = Namespace(text=tmp_path / "l.txt", output=tmp_path / "out", text_file=False)
    options.lines, options.force = True, False
    plan, texts = speak._plan(options)
    assert [output.name for _, output in plan.pairs] == ["0001.wav", "0003.wav", "0004.wav"]
    assert list(texts.values()) == ["One\x0b\u2028.", "Two\x1c\x85.", "Three."]
