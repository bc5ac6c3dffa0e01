"""Does the model care who speaks? Likelihoods under the right speaker and under wrong ones."""

import copy
import zlib

from waveglow_vq.data.segments import read_utterance
from waveglow_vq.data.shards.format import sound_source
from waveglow_vq.evaluation.utterances import choose
from waveglow_vq.inference.conversion.voices import utterance_pitch
from waveglow_vq.lobes.flows.waveglow import negative_log_likelihood

import torch
from tqdm import tqdm


@torch.no_grad()
def speaker_likelihoods(
    model, features, utterances, labels, max_wrong=20, batch_size=8, seed=0, progress=False
):
    """Negative log-likelihood of utterances under wrong speakers, less that under the right one.

    Zero would mean that the model does not care who speaks. Everything but the speaker is the same:
    the waveform, the codes, and the pitch, normalized by the utterance's own mean and deviation,
    not by the right speaker's, which would give that one an advantage.

    ``utterances`` are RecordedUtterances of ``labels``, the model's speakers in its numbering;
    ``max_wrong`` wrong speakers (None: all) are drawn for each, and ``batch_size`` computed
    together.

    Returns ``mean_difference`` in nats per sample; ``share_positive``, of the utterances whose mean
    difference is above zero; ``share_best``, of those for which no wrong speaker that was tried is
    better than the right one; ``utterances``, ``wrong_speakers`` (tried for each), and
    ``differences``, the mean difference of each utterance. Empty where nothing can be compared.
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
    inputs = model.conditioner.inputs(mel, wav)
    condition = model.condition(inputs.features, None, vectors, pitch, statistics)
    z, logdet, samples = model.to_noise(wav, mel, condition, speaker=vectors)
    return negative_log_likelihood(z, logdet, samples, model.sigma).cpu()
