"""Mel-consistent iterations behind the flows of all interfaces."""

from waveglow_vq.audio.io import read_wav, write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.export.folder import export_model
from waveglow_vq.inference import SpeechCodec, VoiceConverter, WaveGlowVocoder, load_export
from waveglow_vq.inference.codes import coding
from waveglow_vq.inference.streaming import refining, waveform
from waveglow_vq.lobes.mel_consistency import mel_consistent

import pytest
import torch

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import export_tiny, flattened_recipe, speech_like, trained_model

HOP = 256


@pytest.fixture(scope="module")
def mel(vocoder):
    """Log-mels [2, 80, 60]."""
    return vocoder.encode_batch(speech_like(59 * HOP * 2).view(2, -1))[0]


@pytest.fixture
def short_windows(monkeypatch):
    """Inputs of more than ten frames are long."""
    monkeypatch.setattr(waveform, "WINDOW_SAMPLES", 8 * HOP)
    monkeypatch.setattr(refining, "WINDOW_SAMPLES", 8 * HOP)
    monkeypatch.setattr(waveform, "CONDITION_STEPS", 8)
    monkeypatch.setattr(coding, "WINDOW_SECONDS", 0.1)


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "long.wav"
    write_wav(path, speech_like(59 * HOP + 100), 22050)
    return path


def close(one, other):
    assert one.shape == other.shape and other.abs().max() > 0.005
    torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


def joined(blocks):
    return torch.cat(list(blocks), dim=-1)


def test_a_vocoder_leads_to_the_log_mel_that_it_is_given(vocoder, mel, monkeypatch):
    monkeypatch.setattr(vocoder.mods.model, "source", "flows")
    flows = vocoder.decode_batch(mel, generator=0)
    assert torch.equal(vocoder.decode_batch(mel, generator=0, refine=0), flows)
    refined = vocoder.decode_batch(mel, generator=0, refine=4)
    assert torch.equal(refined[:, 0], mel_consistent(flows[:, 0], mel, vocoder.mods.features, 4))
    assert torch.equal(vocoder(mel, generator=0, refine=4), refined)

    def distance(wavs):
        return (vocoder.mods.features(wavs[:, 0])[..., :60] - mel).abs().mean()

    assert distance(refined) < 0.5 * distance(flows)
    # The denoiser works between flows and filter.
    options = {"generator": 0, "denoise": 0.3}
    denoised = vocoder.decode_batch(mel, **options)[:, 0]
    expected = mel_consistent(denoised, mel, vocoder.mods.features, 4)
    assert torch.equal(vocoder.decode_batch(mel, refine=4, **options)[:, 0], expected)


@pytest.mark.parametrize("refine", [1, 4])
def test_an_item_is_the_same_alone_and_in_a_batch(vocoder, mel, refine):
    wavs = vocoder.decode_batch(mel, [60, 33], generator=0, refine=refine)
    close(vocoder.decode_spectrogram(mel[0], generator=0, refine=refine), wavs[0])
    own = mel[1, :, :33]
    alone = vocoder.decode_spectrogram(own, generator=0, refine=refine)
    close(alone, wavs[1, :, : 33 * HOP])
    assert not wavs[1, :, 33 * HOP :].any()


def test_two_frames_are_too_short(vocoder, mel):
    for frames in (1, 2, 3):
        wavs = [
            vocoder.decode_spectrogram(mel[0, :, :frames], generator=0, refine=n) for n in (0, 3)
        ]
        assert torch.equal(*wavs) == (frames < 3)
        (block,) = vocoder.stream([mel[0, :, :frames]], generator=0, refine=3)
        close(block, wavs[1][0])
    padded = vocoder.decode_batch(mel, [60, 2], generator=0, refine=3)[1, :, : 2 * HOP]
    close(padded, vocoder.decode_spectrogram(mel[1, :, :2], generator=0))


@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (7, 5), (60, 64)])
@pytest.mark.parametrize("denoise", [0.0, 0.3])
def test_a_stream_of_log_mels_is_the_batch(vocoder, mel, size, chunk, denoise):
    options = {"generator": 3, "refine": 4, "denoise": denoise}
    whole = vocoder.decode_batch(mel, **options)[:, 0]
    blocks = vocoder.stream(mel.split(size, dim=-1), chunk_frames=chunk, **options)
    close(joined(blocks), whole)


def test_long_inputs_of_a_vocoder(vocoder, mel, long_recording, short_windows):
    options = {"generator": 3, "refine": 2}
    wavs = vocoder.decode_batch(mel, [60, 33], **options)[:, 0]
    for item, count in ((0, 60), (1, 33)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(waveform, "WINDOW_SAMPLES", 10**6)
            alone = vocoder.decode_spectrogram(mel[item, :, :count], **options)[0]
            whole = vocoder.decode_spectrogram(vocoder.encode_file(long_recording), **options)
        close(wavs[item, : count * HOP], alone)
    close(vocoder.reconstruct_file(long_recording, **options), whole[:, : 59 * HOP + 100])


@pytest.mark.parametrize("windows", ["at once", "windows"])
def test_a_codec_leads_to_the_log_mel_that_it_predicts(request, codec, long_recording, windows):
    options = {"generator": 3, "refine": 3}
    wavs = torch.stack([read_wav(long_recording, 22050), speech_like(59 * HOP + 100, 1)])
    counts = torch.tensor([59 * HOP + 100, 9000])
    codes = codec.encode_batch(wavs, counts)
    flows = codec.decode_batch(codes[:1], generator=3)
    whole = codec.decode_batch(codes, **options)[:, 0]
    own = int((codes[1] >= 0).sum())
    second = codec.decode_batch(codes[1:, :own], **options)[0, 0]
    condition = codec.mods.model.conditioner.decode(codes[:1])
    close(whole[:1], mel_consistent(flows[0], condition.log_mel, codec.mods.features, 3))
    if windows == "windows":
        request.getfixturevalue("short_windows")
        close(codec.decode_batch(codes, **options)[:, 0], whole)
    close(whole[1, : len(second)], second)
    for chunk in (3, 64):
        close(joined(codec.stream(codes[0].split(5), chunk_frames=chunk, **options)), whole[0])
    samples = 59 * HOP + 100
    close(codec.reconstruct_file(long_recording, **options)[0], whole[0, :samples])
    code_file = codec.to_code_file(long_recording)
    close(joined(codec.decode_stream(code_file, **options)), whole[0, :samples])
    close(codec(wavs, counts, **options)[0, 0], whole[0, :samples])


@pytest.mark.parametrize("name", ["codes", "pitch", "waves"])
def test_a_converter_leads_to_the_log_mel_of_the_target(request, converters, long_recording, name):
    converter, options = converters(name), {"generator": 3, "refine": 3}
    wavs = torch.stack([read_wav(long_recording, 22050), speech_like(59 * HOP + 100, 1)])
    counts = torch.tensor([59 * HOP + 100, 9000])
    flows = converter.convert_batch(wavs, "p226", counts, generator=3)
    whole = converter.convert_batch(wavs, "p226", counts, **options)
    assert not torch.allclose(flows, whole, atol=1e-3) and not whole[1, :, 9000:].any()
    close(converter.convert_batch(wavs[1:, :9000], "p226", **options)[0], whole[1, :, :9000])
    close(converter.convert_file(long_recording, "p226", **options), whole[0])
    code_file = converter.to_code_file(long_recording)
    close(joined(converter.decode_stream(code_file, "p226", **options)), whole[0, 0])
    request.getfixturevalue("short_windows")
    close(converter.convert_batch(wavs, "p226", counts, **options), whole)
    close(converter.convert_file(long_recording, "p226", **options), whole[0])


def test_latent_swaps_take_no_iterations(converters, long_recording):
    options = {"speaker": "p226", "mode": "latent_swap"}
    for name in ("mel", "codes"):
        converter = converters(name)
        with pytest.raises(UserError, match="refine: mode latent_swap takes no iterations"):
            converter.convert_file(long_recording, refine=3, **options)
        swapped = converter.convert_file(long_recording, **options)
        assert torch.equal(converter.convert_file(long_recording, refine=0, **options), swapped)
        converter.hparams.refine = 3
        try:
            assert torch.equal(converter.convert_file(long_recording, **options), swapped)
        finally:
            del converter.hparams.refine


@pytest.mark.parametrize("name", ["plain", "pitch"])
def test_text_to_speech_passes_it_to_its_codec(speeches, tmp_path, name):
    tts, text = speeches(name), "The quick fox? It jumps!"
    speaker = tts.speakers[0] if tts.speakers else None
    options = {"speaker": speaker, "generator": 0}
    flows = tts.synthesize(text, **options)
    refined = tts.synthesize(text, refine=3, **options)
    assert refined.shape == flows.shape and not torch.allclose(refined, flows, atol=1e-3)
    assert torch.equal(tts.synthesize(text, refine=0, **options), flows)
    spoken = tts.encode_text(text, **options)
    assert torch.equal(tts.decode_text(spoken, refine=3, **options), refined)
    batch, _ = tts.synthesize_batch([text], speakers=speaker, generator=0, refine=3)
    close(batch[0], refined)
    (tmp_path / "text.txt").write_text(text)
    out = tts.synthesize_file(tmp_path / "text.txt", tmp_path / "out.wav", refine=3, **options)
    written = read_wav(out, 22050)
    torch.testing.assert_close(written, refined[0].clamp(-1, 1), atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="refine: -1; it must be a whole number of at least 0"):
        tts.stream(text, refine=-1, **options)


def test_the_number_of_the_export(tmp_path, mel):
    text = flattened_recipe(tmp_path, "mel") + "\nrefine: 3\n"
    model = trained_model(text)
    folder = export_model(text, model, tmp_path / "export", "WaveGlowVocoder")
    assert "\nrefine: 3 " in (folder / "hyperparams.yaml").read_text()
    vocoder = load_export(folder, run_opts=CPU)
    assert vocoder.refine == 3
    wavs = vocoder.decode_batch(mel, generator=0)
    assert torch.equal(wavs, vocoder.decode_batch(mel, generator=0, refine=3))
    assert not torch.equal(wavs, vocoder.decode_batch(mel, generator=0, refine=0))
    close(joined(vocoder.stream(mel.split(9, -1), generator=0)), wavs[:, 0])


def test_an_older_export_has_none(vocoder_folder, tmp_path, mel, vocoder):
    folder = tmp_path / "older"
    folder.mkdir()
    for file in vocoder_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "hyperparams.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("refine:")))
    older = WaveGlowVocoder.from_hparams(folder, run_opts=CPU)
    assert older.refine == vocoder.refine == 0
    wavs = [one.decode_batch(mel, generator=0) for one in (older, vocoder)]
    assert torch.equal(*wavs)


def test_refusals(vocoder, mel, tmp_path):
    for wrong in (-1, 1.5, True, "3"):
        for call in (vocoder.decode_batch, vocoder.stream):
            with pytest.raises(UserError, match="refine: .*; it must be a whole number"):
                call([mel] if call == vocoder.stream else mel, refine=wrong)
    sentence = "refine: 3 iterations, but the model predicts no log-mel"
    for labels, interface in ((None, SpeechCodec), (LABELS, VoiceConverter)):
        folder, _ = export_tiny(tmp_path, "wav_vq", interface.__name__, labels)
        model = interface.from_hparams(folder, run_opts=CPU)
        codes = torch.zeros(1, 40, dtype=torch.int64)
        with pytest.raises(UserError, match=sentence):
            if labels is None:
                model.decode_batch(codes, refine=3)
            else:
                model.convert_batch(speech_like(9000)[None], "p225", refine=3)
        assert model.refine == 0
    text = flattened_recipe(tmp_path, "wav_vq") + "\nrefine: 3\n"
    with pytest.raises(UserError, match=sentence):
        export_model(text, trained_model(text), tmp_path / "export", "SpeechCodec")
    assert not (tmp_path / "export").exists()
