"""Names of tensors of every publisher become those of NVIDIA's current layout, and ours."""

from waveglow_vq.checkpoints.names import join_layers, numbered, plain_names
from waveglow_vq.errors import UserError

import pytest
import torch

PLAIN = "WN.1.start.weight_g"


@pytest.mark.parametrize(
    "name",
    [
        "WN.1.start.weight_g",
        "module.WN.1.start.weight_g",
        "module.1.WN.1.start.weight_g",
        "module.module.WN.1.start.weight_g",
        "waveglow.wavenet.1.start.weight_g",
        "module.waveglow.WN.1.start.weight_g",
        "WN.1.start.parametrizations.weight.original0",
    ],
)
def test_every_name_of_a_tensor_is_its_plain_one(name):
    assert plain_names({name: 5}) == ({PLAIN: 5}, [])


@pytest.mark.parametrize("other", ["module.", "module.1."])
def test_a_tensor_that_is_there_twice_is_named(other):
    with pytest.raises(UserError, match=f"it has the tensor {PLAIN} twice"):
        plain_names({PLAIN: 5, other + PLAIN: 6})


def test_what_belongs_to_no_model_is_left_out_and_a_stale_weight_only_beside_both_parts():
    stale = {"WN.0.end.weight": 1, "WN.0.end.weight_g": 2, "WN.0.end.weight_v": 3}
    others = {"convinv.12.inv_conv.weight": 4, "audio_to_melspec_precessor.featurizer.fb": 5}
    kept, left_out = plain_names(stale | others)
    assert kept == {"WN.0.end.weight_g": 2, "WN.0.end.weight_v": 3}
    assert left_out == [*others, "WN.0.end.weight"]
    half = {"WN.0.end.weight": 1, "WN.0.end.weight_g": 2, "convinv.1.conv.weight": 3}
    assert plain_names(half) == (half, [])


def test_parts_are_numbered_without_a_gap():
    assert numbered(["a.0.x", "a.1.x", "a.1.y", "a.x", "b.7.x"], "a.") == 2
    assert numbered(["b.0.x"], "a.") == 0
    assert numbered([f"a.{n}.x" for n in range(12)], "a.") == 12
    for names in (["a.1.x"], ["a.0.x", "a.2.x"], ["a.00.x"]):
        with pytest.raises(UserError, match=r"it lacks the tensors a\.[01]\.\*"):
            numbered(names, "a.")


def parted():
    """A network of two layers whose conditions, and whose residuals and skips, are apart; every
    tensor has a value of its own."""
    names = ["in_layers.0", "in_layers.1", "cond_layers.0", "cond_layers.1"]
    names += ["res_layers.0", "skip_layers.0", "skip_layers.1"]
    return {f"WN.0.{name}.bias": torch.full((2,), float(n)) for n, name in enumerate(names)}


def test_layers_are_joined_in_their_order():
    tensors = parted()
    join_layers(tensors)
    assert {name: value.tolist() for name, value in tensors.items() if "in_" not in name} == {
        "WN.0.cond_layer.bias": [2.0, 2.0, 3.0, 3.0],
        "WN.0.res_skip_layers.0.bias": [4.0, 4.0, 5.0, 5.0],
        "WN.0.res_skip_layers.1.bias": [6.0, 6.0],
    }


@pytest.mark.parametrize("name", ["cond_layer", "res_skip_layers.0", "res_skip_layers.1"])
def test_layers_that_are_there_joined_and_in_parts_are_named(name):
    with pytest.raises(UserError, match=f"WN.0.{name}.bias twice, joined and in parts"):
        join_layers(parted() | {f"WN.0.{name}.bias": torch.zeros(4)})


def test_parts_that_do_not_fit_each_other_are_named():
    tensors = parted()
    tensors["WN.0.cond_layers.1.bias"] = torch.zeros(2, 1)
    with pytest.raises(UserError, match="cond_layers.1.bias does not fit WN.0.cond_layers.0.bias"):
        join_layers(tensors)
