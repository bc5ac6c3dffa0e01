"""Voice conversion in minutes: generates four speakers, trains on them, converts unseen sentences.

    python demo.py --output demo_output/conversion

It runs the commands that a user would run, each in a process of its own: the generator, train.py
with hparams/vq.yaml, and this file again (--only_report), which converts with the export.
All speakers of the generated corpus say the same sentences, and those of the test are unseen in any
voice: a conversion is compared with the target's own recording of its sentence.
"""

import itertools
import json
import math
import time
from pathlib import Path

from waveglow_vq.demo.run_demo import demo_options, print_places, run_demo, write_figures
from waveglow_vq.errors import UserError, cli_errors

SPEAKERS = 4
# Test sentences of each speaker that are converted to every other one.
SENTENCES = 3
# A conversion with less than this share of its recording's voiced frames whispers; and how near the
# median F0 of the others has to come to the target's.
VOICED = 0.5
SEMITONES = 2
# Seconds of sound in which the harmonics of the lowest voice are told apart.
LOW_WINDOW = 0.07
# For a quarter of an hour of speech, a model and a batch with which three minutes go far.
TRAINING = {
    "size": "tiny",
    "max_speakers": SPEAKERS,
    "split_ratio": "[80, 8, 12]",
    "disjoint_sentences": True,
    "number_of_epochs": 1000,  # max_minutes ends the training
    "segments_per_epoch": 1024,
    "batch_size": 4,
    "max_valid_utterances": 2,
    "samples_per_epoch": 0,
    "test_samples": 0,  # judged below, from the export
    "diagnose": False,
    "warmup_steps": 50,
    "halve_from": 0.5,
    "averaging_decay": 0.99,
    "adversary_after": 200,
}


def main(arguments=None):
    """The command line."""
    options = demo_options(__doc__.split("\n")[0], "demo_output/conversion", arguments)
    output = Path(options.output).resolve()
    with cli_errors():
        if options.only_report:
            report(output, options.device)
        else:
            corpus_options = ["--layout", "vctk", "--speakers", SPEAKERS]
            training = {"audio_folder": output / "audio", **TRAINING}
            reporting = "converting unseen sentences"
            run_demo(__file__, options, corpus_options, training, reporting)


def report(output, device):
    """Loads the export, converts test clips to every voice, measures and draws."""
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.audio.io import read_wav, write_wav
    from waveglow_vq.evaluation.baselines import ITERATIONS, no_model_name, without_model
    from waveglow_vq.evaluation.plots import harmonics_comparison, spectrogram_comparison
    from waveglow_vq.evaluation.verdicts import print_report
    from waveglow_vq.inference import VoiceConverter

    converter = VoiceConverter.from_hparams(
        source=str(output / "run" / "export"), run_opts={"device": device}
    )
    rate, labels = converter.sample_rate, converter.speakers
    clips = find_clips(output, labels)
    recordings = {key: read_wav(path, rate) for key, path in clips.items()}
    sentences = sorted({sentence for _, sentence in clips})
    conversions, without, computing, seconds = {}, {}, 0.0, 0.0
    for source, target, sentence in itertools.product(labels, labels, sentences):
        name = f"{source}_{sentence}_as_{target}.wav"
        begin = time.perf_counter()
        wav = converter.convert_file(
            clips[source, sentence], target, output / "conversions" / name, generator=0
        )
        computing += time.perf_counter() - begin
        seconds += wav.shape[-1] / rate
        conversions[source, target, sentence] = wav[0].cpu()
        if sentence == sentences[0] and converter.refine:
            path = clips[source, sentence]
            wav = converter.convert_file(path, target, generator=0, refine=0)
            without[source, target, sentence] = wav[0].cpu()
    for (label, sentence), wav in recordings.items():
        write_wav(output / "recordings" / f"{label}_{sentence}.wav", wav, rate)

    rows = [
        measure(source, target, sentences, recordings, conversions)
        for source, target in itertools.product(labels, labels)
    ]
    figures = summary(rows) | {
        "real-time factor (seconds to compute a second)": computing / seconds
    }
    first, last, sentence = labels[0], labels[1], sentences[0]
    spectrogram_comparison(
        output / "spectrograms.png",
        {
            f"{first}: recording": recordings[first, sentence],
            f"converted to {last}": conversions[first, last, sentence],
            f"{last}: recording of the same sentence": recordings[last, sentence],
        },
        LogMel(sample_rate=rate),
    )
    # As many iterations as the converter makes behind its flows.
    iterations, features = converter.refine or ITERATIONS, LogMel(rate)
    wanted = recordings[last, sentence]
    harmonics_comparison(
        output / "harmonics.png",
        {
            f"{first}: recording": recordings[first, sentence],
            f"converted to {last}, {converter.refine} iterations": (
                conversions[first, last, sentence]
            ),
            f"{last}: recording of the same sentence": wanted,
            f"{last}: {no_model_name(iterations)}": without_model(wanted, features, iterations),
        },
        rate,
        f"Harmonics of {first}, of {last}, and of {first} converted to {last}",
        window=LOW_WINDOW,
    )
    given = recordings, conversions, features, iterations, without
    sounds = score_sounds(labels, sentence, *given)
    text = format_report(rows, figures, sentences) + "\n\n" + format_sounds(sounds)
    write_figures(output, text, {"figures": figures, "pairs": rows, "sounds": sounds})
    print_report(text)
    print_places(
        output,
        [
            ("recordings/", "the test clips"),
            ("conversions/", "each of them in every voice: SOURCE_SENTENCE_as_TARGET.wav"),
            ("spectrograms.png", "a recording, its conversion, and the target's own recording"),
            ("harmonics.png", "the same up to 5 kHz, and the target without a model"),
            ("figures.txt, figures.json", "the tables above"),
            ("run/export/", "the model, for waveglow-vq convert, or VoiceConverter.from_hparams"),
            ("run/train_log.txt", "the training, epoch by epoch"),
            ("corpus/, audio/", "the generated corpus, and as it was prepared"),
        ],
    )


def find_clips(output, labels):
    """Paths of the first test sentences that there are of all speakers: {(label, sentence)}."""
    manifest = json.loads((output / "run" / "manifests" / "test.json").read_text("utf-8"))
    paths = {
        tuple(name.split("_")): entry["wav"].replace("{data_root}", str(output / "audio"))
        for name, entry in manifest.items()
    }
    sentences = sorted({sentence for _, sentence in paths})
    common = [s for s in sentences if all((label, s) in paths for label in labels)]
    if not common:
        raise UserError("--utterances: too few for a test sentence of all speakers; give more")
    return {(label, s): paths[label, s] for s in common[:SENTENCES] for label in labels}


def measure(source, target, sentences, recordings, conversions):
    """How far conversions are from both voices, means over the sentences of one pair.

    Arguments
    ---------
    source, target : str
        Labels; the same for a reconstruction in the speaker's own voice.
    sentences : list of str
        Which.
    recordings, conversions : dict
        Waveforms by (label, sentence), and by (source, target, sentence).

    Returns
    -------
    dict
        ``source_f0``, ``target_f0``, ``converted_f0`` (medians in Hz), ``f0_moved`` (share of the
        way from source to target in log-F0; None for one's own voice), ``voiced`` (voiced frames
        of the conversion, relative to those of the recording), ``mcd_to_target`` and
        ``mcd_to_source`` (time-warped mel-cepstral distortion to their own recordings in dB) and
        ``mcd_between`` (between these recordings).
    """
    from waveglow_vq.evaluation.metrics import mel_cepstral_distortion

    spoken = [recordings[source, s] for s in sentences]
    wanted = [recordings[target, s] for s in sentences]
    converted = [conversions[source, target, s] for s in sentences]

    def distortion(first, second):
        values = [mel_cepstral_distortion(*pair) for pair in zip(first, second, strict=True)]
        return sum(values) / len(values)

    (source_f0, frames), (target_f0, _), (converted_f0, kept) = map(
        median_f0, (spoken, wanted, converted)
    )
    moved = None
    if source != target:
        moved = math.log(converted_f0 / source_f0) / math.log(target_f0 / source_f0)
    return {
        "source": source,
        "target": target,
        "source_f0": source_f0,
        "target_f0": target_f0,
        "converted_f0": converted_f0,
        "f0_moved": moved,
        "voiced": kept / max(1, frames),
        "mcd_to_target": distortion(wanted, converted),
        "mcd_to_source": distortion(spoken, converted),
        "mcd_between": distortion(wanted, spoken),
    }


def median_f0(wavs):
    """Median of the fundamental frequency over all voiced frames, in Hz, NaN without any; and how
    many such frames there are."""
    from waveglow_vq.audio.pitch import track_f0

    import torch

    tracks = [track_f0(wav) for wav in wavs]
    voiced = torch.cat([track.f0[track.voiced] for track in tracks])
    return (float(voiced.median()) if len(voiced) else math.nan), len(voiced)


def summary(rows):
    """Figures over all pairs of different speakers."""
    from waveglow_vq.evaluation.conversion.summary import VOICED_WITHIN

    pairs = [row for row in rows if row["source"] != row["target"]]
    own = [row for row in rows if row["source"] == row["target"]]

    def mean(key, of):
        return sum(row[key] for row in of) / len(of)

    nearer = sum(row["mcd_to_target"] < row["mcd_to_source"] for row in pairs)
    # The pitch of a whisper, as far as it has one, says nothing.
    spoken = [row for row in pairs if row["voiced"] >= VOICED]
    arrived = sum(
        12 * abs(math.log2(row["converted_f0"] / row["target_f0"])) <= SEMITONES for row in spoken
    )
    within = sum(abs(row["voiced"] - 1) <= VOICED_WITHIN for row in pairs)
    return {
        "pairs nearer to the target than to the source [%]": 100 * nearer / len(pairs),
        "pairs at least half as voiced as the recordings [%]": 100 * len(spoken) / len(pairs),
        f"of these, median F0 within {SEMITONES} semitones of the target's [%]": (
            100 * arrived / len(spoken) if spoken else math.nan
        ),
        f"pairs voiced within {100 * VOICED_WITHIN:.0f} % of the recordings [%]": (
            100 * within / len(pairs)
        ),
        "MCD of conversions to the target's recordings [dB]": mean("mcd_to_target", pairs),
        "MCD of conversions to the source's recordings [dB]": mean("mcd_to_source", pairs),
        "MCD between recordings of source and target [dB]": mean("mcd_between", pairs),
        "MCD of reconstructions in the own voice [dB]": mean("mcd_to_target", own),
    }


def score_sounds(labels, sentence, recordings, conversions, features, iterations, without):
    """What conversions of one sentence sound like, beside recordings and what these give without a
    model: ``{row: measures}``, means. ``without`` are conversions of it without iterations. They
    have no recording to be compared with."""
    from waveglow_vq.evaluation.sound_quality import QUICK, installed
    from waveglow_vq.evaluation.sound_rows import mean_rows, score_alone, score_rows

    judges = installed(QUICK)
    kinds, scored = {" without iterations": without, "": conversions}, []
    for label in labels:
        own = {
            f"own voice{kind}": found[label, label, sentence]
            for kind, found in kinds.items()
            if found
        }
        scored.append(score_rows(recordings[label, sentence], own, features, judges, iterations))
    for kind, found in kinds.items():
        scored += [
            {f"conversions{kind}": score_alone(wav, features.sample_rate, judges)}
            for (source, target, spoken), wav in found.items()
            if source != target and spoken == sentence
        ]
    return mean_rows(scored, judges)


def format_sounds(sounds):
    """The table of :func:`score_sounds`."""
    from waveglow_vq.evaluation.sound_quality import QUICK, installed
    from waveglow_vq.evaluation.sound_rows import format_rows

    return format_rows(sounds, installed(QUICK))


def format_report(rows, figures, sentences):
    """Both tables as text."""
    lines = [
        f"{len(rows) * len(sentences)} conversions of {len(sentences)} test sentences",
        "",
        "               median F0 [Hz]                      voiced  MCD [dB] of the conversion to",
        "source target  source  target  converted    moved  frames   target's clip   source's clip",
    ]
    for row in rows:
        moved = "own" if row["f0_moved"] is None else f"{100 * row['f0_moved']:.0f} %"
        if row["voiced"] < VOICED:
            moved = "whisper"
        lines.append(
            f"{row['source']:<6} {row['target']:<6}  {row['source_f0']:6.0f}  "
            f"{row['target_f0']:6.0f}  {row['converted_f0']:9.0f}  {moved:>7}  "
            f"{100 * row['voiced']:4.0f} %  {row['mcd_to_target']:14.2f}  "
            f"{row['mcd_to_source']:14.2f}"
        )
    if any(row["voiced"] < VOICED for row in rows):
        lines += ["", "Where few frames are voiced, it whispers, as low voices do at this size."]
    width = max(map(len, figures))
    lines += ["", *(f"{name:<{width}}  {value:8.2f}" for name, value in figures.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
