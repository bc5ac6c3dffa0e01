"""Training by graphs against training without: on a CPU, with graphs that compute again what they
captured. What only a GPU can show is in the last tests."""

import contextlib
import copy
import logging
import pickle

from waveglow_vq.lobes.flows.network import cuda_graphs
from waveglow_vq.lobes.flows.network.cuda_graphs import graph_networks
from waveglow_vq.lobes.flows.waveglow import negative_log_likelihood

import pytest
import torch

from tests.lobes.flows.network.fake_graphs import PoolOnCPU, graphs_on_cpu, replays
from tests.lobes.flows.test_memory_efficient import arguments, build


@pytest.fixture
def pools(monkeypatch):
    """The pools that are made, on a CPU."""
    return graphs_on_cpu(monkeypatch)


def loss_of(model, inputs, autocast=None):
    low = torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext()
    with low:
        z, logdet = model(**inputs)
    return negative_log_likelihood(z, logdet, z[0].numel()).mean()


def batch(step, items=2, **options):
    """Other numbers in each step."""
    inputs = arguments(items=items, **options)
    changed = {
        name: (value.detach() * (1 + 0.1 * step)).requires_grad_(name != "wav")
        for name, value in inputs.items()
        if value is not None
    }
    return {**inputs, **changed}


def train(model, batches, accumulation=1, autocast=None):
    """Losses, gradients of the inputs, and those of the parameters before each step of SGD; at the
    end the parameters."""
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), []
    for number, inputs in enumerate(batches):
        loss = loss_of(model, inputs, autocast)
        loss.backward()
        seen += [loss.detach(), *(t.grad for t in inputs.values() if torch.is_tensor(t))]
        if (number + 1) % accumulation == 0:
            seen += [p.grad for p in model.parameters()]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return [None if tensor is None else tensor.clone() for tensor in [*seen, *model.parameters()]]


def assert_same(found, expected):
    """Up to the rounding of sums, which depend on the strides of what is summed."""
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            tolerance = 1e-11 if one.dtype == torch.float64 else 1e-3
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"speaker": 3, "use_film": True},
        {"prior": "envelope", "condition_geometry": "group"},
        {"condition_geometry": "sample", "use_weight_norm": False},
    ],
    ids=str,
)
def test_steps_are_those_without_graphs(pools, options, accumulation):
    """Losses, gradients and the parameters that an optimizer makes of them, over several steps."""
    more = {"speaker": options.get("speaker", 0), "envelope": options.get("prior") == "envelope"}
    expected = train(build(**options), [batch(i, **more) for i in range(6)], accumulation)
    model = build(**options)
    graph_networks(model)
    found = train(model, [batch(i, **more) for i in range(6)], accumulation)
    assert_same(found, expected)
    # The first step is plain, the second one captures.
    assert len(pools) == 1 and replays(pools) == 5 * 2 * len(model.steps)
    assert any(tensor is not None and tensor.isfinite().all() for tensor in found)


@pytest.mark.parametrize("autocast", [torch.bfloat16, None])
def test_autocast(pools, autocast):
    model, other = build(torch.float32), build(torch.float32)
    graph_networks(model)
    batches = [[batch(i, dtype=torch.float32) for i in range(4)] for _ in range(2)]
    assert_same(train(model, batches[0], 1, autocast), train(other, batches[1], 1, autocast))
    assert replays(pools) == 3 * 2 * len(model.steps)
    # Another state of autocast is another shape.
    loss_of(model, batches[0][0], None if autocast else torch.bfloat16).backward()
    assert replays(pools) == 3 * 2 * len(model.steps)


def test_order_of_replays_is_that_of_captures(pools):
    model = build()
    graph_networks(model)
    train(model, [batch(i) for i in range(3)])
    (pool,) = pools
    assert len(pool.graphs) == 2 * len(model.steps)
    assert pool.log == 2 * pool.graphs


def test_other_shapes_are_plain_until_they_come_again(pools):
    """A last batch of an epoch is smaller, an evaluation has no gradients; neither is captured."""
    sizes = [2, 2, 1, 2, 3, 3, 2, 1]
    expected = train(build(), [batch(i, n) for i, n in enumerate(sizes)])
    model = build()
    graph_networks(model)
    found = train(model, [batch(i, n) for i, n in enumerate(sizes)])
    assert_same(found, expected)
    assert replays(pools) == 4 * 2 * len(model.steps)
    with torch.no_grad():
        loss_of(model, batch(0))
    assert replays(pools) == 4 * 2 * len(model.steps)


def test_so_many_shapes_at_most(pools, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MOST_SHAPES", 1)
    model = build()
    graph_networks(model)
    train(model, [batch(i, n) for i, n in enumerate([2, 2, 3, 3, 3, 2])])
    assert replays(pools) == 2 * 2 * len(model.steps)


def test_a_forward_that_interrupts_another_is_plain(pools):
    """Two in one graph, one that was given up, a second backward pass."""

    def gradients(model):
        losses = [loss_of(model, batch(i)) for i in (0, 1)]
        sum(losses).backward()
        found = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        return found

    expected, model = gradients(build()), build()
    graph_networks(model)
    for _ in range(3):
        assert_same(gradients(model), expected)
    before = replays(pools)
    assert before == 3 * 2 * len(model.steps)
    loss_of(model, batch(0))  # without a backward pass
    assert replays(pools) == before + len(model.steps)
    loss = loss_of(model, batch(0))
    assert replays(pools) == before + 2 * len(model.steps)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass.*set cuda_graphs: False"):
        loss.backward()


@pytest.mark.parametrize("change", ["moved", "frozen", "loaded", "assigned"])
def test_graphs_follow_the_parameters(pools, change):
    def changed(model):
        network = model.steps[1].coupling.network
        if change == "moved":
            network.end.weight.data = network.end.weight.data.clone()
        elif change == "frozen":
            network.end.weight.requires_grad_(False)
        else:
            state = {name: 1.1 * value for name, value in model.state_dict().items()}
            model.load_state_dict(state, assign=change == "assigned")
        return model

    models = build(), build()
    graph_networks(models[0])
    for number in range(3):
        found = [train(model, [batch(i) for i in range(3)]) for model in models]
        assert_same(*found)
        if number == 0:
            before = replays(pools)
            for model in models:
                changed(model)
    # Otherwise the graphs stay.
    wasted = 0 if change == "loaded" else 1
    assert replays(pools) == before + (6 - wasted) * 2 * len(models[0].steps)


def test_memory_efficient_has_none(pools):
    model, other = build(), build()
    graph_networks(model)
    model.memory_efficient = True
    assert_same(*(train(m, [batch(i) for i in range(3)]) for m in (model, other)))
    assert not pools
    model.memory_efficient = False
    graph_networks(model, wanted=False)
    train(model, [batch(i) for i in range(3)])
    assert not pools and "forward" not in vars(model.steps[0].coupling.network)


@pytest.mark.parametrize("fails_at", [0, 3, 7])
def test_a_capture_that_fails(pools, monkeypatch, caplog, fails_at):
    capture = PoolOnCPU.capture

    def failing(self, run):
        if len(self.graphs) == fails_at:
            try:
                raise RuntimeError("operation not permitted\nCompile with TORCH_USE_CUDA_DSA")
            finally:
                raise RuntimeError("a previous error")  # noqa: B012, as the end of a capture does
        return capture(self, run)

    monkeypatch.setattr(PoolOnCPU, "capture", failing)
    model, other = build(), build()
    graph_networks(model)
    with caplog.at_level(logging.WARNING):
        found = train(model, [batch(i) for i in range(5)])
    assert_same(found, train(other, [batch(i) for i in range(5)]))
    assert [record.getMessage() for record in caplog.records] == [
        "no CUDA graphs, since a capture failed (operation not permitted): training goes on "
        "without them"
    ]
    assert len(pools) == 1 and not replays(pools)


def test_capturing_touches_no_gradient_and_no_hook(pools):
    model, calls = build(), []
    graph_networks(model)
    first = model.steps[0].coupling.network.end.weight
    first.register_hook(lambda gradient: calls.append(gradient.clone()))
    train(model, [batch(0)])
    loss = loss_of(model, batch(1))
    assert len(pools[0].graphs) == 2 * len(model.steps)
    assert len(calls) == 1 and all(p.grad is None for p in model.parameters())
    loss.backward()
    assert len(calls) == 2 and torch.equal(calls[1], first.grad)


def test_copies_have_no_graphs(pools):
    model = build()
    graph_networks(model)
    train(model, [batch(i) for i in range(2)])
    expected = loss_of(model, batch(0))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all("forward" not in vars(step.coupling.network) for step in other.steps)
        before = replays(pools)
        assert torch.equal(loss_of(other, batch(0)), expected) and replays(pools) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("autocast", [None, torch.float16])
def test_on_a_gpu(caplog, autocast):
    def on_gpu(step, items=2):
        found = batch(step, items, dtype=torch.float32, speaker=3)
        return {
            n: t.detach().cuda().requires_grad_(t.requires_grad) if torch.is_tensor(t) else t
            for n, t in found.items()
        }

    def trained(has_graphs):
        model = build(torch.float32, speaker=3).cuda()
        graph_networks(model, has_graphs)
        optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.01), []
        for number, items in enumerate([2, 2, 2, 1, 2, 2]):
            with torch.autocast("cuda", autocast or torch.float16, enabled=bool(autocast)):
                z, logdet = model(**on_gpu(number, items))
            loss = negative_log_likelihood(z, logdet, z[0].numel()).mean()
            loss.backward()
            losses.append(loss.detach())
            if number % 2:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses), [p.detach() for p in model.parameters()]

    with caplog.at_level(logging.WARNING):
        found, expected = trained(True), trained(False)
    assert not caplog.records
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 if autocast else 1e-5)
