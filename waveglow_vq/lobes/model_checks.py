"""Whether the parts of a model fit together.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.errors import UserError

# What is asked of a conditioner, here or when the trained model is used; conditioners.py says more.
CONTRACT = {
    "input": "what it takes, mel or wav",
    "hop": "samples per frame of its condition",
    "channels": "of its condition",
    "receptive_field": "frames, or codes, to either side that its condition depends on",
}
CONTRACT_OF_MELS = {"n_mels": "bands of the log-mel that it takes"}
CONTRACT_OF_CODES = {
    "encoder": "features to what is quantized",
    "encoder_receptive_field": "codes to either side that a code depends on",
    "encode": "features to codes",
    "decode": "codes to a condition",
    "samples_per_code": "samples that a code stands for",
}
CONTRACT_OF_MEL_CODES = {"stride": "log-mel frames per code"}
CONTRACT_OF_PITCH = {"pitch": "what makes codes of the pitch"}


def check_conditioner(conditioner):
    """Raises a `UserError` that names what a conditioner lacks of what is asked of it.

    Example
    -------
    >>> check_conditioner(object())
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: the conditioner (object) lacks input (what it takes, mel or ...
    """
    lacking = _lacking(conditioner, CONTRACT)
    codes = getattr(conditioner, "quantizer", None) is not None
    if getattr(conditioner, "input", None) == "mel":
        lacking += _lacking(conditioner, CONTRACT_OF_MEL_CODES if codes else CONTRACT_OF_MELS)
    if codes:
        lacking += _lacking(conditioner, CONTRACT_OF_CODES)
    if getattr(conditioner, "uses_pitch", False):
        lacking += _lacking(conditioner, CONTRACT_OF_PITCH)
    name = type(conditioner).__name__
    if lacking:
        raise UserError(
            f"the conditioner ({name}) lacks {', '.join(lacking)}; "
            "waveglow_vq/lobes/conditioners/base.py says what a conditioner has"
        )
    if conditioner.input not in ("mel", "wav"):
        raise UserError(
            f"the conditioner ({name}) takes {conditioner.input!r} (input); it has to be mel or wav"
        )


def _lacking(conditioner, contract):
    return [f"{name} ({what})" for name, what in contract.items() if not hasattr(conditioner, name)]


def check_parts(conditioner, vocoder, sigma, speakers, condition_dropout):
    """Raises a `UserError` that names the option, if they do not; arguments as of
    :class:`~waveglow_vq.lobes.model.WaveGlowVQ`."""
    check_conditioner(conditioner)
    if sigma <= 0:
        raise UserError(f"sigma: {sigma}; a standard deviation has to be positive")
    if conditioner.hop != vocoder.condition_hop:
        raise UserError(
            f"condition_hop: the vocoder expects {vocoder.condition_hop} samples per frame of "
            f"its condition, the conditioner makes one every {conditioner.hop}"
        )
    if conditioner.channels != vocoder.condition_channels:
        raise UserError(
            f"condition_channels: the vocoder expects {vocoder.condition_channels}, the "
            f"conditioner makes {conditioner.channels}"
        )
    if vocoder.envelope is not None and getattr(conditioner, "mel_head", True) is None:
        raise UserError(
            "mel_head: prior envelope needs a log-mel, and codes of waves have none without "
            "the head that predicts it; set mel_head, or prior to white"
        )
    if vocoder.use_film and getattr(conditioner, "network", True) is None:
        raise UserError(
            "use_film: log-mels as they are, far from zero, make a conditional affine flow "
            "diverge; set conditioner_layers to 1 or more, or use_film to False"
        )
    given = 0 if speakers is None else speakers.channels
    if vocoder.speaker_channels != given:
        raise UserError(
            f"speaker_channels: the vocoder expects {vocoder.speaker_channels}, the global "
            f"condition has {given}"
        )
    if not 0 <= condition_dropout < 1:
        raise UserError(f"condition_dropout: {condition_dropout}; it is a share, from 0 to below 1")
    if speakers is None and getattr(conditioner, "uses_pitch", False):
        raise UserError(
            "use_pitch: pitch is placed in the range of a speaker; set global_condition to "
            "speaker, or use_pitch to False"
        )
