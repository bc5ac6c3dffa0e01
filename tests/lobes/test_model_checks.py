"""A conditioner of one's own: what it lacks is said when the model is built."""

from types import SimpleNamespace

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.model_checks import check_conditioner

import pytest
from torch import nn

PLAIN = {"input": "wav", "hop": 4, "channels": 3, "receptive_field": 0}
CODES = {"samples_per_code": 4, "encoder_receptive_field": 1}
CODES |= dict.fromkeys(("quantizer", "encoder", "encode", "decode"), len)
KINDS = {
    "wav": PLAIN,
    "mel": {**PLAIN, "input": "mel", "n_mels": 5},
    "wav with codes": {**PLAIN, **CODES},
    "mel with codes": {**PLAIN, **CODES, "input": "mel", "stride": 2},
    "pitch": {**PLAIN, "uses_pitch": True, "pitch": len},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_conditioner_lacks_is_named(kind):
    parts = KINDS[kind]
    check_conditioner(SimpleNamespace(**parts))
    for name in parts.keys() - {"quantizer", "uses_pitch"}:
        rest = {other: value for other, value in parts.items() if other != name}
        with pytest.raises(UserError, match=rf"\(SimpleNamespace\) lacks {name} \("):
            check_conditioner(SimpleNamespace(**rest))


def test_a_model_is_not_built_with_it():
    class Own(nn.Module):
        input = "mel"

    with pytest.raises(UserError, match=r"\(Own\) lacks hop .*, channels .*, receptive_field"):
        WaveGlowVQ(Own(), None)
    with pytest.raises(UserError, match="takes 'audio'"):
        check_conditioner(SimpleNamespace(**{**PLAIN, "input": "audio"}))
