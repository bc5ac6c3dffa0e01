from waveglow_vq.lobes.quantizers.initialization import choose_spread_frames, move_idle_codes
from waveglow_vq.lobes.quantizers.statistics import squared_distances

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import clusters


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def test_spread_frames_cover_the_clusters():
    draw = clusters(count=64, dim=16, subspace=8, noise=0.05)
    chosen, distances, gains = choose_spread_frames(draw(512), 64)
    assert (gains >= 0).all() and gains[0] > gains[-1]
    assert chosen.shape == (64, 16) and distances.shape == (64,)
    frames = draw(2000)
    nearest = squared_distances(frames, chosen).amin(1)
    assert (nearest > 1.0).double().mean() < 0.02


def test_idle_codes_move_where_they_are_missed():
    centres = 10 * torch.eye(6)
    frames = centres.repeat(50, 1) + 0.1 * torch.randn(300, 6)
    # The last centre has no code, the first has two: they share its frames, so none is dead.
    codes = torch.cat([centres[:1] + 0.05 * torch.randn(2, 6), centres[1:5]])
    rows, places = move_idle_codes(frames, codes, limit=3)
    assert rows.tolist() in ([0], [1])
    assert (places - centres[5]).norm() < 1.0
    # With a code for each there is nothing to gain, and noise alone is no reason to move.
    rows, places = move_idle_codes(frames, centres, limit=3)
    assert len(rows) == 0 and places.shape == (0, 6)
    noise = torch.randn(400, 16)
    codes = torch.stack([part.mean(0) for part in noise.split(50)])
    assert len(move_idle_codes(noise, codes, limit=4)[0]) <= 1
