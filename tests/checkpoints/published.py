"""Tiny WaveGlow checkpoints as they were published, and what they compute, both written here from
the description: the layouts of the names, and plain functions of the tensors."""

import contextlib
import gzip
import io
import json
import struct
import sys
import tarfile
import types

import torch
import yaml
from torch import nn
from torch.nn import functional as F

BANDS, GROUP, FLOWS, EVERY, SIZE, LAYERS, CHANNELS, TAPS = 4, 8, 5, 2, 2, 3, 8, 3
HOP = 256


def random_tensors(seed=0, normalized=True):
    """Tensors in the current layout of NVIDIA/waveglow; every layer does something."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator)

    tensors = {
        "upsample.weight": draw(BANDS, BANDS, 4 * HOP, scale=0.2),
        "upsample.bias": draw(BANDS, scale=0.1),
    }

    def layer(name, outputs, inputs, taps=1, plain=False):
        weight = draw(outputs, inputs, taps, scale=(inputs * taps) ** -0.5)
        if plain or not normalized:
            tensors[f"{name}.weight"] = weight
        else:
            tensors[f"{name}.weight_g"] = 1 + draw(outputs, 1, 1, scale=0.2)
            tensors[f"{name}.weight_v"] = weight
        tensors[f"{name}.bias"] = draw(outputs, scale=0.1)

    channels = GROUP
    for k in range(FLOWS):
        channels -= SIZE if k and k % EVERY == 0 else 0
        rotation = torch.linalg.qr(draw(channels, channels))[0]
        # Of either sign of the determinant: the published code takes positive ones only.
        if torch.det(rotation) < 0:
            rotation[:, 0] *= -1
        tensors[f"convinv.{k}.conv.weight"] = 1.1 * rotation[..., None].contiguous()
        layer(f"WN.{k}.start", CHANNELS, channels // 2)
        for i in range(LAYERS):
            layer(f"WN.{k}.in_layers.{i}", 2 * CHANNELS, CHANNELS, TAPS)
            outputs = CHANNELS * (2 if i < LAYERS - 1 else 1)
            layer(f"WN.{k}.res_skip_layers.{i}", outputs, CHANNELS)
        layer(f"WN.{k}.cond_layer", 2 * CHANNELS * LAYERS, BANDS * GROUP)
        layer(f"WN.{k}.end", channels, CHANNELS, plain=True)
        tensors[f"WN.{k}.end.weight"] *= 0.3
    return tensors


def parted(tensors, residuals=False):
    """The layout from before August 2019, ``cond_layers.i``; with residuals, also that from before
    November 2018, ``res_layers.i`` and ``skip_layers.i``."""
    result = {}
    for name, value in tensors.items():
        network, _, kind = name.rpartition(".")
        if ".cond_layer." in name:
            for i, part in enumerate(value.chunk(LAYERS)):
                result[f"{network}s.{i}.{kind}"] = part.clone()
        elif residuals and ".res_skip_layers." in name:
            network, i = network.replace("res_skip_layers", "skip_layers").rsplit(".", 1)
            residual = network.replace("skip_layers", "res_layers")
            if int(i) < LAYERS - 1:
                first, value = value.chunk(2)
                result[f"{residual}.{i}.{kind}"] = first.clone()
            result[f"{network}.{i}.{kind}"] = value.clone()
        else:
            result[name] = value
    return result


# ---- what they compute


def weight(tensors, name):
    """Weight and bias of a layer, in fp64."""
    if f"{name}.weight_g" in tensors:
        g, v = tensors[f"{name}.weight_g"].double(), tensors[f"{name}.weight_v"].double()
        value = g * v / v.pow(2).sum(dim=(1, 2), keepdim=True).sqrt()
    else:
        value = tensors[f"{name}.weight"].double()
    return value, tensors[f"{name}.bias"].double()


def coupling(tensors, k, audio, spect):
    """Shift and log-scale."""
    hidden = F.conv1d(audio, *weight(tensors, f"WN.{k}.start"))
    condition = F.conv1d(spect, *weight(tensors, f"WN.{k}.cond_layer")).chunk(LAYERS, dim=1)
    total = 0
    for i in range(LAYERS):
        kernel, bias = weight(tensors, f"WN.{k}.in_layers.{i}")
        gates = F.conv1d(hidden, kernel, bias, padding=2**i * (TAPS // 2), dilation=2**i)
        gates = gates + condition[i]
        acts = gates[:, :CHANNELS].tanh() * gates[:, CHANNELS:].sigmoid()
        out = F.conv1d(acts, *weight(tensors, f"WN.{k}.res_skip_layers.{i}"))
        if i < LAYERS - 1:
            hidden = hidden + out[:, :CHANNELS]
            out = out[:, CHANNELS:]
        total = total + out
    return F.conv1d(total, *weight(tensors, f"WN.{k}.end")).chunk(2, dim=1)


def condition(tensors, mel, samples):
    """Channels of the condition: band * group + place in the group."""
    up = F.conv_transpose1d(mel.double(), *weight(tensors, "upsample"), stride=HOP)[..., :samples]
    groups = up.reshape(*up.shape[:2], -1, GROUP)
    return groups.permute(0, 1, 3, 2).reshape(len(up), -1, groups.shape[2])


def forward(tensors, mel, wav):
    """Noise ``[batch, group, groups]`` and the sum of log-determinants of each item."""
    spect = condition(tensors, mel, wav.shape[-1])
    audio = wav.double().reshape(len(wav), -1, GROUP).transpose(1, 2)
    out, logdet = [], 0
    for k in range(FLOWS):
        if k and k % EVERY == 0:
            out.append(audio[:, :SIZE])
            audio = audio[:, SIZE:]
        matrix = tensors[f"convinv.{k}.conv.weight"][..., 0].double()
        audio = torch.einsum("oi,bit->bot", matrix, audio)
        logdet = logdet + audio.shape[-1] * torch.logdet(matrix)
        half = audio.shape[1] // 2
        shift, log_scale = coupling(tensors, k, audio[:, :half], spect)
        logdet = logdet + log_scale.sum(dim=(1, 2))
        audio = torch.cat([audio[:, :half], log_scale.exp() * audio[:, half:] + shift], dim=1)
    return torch.cat([*out, audio], dim=1), logdet


def infer(tensors, mel, z):
    """Waveforms of noise as :func:`forward` gives it."""
    spect = condition(tensors, mel, z.shape[-1] * GROUP)
    early = SIZE * ((FLOWS - 1) // EVERY)
    out, audio = list(z[:, :early].double().split(SIZE, dim=1)), z[:, early:].double()
    for k in reversed(range(FLOWS)):
        half = audio.shape[1] // 2
        shift, log_scale = coupling(tensors, k, audio[:, :half], spect)
        audio = torch.cat([audio[:, :half], (audio[:, half:] - shift) / log_scale.exp()], dim=1)
        matrix = tensors[f"convinv.{k}.conv.weight"][..., 0].double()
        audio = torch.einsum("oi,bit->bot", torch.linalg.inv(matrix), audio)
        if k and k % EVERY == 0:
            audio = torch.cat([out.pop(), audio], dim=1)
    return audio.transpose(1, 2).flatten(1)


# ---- files


@contextlib.contextmanager
def classes(module="glow"):
    """Classes of modules of another code base, there only while a checkpoint is being saved."""
    made = types.ModuleType(module)
    for name in ("WaveGlow", "WN", "Invertible1x1Conv"):
        setattr(made, name, type(name, (nn.Module,), {"__module__": module}))
    sys.modules[module] = made
    try:
        yield made
    finally:
        del sys.modules[module]


def as_module(tensors, made):
    """A module of these classes with the tensors; layers are torch's own."""
    model = made.WaveGlow()
    for name, value in tensors.items():
        *path, kind = name.split(".")
        module = model
        for i, part in enumerate(path):
            if part not in module._modules:
                module.add_module(part, _child(path[: i + 1], made))
            module = module._modules[part]
        module.register_parameter(kind, nn.Parameter(value.clone()))
    model.n_flows, model.n_group = FLOWS, GROUP
    model.n_early_every, model.n_early_size = EVERY, SIZE
    model.convinv[0].W_inverse = torch.eye(GROUP)[..., None]
    return model


def _child(path, made):
    if path == ["upsample"]:
        layer = nn.ConvTranspose1d(BANDS, BANDS, 4 * HOP, HOP)
    elif len(path) == 1 or path[-1] in ("in_layers", "res_skip_layers", "cond_layers"):
        return nn.ModuleList()
    elif path[-1] in ("res_layers", "skip_layers"):
        return nn.ModuleList()
    elif len(path) == 2:
        return made.WN() if path[0] == "WN" else made.Invertible1x1Conv()
    else:
        layer = nn.Conv1d(1, 1, 1)
    # Old files have a weight that is no parameter beside g and v.
    layer.weight, layer.bias = None, None
    del layer._parameters["weight"], layer._parameters["bias"]
    return layer


def save_nvidia(path, tensors, legacy=True, module="glow"):
    """``{'model': module, 'optimizer', 'iteration', 'learning_rate'}``, as published."""
    with classes(module) as made:
        model = as_module(tensors, made)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        saved = {"model": model, "iteration": 580000, "learning_rate": 1e-4}
        saved["optimizer"] = optimizer.state_dict()
        torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_examples(path, tensors, prefix="module.", legacy=False, **config):
    """As NVIDIA/DeepLearningExamples saves."""
    network = {"n_layers": LAYERS, "kernel_size": TAPS, "n_channels": CHANNELS}
    stated = {"n_mel_channels": BANDS, "n_flows": FLOWS, "n_group": GROUP}
    stated |= {"n_early_every": EVERY, "n_early_size": SIZE, "WN_config": network} | config
    saved = {
        "epoch": 1000,
        "cuda_rng_state_all": [torch.zeros(16, dtype=torch.uint8)],
        "random_rng_state": torch.zeros(16, dtype=torch.uint8),
        "config": stated,
        "state_dict": {f"{prefix}{name}": value for name, value in tensors.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]},
    }
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_nemo(path, tensors, compressed=True, member="./model_weights.ckpt", **preprocessor):
    """As NVIDIA/NeMo saves: other names, an inverse that is kept, the features."""
    state = {
        "audio_to_melspec_precessor.featurizer.window": torch.ones(1024),
        "audio_to_melspec_precessor.featurizer.fb": torch.ones(1, BANDS, 513),
    }
    for name, value in tensors.items():
        state["waveglow." + name.replace("WN.", "wavenet.")] = value
    for k in range(FLOWS):
        value = tensors[f"convinv.{k}.conv.weight"][..., 0]
        state[f"waveglow.convinv.{k}.inv_conv.weight"] = torch.linalg.inv(value)[..., None]
    weights = io.BytesIO()
    torch.save(state, weights)
    stated = {"sample_rate": 22050, "n_fft": 1024, "n_window_size": 1024, "nfilt": BANDS}
    stated |= {"n_window_stride": HOP, "lowfreq": 0, "highfreq": None, "mag_power": 1.0}
    stated |= {"log": True, "log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-5}
    config = yaml.safe_dump({"preprocessor": {"params": stated | preprocessor}}).encode()
    files = {member: weights.getvalue(), "./model_config.yaml": config}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = archive.getvalue()
    path.write_bytes(gzip.compress(data) if compressed else data)
    return path


def save_safetensors(path, tensors):
    """The length of a header in JSON, the header, the numbers."""
    header, data = {}, b""
    for name, value in tensors.items():
        raw = value.numpy().tobytes()
        span = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": span}
        data += raw
    header = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def renamed_norms(tensors):
    """With torch's newer names of weight normalization."""
    new = {"weight_g": "parametrizations.weight.original0"}
    new |= {"weight_v": "parametrizations.weight.original1"}
    result = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        result[f"{layer}.{new.get(kind, kind)}"] = value
    return result


def without_norms(tensors):
    """Weight normalization removed, as before inference."""
    result = dict(tensors)
    for name in tensors:
        if name.endswith(".weight_g"):
            layer = name.removesuffix("_g").removesuffix(".weight")
            result[f"{layer}.weight"] = weight(tensors, layer)[0].float()
            del result[f"{layer}.weight_g"], result[f"{layer}.weight_v"]
    return result
