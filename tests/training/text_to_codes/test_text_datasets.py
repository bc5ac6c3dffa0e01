import json
import logging

from waveglow_vq.data.loaders import part_of
from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.code_file import CodeFile, write_code_file
from waveglow_vq.training.text_to_codes.code_corpus import INDEX, CodeCorpus
from waveglow_vq.training.text_to_codes.text_datasets import (
    make_text_datasets,
    text_dataset,
    text_loader,
    training_labels,
)
from waveglow_vq.utils.files import write_json

import numpy as np
import pytest
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.checkpoints import Checkpointer

CHECKSUM = "ab" * 32
SPLITS = {"train": 60, "valid": 7, "test": 5}


class Letters:
    """Tokens are letters."""

    def encode(self, text):
        if "@" in text:
            raise UserError(f"{text!r} has '@', which the tokenizer does not know")
        return [ord(letter) for letter in text]


def length(number):
    """How many codes an utterance has: 5 to 104, in no order."""
    return 5 + number * 37 % 100


def codes(number):
    return (torch.arange(length(number)) + number) % 40_000


@pytest.fixture
def corpus(tmp_path):
    """A folder with codes of three splits, and their manifests: two speakers, with pitch."""
    number = 0
    for split, count in SPLITS.items():
        entries = {}
        for _ in range(count):
            name, many = f"clip{number:02d}", length(number)
            pitch = torch.arange(many) % 8
            values = (CHECKSUM, pitch, 7, 512, torch.tensor([5.0, 0.2]))
            file = CodeFile(codes(number), many * 512, 22050, 40_000, 512, "demo", *values)
            write_code_file(tmp_path / "codes" / f"{name}.wvq", file)
            entries[name] = {
                "wav": f"{{data_root}}/{name}.wav",
                "text": f"{number} " + "a" * (number % 7),
                "speaker": ("p225", "p226")[number % 2],
            }
            number += 1
        (tmp_path / f"{split}.json").write_text(json.dumps(entries))
    index = CodeCorpus("demo", CHECKSUM, 22050, 40_000, 512, 7, 512, number)
    write_json(tmp_path / "codes" / INDEX, {"version": 1, "complete": True, **index._asdict()})
    return tmp_path


def dataset(corpus, split="train", **options):
    return text_dataset(corpus / f"{split}.json", corpus, corpus / "codes", Letters(), **options)


def change(corpus, split="train", **texts):
    path = corpus / f"{split}.json"
    entries = json.loads(path.read_text())
    for name, text in texts.items():
        entries[name]["text"] = text
    path.write_text(json.dumps(entries))


def test_items(corpus):
    data = dataset(corpus, labels=["p226", "p225"])
    assert len(data) == 60
    for number in range(60):
        item = data[number]
        assert set(item) == {"id", "tokens", "codes", "pitch", "speaker"}
        assert item["id"] == f"clip{number:02d}" and item["speaker"] == 1 - number % 2
        text = f"{number} " + "a" * (number % 7)
        assert torch.equal(item["tokens"], torch.tensor([*map(ord, text.strip())]))
        assert torch.equal(item["codes"], codes(number))
        assert torch.equal(item["pitch"], torch.arange(length(number)) % 8)
        assert {item[name].dtype for name in ("tokens", "codes", "pitch")} == {torch.int64}
    entry = data.data["clip03"]
    assert entry["text"] == "3 aaa" and entry["path"] == str(corpus / "clip03.wav")
    assert entry["samples"] == length(3) * 512 and entry["speaker_label"] == "p226"
    assert entry["stored_codes"].dtype == entry["stored_tokens"].dtype == np.int16


def test_codes_of_any_size_are_stored(corpus):
    path = corpus / "codes" / "clip03.wvq"
    large = torch.tensor([32_767, 32_768, 39_999])
    values = ("demo", CHECKSUM, torch.zeros(3, dtype=torch.int64), 7, 512, torch.ones(2))
    write_code_file(path, CodeFile(large, 1500, 22050, 40_000, 512, *values))
    assert torch.equal(dataset(corpus)[3]["codes"], large)


def test_one_speaker_and_no_pitch(corpus):
    for path in (corpus / "codes").glob("*.wvq"):
        number = int(path.stem[4:])
        file = CodeFile(codes(number), 512, 22050, 40_000, 512, "demo", CHECKSUM)
        write_code_file(path, file)
    assert set(dataset(corpus)[0]) == {"id", "tokens", "codes"}


def test_the_three_of_a_recipe(corpus):
    hparams = {
        "manifest_folder": corpus,
        "codes_folder": corpus / "codes",
        "min_codes": 8,
        "max_codes": 100,
        "max_valid_utterances": 3,
    }
    three = make_text_datasets(hparams, corpus, Letters(), ["p225", "p226"], CHECKSUM)
    lengths = [[len(item["codes"]) for item in data] for data in three]
    assert len(lengths[0]) < 60 and len(lengths[1]) == 3
    assert all(8 <= n <= 100 for many in lengths for n in many)
    assert three[2][0]["id"] == "clip67" and "speaker" in three[2][0]
    with pytest.raises(UserError, match="holds codes of the model 'demo'"):
        make_text_datasets(hparams, corpus, Letters(), checksum="0" * 64)


def test_what_cannot_be_learnt_from_is_left_out_and_counted(corpus, caplog):
    change(corpus, clip01="a@b", clip02="c@", clip03="")
    short = sum(length(number) < 20 for number in range(60) if number != 3)
    long = sum(length(number) > 90 for number in range(60) if number != 3)
    with caplog.at_level(logging.INFO):
        data = dataset(corpus, min_codes=20, max_codes=90)
    unusable = sum(20 <= length(number) <= 90 for number in (1, 2))
    assert unusable == 2 and len(data) == 60 - 1 - short - long - unusable
    for words in (f"{short} too short", f"{long} too long", "2 with an unusable text"):
        assert words in caplog.text
    assert "clip01: 'a@b' has '@'" in caplog.text and "clip02: " not in caplog.text
    with caplog.at_level(logging.INFO):
        assert len(dataset(corpus, "test", labels=["p226"])) == 3
    assert "2 of unknown speakers" in caplog.text
    with pytest.raises(UserError, match="leaves no utterance to train on .7 too long"):
        dataset(corpus, "valid", max_codes=1)


def test_labels(corpus):
    path = corpus / "train.json"
    assert training_labels(path, corpus) == ["p225", "p226"]
    change(corpus, **{f"clip{number:02d}": " " for number in range(0, 60, 2)})
    assert training_labels(path, corpus) == ["p226"]


# ---- batches


def epoch(data, number=1, limit=400, **options):
    loader, sampler = text_loader(data, limit, 3, **options)
    sampler.set_epoch(number)
    batches = list(loader)
    assert len(loader) == len(batches)
    return batches


def ids(batches):
    return [batch.id for batch in batches]


def test_batches(corpus):
    data = dataset(corpus, labels=["p225", "p226"])
    batches = epoch(data)
    assert sorted(sum(ids(batches), [])) == sorted(data.data_ids)
    for batch in batches:
        assert isinstance(batch, PaddedBatch)
        values, lengths = batch.codes
        counts = (lengths * values.shape[1]).round().long().tolist()
        assert values.numel() <= 400 and values.dtype == torch.int64
        for row, name in enumerate(batch.id):
            number = int(name[4:])
            assert counts[row] == length(number)
            assert torch.equal(values[row, : counts[row]], codes(number))
            assert not values[row, counts[row] :].any()
            assert not batch.pitch.data[row, counts[row] :].any()
        assert batch.speaker.tolist() == [int(name[4:]) % 2 for name in batch.id]
        assert (batch.tokens.lengths * batch.tokens.data.shape[1]).round().max() > 0


@pytest.mark.parametrize(("limit", "part"), [(2000, 0.95), (8000, 0.93), (16_000, 0.87)])
def test_utterances_of_a_batch_are_about_as_long(limit, part):
    """As many utterances as an hour or two have, of about 7 s."""
    generator = torch.Generator().manual_seed(0)
    lengths = (290 + 90 * torch.randn(1500, generator=generator)).clamp(40, 440).long().tolist()
    data = {str(n): {"stored_codes": range(length)} for n, length in enumerate(lengths)}
    _, sampler = text_loader(DynamicItemDataset(data, output_keys=["id"]), limit, 3)
    batches = [[lengths[index] for index in batch] for batch in sampler]
    padded = [len(batch) * max(batch) for batch in batches]
    assert max(padded) <= limit and sum(map(len, batches)) == 1500
    assert sum(lengths) > part * sum(padded)
    assert sum(padded) > 0.8 * limit * len(batches)  # and the batches are rather full


def test_an_utterance_beyond_the_limit_is_a_batch_of_its_own(corpus):
    batches = epoch(dataset(corpus), limit=50)
    assert sorted(sum(ids(batches), [])) == [f"clip{number:02d}" for number in range(60)]
    assert max(len(batch.id) for batch in batches if batch.codes.data.shape[1] > 25) == 1


def test_one_utterance_is_enough(corpus):
    assert ids(epoch(dataset(corpus, max_utterances=1))) == [["clip00"]]


def test_epochs_differ_and_are_the_same_each_time(corpus):
    data = dataset(corpus)
    loader, sampler = text_loader(data, 400, 3)
    found = []
    for number in (1, 2, 1):  # SpeechBrain's sampler mixes its batches once more after an epoch
        sampler.set_epoch(number)
        found.append(ids(loader))
    assert found[0] == found[2] != found[1]
    assert sorted(map(sorted, found[0])) != sorted(map(sorted, found[1]))
    assert len({len(epoch(data, number)) for number in range(10)}) == 1
    assert ids(text_loader(data, 400, 4)[0]) != ids(text_loader(data, 400, 3)[0])


def test_loading_leaves_the_global_random_state_alone(corpus):
    state = torch.get_rng_state()
    for num_workers in (0, 1):
        epoch(dataset(corpus), num_workers=num_workers)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_of_one(corpus, world):
    data = dataset(corpus)
    whole = ids(epoch(data))
    parts = [ids(epoch(data, rank=rank, world=world)) for rank in range(world)]
    assert {len(part) for part in parts} == {-(-len(whole) // world)}
    dealt = [part[step] for step in range(len(parts[0])) for part in parts]
    assert dealt == (whole + whole)[: len(dealt)]


def test_too_few_batches_for_the_processes_are_refused(corpus):
    data = dataset(corpus, "test")
    with pytest.raises(UserError, match="max_batch_codes: with 900, 5 utterances make 1 batches"):
        epoch(data, limit=900, rank=1, world=2)
    # As many as processes are too few, too: SpeechBrain would take a batch apart.
    assert len(epoch(data, limit=1)) == 5
    with pytest.raises(UserError, match="make 5 batches, too few for 5 processes"):
        epoch(data, limit=1, world=5)
    assert [len(epoch(data, limit=1, rank=rank, world=4)) for rank in range(4)] == [2] * 4


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
@pytest.mark.parametrize("done", [1, 3])
def test_a_resumed_epoch_goes_on_with_the_same_batches(
    corpus, tmp_path, num_workers, rank, world, done
):
    data = dataset(corpus)
    options = {"rank": rank, "world": world, "num_workers": num_workers}
    expected = ids(epoch(data, 5, **options))

    loader, sampler = text_loader(data, 400, 3, **options)
    saver = Checkpointer(tmp_path / "save", {"loader": loader})
    sampler.set_epoch(4)
    list(loader)
    sampler.set_epoch(5)
    batches = iter(loader)
    assert [next(batches).id for _ in range(done)] == expected[:done]
    saver.save_checkpoint(end_of_epoch=False)

    loader, sampler = text_loader(data, 400, 3, **options)
    Checkpointer(tmp_path / "save", {"loader": loader}).recover_if_possible()
    sampler.set_epoch(5)
    assert ids(loader) == expected[done:]
    sampler.set_epoch(6)
    assert ids(loader) == ids(epoch(data, 6, **options))


def test_evaluation_is_shared_by_utterances(corpus):
    data = dataset(corpus, "valid")
    parts = [[item["id"] for item in part_of(data, rank, 3)] for rank in range(3)]
    assert sum(parts, []) == data.data_ids and [len(part) for part in parts] == [3, 2, 2]
