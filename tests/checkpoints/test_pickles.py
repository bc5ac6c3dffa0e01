"""The reader of pickles gives what pickle gives, as long as it is data, and ends in time."""

import collections
import io
import pickle
import pickletools

from waveglow_vq.checkpoints import pickles
from waveglow_vq.checkpoints.pickles import read_pickle
from waveglow_vq.checkpoints.records import Instance

import pytest
import torch

SHARED = ["told twice"]
DATA = {
    "numbers": [None, True, False, 0, -1, 255, 256, 65536, -(2**40), 2**2050, 2.5, -1e300],
    "texts": ["", "a\nb", "ü" * 300, b"", b"\x00\xff" * 200],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "shared": [SHARED, SHARED, (SHARED, SHARED)],
    "many": list(range(300)),
    "mapping": {name: {} for name in ("a", 1, 2.5, b"c", None)},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(protocol):
    data = DATA
    if protocol < 3:  # where bytes are a call
        data = DATA | {"texts": ["", "ü"], "mapping": {"a": {}, 1: {}}}
    if protocol >= 4:
        data = DATA | {"sets": [set(), {1, "a"}, frozenset((2, "b"))]}
    found = read_pickle(io.BytesIO(pickle.dumps(data, protocol)))
    assert found == data and repr(found).count("True") == 1
    assert found["shared"][0] is found["shared"][2][1]


def test_what_follows_a_pickle_is_left_in_the_file():
    file = io.BytesIO(pickle.dumps([1]) + pickle.dumps("next") + b"rest")
    assert (read_pickle(file), read_pickle(file), file.read()) == ([1], "next", b"rest")


@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_are_records_of_what_they_would_have_been(protocol):
    """Of a kind each: a call, keywords, a class with a state, a list, a mapping."""
    found = read_pickle(io.BytesIO(pickle.dumps(torch.Size([2, 3]), protocol)))
    assert found == (2, 3)
    counted = read_pickle(io.BytesIO(pickle.dumps(collections.Counter("aab"), protocol)))
    assert isinstance(counted, Instance) and counted.args == ({"a": 2, "b": 1},)
    found = read_pickle(io.BytesIO(pickle.dumps(collections.OrderedDict(b=1, a=2), protocol)))
    assert list(found.items()) == [("b", 1), ("a", 2)]
    default = collections.defaultdict(list, a=[1])
    found = read_pickle(io.BytesIO(pickle.dumps(default, protocol)))
    assert str(found.kind) == "collections.defaultdict" and found.entries == {"a": [1]}
    layer = torch.nn.ReLU(inplace=True)
    found = read_pickle(io.BytesIO(pickle.dumps(layer, protocol)))
    assert str(found.kind) == "torch.nn.modules.activation.ReLU" and found.state["inplace"] is True


def test_as_many_instructions_as_allowed_and_not_one_more(monkeypatch):
    data = pickle.dumps([None] * 20)
    count = len(list(pickletools.genops(data)))
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", count)
    assert read_pickle(io.BytesIO(data)) == [None] * 20
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", count - 1)
    with pytest.raises(ValueError, match="too many instructions"):
        read_pickle(io.BytesIO(data))
