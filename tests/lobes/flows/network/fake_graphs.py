"""CUDA graphs on a CPU: they compute again what they captured, on the same tensors."""

from waveglow_vq.lobes.flows.network import cuda_graphs
from waveglow_vq.lobes.flows.network.cuda_graphs import CapturedGraph


class AgainOnCPU:
    """In the place of a ``torch.cuda.CUDAGraph``: nothing is computed before the first replay."""

    def __init__(self, run, log):
        self.run, self.log = run, log
        self.results = self.run()
        for result in self.results:
            if result is not None:
                result.detach().fill_(float("nan"))

    def replay(self):
        self.log.append(self)
        for static, result in zip(self.results, self.run(), strict=True):
            if static is not None:
                static.copy_(result)


class PoolOnCPU:
    """In the place of a GraphPool; ``graphs`` are those captured, ``log`` those replayed, in
    order."""

    def __init__(self, device):
        self.graphs, self.log = [], []

    def warm_up(self, run, times=1):
        run()

    def capture(self, run):
        graph = AgainOnCPU(run, self.log)
        self.graphs.append(graph)
        return CapturedGraph(graph, graph.results)


def graphs_on_cpu(monkeypatch):
    """Has graphs used on the CPU; the pools come into the list that is returned."""
    made = []

    def pool(device):
        made.append(PoolOnCPU(device))
        return made[-1]

    monkeypatch.setattr(cuda_graphs, "DEVICES", ("cpu",))
    monkeypatch.setattr(cuda_graphs, "GraphPool", pool)
    return made


def replays(pools):
    """How many there have been."""
    return sum(len(pool.log) for pool in pools)
