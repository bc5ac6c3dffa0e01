"""Text to speech in minutes: generates a corpus, trains a codec and a model that writes its codes
from text, and speaks unseen sentences.

    python demo_speech.py --output demo_output/speech

It runs the commands that a user would run, each in a process of its own: the generator, train.py
with hparams/vq.yaml, train_text_to_codes.py with hparams/text_to_codes.yaml, and this file again
(--only_report), which has only the export and the corpus.
"""

import copy
import json
import time
from pathlib import Path

from waveglow_vq.demo.run_demo import (
    demo_options,
    generate,
    print_places,
    print_time,
    report_again,
    train,
    write_figures,
)
from waveglow_vq.errors import cli_errors

# Sentences that are spoken and compared with their recordings in the report.
JUDGED = 20
# Of these, sentences whose sound is compared with what recordings give without a model.
SOUNDS = 4
SPLIT = "[98, 1, 1]"
# The sound of one synthetic voice is learned soon, reading is not: 43 codes per second are half as
# many to predict as 86.
CODEC = {
    "size": "tiny",
    "preset": "{code_stride: 2, codebook_size: 256, mel_weight: 4.0}",
    "split_ratio": SPLIT,
    "number_of_epochs": 1000,  # max_minutes ends the training
    "segments_per_epoch": 1024,
    "batch_size": 4,
    "max_valid_utterances": 2,
    "samples_per_epoch": 0,
    "test_samples": 0,
    "warmup_steps": 50,
    "averaging_decay": 0.99,
    "adversary_after": 200,
}
TEXT = {
    "size": "tiny",
    "preset": "{dropout: 0.0}",  # minutes are too short to overfit
    "split_ratio": SPLIT,
    "number_of_epochs": 1000,
    "max_batch_codes": 2500,
    "learning_rate": 0.002,
    "warmup_steps": 100,
    "averaging_decay": 0.998,
    "free_running_utterances": 2,
    "samples_per_epoch": 0,
    "test_utterances": 0,  # judged below, from the export
}


def main(arguments=None):
    """The command line."""
    options = demo_options(
        __doc__.split("\n\n")[0].replace("\n", " "),
        "demo_output/speech",
        arguments,
        utterances=3000,
        more={"text_minutes": (6.0, "of training to read")},
    )
    output, recipe = Path(options.output).resolve(), Path(__file__).resolve().parent
    with cli_errors():
        if options.only_report:
            return report(output, options.device)
        begin = time.monotonic()
        generate(output / "corpus", options.utterances)
        chosen = {**CODEC, **dict(option.split("=", 1) for option in options.train_option)}
        codec, run = output / "codec", output / "run"
        script = recipe / "train.py"
        train(script, "vq.yaml", output, codec, options, options.minutes, chosen, "the codec")
        script, chosen = recipe / "train_text_to_codes.py", {"codec": codec / "export", **TEXT}
        hparams, what = "text_to_codes.yaml", "reading"
        train(script, hparams, output, run, options, options.text_minutes, chosen, what)
        report_again(__file__, output, options, "speaking unseen sentences")
        print_time(begin)


def report(output, device):
    """Loads the export, speaks test sentences, compares them with their recordings, draws one."""
    from waveglow_vq.audio.io import read_for_model, write_wav
    from waveglow_vq.evaluation.baselines import ITERATIONS, no_model_name, without_model
    from waveglow_vq.evaluation.plots import (
        attention_picture,
        harmonics_comparison,
        spectrogram_comparison,
    )
    from waveglow_vq.evaluation.text_to_speech.judgement import judge_text_to_speech
    from waveglow_vq.evaluation.text_to_speech.report import format_report
    from waveglow_vq.evaluation.verdicts import print_report
    from waveglow_vq.inference import TextToSpeech

    run, corpus = output / "run", output / "corpus"
    tts = TextToSpeech.from_hparams(run / "export", run_opts={"device": device})
    test = run / "manifests" / "test.json"
    results = judge_text_to_speech(
        tts,
        test,
        corpus,
        utterances=JUDGED,
        use_word_judge=False,
        output=output / "spoken",
        samples=JUDGED,
        progress=False,
    )
    entry = next(iter(json.loads(test.read_text("utf-8")).values()))
    sentence = entry["text"]
    begin = time.perf_counter()
    spoken = tts.encode_text(sentence, generator=0)
    wav = tts.decode_text(spoken, generator=0)[0].cpu()
    computing = time.perf_counter() - begin
    write_wav(output / "speech.wav", wav, tts.sample_rate)
    picture = output / "attention.png"
    attention_picture(picture, spoken.attention, spoken.pieces, tts.code_rate, spoken.text)
    path = entry["wav"].replace("{data_root}", str(corpus))
    recording = read_for_model(path, tts.sample_rate)
    pictures = {"recording": recording, "spoken": wav}
    features = copy.deepcopy(tts.codec.mods.features).cpu()
    spectrogram_comparison(output / "spectrograms.png", pictures, features, title=sentence)
    iterations = tts.codec.refine or ITERATIONS
    harmonics_comparison(
        output / "harmonics.png",
        {
            "recording": recording,
            no_model_name(iterations): without_model(recording, features, iterations),
            f"spoken, {tts.codec.refine} iterations": wav,
        },
        tts.sample_rate,
        f"Harmonics: {sentence}",
    )
    sounds, table = score_sounds(tts, test, corpus, list(results["utterances"])[:SOUNDS], features)
    results["sounds"] = sounds
    text = (
        f"{format_report(results)}\n\n{table}\n\n"
        f"Spoken, not in the training data: {sentence}\n"
        f"real-time factor: {computing * tts.sample_rate / len(wav):.3f}"
    )
    write_figures(output, text, results)
    print_report(text)
    print_places(
        output,
        [
            ("speech.wav", "a sentence that is not in the training data"),
            ("attention.png", "its alignment of codes and letters"),
            ("spectrograms.png", "it, and its recording"),
            ("harmonics.png", "both up to 5 kHz, and the recording's log-mel without a model"),
            ("spoken/", "more test sentences, spoken and recorded"),
            ("figures.txt, figures.json", "the tables above"),
            ("run/export/", "the model, for waveglow-vq speak, or TextToSpeech.from_hparams"),
            ("run/train_log.txt", "its training, epoch by epoch"),
            ("codec/export/", "the codec alone"),
            ("corpus/", "the generated corpus"),
        ],
    )


def score_sounds(tts, manifest, corpus, names, features):
    """What speech and the codec sound like, beside recordings and what these give without a model:
    ``{row: measures}``, means, and the table. Speech is compared with no recording."""
    from waveglow_vq.audio.io import read_for_model
    from waveglow_vq.evaluation.baselines import ITERATIONS
    from waveglow_vq.evaluation.sound_quality import QUICK, installed
    from waveglow_vq.evaluation.sound_rows import format_rows, mean_rows, score_alone, score_rows

    codec, rate, entries = tts.codec, tts.sample_rate, json.loads(manifest.read_text("utf-8"))
    judges, scored = installed(QUICK), []
    kinds = {" without iterations": 0, f", {codec.refine} iterations": codec.refine}
    for name in names:
        path = entries[name]["wav"].replace("{data_root}", str(corpus))
        own = {
            f"codec{kind}": codec.reconstruct_file(path, generator=0, refine=refine)[0]
            for kind, refine in kinds.items()
        }
        recording, iterations = read_for_model(path, rate), codec.refine or ITERATIONS
        rows = score_rows(recording, own, features, judges, iterations)
        spoken = tts.encode_text(entries[name]["text"], generator=0)
        for kind, refine in kinds.items():
            wav = tts.decode_text(spoken, generator=0, refine=refine)[0]
            rows[f"speech{kind}"] = score_alone(wav, rate, judges)
        scored.append(rows)
    sounds = mean_rows(scored, judges)
    return sounds, format_rows(sounds, judges)


if __name__ == "__main__":
    main()
