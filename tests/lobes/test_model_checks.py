"""A conditioner of one's own: what it lacks is said when the model is built."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.base import Conditioner
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.model_checks import check_conditioner

import pytest
from torch import nn

from tests.lobes.flows.transform_base import tiny_features


def conditioner(codes=False, **parts):
    own = type("Own", (Conditioner,), parts)(tiny_features(), 4)
    own.quantizer = nn.Identity() if codes else None
    return own


@pytest.mark.parametrize("codes, names", [(False, {"forward"}), (True, {"encoder", "decoder"})])
def test_what_a_conditioner_lacks_is_named(codes, names):
    parts = dict.fromkeys({"receptive_field", *names}, len)
    check_conditioner(conditioner(codes, **parts))
    for name in parts:
        rest = {other: value for other, value in parts.items() if other != name}
        with pytest.raises(UserError, match=f"conditioner: Own lacks {name};"):
            check_conditioner(conditioner(codes, **rest))


def test_a_model_is_not_built_with_it():
    with pytest.raises(UserError, match="Own lacks receptive_field, encoder, decoder; the doc"):
        WaveGlowVQ(conditioner(codes=True), None)
    with pytest.raises(UserError, match="conditioner: Identity is not derived from"):
        WaveGlowVQ(nn.Identity(), None)
