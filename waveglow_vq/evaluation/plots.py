"""Pictures: spectrograms and harmonics one above the other, conversions by pair, attention.

Draws with matplotlib's objects and its file-only canvas: no window, no global state, safe in a
training process. matplotlib comes with the ``train``, ``metrics`` and ``demo`` extras; without it,
each function raises a UserError that says so. The extension of ``path`` chooses the format (png,
pdf, svg), and ``path`` is what they return.
"""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.metrics import stft_magnitude
from waveglow_vq.utils.files import atomic_write, user_path

import numpy as np
import torch

# Speech in a quiet room spans about this much between its loudest partials and its background.
DYNAMIC_RANGE_DB = 80.0
# Voices have few harmonics above.
HARMONICS_HZ, HARMONICS_RANGE_DB = 5000.0, 70.0
_HARMONICS_HOP, _HARMONICS_BIN_HZ = 0.004, 16.0
_DB_PER_NEPER = 20 / math.log(10)


def spectrogram_comparison(path, signals, features, scale="mel", title=None):
    """Draws spectrograms one above the other, on the same axes and colour scale.

    Arguments
    ---------
    path : str or Path
        The picture to write.
    signals : dict
        Caption: waveform [N], or log-mel [n_mels, frames] where ``scale`` is ``"mel"``.
    features : LogMel
        Gives the sample rate, the transform and the mel bands.
    scale : str
        ``"mel"`` shows the model's own features; ``"linear"`` the linear-frequency spectrogram
        up to the upper edge of the mel bands, where harmonics are equally spaced.
    title : str or None
        Stands above the picture.

    Returns
    -------
    Path

    Example
    -------
    >>> import os, tempfile
    >>> from waveglow_vq.audio.features import LogMel
    >>> path = os.path.join(tempfile.mkdtemp(), "noise.png")
    >>> wav = torch.randn(8192)
    >>> drawn = spectrogram_comparison(path, {"recording": wav, "half": wav / 2}, LogMel())
    >>> drawn.stat().st_size > 1000
    True
    """
    if scale not in ("mel", "linear"):
        raise ValueError(f"scale is {scale!r}: choose 'mel' or 'linear'")
    if not signals:
        raise ValueError("spectrogram_comparison needs at least one signal")
    pictures = {
        caption: _decibels(torch.as_tensor(signal).detach().cpu().float(), features, scale)
        for caption, signal in signals.items()
    }
    hop_seconds = features.hop_length / features.sample_rate
    bands = max(len(picture) for picture in pictures.values())
    ticks = _frequency_ticks(features, scale, bands)
    seconds = max(picture.shape[1] for picture in pictures.values()) * hop_seconds
    size, unit = (_width(1.6 * seconds), 2.4), "magnitude [dB]"
    figure = _stacked(pictures, hop_seconds, ticks, DYNAMIC_RANGE_DB, size, unit, title)
    return _save(figure, path)


def harmonics_comparison(path, signals, sample_rate, title=None, size=None, window=0.046):
    """Draws narrow-band spectrograms up to 5 kHz one above the other, in which the harmonics of a
    voice are seen, on the same axes and colour scale.

    Arguments
    ---------
    path : str or Path
        The picture to write.
    signals : dict
        Caption: waveform [N], of one length or not.
    sample_rate : int
        Of all of them, in Hz.
    title : str or None
        Stands above the picture.
    size : tuple of float or None
        Width of the picture and height of each signal, in inches of 110 pixels; None: 3.2 high, and
        as wide as it takes.
    window : float
        Seconds: four periods of the lowest voice. With a longer one, the harmonics of a gliding
        pitch melt.

    Returns
    -------
    Path

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "noise.png")
    >>> harmonics_comparison(path, {"noise": torch.randn(8192)}, 22050).name
    'noise.png'
    """
    window, hop = (round(seconds * sample_rate) for seconds in (window, _HARMONICS_HOP))
    # The window is padded, so that ridges are drawn smoothly.
    n_fft = max(window, round(sample_rate / _HARMONICS_BIN_HZ))
    highest = min(HARMONICS_HZ, sample_rate / 2)
    bins = int(highest / sample_rate * n_fft) + 1
    # Voices fall by about as much.
    tilt = torch.arange(bins)[:, None] * (sample_rate / n_fft / 1000)
    pictures = {}
    for caption, signal in signals.items():
        signal = torch.as_tensor(signal).detach().cpu().float()
        if signal.ndim != 1:
            raise ValueError(f"a signal must be samples [N], got {tuple(signal.shape)}")
        magnitude = stft_magnitude(signal, n_fft, hop, window)[:bins] * tilt
        pictures[caption] = (_DB_PER_NEPER * magnitude.clamp_min(1e-5).log()).numpy()
    khz = np.arange(int(highest / 1000) + 1)
    # Row k covers k to k + 1 and shows bin k.
    ticks = np.minimum(khz * 1000 * n_fft / sample_rate + 0.5, bins), [f"{x:g}" for x in khz]
    hop_seconds = hop / sample_rate
    seconds = max(picture.shape[1] for picture in pictures.values()) * hop_seconds
    size = (_width(2.4 * seconds), 3.2) if size is None else size
    unit = "magnitude [dB], raised by 6 dB per octave"
    figure = _stacked(pictures, hop_seconds, ticks, HARMONICS_RANGE_DB, size, unit, title)
    return _save(figure, path)


def _width(inches):
    return min(16.0, max(7.0, inches))


def _stacked(pictures, hop_seconds, ticks, range_db, size, unit, title):
    """A figure of decibels [bands, frames] by their captions, one above the other; ``size`` is its
    width, and the height of one."""
    top = max(float(np.quantile(picture, 0.997)) for picture in pictures.values())
    seconds = max(picture.shape[1] for picture in pictures.values()) * hop_seconds
    figure = _new_figure(width=size[0], height=size[1] * len(pictures) + 0.6)
    rows = figure.subplots(len(pictures), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (caption, picture) in zip(rows, pictures.items(), strict=True):
        bands, frames = picture.shape
        image = axes.imshow(
            picture,
            origin="lower",
            aspect="auto",
            cmap="magma",
            interpolation="bilinear",
            vmin=top - range_db,
            vmax=top,
            # Frame t is centred at t hops.
            extent=(-0.5 * hop_seconds, (frames - 0.5) * hop_seconds, 0, bands),
        )
        axes.set_title(caption, loc="left", fontsize=10)
        axes.set_ylabel("frequency [kHz]")
        axes.set_xlim(0, seconds - 0.5 * hop_seconds)
    rows[0].set_yticks(*ticks)
    rows[-1].set_xlabel("time [s]")
    bar = figure.colorbar(image, ax=list(rows), pad=0.01, fraction=0.03, aspect=18 * len(rows))
    bar.set_label(unit)
    if title:
        figure.suptitle(title)
    return figure


def conversion_heat_map(path, values, sources, targets, unseen=()):
    """Draws the similarity of conversions to their target, for each pair of source speaker and
    target, to a picture at ``path``.

    ``values`` has rows of ``sources`` and columns of ``targets``; None or NaN stays blank (a
    speaker to themselves). Sources that are also in ``unseen`` are marked as never trained on.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "pairs.png")
    >>> conversion_heat_map(path, [[None, 0.7], [0.6, None]], ["a", "b"], ["a", "b"]).name
    'pairs.png'
    """
    values = np.array(
        [[math.nan if value is None else value for value in row] for row in values], dtype=float
    )
    if values.shape != (len(sources), len(targets)) or not values.size:
        raise ValueError(
            f"{len(sources)} sources and {len(targets)} targets, but values {values.shape}"
        )
    rows, columns = values.shape
    figure = _new_figure(width=min(16.0, 3.2 + 0.55 * columns), height=min(20.0, 2.2 + 0.34 * rows))
    axes = figure.subplots()
    # What is not a number is not drawn, and the paper is white.
    image = axes.imshow(values, aspect="auto", cmap="viridis", interpolation="nearest")
    axes.set_xticks(range(columns), targets, rotation=90)
    marked = [f"{name} (unseen)" if name in unseen else name for name in sources]
    axes.set_yticks(range(rows), marked)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("target")
    axes.set_ylabel("source speaker")
    # As long as they can be read.
    if rows * columns <= 400:
        middle = 0.5 * sum(image.get_clim())
        for (row, column), value in np.ndenumerate(values):
            if not math.isnan(value):
                colour = "black" if value > middle else "white"
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7
                )
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("mean cosine to the target's recordings")
    axes.set_title("Similarity of conversions to their target", fontsize=10)
    return _save(figure, path)


def attention_picture(path, attention, pieces, code_rate, title=None):
    """Draws which tokens of a text each code was chosen from: a diagonal, if all is well.

    Arguments
    ---------
    path : str or Path
        The picture to write.
    attention : torch.Tensor
        ``[T, S]``: a row for each code, a column for each token.
    pieces : list of str
        The S tokens as they are written. Where they are many, not all are named.
    code_rate : float
        Codes per second.
    title : str or None
        Stands above the picture, cut to what fits.

    Returns
    -------
    Path

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "attention.png")
    >>> attention_picture(path, torch.eye(4), list("\u2581one"), code_rate=43.07).name
    'attention.png'
    """
    attention = np.asarray(torch.as_tensor(attention).detach().cpu().float())
    if attention.ndim != 2 or 0 in attention.shape or attention.shape[1] != len(pieces):
        raise ValueError(f"attention is {attention.shape}, and there are {len(pieces)} pieces")
    codes, tokens = attention.shape
    seconds = codes / code_rate
    height = min(14.0, max(3.0, 1.2 + 0.13 * tokens))
    figure = _new_figure(width=min(16.0, max(6.0, 2.0 + 2.0 * seconds)), height=height)
    axes = figure.subplots()
    image = axes.imshow(
        attention.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        interpolation="nearest",
        vmin=0,
        # Column t is the time from code t to the next.
        extent=(0, seconds, -0.5, tokens - 0.5),
    )
    shown = range(0, tokens, math.ceil(0.13 * tokens / height))
    axes.set_yticks(shown, [_drawable(pieces[index]) for index in shown], parse_math=False)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("time [s]")
    axes.set_ylabel("token")
    figure.colorbar(image, ax=axes, pad=0.02).set_label("attention")
    if title:
        fits = int(11 * figure.get_figwidth())
        title = title if len(title) <= fits else title[: fits - 3].rstrip() + "..."
        axes.set_title(_drawable(title), loc="left", fontsize=10, parse_math=False)
    return _save(figure, path)


def _drawable(text):
    """Text in the characters that matplotlib's own font has: it warns of each other one."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(character if ord(character) in known else "\ufffd" for character in text)


def _decibels(signal, features, scale):
    """Magnitudes in dB, [bands, frames]; linear frequency stops at the top of the mel bands."""
    if signal.ndim == 2 and scale == "mel":
        return (_DB_PER_NEPER * signal).numpy()
    if signal.ndim != 1:
        raise ValueError(f"a signal must be samples [N], got {tuple(signal.shape)}")
    if scale == "mel":
        # The features may live on another device than the pictures.
        device = features.window.device
        return (_DB_PER_NEPER * features(signal[None].to(device))[0].cpu()).numpy()
    magnitude = stft_magnitude(signal, features.n_fft, features.hop_length, features.win_length)
    bins = int(features.f_max * features.n_fft / features.sample_rate) + 1
    magnitude = magnitude[:bins].clamp_min(features.floor)
    return (_DB_PER_NEPER * magnitude.log()).numpy()


def _frequency_ticks(features, scale, bands):
    """Row coordinates and labels of round frequencies."""
    if scale == "linear":
        khz = np.arange(0, features.f_max / 1000 + 1e-6, 2)
        # Row k covers k to k + 1 and shows bin k.
        position = khz * 1000 * features.n_fft / features.sample_rate + 0.5
    else:
        from librosa import hz_to_mel

        khz = np.array([0.25, 0.5, 1, 2, 4, 8])
        khz = khz[(khz * 1000 > features.f_min) & (khz * 1000 <= features.f_max)]
        low, high = hz_to_mel(features.f_min), hz_to_mel(features.f_max)
        # Band b is centred at mel point b + 1 of bands + 2, and its row at b + 1/2.
        position = (hz_to_mel(khz * 1000) - low) / (high - low) * (bands + 1) - 0.5
    return np.minimum(position, bands), [f"{value:g}" for value in khz]


def _new_figure(width, height):
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "Pictures need matplotlib: pip install 'waveglow-vq[metrics]', or switch them off"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _save(figure, path):
    path = user_path(path)
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower() or "png")
    return path
