import json

from waveglow_vq.data.speakers import SPEAKERS_FILE, read_speakers
from waveglow_vq.errors import UserError

import pytest
import torch

ENTRY = {"train_clips": 7, "log_f0_mean": 5.1, "log_f0_std": 0.2, "age": 23, "gender": "F"}


def write(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / SPEAKERS_FILE).write_text(text, "utf-8")
    return folder


def test_speakers_are_numbered_in_the_order_of_their_labels(tmp_path):
    entries = {
        "s5": {**ENTRY, "train_clips": 9},
        "p226": {**ENTRY, "log_f0_mean": 4.7},
        "p225": {**ENTRY, "log_f0_std": 0.1},
    }
    speakers = read_speakers(write(tmp_path, entries))
    assert speakers.labels == ["p225", "p226", "s5"]
    assert speakers.train_clips == [7, 7, 9]
    expected = torch.tensor([[5.1, 0.1], [4.7, 0.2], [5.1, 0.2]])
    torch.testing.assert_close(speakers.f0_statistics, expected)
    assert speakers.f0_statistics.dtype == torch.float32
    assert [speakers.number(label) for label in ("p225", "s5", "p999", "")] == [0, 2, -1, -1]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '["p225"]',
        {"p225": 7},
        {"p225": {"log_f0_mean": 5.1, "log_f0_std": 0.2}},
        {"p225": {**ENTRY, "log_f0_mean": "high"}},
        {"p225": {**ENTRY, "log_f0_std": None}},
        {"p225": {**ENTRY, "train_clips": "many"}},
    ],
)
def test_damaged_lists_are_named(tmp_path, content):
    with pytest.raises(UserError, match="speakers.json .*; prepare the corpus again"):
        read_speakers(write(tmp_path, content))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(UserError, match="speakers.json cannot be read"):
        read_speakers(tmp_path)
