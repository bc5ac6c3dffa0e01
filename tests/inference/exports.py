"""Tiny models with the presets that users train, and their exports, for the tests."""

from pathlib import Path

from waveglow_vq.audio.features import LogMel
from waveglow_vq.export.folder import export_model, export_text_to_speech
from waveglow_vq.text.tokenizer import train_tokenizer

import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references

PRESETS = Path(__file__).resolve().parents[2] / "hparams"
INTERFACES = {"mel": "WaveGlowVocoder", "mel_vq": "SpeechCodec", "wav_vq": "SpeechCodec"}

# As a recipe has it: paths, a seed and an optimizer around the preset.
RECIPE = """\
seed: 1234
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
data_folder: !PLACEHOLDER
output_folder: !ref <data_folder>/results/<seed>
save_folder: !ref <output_folder>/save
size: tiny
learning_rate: 0.002
sampling_sigma: 0.9
preset: !include:{presets}/{preset}.yaml
    size: !ref <size>
    conditioner_channels: 16
{overrides}
    flow:
        flows: 3
        layers: 2
        channels: 8
        early_every: 2
        envelope: {{order: 16, updates_per_frame: 2}}
model: !ref <preset[model]>
features: !ref <preset[contract][features]>
modules:
    model: !ref <model>
opt_class: !name:torch.optim.Adam
    lr: !ref <learning_rate>
checkpointer: !new:speechbrain.utils.checkpoints.Checkpointer
    checkpoints_dir: !ref <save_folder>
    recoverables:
        model: !ref <model>
"""


def flattened_recipe(folder, preset, **overrides):
    """What a run saves as hyperparams.yaml; its paths are below ``folder``."""
    if preset != "mel":
        overrides = {"codebook_size": 32, "codebook_dim": 16, "initialization": None} | overrides
    if preset == "mel_vq":
        # Few layers: the recordings of the tests are longer than what they see.
        few = {"encoder_layers": 2, "decoder_layers": 2, "fine_layers": 2, "conditioner_kernel": 3}
        overrides = {"code_stride": 2, "dilation_cycle": 2} | few | overrides
    lines = "".join(f"    {k}: {v}\n" for k, v in overrides.items() if v is not None)
    path = Path(folder) / f"{preset}.yaml"
    path.write_text(RECIPE.format(presets=PRESETS, preset=preset, overrides=lines), "utf-8")
    with open(path, encoding="utf-8") as file:
        flat = resolve_references(file, {"data_folder": str(folder)}).read()
    return f"# Generated from:\n# {path}\n{flat}"


def trained_model(text):
    """A model whose layers all do something, and whose codes lie in its encoder's outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_hyperpyyaml(text)["model"]
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    if model.quantizer is not None:
        wav = speech_like(8192)[None]
        with torch.no_grad():
            inputs = model.conditioner.inputs(LogMel()(wav), wav).features
            vectors = model.conditioner.encoder(inputs)[0]
        quantizer = model.quantizer
        chosen = vectors[torch.linspace(0, len(vectors) - 1, quantizer.codebook_size).long()]
        for n, stage in enumerate(getattr(quantizer, "stages", [quantizer])):
            if stage.codebook_dim < quantizer.codebook_dim:
                codes = chosen[:, n * stage.codebook_dim :][:, : stage.codebook_dim]
            else:  # behind the first one smaller, around zero, as what is left there
                codes = 0.3**n * (chosen - chosen.mean(0)) if n else chosen
            stage.set_codebook(codes)
    if model.speakers is not None:
        give_voices(model)
    return model.eval()


def give_voices(model):
    """Speakers as different as after training; so far away that nobody takes them for another."""
    speakers, generator = model.speakers, torch.Generator().manual_seed(1)
    vectors = torch.randn(speakers.count, speakers.channels, generator=generator)
    if speakers.source == "table":
        speakers.table.weight.data.copy_(vectors)
    else:
        speakers.set_centroids(vectors)
        # Without this, what the encoder says hardly depends on what it hears.
        speakers.encoder.end.weight.data *= 30.0
    f0 = torch.linspace(4.5, 5.5, speakers.count)
    speakers.set_f0_statistics(torch.stack([f0, torch.full_like(f0, 0.2)], dim=1))


def speech_like(samples, seed=0):
    """Noise bursts of varying loudness, ``[samples]``."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, generator=generator)
    loudness = 0.02 + 0.1 * torch.sin(torch.arange(samples) / 900.0).square()
    return noise * loudness


def voiced_speech_like(samples, f0=120.0, seed=0):
    """Bursts of a tone with harmonics whose pitch wanders, pauses, noise: ``[samples]``."""
    time = torch.arange(samples) / 22050
    phase = 2 * torch.pi * (f0 * (1 + 0.1 * (5 * time).sin())).cumsum(0) / 22050
    tone = sum((k * phase).sin() / k for k in range(1, 12))
    loudness = (4 * time).sin().clamp_min(0)
    return 0.1 * tone * loudness + 0.02 * speech_like(samples, seed)


def export_tiny(folder, preset, name="export", labels=None, **overrides):
    """Exports a tiny model, with speakers of these labels or without; returns the folder of the
    export and the model."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    interface = INTERFACES[preset]
    if labels is not None:
        speakers = {"global_condition": "speaker", "max_speakers": len(labels)}
        overrides = speakers | {"speaker_channels": 8} | overrides
        interface = "VoiceConverter"
    text = flattened_recipe(folder, preset, **overrides)
    model = trained_model(text)
    return export_model(text, model, folder / name, interface, labels), model


# As a recipe for text to codes has it.
TEXT_RECIPE = """\
seed: 1234
data_folder: {folder}
output_folder: !ref <data_folder>/results/<seed>
learning_rate: 0.002
max_characters: 40
closing_mark: "."
vocabulary_size: {vocabulary_size}
model: !new:waveglow_vq.lobes.text_to_codes.model.TextToCodes
    vocabulary_size: !ref <vocabulary_size>
    codebook_size: 32
    channels: 16
    heads: 2
    encoder_layers: 1
    decoder_layers: 1
    feedforward_channels: 32
    max_speakers: {max_speakers}
    pitch_levels: {pitch_levels}
search: !new:waveglow_vq.lobes.text_to_codes.search.SearchOptions
    method: sample
    temperature: 0.8
modules:
    model: !ref <model>
opt_class: !name:torch.optim.Adam
    lr: !ref <learning_rate>
"""
# Letters and marks that its tokenizer knows.
TEXTS = ["The quick brown fox jumps over the lazy dog.", "Who, me? Yes, you! It's so-so; fine: go."]


def text_run(folder, labels=None, pitch_levels=0, ends=True):
    """What a run with text leaves: its YAML, an untrained model that does something, and the file
    of its tokenizer. Sentences end by themselves, or never do."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(TEXTS, folder / "tokenizer.model")
    path = folder / "text_to_codes.yaml"
    text = TEXT_RECIPE.format(
        folder=folder,
        vocabulary_size=tokenizer.vocabulary_size,
        max_speakers=0 if labels is None else len(labels),
        pitch_levels=pitch_levels,
    )
    path.write_text(text, "utf-8")
    with open(path, encoding="utf-8") as file:
        text = resolve_references(file).read()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_hyperpyyaml(text)["model"]
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    # Utterances of one second for twenty tokens.
    model.fit_statistics([(20, torch.arange(count) % 32, None) for count in (30, 43)])
    model.to_code.bias.data[-1] = 3.0 if ends else -1e4
    return text, model.eval(), folder / "tokenizer.model"


def export_tiny_speech(folder, codec_folder, labels=None, pitch_levels=0, ends=True):
    """Exports a tiny text model with this codec; returns the folder of the export."""
    run = text_run(folder, labels, pitch_levels, ends)
    return export_text_to_speech(*run, codec_folder, Path(folder) / "speech", labels)
