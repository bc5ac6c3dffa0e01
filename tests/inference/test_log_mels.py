import logging

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.inference.log_mels import refuse_other_kinds, warn_of_other_kinds

import numpy as np
import pytest
import torch

from tests.inference.exports import voiced_speech_like

DB = 20 / np.log(10)


@pytest.fixture(scope="module")
def mel():
    """Of a second and a half, with pauses."""
    return LogMel()(voiced_speech_like(33000)[None])[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda mel: mel * DB,
            r"go from -8[\d.]+ to .* below -11\.51; it seems to be in dB: .*0\.1151",
        ),
        (lambda mel: mel * DB - mel.max() * DB, "seems to be in dB"),
        (lambda mel: mel.exp() * 30, r"go from 0\.002\d+ to .* linear: take the logarithm"),
        (lambda mel: mel.clamp_min(-11) - 6, r"lower floor: cut it off by clip\(-11\.51\)"),
    ],
)
def test_other_kinds_are_refused_by_all_calls(vocoder, mel, change, words):
    other = change(mel)
    for call in (
        lambda: vocoder.decode_spectrogram(other),
        # An item of a batch, whatever it is padded with.
        lambda: vocoder.decode_batch(torch.stack([mel, other]), [len(mel.T), len(mel.T) - 1]),
        lambda: list(vocoder.stream([mel, other])),
    ):
        with pytest.raises(UserError, match=f"(spectrogram|mel_chunks: chunk 2): .*{words}"):
            call()


def said(caplog, mel):
    with caplog.at_level(logging.WARNING):
        found = warn_of_other_kinds("given", mel, LogMel())
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    assert found == bool(lines) and len(lines) < 2
    return "".join(lines)


def test_ranges_that_are_unlikely_are_said(caplog, mel):
    features = LogMel()
    for other, words in (
        (mel / np.log(10), "in log10, multiply it by ln(10) = 2.303"),
        (mel.exp() / 9, "linear or normalized"),
        (mel + 9, "normalized, undo that"),
        (mel * DB + 80, "in dB"),
    ):
        assert words in said(caplog, other)
    # Log10 of less than a second cannot be told.
    assert not said(caplog, (mel / np.log(10))[:, :80])
    refuse_other_kinds("given", mel / np.log(10), features)


def test_log_mels_pass_in_silence(caplog, mel, vocoder):
    loud = LogMel()(torch.sign(voiced_speech_like(33000))[None])[0]
    # As models that predict log-mels give them: a bit below the floor here and there.
    predicted = mel + 0.3 * torch.randn(mel.shape, generator=torch.Generator().manual_seed(0))
    silent = LogMel()(torch.zeros(1, 33000))[0]
    for own in (mel, loud, predicted, silent, torch.zeros(80, 100)):
        refuse_other_kinds("given", own, LogMel())
        assert said(caplog, own) == ""
    with caplog.at_level(logging.WARNING):
        vocoder.decode_batch(torch.stack([mel, mel / np.log(10)])[..., :90])
    (record,) = caplog.records
    assert record.getMessage().startswith("spectrogram: its values go from -4.1")


def test_whole_numbers_are_no_log_mel(vocoder):
    with pytest.raises(UserError, match="spectrogram: a log-mel has floating-point numbers, not"):
        vocoder.decode_spectrogram(np.full((80, 9), -3))
