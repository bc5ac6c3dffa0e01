import math
from types import SimpleNamespace

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.inference.speech.spoken_text import SpokenSentence
from waveglow_vq.lobes.text_to_codes.model import TextToCodes
from waveglow_vq.lobes.text_to_codes.search import SearchOptions
from waveglow_vq.text.tokenizer import train_tokenizer
from waveglow_vq.training.checkpointing import KillSafeCheckpointer
from waveglow_vq.training.schedule import WarmupHoldHalve
from waveglow_vq.training.text_to_codes.text_brain import Belongings, TextToCodesBrain, _figures

import pytest
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset

TEXTS = ["One two.", "Three, four and five.", "Six."]
CODES = [20, 60, 10]


def make_brain(folder, **options):
    """A Brain of a tiny model, and its dataset of three utterances."""
    tokenizer = train_tokenizer(TEXTS, folder / "tokenizer.model")
    generator = torch.Generator().manual_seed(0)
    data = {
        f"u{number}": {
            "tokens": torch.tensor(tokenizer.encode(text)),
            "codes": torch.randint(8, (count,), generator=generator),
            "stored_codes": torch.zeros(count),
        }
        for number, (text, count) in enumerate(zip(TEXTS, CODES, strict=True))
    }
    model = TextToCodes(
        tokenizer.vocabulary_size, 8, channels=16, heads=2, encoder_layers=1, decoder_layers=1
    )
    model.fit_statistics((len(entry["tokens"]), entry["codes"], None) for entry in data.values())
    hparams = {
        "model": model,
        "tokenizer_file": folder / "tokenizer.model",
        "codec_checksum": "a" * 64,
        "search": SearchOptions(),
        "seed": 0,
        "use_averaging": False,
        "max_batch_codes": 60,
        "valid_batch_size": 2,
        "free_running_utterances": 2,
        "number_of_epochs": 2,
        "schedule": WarmupHoldHalve(0.01),
        **options,
    }
    brain = TextToCodesBrain(
        {"model": model}, lambda p: torch.optim.Adam(p, 0.01), hparams, {"device": "cpu"}
    )
    return brain, DynamicItemDataset(data, output_keys=["id", "tokens", "codes"])


def validate(brain, dataset):
    """As SpeechBrain does, without the report at the end."""
    brain.on_stage_start(sb.Stage.VALID, 1)
    for batch in brain.make_dataloader(dataset, sb.Stage.VALID):
        brain.evaluate_batch(batch, sb.Stage.VALID)
    return brain.evaluation_statistics(sb.Stage.VALID)


def test_means_are_over_codes_and_ends(tmp_path):
    """Whatever the batches: an utterance counts as many times as it has codes."""
    brain, dataset = make_brain(tmp_path)
    together = validate(brain, dataset)
    brain.hparams.valid_batch_size = 1
    alone = validate(brain, dataset)
    for name in ("nll", "accuracy", "perplexity"):
        assert together[name] == pytest.approx(alone[name], rel=1e-4), name
    assert together["perplexity"] == pytest.approx(math.exp(together["nll"]))
    items = [dataset[number] for number in range(3)]
    with torch.no_grad():
        lens = torch.ones(1)
        nlls = [
            float(brain.model(i["tokens"][None], lens, i["codes"][None], lens).terms["nll"])
            for i in items
        ]
    weights = [count + 1 for count in CODES]
    mean = sum(n * w for n, w in zip(nlls, weights, strict=True)) / sum(weights)
    assert together["nll"] == pytest.approx(mean, rel=1e-4)


def test_the_first_utterances_are_spoken(tmp_path):
    brain, dataset = make_brain(tmp_path)
    stats = validate(brain, dataset)
    assert [name for name, *_ in brain.spoken] == ["u0", "u1"]
    for (_, sentence, _), text in zip(brain.spoken, TEXTS, strict=False):
        assert sentence.text == text.lower()
        assert sentence.attention.shape == (len(sentence.codes), len(sentence.pieces))
    lengths = [len(s.codes) / n for (_, s, _), n in zip(brain.spoken, CODES, strict=False)]
    assert stats["free_length_ratio"] == pytest.approx(sum(lengths) / 2)
    assert {"free_stopped", "free_diagonality", "free_diagonal", "free_truncated"} <= stats.keys()
    # Alone, each says the same: what is said does not depend on the batch.
    before = [s.codes for _, s, _ in brain.spoken]
    brain.hparams.valid_batch_size = 1
    validate(brain, dataset)
    for codes, (_, sentence, _) in zip(before, brain.spoken, strict=True):
        assert torch.equal(codes, sentence.codes)


def test_nothing_is_spoken_where_nothing_is_asked_for(tmp_path):
    brain, dataset = make_brain(tmp_path, free_running_utterances=0)
    assert not any(name.startswith("free_") for name in validate(brain, dataset))


def test_speaking_is_seeded(tmp_path):
    """The same weights say the same; and what follows draws as if nothing had been said."""
    brain, dataset = make_brain(tmp_path, search=SearchOptions("sample"))
    validate(brain, dataset)
    state = torch.get_rng_state()
    brain._speak()
    assert torch.equal(torch.get_rng_state(), state)
    first, again = brain.spoken[:2], brain.spoken[2:]
    for (_, sentence, _), (_, other, _) in zip(first, again, strict=True):
        assert torch.equal(sentence.codes, other.codes)


def test_figures_of_a_reading_in_order():
    attention = torch.eye(10).repeat_interleave(3, 0)
    sentence = SpokenSentence("x" * 10, ["x"] * 10, torch.zeros(30), None, attention, True)
    figures = {name: float(value) for name, value in _figures(sentence, 40).items()}
    assert figures["free_length_ratio"] == 0.75
    assert figures["free_diagonal"] == figures["free_diagonality"] == figures["free_stopped"] == 1
    assert figures["free_truncated"] == 0
    cut = sentence._replace(codes=torch.zeros(12), attention=attention[:12], stopped=False)
    figures = {name: float(value) for name, value in _figures(cut, 40).items()}
    assert figures["free_diagonal"] == figures["free_stopped"] == 0
    assert figures["free_truncated"] == 1


def test_speakers_and_pitch_reach_the_model(tmp_path):
    brain, _ = make_brain(tmp_path)
    item = {"tokens": torch.tensor([1, 2]), "codes": torch.tensor([3, 4, 5])}
    inputs = brain.model_inputs(PaddedBatch([{"id": "a", **item}]), sb.Stage.TRAIN)
    assert sorted(inputs) == ["code_lens", "codes", "token_lens", "tokens"]
    item |= {"pitch": torch.tensor([0, 7, 8]), "speaker": 5}
    batch = PaddedBatch([{"id": "a", **item}, {"id": "b", **item, "speaker": 2}])
    inputs = brain.model_inputs(batch, sb.Stage.TRAIN)
    assert inputs["speaker"].tolist() == [5, 2]
    assert inputs["pitch"].tolist() == [[0, 7, 8]] * 2
    assert brain.weight_of(batch, sb.Stage.TRAIN) == 8


def test_likelihood_of_pitch_decides_too(tmp_path):
    brain, _ = make_brain(tmp_path)
    assert brain.valid_loss({"nll": 2.0, "loss": 9.0, "attention": 1.0}) == 2.0
    assert brain.valid_loss({"nll": 2.0, "pitch_nll": 0.5}) == 2.5


def test_epochs_of_less_than_a_step_are_refused(tmp_path):
    brain, dataset = make_brain(tmp_path)
    brain.grad_accumulation_factor = 9
    with pytest.raises(UserError, match="max_batch_codes: with 60, an epoch has . batches"):
        brain.make_dataloader(dataset, sb.Stage.TRAIN)


def test_the_plan_is_that_of_the_loader(tmp_path):
    brain, dataset = make_brain(tmp_path)
    loader = brain.make_dataloader(dataset, sb.Stage.TRAIN)
    assert brain.hparams.schedule.planned_steps == 2 * len(loader) > 0


# ---- what weights belong to


def test_weights_remember_codec_and_tokenizer(tmp_path):
    def checkpointer(codec, tokenizer):
        return KillSafeCheckpointer(tmp_path / "save", {"belongings": Belongings(codec, tokenizer)})

    checkpointer("a" * 64, "b" * 64).save_checkpoint()
    assert checkpointer("a" * 64, "b" * 64).recover_if_possible() is not None
    for other, name in ((("c" * 64, "b" * 64), "codec"), (("a" * 64, "c" * 64), "tokenizer")):
        with pytest.raises(UserError, match=f"with the {name} of checksum .*--output_folder"):
            checkpointer(*other).recover_if_possible()


def test_a_brain_registers_them(tmp_path):
    added = {}
    checkpointer = SimpleNamespace(
        add_recoverable=lambda name, what, **_: added.update({name: what})
    )
    brain, _ = make_brain(tmp_path)
    hparams = {**vars(brain.hparams)}
    TextToCodesBrain(
        {"model": brain.model}, None, hparams, {"device": "cpu"}, checkpointer=checkpointer
    )
    checksums = added["belongings"].checksums
    assert checksums["codec"] == "a" * 64 and len(checksums["tokenizer"]) == 64
