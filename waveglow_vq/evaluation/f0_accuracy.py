"""How well a reconstruction keeps the fundamental frequency and the voicing of a recording."""

import math

from waveglow_vq.audio.pitch import track_f0


def compare_f0(reference, estimate, sample_rate=22050, hop_length=256):
    """Error of pitch and of voicing of a reconstruction.

        log_f0_rmse   = sqrt( mean (ln f0 - ln f0^)^2 )   over frames voiced in both
        voicing_error = share of frames in which the voicing decisions differ

    A log-F0 RMSE of 0.0578 is one semitone (multiply by 1200 / ln 2 for cents); it is NaN if no
    frame is voiced in both. Of the samples [N], the longer are cut to the shorter; the rate is in
    Hz and ``hop_length``, the distance between frames, in samples.

    Example
    -------
    >>> import torch
    >>> time = torch.arange(11025) / 22050
    >>> tone, higher = (
    ...     sum((2 * math.pi * f * k * time).sin() / k for k in range(1, 8)) for f in (150, 180)
    ... )
    >>> errors = compare_f0(tone, higher)
    >>> round(errors["log_f0_rmse"], 2) == round(math.log(180 / 150), 2)
    True
    >>> compare_f0(tone, tone)
    {'log_f0_rmse': 0.0, 'voicing_error': 0.0}
    """
    common = min(len(reference), len(estimate))
    target = track_f0(reference[:common], sample_rate, hop_length)
    output = track_f0(estimate[:common], sample_rate, hop_length)
    both = target.voiced & output.voiced
    difference = target.f0[both].double().log() - output.f0[both].double().log()
    return {
        "log_f0_rmse": float(difference.square().mean().sqrt()) if both.any() else math.nan,
        "voicing_error": float((target.voiced != output.voiced).double().mean()),
    }
