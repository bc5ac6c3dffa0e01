"""What a diagnosis of conversion can be told.

Authors
 * The waveglow-vq developers, 2026
"""

from typing import NamedTuple

REQUIRED = "required"


class DiagnosisOptions(NamedTuple):
    """Options of :func:`~waveglow_vq.evaluation.conversion.diagnosis.diagnose_conversion`.

    Arguments
    ---------
    mode : str
        ``codes`` or ``latent_swap``; None: through the codes, if there are any.
    sigma : float
        Sampling temperature of the conversions.
    min_train_clips : int
        Training clips that a speaker has to have to be a target.
    max_targets, max_sources, max_utterances : int
        At most so many targets, source speakers of either kind, and utterances, spread evenly over
        kinds and speakers; None: all.
    max_likelihoods, max_wrong : int
        At most so many test utterances, and wrong speakers tried for each.
    max_probed : int
        At most so many utterances of all manifests of known speakers for probes, information and
        bitrates.
    use_judges : bool or str
        Whether other models judge, those that are installed; ``"required"``: all, or it is an
        error.
    use_word_judge : bool
        Whether the recognizer is one of them. It is slow.
    word_targets : int
        To how many targets' conversions of each source the word judge listens; None: all.
    samples : int
        Of how many sources audio files are written, with the conversions to ``word_targets``
        targets.
    batch_size : int
        Speakers that are computed together; None: 8, and on a CPU one after the other, which is
        faster there.
    seed : int
        Of everything that is drawn.
    """

    mode: str = None
    sigma: float = 1.0
    min_train_clips: int = 8
    max_targets: int = 12
    max_sources: int = None
    max_utterances: int = 24
    max_likelihoods: int = 100
    max_wrong: int = 20
    max_probed: int = 1000
    use_judges: bool = True
    use_word_judge: bool = True
    word_targets: int = 3
    samples: int = 3
    batch_size: int = None
    seed: int = 0
