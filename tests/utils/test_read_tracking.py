import os
import time

from waveglow_vq.audio.sound_files import SoundBytes, audio_info
from waveglow_vq.data.manifests import read_pitch
from waveglow_vq.errors import UserError
from waveglow_vq.utils.read_tracking import ROWS, WIDTH, being_read, note_reading

import pytest
import torch


def test_the_last_name_stands():
    note_reading("a much longer name/a.wav")
    note_reading("b.wav")
    assert being_read([os.getpid()]) == ["b.wav"]
    assert being_read([]) == being_read([-1]) == []


def test_of_a_long_name_the_end_is_kept():
    note_reading("x" * WIDTH + "/ü.wav")
    (name,) = being_read([os.getpid()])
    assert name.endswith("xx/ü.wav") and len(name) > WIDTH / 2


@pytest.mark.parametrize("read", [audio_info, read_pitch])
@pytest.mark.parametrize("source", ["none.wav", SoundBytes("none.wav", b"")])
def test_files_are_named_before_they_are_read(read, source):
    note_reading("before")
    with pytest.raises(UserError):
        read(source)
    assert being_read([os.getpid()]) == ["none.wav"]


class Names(torch.utils.data.Dataset):
    """Each process notes one name and waits for the others."""

    def __init__(self, workers, folder):
        self.workers, self.folder = workers, folder

    def __len__(self):
        return self.workers

    def __getitem__(self, index):
        note_reading(f"{index}.wav")
        (self.folder / str(index)).touch()
        while len(os.listdir(self.folder)) < self.workers:
            time.sleep(0.01)
        return index, os.getpid()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_each_process_has_its_own_name(tmp_path):
    note_reading("main.wav")
    loader = torch.utils.data.DataLoader(
        Names(3, tmp_path), batch_size=None, num_workers=3, prefetch_factor=1
    )
    ids = dict(loader)
    assert len(set(ids.values())) == 3
    # Its processes have ended.
    for index, process in ids.items():
        assert being_read([process]) == [f"{index}.wav"]
    assert being_read([os.getpid()]) == ["main.wav"]
    assert sorted(being_read(ids.values())) == ["0.wav", "1.wav", "2.wav"]
    assert {"0.wav", "1.wav", "2.wav"} <= set(being_read())
    assert "main.wav" not in being_read() and ROWS > 64
