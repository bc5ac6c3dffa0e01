"""Whether the parts of a model fit together."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.base import Conditioner
from waveglow_vq.utils.validation import require_number


def check_conditioner(conditioner):
    """Raises a `UserError` that names what a conditioner lacks of what is asked of it.

    Example
    -------
    >>> check_conditioner(object())
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: conditioner: object is not derived from \
waveglow_vq.lobes.conditioners.Conditioner
    """
    name = type(conditioner).__name__
    if not isinstance(conditioner, Conditioner):
        raise UserError(
            f"conditioner: {name} is not derived from waveglow_vq.lobes.conditioners.Conditioner"
        )
    if lacking := conditioner.lacks():
        raise UserError(
            f"conditioner: {name} lacks {', '.join(lacking)}; the documentation of "
            "waveglow_vq.lobes.conditioners.Conditioner says what they are"
        )


def check_parts(conditioner, vocoder, sigma, speakers, condition_dropout):
    """Raises a `UserError` that names the option, if they do not; arguments as of
    :class:`~waveglow_vq.lobes.model.WaveGlowVQ`."""
    check_conditioner(conditioner)
    require_number("sigma", sigma, above=0)
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
    if vocoder.envelope is not None and not conditioner.gives_log_mel:
        raise UserError(
            "mel_head: prior envelope needs a log-mel, and codes of waves have none without "
            "the head that predicts it; set mel_head, or prior to white"
        )
    if vocoder.use_film and not conditioner.is_normalized:
        raise UserError(
            "use_film: log-mels as they are, far from zero, make a conditional affine flow "
            "diverge; set conditioner_layers to 1 or more, or use_film to False"
        )
    if vocoder.excitation and not conditioner.uses_pitch:
        if not (conditioner.gives_log_mel and vocoder.can_read_pitch):
            raise UserError(
                "excitation: pitch is only read off log-mels of the feature contract; set it to "
                "False"
            )
    given = 0 if speakers is None else speakers.channels
    if vocoder.speaker_channels != given:
        raise UserError(
            f"speaker_channels: the vocoder expects {vocoder.speaker_channels}, the global "
            f"condition has {given}"
        )
    require_number("condition_dropout", condition_dropout, least=0, below=1)
    if speakers is None and conditioner.uses_pitch:
        raise UserError(
            "use_pitch: pitch is placed in the range of a speaker; set global_condition to "
            "speaker, or use_pitch to False"
        )
