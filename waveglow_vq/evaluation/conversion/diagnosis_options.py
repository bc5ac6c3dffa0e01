"""Options of the diagnosis of voice conversion."""

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
        Training clips that a target needs.
    max_targets, max_sources, max_utterances : int
        Limits on targets, source speakers of either kind, and utterances, spread evenly over kinds
        and speakers; None: all.
    max_likelihoods, max_wrong : int
        Limits on test utterances, and on wrong speakers tried for each; None: all.
    max_probed : int
        Limit on the utterances of known speakers for probes, information and bitrates.
    use_judges : bool or str
        Whether other models judge, those that are installed; ``"required"``: all, or it is an
        error.
    use_word_judge : bool
        Whether the speech recognizer is one of them. It is slow.
    recognizer : str
        Which speech recognizer, see
        :func:`~waveglow_vq.evaluation.words.recognizers.open_recognizer`; what is named here has to
        be installed. None: pocketsphinx, if it is.
    word_targets : int
        Number of targets whose conversions of each source are transcribed; None: all.
    samples : int
        Number of sources whose audio is saved, with the conversions to ``word_targets`` targets.
    batch_size : int
        Speakers in a batch; None: 8, and 1 on a CPU, which is faster there.
    seed : int
        Random seed.
    refine : int
        Mel-consistent iterations of conversions through codes.
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
    recognizer: str = None
    word_targets: int = 3
    samples: int = 3
    batch_size: int = None
    seed: int = 0
    refine: int = 0
