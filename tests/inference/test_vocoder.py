import inspect

from waveglow_vq.audio.io import read_wav_and_rate, write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import WaveGlowVocoder

import pytest
import torch
from speechbrain.inference.vocoders import HIFIGAN

from tests.inference.exports import export_tiny, speech_like

CPU = {"device": "cpu"}
HOP = 256


@pytest.fixture(scope="module")
def mel(vocoder):
    """Log-mels [2, 80, 20]."""
    return vocoder.encode_batch(speech_like(19 * HOP * 2).view(2, -1))[0]


def test_calls_of_hifigan():
    for call in ("decode_batch", "decode_spectrogram", "forward"):
        theirs = list(inspect.signature(getattr(HIFIGAN, call)).parameters)
        ours = inspect.signature(getattr(WaveGlowVocoder, call)).parameters
        assert list(ours)[: len(theirs)] == theirs
        assert all(not ours[name].default for name in list(ours)[2:])


def test_shapes_are_frames_times_hop(vocoder, mel):
    assert vocoder.decode_batch(mel).shape == (2, 1, 20 * HOP)
    assert vocoder(mel[..., :1]).shape == (2, 1, HOP)
    assert vocoder.decode_spectrogram(mel[0]).shape == (1, 20 * HOP)


def test_lengths_as_tacotron_returns_them(vocoder, mel):
    # Tacotron2 counts frames in an integer tensor; HIFIGAN is given the hop with them.
    wavs = vocoder.decode_batch(mel, torch.tensor([20, 13]), HOP, generator=0)
    assert wavs.shape == (2, 1, 20 * HOP)
    assert not wavs[1, :, 13 * HOP :].any() and wavs[1, 0, 13 * HOP - HOP :].any()
    for same in ([20, 13], torch.tensor([20.0, 13.0]), torch.tensor([1.0, 13 / 20])):
        assert torch.equal(vocoder.decode_batch(mel, same, generator=0), wavs)
    with pytest.raises(UserError, match="hop_len: 300, but the model's hop is 256"):
        vocoder.decode_batch(mel, torch.tensor([20, 13]), 300)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"prior": "white", "use_film": True, "condition_geometry": "group"},
        {"prior": "white", "condition_geometry": "sample", "use_weight_norm": False},
    ],
)
def test_an_item_is_the_same_alone_and_in_a_batch(tmp_path, mel, overrides):
    folder, _ = export_tiny(tmp_path, "mel", **overrides)
    vocoder = WaveGlowVocoder.from_hparams(folder, run_opts=CPU)
    padded = mel.clone()
    padded[1, :, 13:] = float("nan")  # whatever a padded frame holds
    batch = vocoder.decode_batch(padded, torch.tensor([20, 13]), generator=5)
    first = vocoder.decode_spectrogram(mel[0], generator=5)
    second = vocoder.decode_spectrogram(mel[1, :, :13], generator=5)
    torch.testing.assert_close(batch[0], first, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(batch[1, :, : 13 * HOP], second, atol=1e-4, rtol=1e-4)


def test_noise_sources(vocoder, mel):
    seeded = vocoder.decode_batch(mel, generator=3)
    assert torch.equal(seeded, vocoder.decode_batch(mel, generator=3))
    assert not torch.equal(seeded, vocoder.decode_batch(mel, generator=4))
    one, other = (
        vocoder.decode_batch(mel, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(one, other)
    assert torch.equal(one[0], seeded[0])
    torch.manual_seed(1)
    unseeded = vocoder.decode_batch(mel)
    assert not torch.equal(unseeded, vocoder.decode_batch(mel))
    torch.manual_seed(1)
    assert torch.equal(unseeded, vocoder.decode_batch(mel))


def test_sigma(vocoder, mel):
    def decode(**kwargs):
        return vocoder.decode_batch(mel, generator=0, **kwargs)

    # The export's own, from the recipe.
    assert torch.equal(decode(), decode(sigma=0.9))
    assert not torch.equal(decode(), decode(sigma=1.0))
    assert torch.equal(decode(sigma=0), vocoder.decode_batch(mel, sigma=0.0, generator=9))


def test_mixed_precision_stays_close(vocoder_folder, vocoder, mel):
    loaded = WaveGlowVocoder.from_hparams(
        vocoder_folder, run_opts={"device": "cpu", "precision": "bf16"}
    )
    exact = vocoder.decode_batch(mel, generator=0)
    rounded = loaded.decode_batch(mel, generator=0)
    assert not torch.equal(exact, rounded)
    assert (exact - rounded.float()).norm() < 0.1 * exact.norm()


def test_gradients_are_not_recorded(vocoder, mel):
    assert not vocoder.decode_batch(mel.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("spectrogram", "sentence"),
    [
        (torch.zeros(1, 20, 80), r"\[batch, 80, frames\], got \[1, 20, 80\]; .* transposed"),
        (torch.zeros(1, 64, 20), r"got \[1, 64, 20\]$"),
        (torch.zeros(80, 20), r"got \[80, 20\]"),
        (torch.zeros(1, 80, 0), r"got \[1, 80, 0\]"),
        (torch.full((1, 80, 9), float("nan")), "NaN"),
        (torch.full((1, 80, 9), float("-inf")), "infinity"),
    ],
)
def test_bad_spectrograms(vocoder, spectrogram, sentence):
    with pytest.raises(UserError, match=sentence):
        vocoder.decode_batch(spectrogram)


def test_bad_options(vocoder, mel):
    with pytest.raises(UserError, match=r"one log-mel \[80, frames\]"):
        vocoder.decode_spectrogram(mel)
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="sigma"):
            vocoder.decode_batch(mel, sigma=sigma)
    for generator in ("7", 1.5, True):
        with pytest.raises(UserError, match="generator"):
            vocoder.decode_batch(mel, generator=generator)
    for lens in ([20], [20, 21], [20, 0], torch.tensor([1.0, 0.0])):
        with pytest.raises(UserError, match="mel_lens"):
            vocoder.decode_batch(mel, mel_lens=lens)


def test_log_mels_of_waveforms(vocoder):
    wavs = speech_like(2 * 6000).view(2, 6000)
    mel, lens = vocoder.encode_batch(wavs, torch.tensor([1.0, 0.55]))
    assert mel.shape == (2, 80, 24) and lens.tolist() == [24, 13]
    alone, _ = vocoder.encode_batch(wavs[1:, :3300])
    torch.testing.assert_close(mel[1:, :, :13], alone)
    # Padding is silence.
    assert (mel[1, :, 13:] == vocoder.mods.features(torch.zeros(1, 2000)).min()).all()


def test_reconstruct_file(vocoder, recording, tmp_path):
    out = tmp_path / "new" / "out.wav"
    wav = vocoder.reconstruct_file(recording, out, generator=0)
    assert wav.shape == (1, 5000)
    written, rate = read_wav_and_rate(out)
    assert rate == 22050
    torch.testing.assert_close(written, wav[0].clamp(-1, 1), atol=1e-4, rtol=0)
    assert torch.equal(wav, vocoder.reconstruct_file(recording, generator=0))
    assert vocoder.encode_file(recording).shape == (80, 20)


def test_files_at_another_rate_and_in_stereo(vocoder, tmp_path):
    import soundfile

    path = tmp_path / "stereo.wav"
    soundfile.write(path, speech_like(2 * 9600).view(9600, 2).numpy(), 48000)
    assert vocoder.reconstruct_file(path).shape == (1, 4410)


def test_bad_files(vocoder, tmp_path):
    import soundfile

    with pytest.raises(UserError, match="nowhere.wav"):
        vocoder.reconstruct_file(tmp_path / "nowhere.wav")
    write_wav(tmp_path / "short.wav", torch.zeros(512), 22050)
    with pytest.raises(UserError, match="short.wav is too short: 512 samples"):
        vocoder.reconstruct_file(tmp_path / "short.wav")
    soundfile.write(
        tmp_path / "nan.wav", torch.full((2000,), float("nan")).numpy(), 22050, subtype="FLOAT"
    )
    with pytest.raises(UserError, match="nan.wav"):
        vocoder.encode_file(tmp_path / "nan.wav")
    with pytest.raises(UserError, match="513 are needed"):
        vocoder.encode_batch(torch.zeros(1, 512))
    with pytest.raises(UserError, match="NaN"):
        vocoder.encode_batch(torch.full((1, 2000), float("nan")))
    with pytest.raises(UserError, match=r"\[batch, samples\]"):
        vocoder.encode_batch(torch.zeros(2000))
