"""Tests of the sequence model of text-to-speech."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.text_to_codes.alignment_loss import forward_sum
from waveglow_vq.lobes.text_to_codes.model import RATE_MARGIN, SPARE_TOKENS, TextToCodes
from waveglow_vq.lobes.text_to_codes.search import SearchOptions

import pytest
import torch

V, K, LEVELS = 13, 11, 4
# Terms that the end is no part of.
PER_CODE = ("pitch_nll", "pitch_accuracy", "reading")
SIZES = {
    "channels": 16,
    "heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "feedforward_channels": 24,
}


def build(**options):
    torch.manual_seed(0)
    return TextToCodes(V, K, **{**SIZES, **options})


def batch(speakers=False, pitch=False):
    torch.manual_seed(1)
    inputs = {
        "tokens": torch.randint(1, V, (3, 8)),
        "token_lens": torch.tensor([1.0, 0.5, 0.75]),
        "codes": torch.randint(K, (3, 20)),
        "code_lens": torch.tensor([0.6, 1.0, 0.35]),
    }
    if speakers:
        inputs["speaker"] = torch.tensor([2, 0, 1])
    if pitch:
        inputs["pitch"] = torch.randint(LEVELS + 1, (3, 20))
    return inputs


def alone(inputs, item):
    """One item of a batch without its padding."""
    tokens = int(round(float(inputs["token_lens"][item]) * 8))
    codes = int(round(float(inputs["code_lens"][item]) * 20))
    cut = {"tokens": tokens, "codes": codes, "pitch": codes, "speaker": None}
    own = {
        name: value[item : item + 1, : cut[name]] if cut[name] else value[item : item + 1]
        for name, value in inputs.items()
        if name in cut
    }
    return {**own, "token_lens": torch.ones(1), "code_lens": torch.ones(1)}, tokens, codes


OPTIONS = [{}, {"max_speakers": 3}, {"max_speakers": 3, "pitch_levels": LEVELS}]


def inputs_for(model):
    return batch(model.max_speakers > 0, model.pitch_levels > 0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_padding_changes_nothing(options):
    model = build(**options).double().eval()
    inputs = inputs_for(model)
    together = model(**inputs)
    sums, count = {}, 0
    for item in range(3):
        own, tokens, codes = alone(inputs, item)
        output = model(**own)
        torch.testing.assert_close(
            together.attention[item, : codes + 1, :tokens], output.attention[0], atol=1e-9, rtol=0
        )
        assert not together.attention[item, :, tokens:].any()
        for name, value in output.terms.items():
            weight = codes if name in PER_CODE else codes + 1
            sums[name] = sums.get(name, 0.0) + float(value) * weight
        count += codes + 1
    for name, value in together.terms.items():
        expected = sums[name] / (count - 3 if name in PER_CODE else count)
        assert float(value) == pytest.approx(expected, abs=1e-5), name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_weight_is_trained(options):
    model = build(**options)
    model(**inputs_for(model)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith("in_proj_bias"):  # of which the keys' part cancels in the softmax
            assert parameter.grad.any(), name


@torch.no_grad()
def test_nll_is_that_of_codes_and_end():
    model = build().eval()
    inputs = batch()
    hidden, _ = model.decode_text(
        *model.encode_text(inputs["tokens"], inputs["token_lens"]), inputs["codes"]
    )
    logs = model.to_code(hidden).log_softmax(-1)
    total, right, count = 0.0, 0, 0
    for item, codes in enumerate((12, 20, 7)):
        for t, target in enumerate([*inputs["codes"][item, :codes].tolist(), K]):
            total -= float(logs[item, t, target])
            right += int(logs[item, t].argmax()) == target
            count += 1
    terms = model(**inputs).terms
    assert float(terms["nll"]) == pytest.approx(total / count, abs=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(right / count, abs=1e-6)


@torch.no_grad()
def test_reading_and_attention_are_those_of_the_tokens():
    model = build().eval()
    inputs = batch()
    output = model(**inputs)
    memory, padding = model.encode_text(inputs["tokens"], inputs["token_lens"])
    sounds = model.to_sound(memory).log_softmax(-1)
    codes = torch.tensor([12, 20, 7])
    scores = torch.stack([s[:, c].T for s, c in zip(sounds, inputs["codes"], strict=True)])
    likelihood, places = forward_sum(scores, codes, (~padding).sum(1))
    assert float(output.terms["reading"]) == pytest.approx(-float(likelihood.sum()) / 39, abs=1e-4)
    total = 0.0
    for item, (tokens, count) in enumerate(((8, 12), (4, 20), (6, 7))):
        logs = (output.attention[item] + 1e-5).log()
        total -= float((places[item, :count] * logs[:count]).sum()) + float(logs[count, tokens - 1])
    assert float(output.terms["attention"]) == pytest.approx(total / 42, abs=1e-4)
    off = {"reading_weight": 0.0, "attention_weight": 0.0}
    for name in off:
        loss = (
            build(**{**off, name: 2.0}).eval()(**inputs).loss - build(**off).eval()(**inputs).loss
        )
        term = output.terms[name.removesuffix("_weight")]
        assert float(loss) == pytest.approx(2 * float(term), abs=1e-4)


def test_where_the_decoder_looks_does_not_move_where_the_tokens_are_read():
    model = build(reading_weight=0.0)
    model(**batch()).loss.backward()
    assert model.to_sound.weight.grad is None or not model.to_sound.weight.grad.any()


@torch.no_grad()
def test_the_future_is_not_seen():
    model = build(pitch_levels=LEVELS).eval()
    inputs = batch(pitch=True)
    memory = model.encode_text(inputs["tokens"], inputs["token_lens"])
    before, _ = model.decode_text(*memory, inputs["codes"], inputs["pitch"])
    inputs["codes"][:, 5] = (inputs["codes"][:, 5] + 1) % K
    inputs["pitch"][:, 9] = (inputs["pitch"][:, 9] + 1) % LEVELS
    after, _ = model.decode_text(*memory, inputs["codes"], inputs["pitch"])
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert (before[:, 6] != after[:, 6]).any(-1).all()
    # The pitch of code 9 is known only after it, even where the codes are the same.
    inputs["codes"][:, 5] = (inputs["codes"][:, 5] - 1) % K
    changed, _ = model.decode_text(*memory, inputs["codes"], inputs["pitch"])
    torch.testing.assert_close(before[:, :10], changed[:, :10])
    assert (before[:, 10] != changed[:, 10]).any(-1).all()


@torch.no_grad()
def test_codes_are_hidden_in_training_only():
    inputs = batch()
    plain, other = build(), build(code_dropout=0.9)
    assert torch.equal(plain.eval()(**inputs).loss, other.eval()(**inputs).loss)
    hiding = build(dropout=0.0, code_dropout=0.9).train()
    assert hiding(**inputs).loss != hiding(**inputs).loss


@torch.no_grad()
def test_who_speaks_matters_and_has_to_be_said():
    model = build(max_speakers=3).eval()
    inputs = batch(speakers=True)
    changed = model(**{**inputs, "speaker": torch.tensor([1, 1, 2])})
    assert changed.loss != model(**inputs).loss
    del inputs["speaker"]
    with pytest.raises(UserError, match="^speaker: the model has several"):
        model(**inputs)


def test_statistics_are_those_of_the_data():
    model = build()
    codes = [torch.tensor([1, 1, 1, 2, 1]), torch.tensor([3] * 12), torch.tensor([4, 2, 2])]
    model.fit_statistics([(4, codes[0], None), (5, codes[1], None), (2, codes[2], None)])
    assert float(model.codes_per_token) == pytest.approx(20 / 11)
    rates = [5 / (4 + SPARE_TOKENS), 12 / (5 + SPARE_TOKENS), 3 / (2 + SPARE_TOKENS)]
    assert float(model.least_rate) == pytest.approx(min(rates))
    assert float(model.greatest_rate) == pytest.approx(max(rates))
    assert model.longest_runs.tolist() == [1, 4, 3, 13, 2] + [1] * (K - 5)
    limits = model.limits(torch.tensor([4, 50]))
    for number, tokens in enumerate((4, 50)):
        spoken = tokens + SPARE_TOKENS
        assert int(limits.least[number]) == math.floor(min(rates) * spoken / RATE_MARGIN)
        assert int(limits.most[number]) == math.ceil(max(rates) * spoken * RATE_MARGIN - 1e-3)
    copy = build()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.longest_runs, model.longest_runs)
    assert torch.equal(copy.codes_per_token, model.codes_per_token)
    with pytest.raises(UserError, match="no utterances to train on"):
        model.fit_statistics([])


def test_training_data_keep_to_their_own_limits():
    torch.manual_seed(2)
    model, utterances = build(), []
    for tokens in (3, 9, 30, 61):
        codes = torch.randint(3, (int(tokens * (1 + torch.rand(()))) + 5,))
        utterances.append((tokens, codes, None))
    model.fit_statistics(utterances)
    for tokens, codes, _ in utterances:
        limits = model.limits(torch.tensor([tokens]))
        assert int(limits.least) <= len(codes) <= int(limits.most)
        values, runs = torch.unique_consecutive(codes, return_counts=True)
        assert bool((runs <= limits.longest_runs[values]).all())


SEARCHES = [
    SearchOptions(),
    SearchOptions("sample", temperature=0.9),
    SearchOptions("sample", top_k=3),
    SearchOptions("sample", top_p=0.7),
    SearchOptions("beam", beam_size=3),
    SearchOptions(look_ahead=0),
    SearchOptions(look_ahead=1),
    SearchOptions("beam", beam_size=3, look_ahead=1),
]


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[2]], ids=str)
@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_generation_with_and_without_cache_in_batches_and_alone(options, search):
    model = build(**options).eval()
    torch.nn.init.normal_(model.to_code.weight, std=0.5)
    # A short speech: it has to end within the limits sometimes, and to meet them sometimes.
    model.fit_statistics([(8, torch.arange(K).repeat(3), None), (8, torch.arange(6), None)])
    inputs = inputs_for(model)
    given = inputs["tokens"], inputs["token_lens"], inputs.get("speaker")
    found = model.generate(*given, search=search, generator=7)
    plain = model.generate(*given, search=search, generator=7, use_cache=False)
    assert torch.equal(found.codes, plain.codes) and torch.equal(found.stopped, plain.stopped)
    torch.testing.assert_close(found.attention, plain.attention, atol=1e-5, rtol=0)
    assert (found.pitch is None) == (model.pitch_levels == 0)
    if found.pitch is not None:
        assert torch.equal(found.pitch, plain.pitch)
    for item in range(3):
        own, tokens, _ = alone(inputs, item)
        speaker = own.get("speaker")
        single = model.generate(own["tokens"], None, speaker, search, generator=7)
        count = int(found.counts[item])
        assert torch.equal(found.codes[item, :count], single.codes[0])
        torch.testing.assert_close(
            found.attention[item, :count, :tokens], single.attention[0], atol=1e-5, rtol=0
        )
        assert found.stopped[item] == single.stopped[0]


def test_generation_leaves_no_gradients_and_changes_no_state():
    model = build().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = model.generate(batch()["tokens"])
    assert not found.attention.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_it_trains_in_bf16():
    model = build(max_speakers=3, pitch_levels=LEVELS)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**inputs_for(model))
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": 18}, "^channels: 18; it must be a multiple of 4"),
        ({"dropout": 1.0}, "^dropout: 1.0; it must be a number"),
        ({"code_dropout": -0.1}, "^code_dropout: -0.1; it must be a number"),
    ],
)
def test_wrong_options_are_named(options, sentence):
    with pytest.raises(UserError, match=sentence):
        build(**options)


def test_it_learns_to_read(seed=3):
    """Every token says which three codes follow: after some steps, unseen texts are read right.
    One guess in eleven would be, and 0.96 are with the worst of eight seeds."""
    model = build(dropout=0.0, code_dropout=0.1, channels=32, pitch_levels=LEVELS)
    torch.manual_seed(seed)
    steps, rate = 200, 6e-3
    optimizer = torch.optim.Adam(model.parameters())

    def texts(count, length=6):
        tokens = torch.randint(1, V, (count, length))
        codes = (tokens[:, :, None] * torch.tensor([1, 3, 7]) % K).flatten(1)
        return tokens, codes, codes % (LEVELS + 1)

    tokens, codes, pitch = texts(64)
    model.fit_statistics((6, row, None) for row in codes)
    for step in range(steps):
        # Falling to the end, without which the last steps decide about the result.
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        tokens, codes, pitch = texts(32)
        ones = torch.ones(32)
        output = model(tokens, ones, codes, ones, pitch=pitch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    tokens, codes, pitch = texts(40)
    for search in (SearchOptions(), SearchOptions("beam", beam_size=2)):
        found = model.eval().generate(tokens, search=search)
        assert found.stopped.float().mean() > 0.8
        assert (found.counts == codes.shape[1]).float().mean() > 0.7
        for values, expected in ((found.codes, codes), (found.pitch, pitch)):
            values = torch.nn.functional.pad(values, (0, codes.shape[1]), value=-1)
            assert (values[:, : codes.shape[1]] == expected).float().mean() > 0.8


def gradients(rank=0, world=1):
    """Of the rows of a batch that are one process's."""
    model = wrapped = build(pitch_levels=LEVELS, dropout=0.0, code_dropout=0.0).train()
    if world > 1:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
    wrapped(
        **{name: value[rank::world] for name, value in batch(pitch=True).items()}
    ).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def gradients_in_process(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    torch.save(gradients(rank, world), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    torch.multiprocessing.spawn(gradients_in_process, args=(2, str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, expected in gradients().items():
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
