"""A speech codec and a vocoder in minutes: generates a corpus, trains, reconstructs unseen clips.

    python demo.py --output demo_output

It runs the commands that a user would run, each in a process of its own: the generator, train.py
with hparams/vq.yaml and with hparams/mel.yaml, and this file again (--only_report), which has only
the exports.
"""

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

# For four minutes of speech, a model and a batch with which three minutes go far.
TRAINING = {
    "size": "tiny",
    "split_ratio": "[80, 8, 12]",
    "number_of_epochs": 1000,  # max_minutes ends the training
    "segments_per_epoch": 1024,
    "batch_size": 4,
    "max_valid_utterances": 2,
    "samples_per_epoch": 0,
    "test_samples": 0,  # scored below, from the export
    "warmup_steps": 50,
    "halve_from": 0.5,
    "averaging_decay": 0.99,
}
# Discriminators of log-mels begin as soon as there is something to tell.
CODEC = {"adversary_after": 200}


def main(arguments=None):
    """The command line."""
    options = demo_options(
        __doc__.split("\n")[0],
        "demo_output",
        arguments,
        more={"vocoder_minutes": (0.5, "of training of the vocoder")},
    )
    output, recipe = Path(options.output).resolve(), Path(__file__).resolve().parent
    with cli_errors():
        if options.only_report:
            return report(output, options.device)
        begin = time.monotonic()
        generate(output / "corpus", options.utterances)
        chosen = {
            **TRAINING,
            **CODEC,
            **dict(option.split("=", 1) for option in options.train_option),
        }
        script = recipe / "train.py"
        run, minutes = output / "run", options.minutes
        train(script, "vq.yaml", output, run, options, minutes, chosen, "the codec")
        run, minutes = output / "vocoder", options.vocoder_minutes
        train(script, "mel.yaml", output, run, options, minutes, TRAINING, "the vocoder")
        report_again(__file__, output, options, "reconstructing unseen clips")
        print_time(begin)


def report(output, device):
    """Loads the exports, reconstructs the test clips, scores them and draws one of them."""
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.audio.io import read_for_model, write_wav
    from waveglow_vq.evaluation.baselines import ITERATIONS
    from waveglow_vq.evaluation.score import format_table, score_folders
    from waveglow_vq.evaluation.sound_quality import QUICK, installed
    from waveglow_vq.evaluation.sound_rows import format_rows, mean_rows, score_rows
    from waveglow_vq.evaluation.verdicts import print_report
    from waveglow_vq.inference import load_export

    run = output / "run"
    codec, vocoder = (
        load_export(folder / "export", run_opts={"device": device})
        for folder in (run, output / "vocoder")
    )
    manifest = json.loads((run / "manifests" / "test.json").read_text("utf-8"))
    recordings, reconstructions = output / "recordings", output / "reconstructions"
    features, judges = LogMel(sample_rate=codec.sample_rate), installed(QUICK)
    computing, seconds, clips, scored = 0.0, 0.0, {}, []
    for name, entry in sorted(manifest.items()):
        path = entry["wav"].replace("{data_root}", str(output / "corpus"))
        recording = read_for_model(path, codec.sample_rate)
        write_wav(recordings / f"{name}.wav", recording, codec.sample_rate)
        begin = time.perf_counter()
        wav = codec.reconstruct_file(path, reconstructions / f"{name}.wav", generator=0)
        computing += time.perf_counter() - begin
        seconds += wav.shape[-1] / codec.sample_rate
        vocoded = vocoder.reconstruct_file(path, output / "vocoded" / f"{name}.wav", generator=0)
        clips[name] = recording, vocoded[0].cpu(), wav[0].cpu()
        sounds = {
            "vocoder without iterations": vocoder.reconstruct_file(path, generator=0, refine=0)[0],
            f"vocoder, {vocoder.refine} iterations": vocoded[0],
            "codec's log-mel, no model": without_flows(codec, path, features)[: wav.shape[-1]],
            "codec without iterations": codec.reconstruct_file(path, generator=0, refine=0)[0],
            f"codec, {codec.refine} iterations": wav[0],
        }
        iterations = codec.refine or ITERATIONS
        scored.append(score_rows(recording, sounds, features, judges, iterations))
    draw(output, codec, vocoder, clips, features)
    scores, sounds = score_folders(recordings, reconstructions), mean_rows(scored, judges)
    measured = json.loads((run / "test_results.json").read_text("utf-8"))
    figures = {
        "negative log-likelihood [nats per sample]": measured["nll"],
        "log-mel L1": scores["mean"]["log_mel_l1"],
        "mel-cepstral distortion [dB]": scores["mean"]["mel_cepstral_distortion"],
        f"codes used of {codec.codebook_size}": measured["used_codes"],
        "perplexity of the codes": measured["perplexity"],
        "bits per second": codec.bits_per_second,
        "real-time factor (seconds to compute a second)": computing / seconds,
    }
    width = max(map(len, figures))
    table = "\n".join(f"{name:<{width}}  {value:10.3f}" for name, value in figures.items())
    parts = [f"The codec: {len(manifest)} test clips, {seconds:.0f} seconds", table]
    parts += [format_table(scores), "The codec and the vocoder", format_rows(sounds, judges)]
    text = "\n\n".join(parts)
    write_figures(output, text, {"figures": figures, "scores": scores, "sounds": sounds})
    print_report(text)
    print_places(
        output,
        [
            ("recordings/", "the test clips"),
            ("reconstructions/", "the same from their codes"),
            ("vocoded/", "the same from their log-mels"),
            ("spectrograms.png", "a clip, and the same from its codes"),
            (
                "harmonics.png",
                "a clip up to 5 kHz, and what is made of it, without a model too",
            ),
            ("figures.txt, figures.json", "the tables above"),
            ("run/export/", "the codec, for waveglow-vq encode, or SpeechCodec.from_hparams"),
            ("vocoder/export/", "the vocoder, for waveglow-vq vocode, or WaveGlowVocoder"),
            ("run/train_log.txt", "the training of the codec, epoch by epoch"),
            ("corpus/", "the generated corpus"),
        ],
    )


def without_flows(codec, path, features):
    """What iterations that begin with noise make of the log-mel that a clip's codes predict."""
    from waveglow_vq.evaluation.baselines import ITERATIONS
    from waveglow_vq.evaluation.sound_rows import sound_of_log_mel

    import torch

    codes = codec.encode_file(path)[None]
    with torch.no_grad():
        log_mel = codec.mods.model.conditioner.decode(codes).log_mel[0]
    samples = codes.shape[1] * codec.samples_per_code
    return sound_of_log_mel(log_mel, features, samples, codec.refine or ITERATIONS)


def draw(output, codec, vocoder, clips, features):
    """Draws the most voiced of ``{name: (recording, from the log-mel, from the codes)}``."""
    from waveglow_vq.audio.pitch import track_f0
    from waveglow_vq.evaluation.baselines import ITERATIONS, no_model_name, without_model
    from waveglow_vq.evaluation.plots import harmonics_comparison, spectrogram_comparison

    name = max(clips, key=lambda name: float(track_f0(clips[name][0]).voiced.float().mean()))
    recording, vocoded, reconstruction = clips[name]
    bits = f"{codec.bits_per_second:.0f} bit/s"
    pictures = {f"{name}: recording": recording, "from its codes": reconstruction}
    spectrogram_comparison(output / "spectrograms.png", pictures, features, title=bits)
    iterations = vocoder.refine or ITERATIONS
    harmonics_comparison(
        output / "harmonics.png",
        {
            "recording": recording,
            no_model_name(iterations): without_model(recording, features, iterations),
            f"vocoder, {vocoder.refine} iterations": vocoded,
            f"codec, {bits}, {codec.refine} iterations": reconstruction,
        },
        features.sample_rate,
        f"Harmonics of {name}",
    )


if __name__ == "__main__":
    main()
