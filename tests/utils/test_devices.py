import logging

from waveglow_vq.errors import UserError
from waveglow_vq.utils import devices

import pytest
import torch


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("GPU", "'GPU' is not a device"),
        ("cuda:x", "'cuda:x' is not a device"),
        ("", "'' is not a device"),
        (1, "'1' is not a device"),
        (["cpu"], "is not a device; give cpu, cuda, cuda:1 or mps"),
        ("meta", "'meta' is not a device"),
        ("cuda:3", "cuda:3: torch finds no CUDA device here; give cpu"),
        (torch.device("cuda", 3), "cuda:3: torch finds no CUDA device here"),
        ("mps", "mps: torch cannot use mps here .*; give cpu"),
        (torch.device("mps"), "mps: torch cannot use mps here"),
        ("xla:1", "xla:1: torch cannot use it here"),
    ],
)
def test_devices_that_are_not_there(no_gpu, device, words):
    with pytest.raises(UserError, match=f"^--device: .*{words}"):
        devices.checked_device(device, "--device")


def test_devices_that_are_there(monkeypatch):
    for device in (None, "cpu", "cpu:0", torch.device("cpu")):
        assert devices.checked_device(device) == (None if device is None else str(device))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.checked_device(torch.device("mps")) == "mps"
    with pytest.raises(UserError, match="there is one mps device"):
        devices.checked_device("mps:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.checked_device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match="cuda:2: there are 2 GPUs"):
        devices.checked_device("cuda:2")


def said(caplog, seconds, precision, device_type="cpu"):
    """What is said where products in half precision and in fp32 take so many seconds."""
    devices.slowdown.cache_clear()
    devices._warn_once.cache_clear()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(devices, "_seconds", lambda dtype: seconds[dtype == torch.float32])
        for _ in range(2):
            devices.warn_of_slow_half("--dtype it", precision, device_type)
    devices.slowdown.cache_clear()
    messages = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return messages


def test_half_precision_that_is_slower_is_said_once(caplog):
    slow = (0.0082, 0.0002)
    (line,) = said(caplog, slow, "bf16")
    assert line.startswith("--dtype it: this processor has no fast bf16")
    assert "41 times as long as in fp32; fp32 is faster here" in line
    assert len(said(caplog, slow, "fp16")) == 1
    assert said(caplog, slow, "fp32") == said(caplog, slow, "fp16", "cuda") == []
    assert said(caplog, (0.0001, 0.0002), "bf16") == said(caplog, (0.00021, 0.0002), "bf16") == []


def test_the_product_is_measured():
    assert devices.slowdown("bf16") > 0.05


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_that_a_gpu_emulates_is_said_once(monkeypatch, caplog, supported):
    devices._warn_of_emulation.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    for precision in ("fp16", "bf16", "bf16"):
        devices.warn_of_slow_half(f"--precision {precision}", precision, "cuda")
    sentence = "--precision bf16: this GPU has no bf16 and emulates it, slowly; give fp16"
    assert [record.getMessage() for record in caplog.records] == [sentence] * (not supported)
