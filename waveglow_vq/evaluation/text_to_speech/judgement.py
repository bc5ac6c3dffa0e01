"""Judgement of speech from text beside recordings of the same sentences.

``waveglow-vq judge-speech`` judges an export. What the figures are, for one utterance:

- *distortion*: mel-cepstral distortion in dB along the best time alignment
  (:func:`~waveglow_vq.evaluation.metrics.mel_cepstral_distortion`) of the recording to the speech
  that was made from its text alone, and to what the codec makes of the recording's own codes. The
  second is the best that can be hoped for; their ratio is what choosing the codes from text costs.
- *nearer to its own*: whether the distortion of the speech to the recording of its sentence is
  less than to each of ten recordings of other sentences (of the same speaker), drawn by the seed
  from the same manifest. Of speech that has nothing to do with its text, one in eleven is.
- *duration*: seconds of the speech over seconds of the recording; its *deviation* is the distance
  of this from 1.
- *truncated*, *diagonal*: figures of the attention with which the codes were chosen
  (:func:`~waveglow_vq.evaluation.text_to_speech.attention.alignment_figures`). In a text of several
  sentences, none may be truncated, and all must be diagonal. Distances in the text are allowed
  for as many characters as the tolerance has, however long the tokens are.
- *looping*: what :func:`~waveglow_vq.evaluation.text_to_speech.attention.loop_signs` finds.
  Recorded speech stands still and repeats itself too; too long is what is longer than
  ``LOOP_MARGIN`` times the longest among the judged recordings: of their codes' repetitions, and of
  standing still while the model reads along with the recordings.
- *teacher-forced*: where the model reads along with the recording, that is for each code is given
  all codes of the recording before: the share of codes (and ends) that it finds the most probable,
  their mean negative log-likelihood, the exponential of this (perplexity), and whether attention
  is diagonal.
- *words*: error rates of a recognizer (:class:`~waveglow_vq.evaluation.judges.ASRScorer`), which
  mean something only beside those on the recordings, on their log-mels decoded without a model
  (:func:`~waveglow_vq.evaluation.baselines.without_model`), and on the codec's reconstructions.
"""

import copy
import functools
from pathlib import Path

from waveglow_vq.audio.io import write_wav
from waveglow_vq.data.shards.format import sound_source
from waveglow_vq.evaluation.baselines import without_model
from waveglow_vq.evaluation.judges import ASRScorer, left_out
from waveglow_vq.evaluation.plots import attention_picture
from waveglow_vq.evaluation.text_to_speech.attention import longest_repetition, loop_signs
from waveglow_vq.evaluation.text_to_speech.figures import (
    cepstrum_of,
    comparable,
    distortions,
    durations,
    read_recording,
    read_sentences,
    readings,
    reconstruction_of,
    teacher_forced,
)
from waveglow_vq.evaluation.text_to_speech.report import summarize
from waveglow_vq.evaluation.utterances import choose
from waveglow_vq.evaluation.words.recognizers import open_recognizer, word_errors
from waveglow_vq.lobes.source.pitch_reader import is_readable

import torch
from tqdm import tqdm

# How much longer than in any judged recording something may last before it is called a loop.
LOOP_MARGIN = 1.5


@torch.no_grad()
def judge_text_to_speech(
    tts,
    manifest,
    data_root,
    utterances=50,
    others=10,
    use_word_judge=True,
    search=None,
    sigma=None,
    seed=0,
    output=None,
    pictures=5,
    samples=5,
    progress=True,
    recognizer=None,
):
    """Speaks the texts of a manifest and compares the speech with the recordings. The same seed
    and options give the same figures. See the module for what they are.

    Arguments
    ---------
    tts : TextToSpeech
        The model with its codec.
    manifest, data_root : str or Path
        A manifest of a prepared corpus, and what ``{data_root}`` in it stands for.
    utterances : int
        Number to judge, drawn by the seed; None: all.
    others : int
        How many other recordings each is compared with; fewer where there are fewer.
    use_word_judge : bool
        Whether the speech recognizer is used, if it is installed. It is slow.
    search : SearchOptions or dict
        How codes are chosen; None: as the export says.
    sigma : float
        Sampling temperature of the codec; None: the codec's own.
    seed : int
        Of all that is drawn.
    output : str or Path
        Folder for pictures and audio files; None: nowhere.
    pictures, samples : int
        Number of utterances to plot the alignment of, and to save the audio of (speech,
        reconstruction and recording).
    progress : bool
        Show a progress bar on stderr.
    recognizer : str
        Which one, see :func:`~waveglow_vq.evaluation.words.recognizers.open_recognizer`; what is
        named here has to be installed. None: pocketsphinx, if it is.

    Returns
    -------
    dict
        ``settings``; ``summary``, means and shares over the utterances
        (:func:`~waveglow_vq.evaluation.text_to_speech.report.summarize`); ``utterances``, a dict
        for each by its id; ``notes``, sentences about what is missing and why.

    Raises
    ------
    UserError
        If the manifest is damaged, or has no utterance that the model can speak.
    """
    settings = {
        "manifest": str(manifest), "utterances": utterances, "others": others, "seed": seed,
        "search": search if isinstance(search, dict) or search is None else search._asdict(),
        "sigma": sigma, "loop_margin": LOOP_MARGIN, "recognizer": recognizer,
    }  # fmt: skip
    sentences, notes = read_sentences(tts, manifest, data_root)
    chosen = choose(sentences, utterances, f"{seed} utterances")
    word_judge = _word_judge(use_word_judge, recognizer, notes)
    features = copy.deepcopy(tts.codec.mods.features).cpu()
    recording = functools.cache(lambda s: cepstrum_of(read_recording(s, features), features))
    rows, written, longest_stall, most_repeated = {}, {}, 0, 0
    for number, sentence in enumerate(
        tqdm(chosen, desc="judging", unit="utterance", disable=not progress)
    ):
        code_file = tts.codec.to_code_file(sound_source(sentence.wav))
        spoken = tts.encode_text(sentence.text, sentence.speaker, generator=seed, search=search)
        wavs = {
            "recording": read_recording(sentence, features),
            "reconstruction": reconstruction_of(tts, code_file, sentence.speaker, sigma, seed),
            "speech": tts.decode_text(spoken, sentence.speaker, seed, sigma)[0].cpu(),
        }
        forced = teacher_forced(tts, sentence, code_file)
        longest_stall = max(longest_stall, forced["longest_stall"])
        most_repeated = max(most_repeated, longest_repetition(code_file.codes))
        compared = choose(comparable(sentence, sentences), others, f"{seed} others {sentence.name}")
        row = rows[sentence.name] = {
            "text": sentence.spoken,
            "speaker": sentence.speaker,
            **durations(wavs, tts.sample_rate),
            **distortions(sentence, compared, wavs, recording, features),
            **readings(spoken.sentences),
            "teacher_forced": forced,
        }
        written[sentence.name] = [each.codes for each in spoken.sentences]
        if word_judge is not None:
            unmodelled = without_model(wavs["recording"], features, pulses=is_readable(features))
            heard = wavs | {"no_model": unmodelled}
            row["words"] = word_errors(word_judge, sentence.spoken, heard, tts.sample_rate)
        if output is not None:
            _illustrate(
                Path(output), sentence, spoken, wavs, tts, number < pictures, number < samples
            )
    limits = LOOP_MARGIN * longest_stall, LOOP_MARGIN * most_repeated
    settings["most_stall"], settings["most_repetition"] = limits
    for name, row in rows.items():
        signs = [
            sign
            for alignment, codes in zip(row["alignments"], written[name], strict=True)
            for sign in loop_signs(alignment, codes, *limits, alignment["stopped"])
        ]
        row["loop_signs"], row["looping"] = sorted(set(signs)), bool(signs)
    return {"settings": settings, "summary": summarize(rows), "notes": notes, "utterances": rows}


def _word_judge(wanted, recognizer, notes):
    if wanted and recognizer is not None:
        return open_recognizer(recognizer)
    if wanted and ASRScorer.available():
        return ASRScorer()
    notes.append(left_out("word and character errors", "speech recognizer", installed=not wanted))
    return None


def _illustrate(folder, sentence, spoken, wavs, tts, picture, sound):
    # An id may have slashes, and may be anything in a manifest: it is to stay in the folder.
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in sentence.name).lstrip(".")
    if picture:
        for number, each in enumerate(spoken.sentences):
            part = f"_{number + 1}" if len(spoken.sentences) > 1 else ""
            path = folder / f"{name}{part}_attention.png"
            attention_picture(path, each.attention, each.pieces, tts.code_rate, each.text)
    if sound:
        for kind, wav in wavs.items():
            write_wav(folder / f"{name}_{kind}.wav", wav, tts.sample_rate)
