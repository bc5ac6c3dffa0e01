"""Several processes do what one does with all their items in one batch."""

from waveglow_vq.lobes.quantizers import restarts as quantizer_upkeep
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.quantizers.statistics import CodeStatistics
from waveglow_vq.utils.masking import masked_l1

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import assert_same, clusters

ITEMS, STEPS = 8, 20
CASES = {
    "soft_em": (SoftEMQuantizer, {}, torch.float64),
    "ema": (EMAQuantizer, {}, torch.float64),
    "soft_em_fp32": (SoftEMQuantizer, {}, torch.float32),
    "ema_fp32": (EMAQuantizer, {}, torch.float32),
    "published": (
        SoftEMQuantizer,
        {"temperature": "fixed", "estimator": "rotation", "initialization": "normal"},
        torch.float64,
    ),
    "ema_normal": (EMAQuantizer, {"initialization": "normal"}, torch.float64),
}


class Autoencoder(torch.nn.Module):
    def __init__(self, quantizer):
        super().__init__()
        self.encoder = torch.nn.Linear(8, 6)
        self.quantizer = quantizer
        self.decoder = torch.nn.Linear(6, 8)

    def forward(self, x, lengths):
        output = self.quantizer(self.encoder(x), lengths)
        found = self.decoder(output.quantized).transpose(1, 2)
        error = masked_l1(found, x.transpose(1, 2), lengths, self.training)
        return error + sum(output.losses.values()), output


def make_batches(dtype):
    """Of each step the items, which differ in length."""
    draw, generator = clusters(count=10, noise=0.3), torch.Generator().manual_seed(4)
    lengths = torch.randint(2, 10, (STEPS, ITEMS), generator=generator).tolist()
    return [[draw(length).to(dtype) for length in row] for row in lengths]


def padded(items):
    x = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=1e3)
    return x, torch.tensor([len(item) for item in items], dtype=torch.float64) / x.shape[1]


def train(case, rank=0, world=1):
    """What is left of a short training, of which this process has its part of each batch."""
    quantizer_class, options, dtype = CASES[case]
    # Each process begins with values of its own; all have to end with the first one's.
    torch.manual_seed(rank)
    quantizer = quantizer_class(24, 6, restart_after=4, **options)
    model = wrapped = Autoencoder(quantizer).to(dtype)
    if world > 1:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    epoch, restarts = CodeStatistics(), []
    # Whatever this process has drawn besides.
    torch.manual_seed(100 + rank)
    quantizer._find_restarts = spied(quantizer, restarts)
    for step, items in enumerate(make_batches(dtype)):
        loss, output = wrapped(*padded(items[rank::world]))
        optimizer.zero_grad()
        loss.backward()
        # The sixth step is left out, as if a gradient had not been finite.
        if step != 5:
            optimizer.step()
        quantizer.after_optimizer_step(optimizer, taken=step != 5)
        epoch.accumulate(output.statistics)
        if step == 14:
            with torch.no_grad():
                codes = quantizer.codebook.detach().clone()
                codes[3:6] = codes[:1] + 1e-3
                quantizer.set_codebook(codes)
            # Only one process measures: nothing may wait for the other.
            if rank == 0:
                model.eval()
                model(*padded(items[:2]))
                model.train()
    state = {name: value.detach() for name, value in model.state_dict().items()}
    for i, values in optimizer.state_dict()["state"].items():
        state.update({f"optimizer {i} {name}": value for name, value in values.items()})
    return {"state": state, "restarts": restarts, "summary": epoch.summary(quantizer.codebook, 50)}


def spied(quantizer, restarts):
    """Notes the step, the reason and the rows of each search for codes to restart."""
    find = quantizer._find_restarts

    def find_restarts(recent, restart, due):
        with pytest.MonkeyPatch.context() as patch:
            reasons = ["dead" if restart.any() else "merged"]
            move = quantizer_upkeep.move_idle_codes

            def idle(*arguments, **options):
                reasons.append("idle")
                return move(*arguments, **options)

            patch.setattr(quantizer_upkeep, "move_idle_codes", idle)
            rows, places = find(recent, restart, due)
        restarts.append([int(quantizer.steps), reasons[-1], rows.tolist()])
        return rows, places

    return find_restarts


def train_in_process(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    for case in CASES:
        torch.save(train(case, rank, world), f"{folder}/{case}_{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_processes_do_what_one_does(tmp_path, world):
    torch.multiprocessing.spawn(train_in_process, args=(world, str(tmp_path)), nprocs=world)
    for case, (_, options, dtype) in CASES.items():
        alone = train(case)
        results = [
            torch.load(tmp_path / f"{case}_{rank}.pt", weights_only=True) for rank in range(world)
        ]
        for result in results:
            assert_same(results[0]["state"], result["state"])
            assert result["restarts"] == alone["restarts"]
            for name, value in alone["summary"].items():
                assert result["summary"][name] == pytest.approx(value, rel=1e-4), (case, name)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-5
        for name, value in alone["state"].items():
            found = results[0]["state"][name].double()
            size = value.double().abs().max().clamp_min(1e-3)
            assert (found - value).abs().max() <= tolerance * size, (case, name)
        kinds = {kind for _, kind, rows in alone["restarts"] if rows}
        if not options:
            # Steps of soft EM part codes that have merged before they are looked for.
            wanted = {"dead", "idle"} | ({"merged"} if case.startswith("ema") else set())
            assert kinds >= wanted, (case, alone["restarts"])
