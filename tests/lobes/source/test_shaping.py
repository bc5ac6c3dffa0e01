from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.flows.envelope import EnvelopeContext, EnvelopeFlow, MelPredictor
from waveglow_vq.lobes.source.shaping import RESPONSE, minimum_phase

import torch

FEATURES = LogMel()


def test_it_is_the_filter_of_the_envelope():
    """Where the log-mel stands still, and the recursion has died away before it is cut off."""
    bands = torch.arange(80.0)[:, None]
    log_mel = (-4 - bands / 40 + torch.sin(bands / 6)).expand(2, 80, 17).contiguous()
    log_mel[1] -= 2
    pulses = torch.zeros(2, 4096)
    pulses[:, 300::131] = 5.0
    flow = EnvelopeFlow(MelPredictor(FEATURES))
    expected = flow.inverse(pulses[:, None], EnvelopeContext(log_mel, None))[:, 0]
    found = minimum_phase(pulses, log_mel, FEATURES)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_a_pulse_is_heard_behind_it_only_and_so_long():
    log_mel = torch.randn(1, 80, 17, generator=torch.Generator().manual_seed(0)) - 5
    pulses = torch.zeros(1, 4096)
    pulses[:, 1000] = 1
    heard = minimum_phase(pulses, log_mel, FEATURES)[0].abs() > 1e-6
    assert heard.nonzero().min() >= 1000 and heard.nonzero().max() < 1000 + RESPONSE
    # The last frame is held where frames are missing.
    held = torch.cat([log_mel[..., :12], log_mel[..., 11:12].expand(-1, -1, 5)], dim=-1)
    pulses[:, 3900] = 1
    short, whole = (minimum_phase(pulses, given, FEATURES) for given in (log_mel[..., :12], held))
    torch.testing.assert_close(short, whole, rtol=0, atol=1e-6)
