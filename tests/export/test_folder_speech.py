import shutil

from waveglow_vq.errors import UserError
from waveglow_vq.export.folder import export_model, export_text_to_speech
from waveglow_vq.inference import load_export
from waveglow_vq.inference.codes.coding import load_codec

import pytest
import torch

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import flattened_recipe, text_run, trained_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """YAML, model and tokenizer of a finished run."""
    return text_run(tmp_path_factory.mktemp("text_run"))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_one_folder_holds_all(run, codec_folder, tmp_path):
    (tmp_path / "codec").mkdir()
    moved = shutil.copytree(codec_folder, tmp_path / "moved")
    (moved / "NOTES.md").write_text("not part of it")
    folder = export_text_to_speech(*run, moved, tmp_path / "export")
    shutil.rmtree(moved)
    names = {"hyperparams.yaml", "model.ckpt"}
    codec = names | {"pitch_reader.safetensors"}
    assert set(contents(folder)) == names | {"tokenizer.model"} | {f"codec/{x}" for x in codec}
    # It may be moved as a whole.
    tts = load_export(folder.rename(tmp_path / "elsewhere"), run_opts=CPU)
    tokens = torch.tensor([[3, 4, 5, 6]])
    expected, got = (model.generate(tokens) for model in (run[1], tts.mods.model))
    assert torch.equal(expected.codes, got.codes)
    assert (tts.search.method, tts.search.temperature, tts.max_characters) == ("sample", 0.8, 40)
    assert tts.hparams.closing_mark == "."


def test_nothing_of_the_training_is_kept(run, codec_folder, tmp_path):
    folder = export_text_to_speech(*run, codec_folder, tmp_path / "export")
    text = (folder / "hyperparams.yaml").read_text()
    for word in (str(tmp_path), "_folder:", "seed", "learning_rate", "Adam", "features"):
        assert word not in text, word
    for word in ("interface: TextToSpeech", "sample_rate: 22050", "codebook_size: 32",
                 f'codec_checksum: "{load_codec(codec_folder, CPU).checksum}"'):  # fmt: skip
        assert word in text, word


def test_labels_are_kept(converter_folders, tmp_path):
    run = text_run(tmp_path / "run", labels=LABELS)
    folder = export_text_to_speech(*run, converter_folders("codes"), tmp_path / "export", LABELS)
    assert "codec/speakers.ckpt" in contents(folder)
    assert load_export(folder, run_opts=CPU).speakers == LABELS


def test_an_earlier_export_gives_way(run, codec_folder, vocoder_folder, tmp_path):
    folder = export_text_to_speech(*run, codec_folder, tmp_path / "export")
    (folder / "NOTES.md").write_text("the good one")
    before = contents(folder)
    # The codec may be that of the export which is replaced.
    assert export_text_to_speech(*run, folder / "codec", folder) == folder
    assert contents(folder) == before
    # What another interface does not have does not stay behind.
    text = flattened_recipe(tmp_path, "mel")
    export_model(text, trained_model(text), folder, "WaveGlowVocoder")
    names = {"NOTES.md", "hyperparams.yaml", "model.ckpt", "pitch_reader.safetensors"}
    assert set(contents(folder)) == names


def test_what_cannot_be_exported(run, codec_folder, vocoder_folder, tmp_path):
    text, model, tokenizer = run
    out = tmp_path / "out" / "export"
    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(tokenizer.read_bytes()[:-9])
    broken = text_run(tmp_path / "broken")[1]
    broken.tokens.weight.data[0] = float("nan")
    for arguments, words in (
        ((text, model, tokenizer, vocoder_folder, out), "which has no codes"),
        ((text, model, tokenizer, tmp_path / "no", out), "does not exist"),
        ((text, model, tmp_path / "no.model", codec_folder, out), "no.model cannot be read"),
        ((text, model, damaged, codec_folder, out), "damaged"),
        ((text, broken, tokenizer, codec_folder, out), "holds NaN"),
        (("seed: 1\n", model, tokenizer, codec_folder, out), "no 'model' to export"),
        ((text, model, tokenizer, codec_folder, out, None, "0" * 64), "on codes of the one with 0"),
        ((text, model, tokenizer, codec_folder, out, LABELS), "3 labels for a model with room"),
        ((text, model, tokenizer, codec_folder, tmp_path), "not an export"),
    ):
        with pytest.raises(UserError, match=words):
            export_text_to_speech(*arguments)
    assert not contents(tmp_path / "out") if (tmp_path / "out").exists() else True


def test_training_goes_on_as_if_nothing_had_happened(run, codec_folder, tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    export_text_to_speech(*run, codec_folder, tmp_path / "export")
    assert torch.equal(torch.rand(3), expected)
    assert all(parameter.requires_grad for parameter in run[1].parameters())
