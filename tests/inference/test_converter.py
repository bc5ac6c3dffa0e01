import math

from waveglow_vq.audio.io import read_wav, write_wav
from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, VoiceConverter, load_export
from waveglow_vq.inference.codes import coding
from waveglow_vq.inference.conversion.voices import known_voice
from waveglow_vq.inference.conversion.whole_utterances import convert_utterances
from waveglow_vq.inference.streaming import waveform

import pytest
import soundfile
import torch

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import voiced_speech_like

EVERY = ["codes", "pitch", "encoder", "waves", "mel"]
RATE = 22050


def mode_of(name):
    return "latent_swap" if name == "mel" else "codes"


@pytest.fixture(scope="module")
def wavs():
    return torch.stack([voiced_speech_like(7000, 120.0), voiced_speech_like(7000, 210.0, seed=1)])


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("voiced") / "in.wav"
    write_wav(path, voiced_speech_like(9000), RATE)
    return path


@pytest.mark.parametrize("name", EVERY)
def test_loads_lists_speakers_and_converts(converter_folders, wavs, name):
    converter = load_export(converter_folders(name), run_opts=CPU)
    assert isinstance(converter, VoiceConverter)
    assert converter.speakers == LABELS
    mode = mode_of(name)
    converted = converter.convert_batch(wavs, "p226", mode=mode, generator=0)
    assert converted.shape == (2, 1, 7000) and torch.isfinite(converted).all()
    mixed = converter.convert_batch(wavs, ["p225", "p226"], mode=mode, generator=0)
    torch.testing.assert_close(mixed[1], converted[1], atol=1e-4, rtol=1e-3)
    assert (mixed[0] - converted[0]).std() > 0.05 * converted[0].std()


def test_the_batch_is_what_the_function_gives(converters, wavs):
    converter = converters("pitch")
    model = converter.mods.model
    expected = convert_utterances(
        model,
        converter.mods.features,
        wavs,
        torch.tensor([7000, 4200]),
        known_voice(model, torch.tensor([2, 2])),
        sigma=0.9,  # of the export
        generator=1,
    )
    given = wavs.clone()
    given[1, 4200:] = float("nan")  # whatever padding holds
    result = converter.convert_batch(given, "p330", torch.tensor([1.0, 0.6]), generator=1)
    torch.testing.assert_close(result[:, 0], expected)
    assert not result[1, 0, 4200:].any()


@pytest.mark.parametrize("name", EVERY)
def test_an_item_is_the_same_alone_and_in_a_batch(converters, wavs, name):
    converter, mode = converters(name), mode_of(name)
    both = converter.convert_batch(wavs, LABELS[:2], [7000, 5001], mode=mode, generator=5)
    for item, count in enumerate((7000, 5001)):
        alone = converter.convert_batch(
            wavs[item : item + 1, :count], LABELS[item], mode=mode, generator=5
        )
        tolerance = 1e-3 * float(alone.abs().max())
        torch.testing.assert_close(both[item, :, :count], alone[0], atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_swapping_to_the_source_returns_the_recording(converters, recording, tmp_path, name):
    converter = converters(name)
    wav = read_wav(recording)
    for source in LABELS[:2]:
        same = converter.convert_file(
            recording, source, tmp_path / "same.wav", mode="latent_swap", source_speaker=source
        )
        torch.testing.assert_close(same[0], wav, atol=1e-3, rtol=0)
        torch.testing.assert_close(read_wav(tmp_path / "same.wav"), wav, atol=1e-3, rtol=0)
    batch = converter.convert_batch(wav[None], "p225", mode="latent_swap", source_speakers=["p225"])
    torch.testing.assert_close(batch[0, 0], wav, atol=1e-3, rtol=0)
    swapped = converter.convert_file(recording, "p226", mode="latent_swap", source_speaker="p225")
    assert (swapped[0] - wav).std() > 0.02 * wav.std()


def test_a_source_that_is_not_named(converters, recording):
    """A table takes it for the unknown speaker; an encoder listens."""
    table, encoder = converters("pitch"), converters("encoder")
    wav = read_wav(recording)
    for converter in (table, encoder):
        swap = converter.convert_file(recording, "p226", mode="latent_swap")
        named = converter.convert_file(recording, "p226", mode="latent_swap", source_speaker="p226")
        assert (swap - named).std() > 0.01 * wav.std()
    # The recording itself as the reference of the target: to its own voice and back.
    same = encoder.convert_file(recording, reference=recording, mode="latent_swap")
    torch.testing.assert_close(same[0], wav, atol=1e-3, rtol=0)


@pytest.mark.parametrize("source", ["encoder", "pretrained"])
def test_a_reference_is_a_voice_of_its_own(converters, recording, tmp_path, wavs, source):
    converter = converters(source)
    for index in range(2):
        write_wav(tmp_path / f"voice{index}.wav", 0.5 * wavs[index], RATE)
    voices = [
        converter.convert_file(recording, reference=tmp_path / f"voice{i}.wav", generator=0)
        for i in range(2)
    ]
    assert voices[0].shape == (1, 9000)
    assert (voices[0] - voices[1]).std() > 0.02 * voices[0].std()
    wav = read_wav(recording)
    reference = torch.stack([read_wav(tmp_path / f"voice{i}.wav") for i in range(2)])
    batch = converter.convert_batch(torch.stack([wav, wav]), reference=reference, generator=0)
    for voice, item in zip(voices, batch, strict=True):
        # Of the untrained flows' loudest sample.
        loudest = float(voice.abs().max())
        torch.testing.assert_close(item, voice, atol=1e-4 * loudest, rtol=1e-3)
    one = converter.convert_batch(torch.stack([wav, wav]), reference=reference[1], generator=0)
    torch.testing.assert_close(one[0], voices[1], atol=1e-3, rtol=1e-3)


def test_flat_pitch_is_another_thing_to_hear(converters, wavs):
    converter = converters("pitch")
    spoken = converter.convert_batch(wavs, "p226", generator=0)
    flat = converter.convert_batch(wavs, "p226", pitch=False, generator=0)
    assert (spoken - flat).std() > 1e-3 * spoken.std()
    plain = converters("codes")
    spoken, flat = (
        plain.convert_batch(wavs, "p226", pitch=pitch, generator=0) for pitch in (True, False)
    )
    assert torch.equal(spoken, flat)


def test_files_at_another_rate_and_in_stereo(converters, tmp_path):
    converter = converters("pitch")
    mono = voiced_speech_like(16000, seed=3)
    soundfile.write(tmp_path / "mono.wav", mono.numpy(), 48000, subtype="FLOAT")
    stereo = torch.stack([mono * 2, torch.zeros_like(mono)], dim=1)
    soundfile.write(tmp_path / "stereo.flac", stereo.numpy() / 4, 48000, subtype="PCM_24")
    result = converter.convert_file(
        tmp_path / "mono.wav", "p226", tmp_path / "out.wav", generator=0
    )
    assert result.shape == (1, math.ceil(16000 * RATE / 48000))
    expected = converter.convert_batch(resample(mono, 48000, RATE)[None], "p226", generator=0)
    torch.testing.assert_close(result, expected[0], atol=1e-5, rtol=0)
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
    quiet = converter.convert_file(tmp_path / "stereo.flac", "p226", generator=0)
    assert quiet.shape == result.shape


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.wav"
    write_wav(path, voiced_speech_like(round(4.3 * RATE)), RATE)
    return path


@pytest.fixture
def short_windows(monkeypatch):
    """Many windows and blocks in some seconds, which then count as long."""

    def shorten():
        monkeypatch.setattr(waveform, "WINDOW_SAMPLES", 64 * 256)
        monkeypatch.setattr(waveform, "CONDITION_STEPS", 24)
        monkeypatch.setattr(coding, "WINDOW_SECONDS", 1)

    return shorten


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("mode", ["codes", "latent_swap"])
def test_a_long_recording_is_what_it_is_at_once(
    converters, long_recording, short_windows, name, mode
):
    if (name, mode) == ("mel", "codes"):
        pytest.skip("no codes")
    converter, wav = converters(name), read_wav(long_recording)
    shared = {"mode": mode, "generator": 0 if mode == "codes" else None}
    batch = torch.stack([wav, wav.flip(0)])
    options = shared | {"source_speakers": ["p225", "p330"], "wav_lens": [len(wav), 50001]}
    if mode == "latent_swap" and name == "encoder":
        options.pop("source_speakers")
    whole = converter.convert_batch(batch, LABELS[1:], **options)
    tolerance = min(1e-5, 1e-3 * float(whole.std()))
    assert tolerance > 1e-7
    short_windows()
    again = converter.convert_batch(batch, LABELS[1:], **options)
    assert again.shape == whole.shape and not again[1, 0, 50001:].any()
    torch.testing.assert_close(again, whole, atol=tolerance, rtol=0)
    if "source_speakers" in options:
        shared["source_speaker"] = "p225"
    blocks = list(converter.stream_file(long_recording, "p226", **shared))
    # Cut where windows end, and there are many.
    assert len(blocks) > 5 and max(map(len, blocks)) < RATE
    torch.testing.assert_close(torch.cat(blocks), whole[0, 0], atol=tolerance, rtol=0)


def test_references_of_long_items(converters, long_recording, short_windows, wavs):
    converter, wav = converters("encoder"), read_wav(long_recording)[:60000]
    batch, results = torch.stack([wav, wav]), []
    for prepare in (lambda: None, short_windows):
        prepare()
        for reference in (wavs, wavs[1]):
            results.append(converter.convert_batch(batch, reference=reference, generator=0))
    for short, long in zip(results[:2], results[2:], strict=True):
        tolerance = 1e-5 * float(short.abs().max())
        torch.testing.assert_close(long, short, atol=tolerance, rtol=0)
        assert torch.equal(long[0], long[1]) == (long is results[3])


@pytest.mark.parametrize("name", ["pitch", "waves"])
def test_noise_of_long_items_from_one_source(converters, long_recording, short_windows, name):
    """A generator is used up by a long batch as by a short one."""
    converter, wav = converters(name), read_wav(long_recording)[:60000]
    batch, results = torch.stack([wav, wav]), []
    for prepare in (lambda: None, short_windows):
        prepare()
        generator = torch.Generator().manual_seed(3)
        results.append(converter.convert_batch(batch, "p226", [40001, 60000], generator=generator))
        results.append(torch.randn(16, generator=generator))
    torch.testing.assert_close(results[2], results[0], atol=1e-5, rtol=0)
    assert torch.equal(results[3], results[1])


@pytest.mark.parametrize("name", ["pitch", "encoder", "mel"])
def test_a_long_swap_to_the_source_returns_the_recording(
    converters, long_recording, short_windows, name
):
    """Also where nobody says who speaks."""
    wav = read_wav(long_recording)
    short_windows()
    for source in ("p226", None):
        target = {"speaker": "p226"} if source else {}
        blocks = converters(name).stream_file(
            long_recording, mode="latent_swap", source_speaker=source, **target
        )
        torch.testing.assert_close(torch.cat(list(blocks)), wav, atol=1e-3, rtol=0)


def test_flat_pitch_of_files(converters, long_recording):
    converter, wav = converters("pitch"), read_wav(long_recording)[None]
    for mode in ("codes", "latent_swap"):
        generator = 0 if mode == "codes" else None
        options = {"mode": mode, "pitch": False, "generator": generator}
        flat = converter.convert_file(long_recording, "p226", **options)
        whole = converter.convert_batch(wav, "p226", **options)
        torch.testing.assert_close(flat, whole[0], atol=1e-5, rtol=0)


def test_a_file_that_is_bad_at_its_end_is_not_half_converted(converters, tmp_path):
    broken = voiced_speech_like(8 * RATE)
    broken[-1] = math.nan
    soundfile.write(tmp_path / "nan.wav", broken.numpy(), RATE, subtype="FLOAT")
    for mode in ("codes", "latent_swap"):
        with pytest.raises(UserError, match="nan.wav holds 1 samples that are NaN"):
            converters("pitch").convert_file(
                tmp_path / "nan.wav", "p225", tmp_path / "out.wav", mode=mode
            )
    assert [path.name for path in tmp_path.iterdir()] == ["nan.wav"]


def test_seeds_and_sigma(converters, wavs):
    converter = converters("codes")
    seeded = converter.convert_batch(wavs, "p225", generator=1)
    assert torch.equal(seeded, converter.convert_batch(wavs, "p225", generator=1))
    assert torch.equal(seeded, converter.convert_batch(wavs, "p225", sigma=0.9, generator=1))
    assert not torch.equal(seeded, converter.convert_batch(wavs, "p225", generator=2))
    assert not torch.equal(seeded, converter.convert_batch(wavs, "p225", sigma=0.5, generator=1))


def test_reconstruction_is_in_ones_own_voice(converters, recording):
    wav = read_wav(recording)
    encoder = converters("encoder")
    own = encoder.reconstruct_file(recording, generator=0)
    as_reference = encoder.convert_file(recording, reference=recording, generator=0)
    assert own.shape == (1, len(wav))
    torch.testing.assert_close(own, as_reference, atol=1e-5 * float(own.abs().max()), rtol=0)
    assert converters("pitch").reconstruct_file(recording, generator=0).shape == (1, len(wav))
    with pytest.raises(UserError, match="no codes to reconstruct from"):
        converters("mel").reconstruct_file(recording)


# ---- errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speakers": "p22"}, r"'p22' is not one of the 3 speakers.*'p22[56]'.*waveglow-vq info"),
        ({"speakers": "anna"}, "'anna' is not one of the 3 speakers of this model; the first is"),
        ({"speakers": ["p225", "P330"]}, "'P330' is not one of.*'p330'"),
        ({"speakers": ["p225"]}, "1 labels for a batch of 2"),
        ({"speakers": 1}, "speakers: 1 is not"),
        ({}, "speaker, reference: give one of them"),
        ({"speakers": "p225", "reference": torch.zeros(1000)}, "give one of them"),
        ({"reference": torch.ones(4000)}, "speaker_source encoder"),
        ({"speakers": "p225", "mode": "swap"}, "'swap' is not one of codes, latent_swap"),
        ({"speakers": "p225", "source_speakers": "p999"}, "'p999' is not one of"),
        ({"speakers": "p225", "sigma": -1.0}, "sigma: -1"),
        ({"speakers": "p225", "sigma": 0.5, "mode": "latent_swap"}, "draws no noise"),
        ({"speakers": "p225", "generator": "seven"}, "generator: 'seven'"),
        ({"speakers": "p225", "wav_lens": [1.0, 0.05]}, "513 are needed"),
        ({"speakers": "p225", "wavs": torch.zeros(4000)}, r"expected \[batch, samples\]"),
        ({"speakers": "p225", "wavs": torch.zeros(2, 3, 4000)}, r"got \[2, 3, 4000\]"),
        ({"speakers": "p225", "wavs": torch.full((1, 4000), math.nan)}, "NaN"),
    ],
)
def test_wrong_calls_are_one_sentence(converters, wavs, options, sentence):
    options = {"wavs": wavs, **options}
    with pytest.raises(UserError, match=sentence) as error:
        converters("pitch").convert_batch(**options)
    assert "\n" not in str(error.value)


def test_wrong_references(converters, wavs):
    converter = converters("encoder")
    for reference, sentence in (
        (torch.zeros(3, 4000), "3 voices for a batch of 2"),
        (torch.zeros(100), "513 are needed"),
        (torch.full((4000,), math.inf), "NaN or infinity"),
    ):
        with pytest.raises(UserError, match=sentence):
            converter.convert_batch(wavs, reference=reference)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"path": "missing.wav"}, "missing.wav does not exist"),
        ({"path": "empty.wav"}, "empty.wav is an empty file"),
        ({"path": "short.wav"}, "short.wav is too short"),
        ({"path": "nan.wav"}, "nan.wav holds 1 samples that are NaN"),
        ({"speaker": "p227"}, "'p227' is not one of"),
        ({"speaker": None}, "give one of them"),
        ({"reference": "in.wav"}, "give one of them"),
        ({"speaker": None, "reference": "missing.wav"}, "missing.wav does not exist"),
        ({"speaker": None, "reference": "in.wav"}, "speaker_source encoder"),
        ({"source_speaker": "nobody"}, "'nobody' is not one of"),
    ],
)
def test_wrong_files_are_one_sentence(converters, tmp_path, options, sentence):
    write_wav(tmp_path / "in.wav", voiced_speech_like(4000), RATE)
    write_wav(tmp_path / "short.wav", torch.zeros(100), RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    broken = voiced_speech_like(4000)
    broken[17] = math.nan
    soundfile.write(tmp_path / "nan.wav", broken.numpy(), RATE, subtype="FLOAT")
    options = {"path": "in.wav", "speaker": "p225", "output_path": "out.wav"} | options
    for name in ("path", "reference", "output_path"):
        if options.get(name):
            options[name] = tmp_path / options[name]
    with pytest.raises(UserError, match=sentence) as error:
        converters("pitch").convert_file(**options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.wav").exists()


def test_codes_of_a_model_without_them(converters, recording):
    with pytest.raises(UserError, match="the model has no codes.*latent_swap"):
        converters("mel").convert_file(recording, "p225")


def test_models_without_speakers(codec_folder, vocoder_folder, converter_folders):
    with pytest.raises(UserError, match="an export for SpeechCodec, not for VoiceConverter"):
        VoiceConverter.from_hparams(codec_folder, run_opts=CPU)
    for folder, name in ((codec_folder, "SpeechCodec"), (vocoder_folder, "WaveGlowVocoder")):
        model = load_export(folder, run_opts=CPU)
        modules = {"model": model.mods.model, "features": model.mods.features}
        with pytest.raises(UserError, match=f"trained without speakers.*{name}"):
            VoiceConverter(modules=modules, hparams={})
    with pytest.raises(UserError, match="an export for VoiceConverter, not for SpeechCodec"):
        SpeechCodec.from_hparams(converter_folders("codes"), run_opts=CPU)


def test_labels_that_do_not_fit_the_model(converters):
    model = converters("codes")
    modules = {"model": model.mods.model, "features": model.mods.features}
    with pytest.raises(UserError, match="0 labels for a model with room for 3 speakers"):
        VoiceConverter(modules=modules, hparams={})
