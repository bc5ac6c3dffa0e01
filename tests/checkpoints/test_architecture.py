"""Every tensor is accounted for: what is missing, unknown, of another shape or without meaning is
named in one sentence."""

import os

from waveglow_vq.checkpoints import describe_checkpoint, import_checkpoint
from waveglow_vq.checkpoints.architecture import Architecture, expected_shapes, recognize
from waveglow_vq.errors import UserError

import pytest
import torch

from tests.checkpoints import published as pub


def refusal(tensors, folder):
    """The sentence with which these tensors are refused."""
    path = folder / "checkpoint.pt"
    torch.save({"state_dict": tensors, "config": {}}, path)
    with pytest.raises(UserError) as caught:
        import_checkpoint(path, folder / "export")
    assert os.listdir(folder) == ["checkpoint.pt"]
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.endswith(".") and "\n" not in message
    return message


def test_each_missing_tensor_is_named(tmp_path):
    tensors = pub.random_tensors()
    for name in tensors:
        kept = {other: value for other, value in tensors.items() if other != name}
        message = refusal(kept, tmp_path)
        assert "lacks" in message
        # Where a whole part is gone with it, the part is named.
        assert name in message or name.rsplit(".", 2)[0] in message


def test_each_misshaped_tensor_is_named(tmp_path):
    tensors = pub.random_tensors()
    for name, value in tensors.items():
        changed = tensors | {name: torch.cat([value, value[:1]])}
        message = refusal(changed, tmp_path)
        assert name in message


def test_each_tensor_of_a_parted_layout_that_is_missing_is_named(tmp_path):
    tensors = pub.parted(pub.random_tensors(), residuals=True)
    for name in tensors:
        if "cond_layers" in name or "res_layers" in name or "skip_layers" in name:
            kept = {other: value for other, value in tensors.items() if other != name}
            assert name in refusal(kept, tmp_path)
            changed = tensors | {name: tensors[name][..., None]}
            # Where it is joined with nothing, by the name of what it becomes.
            message = refusal(changed, tmp_path)
            assert name.split(".")[1] in message and name.split(".")[2] in message


@pytest.mark.parametrize(
    "name",
    [
        "WN.0.extra.weight",
        "WN.0.in_layers.9.bias",
        "WN.9.start.bias",
        "WN.0.start.weight",
        "WN.0.cond_layers.0.bias",
        "decoder.weight",
        "WN.00.start.bias",
        "bad\nname",
        "",
    ],
)
def test_unknown_tensors_are_refused(name, tmp_path):
    tensors = pub.random_tensors()
    if name == "WN.0.start.weight":  # beside g and v it is known, and stale
        path = tmp_path / "checkpoint.pt"
        torch.save(tensors | {name: torch.ones(1)}, path)
        assert describe_checkpoint(path)["left_out"] == [name]
        return
    refusal(tensors | {name: torch.ones(2)}, tmp_path)


@pytest.mark.parametrize("name", ["upsample.weight", "WN.2.res_skip_layers.1.weight_g"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_tensors_that_are_not_finite_are_named(name, value, tmp_path):
    tensors = pub.random_tensors()
    tensors[name].view(-1)[3] = value
    assert f"{name} holds NaN or infinity" in refusal(tensors, tmp_path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_tensors_that_hold_no_real_numbers_are_named(dtype, tmp_path):
    tensors = pub.random_tensors()
    tensors["WN.1.start.bias"] = tensors["WN.1.start.bias"].to(dtype)
    message = refusal(tensors, tmp_path)
    assert "WN.1.start.bias" in message or dtype == torch.complex64


def test_singular_matrices_are_named(tmp_path):
    tensors = pub.random_tensors()
    matrix = tensors["convinv.3.conv.weight"]
    matrix[1] = 2 * matrix[0] - matrix[2]
    assert "convinv.3.conv.weight is a singular matrix" in refusal(tensors, tmp_path)


def test_rows_that_cannot_be_normalized_are_named(tmp_path):
    tensors = pub.random_tensors()
    tensors["WN.1.in_layers.2.weight_v"][5] = 0
    assert "WN.1.in_layers.2.weight_v has rows of zeros" in refusal(tensors, tmp_path)


def test_sizes_that_do_not_fit_the_flows_before_are_named(tmp_path):
    tensors = pub.random_tensors()
    tensors["convinv.4.conv.weight"] = torch.eye(6)[..., None]
    assert "convinv.4.conv.weight is of size 6" in refusal(tensors, tmp_path)


def test_published_architecture():
    """256 channels: 87,879,272 parameters, by the tensors of the public code."""
    published = Architecture(80, 256, 8, 12, 4, 2, 8, 256, 3, True)
    shapes = expected_shapes(published)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 87_879_272
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert recognize(tensors) == published
