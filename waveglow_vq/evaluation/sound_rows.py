"""Sounds of several kinds, made of the same recordings, in one table: recordings, no model, a model
without iterations, the model."""

from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.evaluation.baselines import ITERATIONS
from waveglow_vq.evaluation.score import METRICS, mean_scores, score_baselines, score_pair
from waveglow_vq.evaluation.score_table import VOICING, distances, table_lines
from waveglow_vq.evaluation.sound_quality import JUDGES, measures_of, score_sound
from waveglow_vq.lobes.mel_consistency import mel_consistent, shaped_noise

import torch

# Those of the table, beside the judges'.
DISTANCES = "log_mel_l1", "multi_resolution_stft", "mel_cepstral_distortion", "voicing_error"


@torch.no_grad()
def sound_of_log_mel(log_mel, features, samples, iterations=ITERATIONS, generator=0):
    """A log-mel [n_mels, frames], such as one that a model predicts, turned into sound [samples] as
    :func:`~waveglow_vq.evaluation.baselines.without_model` does with a recording's.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> sound_of_log_mel(torch.randn(80, 33) - 5, LogMel(), 8192, 2).shape
    torch.Size([8192])
    """
    log_mel = log_mel[None].cpu().float()
    noise = shaped_noise(log_mel, features, samples, generator)
    return mel_consistent(noise, log_mel, features, iterations)[0]


def score_rows(recording, sounds, features, judges=(), iterations=ITERATIONS):
    """The measures of sounds made of one recording.

    Arguments
    ---------
    recording : torch.Tensor
        Samples [N] at the rate of the features.
    sounds : dict
        Row: samples [M].
    features, judges
        As for :func:`~waveglow_vq.evaluation.score.score_pair`.
    iterations : int
        Of the row without a model.

    Returns
    -------
    dict
        ``{row: measures}``: those of :func:`~waveglow_vq.evaluation.score.score_baselines` first.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> wav = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    >>> rows = score_rows(wav, {"half": wav / 2}, LogMel(), iterations=2)
    >>> [list(rows)[row] for row in (0, 1, -1)], round(rows["half"]["log_mel_l1"], 3)
    (['recordings', 'no model, 2 iterations', 'half'], 0.693)
    """
    rows = score_baselines(recording, features, judges, iterations)
    for row, wav in sounds.items():
        pair = recording, wav.detach().cpu().float(), features.sample_rate
        rows[row] = score_pair(*pair, features=features, judges=judges)
    return rows


def score_alone(wav, sample_rate, judges=()):
    """The measures of a sound [N] that has no recording to be compared with: what is voiced, and
    judges that hear it alone.

    Example
    -------
    >>> score_alone(torch.zeros(8192), 22050)
    {'voiced_share': 0.0}
    """
    alone = [name for name in judges if not JUDGES[name].referenced]
    voiced = float(track_f0(wav.detach().cpu().float(), sample_rate).voiced.double().mean())
    return {"voiced_share": voiced} | score_sound(None, wav, sample_rate, alone)


def mean_rows(scored, judges=()):
    """Means of the rows of several recordings, which need not have the same.

    Example
    -------
    >>> mean_rows([{"a": {"log_mel_l1": 1.0}}, {"a": {"log_mel_l1": 2.0}}])
    {'a': {'log_mel_l1': 1.5}}
    """
    wanted, found = [*METRICS, *VOICING, *measures_of(judges)], {}
    for rows in scored:
        for row, measures in rows.items():
            found.setdefault(row, []).append(measures)
    return {
        row: mean_scores(scores, [name for name in wanted if name in scores[0]])
        for row, scores in found.items()
    }


def format_rows(rows, judges=()):
    """The table of rows of measures.

    Example
    -------
    >>> format_rows({"flows alone": {"log_mel_l1": 0.5}}).splitlines()[1].split()[:4]
    ['flows', 'alone', '0.500', '-']
    """
    measures = distances(DISTANCES) | VOICING | measures_of(judges)
    return "\n".join(table_lines(rows, measures, name="sound of"))
