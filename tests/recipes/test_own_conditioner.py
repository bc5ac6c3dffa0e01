"""A conditioner of one's own: one file, named in a recipe's YAML, and nothing else is touched."""

import json
import sys

from waveglow_vq.audio.features import LogMel
from waveglow_vq.commands.models.info import describe_model
from waveglow_vq.inference.exported_model import load_export

import pytest
import torch

from tests.docs.pages import ROOT, blocks
from tests.inference.exports import speech_like
from tests.recipes.ljspeech_runs import RECIPE, quick_command, run

SMOOTHED = next(
    block.code for block in blocks(ROOT / "CONTRIBUTING.md") if block.title == "smoothed.py"
)
# Codes of every other frame, of single convolutions.
PLAIN_CODES = """\
import torch
from waveglow_vq.lobes.conditioners import Conditioner, normalize_log_mel


class PlainCodes(Conditioner):
    receptive_field = encoder_receptive_field = 0

    def __init__(self, features, quantizer):
        super().__init__(features, channels=8, stride=2)
        self.start = torch.nn.Conv1d(features.n_mels, quantizer.codebook_dim, 2, 2)
        self.quantizer = quantizer
        self.up = torch.nn.ConvTranspose1d(quantizer.codebook_dim, self.channels, 2, 2)
        self.head = torch.nn.Conv1d(self.channels, features.n_mels, 1)

    def encoder(self, features, lengths=None):
        features = torch.nn.functional.pad(features, (0, features.shape[-1] % 2))
        return self.start(normalize_log_mel(features)).transpose(1, 2)

    def decoder(self, vectors, steps, lengths=None, speaker=None):
        local = self.up(vectors.transpose(1, 2))[..., :steps]
        return local, self.head(local) - 5
"""
QUANTIZER = """
        quantizer: !new:waveglow_vq.lobes.quantizers.SoftEMQuantizer
            codebook_size: 16
            codebook_dim: 4"""


@pytest.fixture
def exported(demo_corpus, manifests, tmp_path, monkeypatch):
    """Trains with a recipe's YAML whose model has a conditioner of a file beside it; returns the
    folder of the export."""

    def train_own(name, source, channels, more=""):
        monkeypatch.syspath_prepend(tmp_path)
        module = f"own_{name.lower()}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(source, "utf-8")
        text = (RECIPE / "hparams/mel.yaml").read_text("utf-8")
        assert text.count("model: !ref <preset[model]>\n") == 1
        text = text.replace("../../../hparams/", f"{RECIPE.parents[1]}/hparams/").replace(
            "model: !ref <preset[model]>\n",
            f"""\
model: !new:waveglow_vq.lobes.model.WaveGlowVQ
    conditioner: !new:{module}.{name}
        features: !ref <preset[contract][features]>{more}
    vocoder: !ref <preset[flow][vocoder]>
""",
        )
        (tmp_path / "hparams").mkdir()
        (tmp_path / "hparams/own.yaml").write_text(text, "utf-8")
        flow = "flow: {flows: 2, layers: 2, channels: 8, envelope: {order: 16}}"
        preset = f"conditioner_channels: {channels}, {flow}"
        arguments = quick_command(demo_corpus, manifests, tmp_path / "run", "own", preset=preset)
        arguments[0] = str(tmp_path / "hparams/own.yaml")
        run(arguments)
        return tmp_path / "run" / "export"

    return train_own


def test_a_vocoder_trains_exports_streams_and_is_described(exported):
    folder = exported("SmoothedMel", SMOOTHED, 80)
    report = describe_model(folder)
    assert report["condition"] == "log-mel" and report["interface"] == "WaveGlowVocoder"
    assert report["lookahead_ms"] > 0 and json.dumps(report)
    vocoder = load_export(folder, run_opts={"device": "cpu"})
    # Longer than what the iterations wait for.
    mel = LogMel()(speech_like(240 * 256)[None])
    whole = vocoder.decode_batch(mel, generator=0)[0, 0]
    blocks = list(vocoder.stream(mel[0].split(7, dim=-1), generator=0, chunk_frames=9))
    assert len(blocks) > 3
    torch.testing.assert_close(torch.cat(blocks), whole, rtol=0, atol=1e-4)


def test_a_codec_trains_exports_streams_and_is_described(exported):
    folder = exported("PlainCodes", PLAIN_CODES, 8, QUANTIZER)
    report = describe_model(folder)
    assert report["condition"] == "codes of the log-mel" and report["codebook_size"] == 16
    codec = load_export(folder, run_opts={"device": "cpu"})
    wav = speech_like(60 * 256)
    codes = codec.encode_batch(wav[None])
    assert codes.shape == (1, codec.mods.model.conditioner.code_count(len(wav))) == (1, 31)
    whole = codec.decode_batch(codes, generator=0)[0, 0]
    blocks = list(codec.stream(codes[0].split(4), generator=0, chunk_frames=9))
    torch.testing.assert_close(torch.cat(blocks), whole, rtol=0, atol=1e-4)
