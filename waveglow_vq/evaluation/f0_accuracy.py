"""How well a reconstruction keeps the fundamental frequency and the voicing of a recording."""

import math

from waveglow_vq.audio.pitch import track_f0


def compare_f0(reference, estimate, sample_rate=22050, hop_length=256):
    """Error of pitch and of voicing of a reconstruction.

        log_f0_rmse    = sqrt( mean (ln f0 - ln f0^)^2 )          over frames voiced in both
        f0_error_cents = median | 1200 log2(f0^ / f0) |           over frames voiced in both
        voicing_error  = share of frames in which the voicing decisions differ
        voiced_share   = share of frames that are voiced in the estimate
        voiced_ratio   = voiced frames of the estimate over those of the reference

    A log-F0 RMSE of 0.0578 is one semitone; both errors of F0 are NaN if no frame is voiced in
    both, the ratio if none is in the reference. Below 1, the estimate whispers where the reference
    speaks. Of the samples [N], the longer are cut to the shorter; the rate is in Hz and
    ``hop_length``, the distance between frames, in samples.

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
    >>> errors = compare_f0(tone, tone)
    >>> errors["voicing_error"], errors["f0_error_cents"], errors["voiced_ratio"]
    (0.0, 0.0, 1.0)
    """
    common = min(len(reference), len(estimate))
    target = track_f0(reference[:common], sample_rate, hop_length)
    output = track_f0(estimate[:common], sample_rate, hop_length)
    both = target.voiced & output.voiced
    difference = target.f0[both].double().log() - output.f0[both].double().log()
    cents = difference.abs() * (1200 / math.log(2))
    voiced, share = float(target.voiced.double().mean()), float(output.voiced.double().mean())
    return {
        "log_f0_rmse": float(difference.square().mean().sqrt()) if both.any() else math.nan,
        "voicing_error": float((target.voiced != output.voiced).double().mean()),
        "voiced_share": share,
        "voiced_ratio": share / voiced if voiced else math.nan,
        "f0_error_cents": float(cents.median()) if both.any() else math.nan,
    }
