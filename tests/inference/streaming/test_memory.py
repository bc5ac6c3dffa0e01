"""Files of any length take the memory of short ones; each is measured in a process of its own."""

import subprocess
import sys

from waveglow_vq.audio.io import WavWriter

import pytest

from tests.inference.exports import export_tiny, speech_like

RATE = 22050
# Ten minutes of samples in fp32 are 50 MiB: nothing of that length is held.
ALLOWED_MIB = 30

PROGRAM = """
import resource, sys
import waveglow_vq
from waveglow_vq.audio.io import WavWriter
from waveglow_vq.inference import load_export

source, folder, output, refine = sys.argv[1:]
model = load_export(folder, run_opts={"device": "cpu"})
samples = 0
with WavWriter(output, model.sample_rate) as writer:
    for block in model.stream_file(source, generator=0, refine=int(refine)):
        writer.write(block)
print(writer.samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mib(folder, tmp_path, seconds, refine):
    source = tmp_path / f"{seconds}.wav"
    with WavWriter(source, RATE) as writer:
        for start in range(0, seconds, 10):
            writer.write(speech_like(min(10, seconds - start) * RATE, seed=start))
    command = [sys.executable, "-c", PROGRAM, source, folder, tmp_path / "out.wav", str(refine)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    samples, peak = process.stdout.split()[-2:]
    assert int(samples) == seconds * RATE
    return float(peak)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "refine"), [("mel", 0), ("mel", 5), ("mel_vq", 0), ("wav_vq", 0)]
)
def test_ten_minutes_in_the_memory_of_half_a_minute(tmp_path, preset, refine):
    overrides = {"prior": "envelope"} if preset == "wav_vq" else {}
    folder, _ = export_tiny(tmp_path, preset, **overrides)
    # Both long enough to be processed in windows.
    short, long = (peak_mib(folder, tmp_path, seconds, refine) for seconds in (30, 600))
    assert long < short + ALLOWED_MIB
