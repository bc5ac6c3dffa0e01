from argparse import Namespace

from waveglow_vq.commands.common import load_model
from waveglow_vq.errors import UserError

import pytest
import torch


def test_the_model_of_a_command(vocoder_folder, codec_folder, tmp_path):
    before = torch.get_num_threads()
    try:
        options = Namespace(model=vocoder_folder, device="cpu", threads=before + 1, dtype="fp32")
        model = load_model(options, "vocode", ("WaveGlowVocoder",))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert type(model).__name__ == "WaveGlowVocoder"
    (tmp_path / "a.pt").touch()
    for change, words in (
        (
            {"model": codec_folder},
            "for SpeechCodec, which vocode cannot use; use waveglow-vq encode and",
        ),
        ({"model": tmp_path / "a.pt"}, "is a file.*import-checkpoint"),
        ({"model": tmp_path}, "not an export folder"),
        ({"threads": 0}, "--threads: 0"),
        ({"device": "gpu"}, "--device: 'gpu' is not a device; give cpu"),
        ({"dtype": "fp8"}, "fp8"),
    ):
        with pytest.raises(UserError, match=words):
            load_model(
                Namespace(**(vars(options) | {"threads": None} | change)),
                "vocode",
                ("WaveGlowVocoder",),
            )
