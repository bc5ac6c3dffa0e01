"""Word and character errors, beside those of the same recognizer on what they are to be compared
with.

A recognizer makes errors of its own, and more where decoding alone roughens the sound. So the rates
of reconstructions stand beside their difference to those of the recordings, and of the recordings'
log-mels decoded without a model.
"""

from waveglow_vq.evaluation.judges import ErrorCounts, error_rates

RATES = ("word_error", "character_error")
RECORDINGS = "recordings"


def relative_errors(counts, no_model=None):
    """The error rates of rows of sounds, and how far they are above others.

    Arguments
    ---------
    counts : dict
        ``{row: ErrorCounts of its utterances}``; one row is :data:`RECORDINGS`.
    no_model : str
        The row of what is decoded without a model, None where there is none.

    Returns
    -------
    dict
        For each row what :func:`~waveglow_vq.evaluation.judges.error_rates` returns, and of
        ``word_error`` and ``character_error`` the differences ``..._above_recordings`` and
        ``..._above_no_model``.

    Example
    -------
    >>> from waveglow_vq.evaluation.judges import count_errors
    >>> rows = relative_errors({"recordings": [count_errors("one two", "one two")],
    ...     "mean": [count_errors("one two", "one to")]})
    >>> rows["mean"]["word_error_above_recordings"]
    0.5
    """
    rows = {row: error_rates(each) for row, each in counts.items()}
    for of in rows.values():
        for name, base in (("recordings", RECORDINGS), ("no_model", no_model)):
            if of and rows.get(base):
                above = {f"{rate}_above_{name}": of[rate] - rows[base][rate] for rate in RATES}
                of |= above
    return rows


def words_of_files(files, recognizer, no_model=None):
    """The part on words of the results of ``score_folders``.

    ``files`` has for each file that was listened to the result of
    :func:`~waveglow_vq.evaluation.words.recognizers.word_errors`. Returns ``recognizer``, its name,
    ``rows`` (`relative_errors`) and ``files``.
    """
    counts = {}
    for rows in files.values():
        for row, heard in rows.items():
            fields = {field: heard[field] for field in ErrorCounts._fields}
            counts.setdefault(row, []).append(ErrorCounts(**fields))
    rows = relative_errors(counts, no_model)
    return {"recognizer": str(recognizer), "rows": rows, "files": files}
