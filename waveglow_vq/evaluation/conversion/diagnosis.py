"""Does conversion convert? Figures that cannot be fooled.

``waveglow-vq diagnose-conversion`` diagnoses an export; a recipe calls :func:`diagnose_conversion`
with the model in memory.

Authors
 * The waveglow-vq developers, 2026
"""

import contextlib
import copy
import json
import zlib
from pathlib import Path

from waveglow_vq.data.segments import read_utterance
from waveglow_vq.data.shards.format import sound_source
from waveglow_vq.data.speakers import read_speakers
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.conversion.matrix import (
    conversion_matrix,
    similarity_by_pair,
    summarize,
)
from waveglow_vq.evaluation.conversion.report import format_report
from waveglow_vq.evaluation.conversion.speaker_leakage import code_leak
from waveglow_vq.evaluation.judges import ASRScorer, SpeakerScorer, left_out
from waveglow_vq.evaluation.plots import conversion_heat_map
from waveglow_vq.evaluation.utterances import choose, choose_sources, read_manifests
from waveglow_vq.inference.conversion.whole_utterances import check_mode, utterance_pitch
from waveglow_vq.lobes.flows.waveglow import negative_log_likelihood
from waveglow_vq.signals import held_signals

import torch
from tqdm import tqdm

REQUIRED = "required"
# What the results depend on, beside model and corpus.
_SETTINGS = (
    "mode", "sigma", "min_train_clips", "max_targets", "max_sources", "max_utterances",
    "max_likelihoods", "max_wrong", "max_probed", "use_judges", "use_word_judge", "word_targets",
    "seed",
)  # fmt: skip


@torch.no_grad()
def speaker_likelihoods(
    model, features, utterances, labels, max_wrong=20, batch_size=8, seed=0, progress=False
):
    """Negative log-likelihood of utterances under wrong speakers, less that under the right one.

    Zero would mean that the model does not care who speaks. Everything but the speaker is the
    same: the waveform, the codes, and the pitch, normalized by the utterance's own mean and
    deviation, not by the right speaker's, which would give that one an advantage.

    Arguments
    ---------
    model : WaveGlowVQ
        A model with speakers, in evaluation mode.
    features : LogMel
        Its features.
    utterances : list of Utterance
        Recordings of speakers that the model knows.
    labels : list of str
        Those speakers, in the model's numbering.
    max_wrong : int
        Wrong speakers tried for each utterance, drawn at random; all where None.
    batch_size : int
        Speakers that are computed together.
    seed : int
        Of the draw.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    dict
        ``mean_difference`` in nats per sample; ``share_positive``, of the utterances whose mean
        difference is above zero; ``share_best``, of those for which no wrong speaker that was
        tried is better than the right one; ``utterances``, ``wrong_speakers`` (tried for each),
        and ``differences``, the mean difference of each utterance. Empty where nothing can be
        compared.
    """
    differences, best = {}, []
    reader = copy.deepcopy(features).cpu()
    device = next(model.parameters()).device
    if len(labels) < 2:
        return {}
    for utterance in tqdm(utterances, desc="likelihoods", unit="utterance", disable=not progress):
        right = labels.index(utterance.speaker)
        wrong = [i for i in range(len(labels)) if i != right]
        wrong = choose(wrong, max_wrong, f"{seed} {utterance.name}")
        noise = torch.Generator().manual_seed(zlib.crc32(utterance.name.encode()))
        item = read_utterance(sound_source(utterance.path), reader, noise)
        wav, mel = item["wav"][None].to(device), item["mel"].T[None].to(device)
        pitch = None
        if model.uses_pitch:
            pitch = utterance_pitch(model, features, wav, torch.tensor([wav.shape[1]]))[0]
        ids = torch.tensor([right, *wrong], device=device)
        nll = torch.cat([_nll(model, wav, mel, pitch, some) for some in ids.split(batch_size)])
        differences[utterance.name] = float(nll[1:].mean() - nll[0])
        best.append(bool((nll[1:] > nll[0]).all()))
    if not differences:
        return {}
    return {
        "mean_difference": sum(differences.values()) / len(differences),
        "share_positive": sum(d > 0 for d in differences.values()) / len(differences),
        "share_best": sum(best) / len(best),
        "utterances": len(differences),
        "wrong_speakers": len(wrong),
        "differences": differences,
    }


def _nll(model, wav, mel, pitch, ids):
    """Nats per sample of one utterance under several speakers, [speakers]."""
    batch = len(ids)
    vectors, statistics = model.speakers(ids), model.speakers.f0_statistics(ids)
    wav, mel = wav.expand(batch, -1), mel.expand(batch, -1, -1)
    if pitch is not None:
        pitch = pitch.expand(batch, -1, -1)
    inputs = wav if model.conditioner.input == "wav" else mel
    condition = model.condition(inputs, None, vectors, pitch, statistics)
    z, logdet, samples = model.to_noise(wav, mel, condition, speaker=vectors)
    return negative_log_likelihood(z, logdet, samples, model.sigma).cpu()


def diagnose_conversion(
    model,
    features,
    speakers,
    manifests,
    data_root,
    output,
    mode=None,
    sigma=1.0,
    min_train_clips=8,
    max_targets=12,
    max_sources=None,
    max_utterances=24,
    max_likelihoods=100,
    max_wrong=20,
    max_probed=1000,
    use_judges=True,
    use_word_judge=True,
    word_targets=3,
    samples=3,
    batch_size=None,
    seed=0,
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
        The prepared corpus: its manifests and its sound files.
    output : str or Path
        Folder for ``diagnostics.json``, ``diagnostics.txt``, ``conversion.png`` (if there is a
        speaker judge) and ``samples/``.
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
        To how many targets' conversions of each source the word judge listens.
    samples : int
        Of how many sources sound files are written, with the conversions to ``word_targets``
        targets.
    batch_size : int
        Speakers that are computed together; None: 8, and on a CPU one after the other, which is
        quicker there.
    seed : int
        Of everything that is drawn.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    dict
        ``settings``, ``likelihoods`` (:func:`speaker_likelihoods`), ``codes`` (
        :func:`~waveglow_vq.evaluation.conversion.speaker_leakage.code_leak`), ``conversion``
        (:func:`~waveglow_vq.evaluation.conversion.matrix.summarize`), ``matrix``
        (:func:`~waveglow_vq.evaluation.conversion.matrix.similarity_by_pair`), ``conversions`` and
        ``originals`` (:func:`~waveglow_vq.evaluation.conversion.matrix.conversion_matrix`), and
        ``notes``: sentences about what is missing and why.

    Raises
    ------
    UserError
        If the model has no speakers or cannot convert in this mode, a manifest is missing, there
        is nothing to convert, or a judge is wanted that is not installed.
    """
    settings = {name: value for name, value in locals().items() if name in _SETTINGS}
    labels = list(getattr(speakers, "labels", speakers))
    if model.speakers is None or not labels:
        raise UserError(
            "the model was trained without speakers, so there is nothing to convert; train it "
            "with global_condition: speaker"
        )
    mode = settings["mode"] = mode or ("codes" if model.quantizer is not None else "latent_swap")
    check_mode(model, mode)
    notes = []
    speaker_judge = _judge(SpeakerScorer, VOICES, use_judges, notes)
    word_judge = _judge(ASRScorer, WORDS, use_judges if use_word_judge else False, notes)
    found = read_manifests(manifests, data_root, labels)
    known = [u for name in ("train", "valid", "test") for u in found[name] if u.seen]
    train = [u for u in found["train"] if u.seen]
    targets = _targets(manifests, labels, train, min_train_clips, max_targets, seed)
    sources = choose_sources(found["test"] + found["unseen"], max_sources, max_utterances, seed)
    if not any(target != source.speaker for source in sources for target in targets):
        raise UserError(
            f"{manifests}: test.json and unseen.json hold no utterance that could be converted "
            "to another speaker"
        )
    output = Path(output)
    if batch_size is None:
        batch_size = 1 if next(model.parameters()).device.type == "cpu" else 8
    results = {"settings": settings, "notes": notes}
    with _evaluation(model):
        results["likelihoods"] = speaker_likelihoods(
            model,
            features,
            choose([u for u in found["test"] if u.seen], max_likelihoods, f"{seed} likelihoods"),
            labels,
            max_wrong,
            batch_size,
            seed,
            progress,
        )
        if model.quantizer is not None:
            probed = choose(known, max_probed, f"{seed} probed")
            results["codes"] = code_leak(model, features, probed, seed, progress)
        conversions, originals = conversion_matrix(
            model,
            features,
            sources,
            targets,
            labels,
            train,
            known + found["unseen"],
            mode,
            sigma,
            speaker_judge,
            word_judge,
            word_targets,
            batch_size,
            seed,
            output / "samples",
            samples,
            progress,
        )
    results["conversion"] = summarize(conversions, originals)
    if speaker_judge is not None:
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


VOICES = ("similarity of voices, the matrix of conversions", "speaker judge")
WORDS = ("word and character errors", "word judge")


def _judge(judge, parts, wanted, notes):
    if wanted not in (True, False, REQUIRED):
        raise UserError(f"use_judges: {wanted!r} is not one of True, False, {REQUIRED}")
    if wanted is False:
        notes.append(left_out(*parts))
        return None
    if wanted is True and not judge.available():
        notes.append(left_out(*parts, installed=False))
        return None
    return judge()


def _targets(manifests, labels, train, min_train_clips, max_targets, seed):
    """Speakers with enough training clips, by speakers.json; their recordings have to be there."""
    speakers = read_speakers(manifests)
    clips = dict(zip(speakers.labels, speakers.train_clips, strict=True))
    unknown = sorted(set(clips) - set(labels))
    if unknown:
        raise UserError(
            f"{Path(manifests) / 'speakers.json'} names {unknown[0]}, whom the model does not "
            "know; give the manifests that it was trained on"
        )
    recorded = {utterance.speaker for utterance in train}
    enough = [x for x in labels if clips.get(x, 0) >= min_train_clips and x in recorded]
    if not enough:
        raise UserError(
            f"min_train_clips: no speaker has {min_train_clips} training clips; lower it"
        )
    return choose(enough, max_targets, f"{seed} targets")


@contextlib.contextmanager
def _evaluation(model):
    """The model in evaluation mode, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
