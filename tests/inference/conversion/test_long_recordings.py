from waveglow_vq.audio.features import LogMel
from waveglow_vq.inference.conversion.long_recordings import content_blocks
from waveglow_vq.inference.conversion.voices import Voice
from waveglow_vq.inference.conversion.whole_utterances import Content, content_condition
from waveglow_vq.inference.streaming import waveform
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer

import pytest
import torch

FEATURES = LogMel()
SHARED = {"channels": 8, "speaker_channels": 4}


def model_with(conditioner, hop=None):
    torch.manual_seed(0)
    flows = WaveGlow(
        FEATURES,
        8,
        condition_hop=hop,
        flows=1,
        layers=1,
        channels=4,
        envelope={"order": 4},
        speaker_channels=4,
    )
    model = WaveGlowVQ(conditioner, flows, speakers=SpeakerCondition(2, channels=4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # what starts at zero does something
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double()


def of_log_mels(stride, pitch_stride, layers):
    conditioner = MelVQConditioner(
        FEATURES,
        SoftEMQuantizer(16, 8),
        stride=stride,
        encoder_layers=0,
        decoder_layers=layers,
        use_pitch=pitch_stride > 0,
        pitch_stride=max(1, pitch_stride),
        **SHARED,
    )
    return model_with(conditioner), 50, stride


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_log_mels(1, 0, 2),
        lambda: of_log_mels(3, 0, 1),
        lambda: of_log_mels(1, 4, 0),
        lambda: of_log_mels(3, 4, 0),
        lambda: of_log_mels(2, 3, 1),
        lambda: (
            model_with(WaveVQConditioner(FEATURES, SoftEMQuantizer(16, 8), **SHARED, mel_head=True),
                       hop=64), 48, 0.25),
    ],
    ids=["plain", "stride", "pitch", "stride and pitch", "other strides", "wave"],
)  # fmt: skip
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_condition_in_windows_is_that_of_the_whole(monkeypatch, make, steps):
    monkeypatch.setattr(waveform, "CONDITION_STEPS", steps)
    model, count, stride = make()
    generator = torch.Generator().manual_seed(1)
    frames = int(count * stride) - (1 if stride > 1 else 0)  # the last code covers less
    codes = torch.randint(16, (1, count), generator=generator)
    voice = Voice(model.speakers(torch.tensor([1])), torch.tensor([[5.2, 0.3]]).double())
    pitch = None
    if model.uses_pitch:
        voiced = (torch.rand(1, frames, generator=generator) > 0.3).double()
        pitch = torch.stack([torch.randn(1, frames, generator=generator) * voiced, voiced], -1)
    content = Content(codes, None, frames)
    with torch.no_grad():
        whole = content_condition(model, content, voice, pitch)
    blocks = list(content_blocks(model, content, voice, pitch))
    assert (len(blocks) > 2) == (steps < 1000)
    for name in ("local", "log_mel"):
        found = torch.cat([getattr(block, name) for block in blocks], dim=-1)
        torch.testing.assert_close(found, getattr(whole, name), rtol=0, atol=1e-9)
