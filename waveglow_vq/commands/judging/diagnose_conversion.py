"""Diagnose the voice conversion of a model of several speakers."""

from waveglow_vq.commands.arguments import compute_arguments, path, recognizer_argument
from waveglow_vq.commands.common import load_model
from waveglow_vq.evaluation.conversion.diagnosis_options import REQUIRED, DiagnosisOptions

EXAMPLES = """\
  waveglow-vq diagnose-conversion EXPORT_FOLDER --manifests manifests/ --data_root wavs/ \\
      --output diagnosis/

Writes diagnostics.json (all figures), diagnostics.txt (the table that is printed), a heat map of
how similar conversions are to their targets, and some of the audio files.
"""
_JUDGES = {"installed": True, REQUIRED: REQUIRED, "none": False}


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.usage = "%(prog)s MODEL --manifests DIR --data_root DIR --output DIR [options]"
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    for name, words in (
        ("manifests", "folder of the prepared manifests"),
        ("data_root", "folder of the prepared audio files"),
        ("output", "folder for the results"),
    ):
        parser.add_argument(f"--{name}", type=path, required=True, metavar="DIR", help=words)
    parser.add_argument("--mode", choices=("codes", "latent_swap"), help="default: the model's")
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the noise (default: the export's)"
    )
    parser.add_argument("--refine", type=int, help="iterations (default: the export's)")
    for name, words in (
        ("min_train_clips", "training clips that a target needs"),
        ("max_targets", "target speakers"),
        ("max_sources", "source speakers, of those trained on and of others each"),
        ("max_utterances", "utterances to convert, spread over speakers"),
        ("max_likelihoods", "test utterances whose likelihoods are compared"),
        ("max_wrong", "wrong speakers tried for each of these"),
        ("max_probed", "utterances for probes, information and bitrates"),
        ("word_targets", "conversions of each source that are transcribed"),
        ("samples", "sources whose audio is saved"),
        ("batch_size", "speakers in a batch"),
        ("seed", "random seed"),
    ):
        default = DiagnosisOptions._field_defaults[name]
        limit = name.startswith("max_") or name == "word_targets"
        shown = ("all" if limit else "by the device") if default is None else default
        words += f" (a number or all; default: {shown})" if limit else f" (default: {shown})"
        parser.add_argument(
            f"--{name}", type=_number if limit else int, default=default, metavar="N", help=words
        )
    parser.add_argument(
        "--judges",
        choices=_JUDGES,
        default="installed",
        help="speaker encoder and speech recognizer of make judges (default: %(default)s)",
    )
    parser.add_argument("--no_words", action="store_true", help="skip the word error rate (faster)")
    recognizer_argument(parser)
    compute_arguments(parser)


def _number(word):
    return None if word == "all" else int(word)


def run(options):
    """Prints the table and says where everything is; returns the exit status."""
    from waveglow_vq.evaluation.conversion.diagnosis import diagnose_conversion
    from waveglow_vq.evaluation.conversion.report import format_report
    from waveglow_vq.evaluation.verdicts import print_report

    export = load_model(options, "diagnose-conversion", ("VoiceConverter",))
    chosen = {
        name: value for name, value in vars(options).items() if name in DiagnosisOptions._fields
    }
    if options.sigma is None:
        chosen["sigma"] = export.sampling_sigma
    if options.refine is None:
        chosen["refine"] = export.refine
    chosen |= {"use_judges": _JUDGES[options.judges], "use_word_judge": not options.no_words}
    results = diagnose_conversion(
        export.mods.model,
        export.mods.features,
        export.speakers,
        options.manifests,
        options.data_root,
        options.output,
        DiagnosisOptions(**chosen),
    )
    print_report(format_report(results))
    print(f"\n{options.output}: diagnostics.json, diagnostics.txt, samples/")
    return 0
