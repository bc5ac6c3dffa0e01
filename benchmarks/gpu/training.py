"""Speed and memory of training steps as the recipe takes them: the brain of
recipes/LJSpeech/hparams/mel.yaml, its optimizer, clipping, averages and learning rate included.
"""

import contextlib
import copy
import gc
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.training.run.hyperparameters import load_hparams
from waveglow_vq.training.waveglow_brain import WaveGlowBrain

import speechbrain as sb
import torch
import yaml
from measuring import peak_memory, seconds_of
from nvidia import load_glow, their_model
from speechbrain.dataio.batch import PaddedBatch
from speed import load_vocoder, macs_per_second_of_audio, randomized
from training_step import Row, Trainer

try:
    from waveglow_vq.lobes.flows.network.cuda_graphs import graph_networks
except ImportError:
    graph_networks = None

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "LJSpeech" / "hparams" / "mel.yaml"
# The key of the recipes that chooses CUDA graphs for training steps, if there is one.
GRAPHS = "cuda_graphs"
LONG = (24, 16000)  # segments and samples of what NVIDIA trained on
WARM_UP, BLOCKS, SECONDS = 4, 3, 1.2


def cases(options):
    """See rows.py. First come the rows that the issue has bars for."""
    graphs = ["auto", "off"] if graphs_are_known() else ["off"]
    if torch.device(options.device).type != "cuda":
        graphs = graphs[-1:]
    shapes = [(batch, 4096) for batch in options.train_batches]
    if options.long_segments:
        shapes.append(LONG)
    wanted = []
    for size in options.sizes:
        for dtype in options.train_dtypes:
            for batch, samples in shapes:
                for name in graphs:
                    key = {"name": size, "dtype": dtype, "batch": batch, "samples": samples}
                    key["graphs"] = name
                    run = partial(ours, options, size, dtype, batch, samples, name)
                    wanted.append((rank_of(key, graphs[0]), key, run))
    wanted.sort(key=lambda row: row[0])
    found = [(key, run) for _, key, run in wanted]
    if options.waveglow_folder and "nvidia256" in options.sizes:
        for dtype in reversed(options.train_dtypes):
            key = {"name": "NVIDIA/waveglow", "dtype": dtype, "batch": LONG[0]}
            key |= {"samples": LONG[1], "graphs": ""}
            found.insert(8, (key, partial(theirs, options, dtype)))
    return found


def rank_of(key, graphs):
    """Where a row stands: those of the bars, then others that the issue asks for."""
    size, dtype, samples = key["name"], key["dtype"], key["samples"]
    own = {"nvidia256": "fp16"}.get(size, "bf16")
    natural = (samples == LONG[1]) == (size == "nvidia256")
    return (
        dtype != own,
        not natural,
        key["graphs"] != graphs and key["batch"] not in (64, LONG[0]),
        key["graphs"] != graphs,
        ("small", "base", "nvidia256", "tiny").index(size),
        {64: 0, 256: 1}.get(key["batch"], 2),
    )


def graphs_are_known():
    """Whether this version has CUDA graphs of training steps."""
    return in_recipe() or graph_networks is not None


def in_recipe():
    """Whether the recipe has a key for them."""
    files = [RECIPE, *(RECIPE.parents[3] / "hparams").glob("*.yaml")]
    return any(f"\n{GRAPHS}:" in path.read_text("utf-8") for path in files)


def choose_graphs(vocoder, graphs):
    """Has a model trained by graphs or without; returns who wanted them."""
    if graph_networks is None or in_recipe():
        return "recipe"
    if graphs == "off":
        graph_networks(vocoder, wanted=False)
        return "check"
    if any("forward" in vars(step.coupling.network) for step in vocoder.steps):
        return "recipe"
    graph_networks(vocoder)
    return "check"


@contextlib.contextmanager
def brain_of(options, size, dtype, graphs="auto", run_opts=None, **changes):
    """The brain of the recipe, as it is when its first epoch begins."""
    clean_up()
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"size": size, "data_folder": folder, "output_folder": f"{folder}/run"}
        overrides["batch_size"] = 8  # the loader's, which is not used here
        if in_recipe():
            overrides[GRAPHS] = {"auto": "auto", "off": False}[graphs]
        if json.loads(options.preset):
            overrides["preset"] = json.loads(options.preset)
        hparams = load_hparams(str(RECIPE), yaml.safe_dump({**overrides, **changes}))
        randomized(hparams["model"].vocoder)
        run_opts = {"device": options.device, "precision": dtype, **(run_opts or {})}
        run_opts["noprogressbar"] = True
        brain = WaveGlowBrain(
            hparams["modules"], hparams["opt_class"], hparams, run_opts, checkpointer=None
        )
        brain.hparams.schedule.planned_steps = 10**6
        brain.on_fit_start()
        brain.graphs_by = choose_graphs(brain.model.vocoder, graphs)
        brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
        brain.modules.train()
        yield brain


def batch_of(brain, batch, samples, seed=0):
    """Segments of noise as the loader gives them. The log-mel reaches 24 frames to either side."""
    features, history = brain.features, brain.model.vocoder.history
    hop = features.hop_length
    frames = -(-samples // hop) + 48
    generator = torch.Generator().manual_seed(seed)
    wav = 0.1 * torch.randn(batch, samples, generator=generator)
    context = 0.1 * torch.randn(batch, frames * hop, generator=generator)
    where = next(features.buffers()).device
    mel = features(context.to(where))[..., :frames].transpose(1, 2).cpu()
    items = []
    for b in range(batch):
        item = {"id": f"noise-{b}", "wav": wav[b], "mel": mel[b], "start": 24}
        if history:
            item["history"] = context[b, :history]
        items.append(item)
    made = PaddedBatch(items)
    made.skipped = []
    return made


def take_step(brain, batch):
    """One step of the loop, which brings the batch to the device."""
    brain.step += 1
    return brain.fit_batch(copy.copy(batch))


def ours(options, size, dtype, batch, samples, graphs):
    """A row of ours."""
    begin = time.monotonic()
    with brain_of(options, size, dtype, graphs) as brain:
        vocoder, rate = brain.model.vocoder, brain.features.sample_rate
        if samples % (vocoder.group_size if vocoder.envelope is None else vocoder.hop):
            samples = -(-samples // vocoder.hop) * vocoder.hop
        macs = macs_per_second_of_audio(brain.model, rate)["total"]
        segments = batch_of(brain, batch, samples)
        if torch.device(options.device).type == "cuda":
            segments = segments.pin_memory()
        built = time.monotonic() - begin
        figures = timed(partial(take_step, brain, segments), options, batch, samples)
        figures["build_seconds"] = built
        figures["gmac_per_audio_second"] = 3 * macs / 1e9
        figures["samples_of_a_segment"] = samples
        figures["graphs_by"] = brain.graphs_by
        figures["loss"] = float(take_step(brain, segments))
        figures["skipped_steps"] = brain.progress.skipped_steps
    return figures


def timed(step, options, batch, samples):
    """Speed and peak memory of steps; and the seconds of the first ones, in which libraries,
    compilers and CUDA graphs set themselves up."""
    first = [seconds_of(step, options.device) for _ in range(WARM_UP)]
    memory = total_memory(step, options.device)
    count = max(1, min(20, round(SECONDS / BLOCKS / first[-1])))

    def block():
        for _ in range(count):
            step()

    times = [seconds_of(block, options.device) / count for _ in range(BLOCKS)]
    median = statistics.median(times)
    return {
        "milliseconds": 1000 * median,
        "fastest": 1000 * min(times),
        "segments_per_second": batch / median,
        "samples_per_second": batch * samples / median,
        "memory_mib": memory,
        "first_steps_seconds": sum(first),
    }


def total_memory(step, device):
    """MiB at the peak of a step, on CUDA with all that is held; on CPU what it adds."""
    held = peak_memory(step, device)
    if held is None:
        return None
    if torch.device(device).type == "cuda":
        held = torch.cuda.max_memory_allocated()
    return held / 2**20


def clean_up():
    """Frees what a row has held."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class _Options:
    """What training_step.Trainer wants to know."""

    def __init__(self, device, dtype):
        self.device, self.dtype = device, dtype


def theirs(options, dtype):
    """A row of NVIDIA's implementation: forward, backward, and Adam without clipping."""
    batch, samples = LONG
    model, features = load_vocoder("nvidia256", options.device)
    macs = macs_per_second_of_audio(model, features.sample_rate)["total"]
    randomized(model.vocoder)
    clean_up()
    glow = load_glow(options.waveglow_folder)
    module, criterion = their_model(glow, model.vocoder), glow.WaveGlowLoss(sigma=1.0)
    wav = 0.1 * torch.randn(batch, samples, device=options.device)
    mel = torch.randn(batch, features.n_mels, samples // 256 + 1, device=options.device)
    row = Row("NVIDIA/waveglow", module, lambda: criterion(module((mel, wav))))
    trainer = Trainer(row, _Options(options.device, dtype))
    figures = timed(trainer.step, options, batch, samples)
    figures["gmac_per_audio_second"] = 3 * macs / 1e9
    figures["loss"] = float(trainer.differentiate())
    return figures
