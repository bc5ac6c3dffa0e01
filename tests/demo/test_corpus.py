import hashlib
import itertools
import json
import sys

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.demo import corpus as module
from waveglow_vq.demo.corpus import DEMO_SPEAKERS, generate_demo_corpus, speak_demo_texts
from waveglow_vq.demo.espeak import synthesize
from waveglow_vq.demo.sentences import MAX_TEXTS
from waveglow_vq.demo.texts import DEMO_TEXTS
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch


@pytest.fixture
def synthesizer():
    pytest.importorskip("espeakng_loader", reason="needs pip install waveglow-vq[demo]")


def checksums(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def request(voice, text="The bridge is long."):
    return {"text": text, "voice": voice, "rate": 170, "pitch": 50, "range": 50}


def test_texts_fit_the_metadata_format():
    spoken = [normalized or text for text, normalized in DEMO_TEXTS]
    assert len(set(spoken)) == len(spoken) >= 60
    assert not any("|" in text or "\n" in text for pair in DEMO_TEXTS for text in pair if text)
    assert not any(character.isdigit() for text in spoken for character in text)
    assert any(character.isdigit() for text, _ in DEMO_TEXTS for character in text)


def test_layout(demo_corpus):
    lines = (demo_corpus / "metadata.csv").read_text("utf-8").splitlines()
    assert len(lines) == 12
    for line in lines:
        utterance_id, text, normalized = line.split("|")
        info = soundfile.info(demo_corpus / "wavs" / f"{utterance_id}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (22050, 1, "PCM_16")
        assert 1.5 < info.duration < 8
    assert lines[2].split("|")[1:] == list(DEMO_TEXTS[2])


def test_clips_look_like_recordings(demo_corpus):
    for file in sorted((demo_corpus / "wavs").iterdir()):
        signal, _ = soundfile.read(file)
        assert 0.2 < np.abs(signal).max() < 0.96  # loud enough, not clipped
        assert -25 < 10 * np.log10(np.mean(signal**2)) < -20
        edge = 10 * np.log10(np.mean(signal[:2000] ** 2))
        assert -62 < edge < -58  # room noise, not digital silence


def test_generates_the_same_bits_each_time(synthesizer, tmp_path):
    # The first speaker's voice is breathy, that is noisy: the harder case.
    first = generate_demo_corpus(tmp_path / "first", utterances=5, speakers=2)
    second = generate_demo_corpus(tmp_path / "second", utterances=5, speakers=2)
    assert checksums(first) == checksums(second)
    assert len(checksums(first)) == 12


def test_a_clip_does_not_depend_on_how_many_follow(synthesizer, tmp_path):
    few = checksums(generate_demo_corpus(tmp_path / "few", utterances=2))
    more = checksums(generate_demo_corpus(tmp_path / "more", utterances=4))
    assert few["wavs/DM001-0002.wav"] == more["wavs/DM001-0002.wav"]


def test_skips_when_up_to_date(synthesizer, tmp_path, monkeypatch):
    generate_demo_corpus(tmp_path, utterances=2)
    before = checksums(tmp_path)
    monkeypatch.setattr(module, "synthesize", lambda *_: pytest.fail("generated again"))
    generate_demo_corpus(tmp_path, utterances=2)
    assert checksums(tmp_path) == before


@pytest.mark.parametrize("damage", ["truncate", "remove", "interrupt"])
def test_repairs_a_damaged_corpus(synthesizer, tmp_path, damage):
    generate_demo_corpus(tmp_path, utterances=3)
    before = checksums(tmp_path)
    clip = tmp_path / "wavs" / "DM001-0002.wav"
    if damage == "truncate":
        clip.write_bytes(clip.read_bytes()[:1000])
    elif damage == "remove":
        clip.unlink()
    else:
        (tmp_path / "demo_corpus.json").write_text(json.dumps({"files": {}}))
    generate_demo_corpus(tmp_path, utterances=3)
    assert checksums(tmp_path) == before


def test_fewer_utterances_leave_no_stale_clips(synthesizer, tmp_path):
    generate_demo_corpus(tmp_path, utterances=4)
    generate_demo_corpus(tmp_path, utterances=2)
    clips = sorted(file.name for file in (tmp_path / "wavs").iterdir())
    assert clips == ["DM001-0001.wav", "DM001-0002.wav"]


def test_never_touches_files_that_are_not_its_own(synthesizer, tmp_path):
    folder, outside = tmp_path / "corpus", tmp_path / "outside.wav"
    generate_demo_corpus(folder, utterances=2)
    outside.write_text("keep")
    record = json.loads((folder / "demo_corpus.json").read_text())
    record["files"]["wavs/../../outside.wav"] = "0"
    (folder / "demo_corpus.json").write_text(json.dumps(record))
    generate_demo_corpus(folder, utterances=1)
    assert outside.read_text() == "keep"


@pytest.mark.parametrize("layout", ["ljspeech", "vctk"])
@pytest.mark.parametrize("name", ["metadata.csv", "speaker-info.txt", "wav48/p225/p225_001.wav"])
def test_refuses_a_folder_with_another_corpus(tmp_path, layout, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("theirs")
    with pytest.raises(UserError, match="another corpus"):
        generate_demo_corpus(tmp_path, utterances=1, layout=layout)
    assert checksums(tmp_path).keys() == {name}
    assert (tmp_path / name).read_text() == "theirs"


def test_vctk_layout(synthesizer, tmp_path):
    folder = generate_demo_corpus(tmp_path / "vctk", utterances=3, speakers=2, layout="vctk")
    names = {f"{name}/{name}_{i:03d}" for name in ("DM001", "DM002") for i in (1, 2, 3)}
    assert set(checksums(folder)) == (
        {"demo_corpus.json", "speaker-info.txt"}
        | {f"wav48/{name}.wav" for name in names}
        | {f"txt/{name}.txt" for name in names}
    )
    # What is spoken, so that a recognizer can be judged by it: the same for all speakers.
    for speaker, (index, (text, normalized)) in itertools.product(
        ("DM001", "DM002"), enumerate(DEMO_TEXTS[:3])
    ):
        written = (folder / "txt" / speaker / f"{speaker}_{index + 1:03d}.txt").read_text("utf-8")
        assert written == (normalized or text) + "\n"
    rows = [row.split() for row in (folder / "speaker-info.txt").read_text().splitlines()]
    assert rows[0] == ["ID", "AGE", "GENDER", "ACCENTS", "REGION"]
    assert [(row[0], row[2]) for row in rows[1:]] == [("DM001", "F"), ("DM002", "M")]
    # The same clips as in the other layout.
    other = generate_demo_corpus(tmp_path / "ljspeech", utterances=3, speakers=2)
    for clip in (other / "wavs").iterdir():
        speaker, number = clip.stem.split("-")
        same = folder / "wav48" / speaker / f"{speaker}_{int(number):03d}.wav"
        assert same.read_bytes() == clip.read_bytes()


def test_vctk_layout_is_skipped_repaired_and_shrunk(synthesizer, tmp_path, monkeypatch):
    generate_demo_corpus(tmp_path, utterances=2, speakers=2, layout="vctk")
    before = checksums(tmp_path)
    (tmp_path / "txt" / "DM002" / "DM002_001.txt").write_text("other words")
    generate_demo_corpus(tmp_path, utterances=2, speakers=2, layout="vctk")
    assert checksums(tmp_path) == before
    generate_demo_corpus(tmp_path, utterances=2, speakers=1, layout="vctk")
    assert not list(tmp_path.rglob("DM002*"))
    with monkeypatch.context() as patched:
        patched.setattr(module, "synthesize", lambda *_: pytest.fail("generated again"))
        generate_demo_corpus(tmp_path, utterances=2, speakers=1, layout="vctk")


def test_another_layout_replaces_the_first_one(synthesizer, tmp_path):
    generate_demo_corpus(tmp_path, utterances=1, speakers=2, layout="vctk")
    (tmp_path / "txt" / "notes.txt").write_text("keep")
    generate_demo_corpus(tmp_path, utterances=1)
    names = {"demo_corpus.json", "metadata.csv", "wavs/DM001-0001.wav", "txt/notes.txt"}
    assert set(checksums(tmp_path)) == names
    assert not (tmp_path / "wav48").exists() and not (tmp_path / "txt" / "DM001").exists()


def test_other_voices_replace_those_of_an_earlier_version(synthesizer, tmp_path, monkeypatch):
    generate_demo_corpus(tmp_path, utterances=1, speakers=2)
    before = checksums(tmp_path)
    monkeypatch.setattr(module, "DEMO_SPEAKERS", (DEMO_SPEAKERS[0], DEMO_SPEAKERS[3]))
    generate_demo_corpus(tmp_path, utterances=1, speakers=2)
    after = checksums(tmp_path)
    assert after["wavs/DM001-0001.wav"] == before["wavs/DM001-0001.wav"]
    assert after["wavs/DM002-0001.wav"] != before["wavs/DM002-0001.wav"]


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (MAX_TEXTS + 1, 1), (1, 99)])
def test_refuses_numbers_out_of_range(tmp_path, numbers):
    with pytest.raises(UserError, match="must be from 1 to"):
        generate_demo_corpus(tmp_path, *numbers)


def test_refuses_an_unknown_layout(tmp_path):
    with pytest.raises(UserError, match="--layout is 'timit'; it must be one of ljspeech, vctk"):
        generate_demo_corpus(tmp_path, 1, layout="timit")


@pytest.mark.parametrize("voice", ["no-such-language", "en-us+no_such_variant"])
def test_a_wrong_voice_is_an_error(synthesizer, voice):
    # The first utterance loads a good voice, which espeak-ng by itself would go on using.
    with pytest.raises(UserError, match=voice.replace("+", r"\+")):
        synthesize([request("en-us"), request(voice)])


def test_all_speakers_sound_different(synthesizer):
    clips = synthesize([request(speaker.voice) for speaker in DEMO_SPEAKERS])
    assert all(len(clip) > 10_000 for clip in clips)
    assert len({clip.tobytes() for clip in clips}) == len(DEMO_SPEAKERS)


def test_the_first_speakers_differ_clearly(synthesizer):
    """In pitch and in the shape of their spectra, and there are two women and two men."""
    pitches, spectra = [], []
    for speaker in range(4):
        wavs = [torch.from_numpy(clip / np.float32(32768)) for clip in speak_demo_texts(speaker, 4)]
        tracks = [track_f0(wav) for wav in wavs]
        pitches.append(torch.cat([track.f0[track.voiced] for track in tracks]).median())
        log_mel = torch.cat([LogMel()(wav[None])[0] for wav in wavs], dim=1)
        spectra.append(log_mel[:, log_mel.mean(0) > -8].mean(1))  # frames with speech
    for (pitch, spectrum), (other_pitch, other_spectrum) in itertools.combinations(
        zip(pitches, spectra, strict=True), 2
    ):
        assert 12 * abs(float((pitch / other_pitch).log2())) > 2.5  # semitones
        assert float((spectrum - other_spectrum).abs().mean()) > 0.2  # a factor of 1.2 per band
    for pitch, identity in zip(pitches, DEMO_SPEAKERS, strict=False):
        assert (pitch > 150) == (identity.gender == "F")


def test_without_the_synthesizer_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # import raises ImportError
    with pytest.raises(UserError, match=r"pip install waveglow-vq\[demo\]"):
        generate_demo_corpus(tmp_path, utterances=1)
