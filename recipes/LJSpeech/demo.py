"""A speech codec in minutes: generates a corpus, trains on it, reconstructs unseen clips.

    python demo.py --output demo_output

It runs the commands that a user would run, each in a process of its own: the generator, train.py
with hparams/vq.yaml, and this file again (--only_report), which has only the export.
"""

import json
import time
from pathlib import Path

from waveglow_vq.demo.run_demo import demo_options, print_places, run_demo, write_figures
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


def main(arguments=None):
    """The command line."""
    options = demo_options(__doc__.split("\n")[0], "demo_output", arguments)
    with cli_errors():
        if options.only_report:
            report(Path(options.output).resolve(), options.device)
        else:
            run_demo(__file__, options, [], TRAINING, "reconstructing unseen clips")


def report(output, device):
    """Loads the export, reconstructs the test clips, scores them and draws them."""
    from waveglow_vq.audio.features import LogMel
    from waveglow_vq.audio.io import read_for_model, write_wav
    from waveglow_vq.evaluation.baselines import ITERATIONS
    from waveglow_vq.evaluation.plots import spectrogram_comparison
    from waveglow_vq.evaluation.score import format_table, score_folders
    from waveglow_vq.evaluation.sound_quality import QUICK, installed
    from waveglow_vq.evaluation.verdicts import print_report
    from waveglow_vq.inference import SpeechCodec

    run = output / "run"
    codec = SpeechCodec.from_hparams(source=str(run / "export"), run_opts={"device": device})
    manifest = json.loads((run / "manifests" / "test.json").read_text("utf-8"))
    recordings, reconstructions = output / "recordings", output / "reconstructions"
    computing, seconds, pictures = 0.0, 0.0, {}
    for name, entry in sorted(manifest.items()):
        path = entry["wav"].replace("{data_root}", str(output / "corpus"))
        recording = read_for_model(path, codec.sample_rate)
        write_wav(recordings / f"{name}.wav", recording, codec.sample_rate)
        begin = time.perf_counter()
        wav = codec.reconstruct_file(path, reconstructions / f"{name}.wav", generator=0)
        computing += time.perf_counter() - begin
        seconds += wav.shape[-1] / codec.sample_rate
        if not pictures:
            pictures = {f"{name}: recording": recording, "from its codes": wav.flatten().cpu()}
    spectrogram_comparison(
        output / "spectrograms.png",
        pictures,
        LogMel(sample_rate=codec.sample_rate),
        title=f"{codec.bits_per_second:.0f} bit/s",
    )
    # Beside the true log-mels without a model, with as many iterations as the codec makes.
    iterations = getattr(codec, "refine", 0) or ITERATIONS
    scores = score_folders(
        recordings, reconstructions, judges=installed(QUICK), no_model=iterations
    )
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
    text = f"{len(manifest)} test clips, {seconds:.0f} seconds\n\n{table}\n\n{format_table(scores)}"
    write_figures(output, text, {"figures": figures, "scores": scores})
    print_report(text)
    print_places(
        output,
        [
            ("recordings/", "the test clips"),
            ("reconstructions/", "the same from their codes"),
            ("spectrograms.png", "both of one clip"),
            ("figures.txt, figures.json", "the tables above"),
            ("run/export/", "the model, for waveglow-vq encode, or SpeechCodec.from_hparams"),
            ("run/train_log.txt", "the training, epoch by epoch"),
            ("corpus/", "the generated corpus"),
        ],
    )


if __name__ == "__main__":
    main()
