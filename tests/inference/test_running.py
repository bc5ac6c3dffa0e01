"""How interfaces are loaded, moved, copied and sent to other processes."""

import copy
import io
import logging
import multiprocessing
import os
import pickle

from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import TextToSpeech, VoiceConverter, WaveGlowVocoder, load_export
from waveglow_vq.inference.running import default_dtype
from waveglow_vq.utils import devices

import pytest
import torch
from speechbrain.utils.run_opts import RunOptions

from tests.inference.exports import speech_like, voiced_speech_like

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def mel():
    return torch.randn(2, 80, 6, generator=torch.Generator().manual_seed(0)) - 5


def test_run_options(vocoder_folder, vocoder, mel):
    expected = vocoder.decode_batch(mel, generator=0)
    for run_opts in (
        {"device": torch.device("cpu")},
        {"device": None},
        RunOptions.from_dictionary({"device": torch.device("cpu", 0)}),
    ):
        loaded = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=run_opts)
        assert torch.equal(loaded.decode_batch(mel, generator=0), expected)


@pytest.mark.parametrize(
    ("run_opts", "words"),
    [
        ("cpu", "run_opts: expected a dict such as .*, got str"),
        ({"devise": "cpu"}, "run_opts: SpeechBrain has no option 'devise'"),
        ({"device": "gpu"}, "device: 'gpu' is not a device"),
        (
            {"device": "cpu", "precision": "half"},
            "precision: 'half' is not one of fp32, fp16, bf16",
        ),
    ],
)
def test_run_options_that_are_none(vocoder_folder, run_opts, words):
    with pytest.raises(UserError, match=words):
        WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=run_opts)


def test_where_an_export_is(vocoder_folder, tmp_path, monkeypatch):
    path = vocoder_folder / "hyperparams.yaml"
    for name in (path, str(path), "hyperparams.yaml"):
        WaveGlowVocoder.from_hparams(vocoder_folder, hparams_file=name, run_opts=CPU)
    monkeypatch.setenv("HOME", str(vocoder_folder.parent))
    assert isinstance(load_export("~/export", run_opts=CPU), WaveGlowVocoder)
    for source in (None, 7, b"export"):
        for load in (load_export, WaveGlowVocoder.from_hparams):
            with pytest.raises(UserError, match="source: expected a path, got"):
                load(source)
    with pytest.raises(UserError, match="hparams_file: .* is not in .*; give a file of the export"):
        WaveGlowVocoder.from_hparams(vocoder_folder, hparams_file=tmp_path / "hyperparams.yaml")
    with pytest.raises(UserError, match="hparams_file: expected the name of a file in .*NoneType"):
        WaveGlowVocoder.from_hparams(vocoder_folder, hparams_file=None)


def test_weights_stay_in_fp32(vocoder, speeches, mel):
    expected = vocoder.decode_batch(mel, generator=0)
    for interface in (vocoder, speeches("plain")):
        for change in (
            interface.half,
            interface.bfloat16,
            interface.double,
            lambda to=interface.to: to(torch.float16),
            lambda to=interface.to: to("cpu", torch.float64),
        ):
            with pytest.raises(UserError, match="stay in fp32 .* prepare_inference"):
                change()
        assert interface.float() is interface and interface.to("cpu") is interface
    assert torch.equal(vocoder.decode_batch(mel, generator=0), expected)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="the interface cannot be moved there: "):
            vocoder.cuda()


def test_slow_half_precision_is_said(vocoder_folder, caplog, monkeypatch):
    monkeypatch.setattr(devices, "slowdown", lambda precision: 30.0)
    devices._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        loaded = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU | {"precision": "bf16"})
        loaded.prepare_inference("fp32").prepare_inference("bf16").prepare_inference("bf16")
    lines = [record.getMessage() for record in caplog.records if "fp32 is faster" in record.msg]
    assert [line.split(":")[0] for line in lines] == ["precision bf16", "dtype bf16"]


class Spoken:
    """What each kind of interface makes of the same input, with a seed."""

    def __init__(self, recording):
        self.recording = recording

    def __call__(self, interface):
        if isinstance(interface, TextToSpeech):
            return interface.synthesize("the fox.", generator=3)
        if isinstance(interface, VoiceConverter):
            return interface.convert_file(self.recording, "p226", generator=3)
        return interface.reconstruct_file(self.recording, generator=3)


@pytest.fixture(params=["vocoder", "mel_vq", "wav_vq", "converter", "speech"])
def folder(
    request, vocoder_folder, codec_folder, wav_codec_folder, converter_folders, speech_folders
):
    made = {
        "vocoder": lambda: vocoder_folder,
        "mel_vq": lambda: codec_folder,
        "wav_vq": lambda: wav_codec_folder,
        "converter": lambda: converter_folders("pitch"),
        "speech": lambda: speech_folders("plain"),
    }
    return made[request.param]()


def test_copies_speak_as_the_original(folder, recording):
    speak, interface = Spoken(recording), load_export(folder, run_opts=CPU)
    expected = speak(interface)
    pickled = pickle.loads(pickle.dumps(interface))
    saved = io.BytesIO()
    torch.save(interface, saved)
    saved.seek(0)
    for other in (pickled, copy.deepcopy(pickled), torch.load(saved, weights_only=False)):
        assert torch.equal(speak(other), expected)
        assert other.speakers == interface.speakers
        assert list(other.state_dict()) == list(interface.state_dict())
        if not isinstance(other, TextToSpeech):
            assert other.checksum == interface.checksum
    # A copy has weights and caches of its own.
    model = (pickled.codec if isinstance(pickled, TextToSpeech) else pickled).mods.model
    with torch.no_grad():
        for parameter in model.vocoder.parameters():
            parameter.add_(0.05)
    assert not torch.equal(speak(pickled), expected)
    assert torch.equal(speak(interface), expected)


def test_copies_are_without_compiled_flows(vocoder, mel, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: lambda *args, **kwargs: 0 / 0)
    compiled = pickle.loads(pickle.dumps(vocoder)).prepare_inference(compile=True)
    with pytest.raises(ZeroDivisionError):
        compiled.decode_batch(mel)
    for copied in (pickle.loads(pickle.dumps(compiled)), copy.deepcopy(compiled)):
        expected = vocoder.decode_batch(mel, generator=0)
        assert torch.equal(copied.decode_batch(mel, generator=0), expected)


def _decode(vocoder, mel):
    return vocoder.decode_batch(mel, generator=0), os.getpid()


@pytest.mark.slow
def test_an_interface_goes_to_another_process(vocoder, mel):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there, process = pool.apply(_decode, (vocoder, mel))
    assert process != os.getpid()
    assert torch.equal(there, vocoder.decode_batch(mel, generator=0))


def test_torchs_default_type_changes_nothing(folder, tmp_path):
    recording = tmp_path / "recording.wav"
    write_wav(recording, voiced_speech_like(5100), 22050)
    speak, interface = Spoken(recording), load_export(folder, run_opts=CPU)
    expected = speak(interface)
    with default_dtype(torch.float64):
        for other in (interface, load_export(folder, run_opts=CPU)):
            spoken = speak(other)
            assert spoken.dtype == torch.float32 and torch.equal(spoken, expected)
    assert torch.get_default_dtype() == torch.float32


def test_torchs_default_type_and_other_calls(vocoder, converters, mel):
    converter = converters("encoder")
    wavs, lengths = speech_like(2 * 3000).view(2, 3000), [3000, 2100]

    def results():
        source = torch.Generator().manual_seed(0)
        torch.manual_seed(2)
        yield vocoder.decode_batch(mel, [6, 4], generator=source, denoise=0.1)
        yield vocoder.decode_batch(mel)
        yield torch.cat(list(vocoder.stream(mel.split(4, -1), generator=source)), dim=-1)
        yield converter.convert_batch(wavs, None, lengths, wavs[0, :2000], generator=0)
        yield converter.convert_batch(wavs, "p225", lengths, mode="latent_swap")

    expected = list(results())
    with default_dtype(torch.float64):
        for result, same in zip(results(), expected, strict=True):
            assert result.dtype == torch.float32 and torch.equal(result, same)
