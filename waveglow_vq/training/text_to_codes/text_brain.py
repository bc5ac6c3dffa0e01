"""The training loop of models that write the codes of a codec from text."""

import math
from pathlib import Path

from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.plots import attention_picture
from waveglow_vq.evaluation.text_to_speech.attention import alignment_figures, tolerance_for
from waveglow_vq.export.folder import export_text_to_speech
from waveglow_vq.inference.codes.coding import load_codec
from waveglow_vq.inference.speech.spoken_text import spoken_code_file, write_sentences
from waveglow_vq.text.tokenizer import TextTokenizer
from waveglow_vq.training.epoch_report import EpochMeans
from waveglow_vq.training.model_brain import ModelBrain
from waveglow_vq.training.text_to_codes.text_datasets import text_loader
from waveglow_vq.utils.files import file_checksum, write_json
from waveglow_vq.utils.masking import whole_lengths

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class TextToCodesBrain(ModelBrain):
    """Trains a :class:`~waveglow_vq.lobes.text_to_codes.model.TextToCodes` on tokens and codes, and
    writes an export that speaks.

    ``hparams`` holds the keys of the LJSpeech recipe's ``text_to_codes.yaml``, those that
    :mod:`~waveglow_vq.training.text_to_codes.text_preparation` fills in, and with several speakers
    ``speakers``, their labels in the order of their numbers."""

    # The end of an utterance counts as one.
    UNIT = "codes"
    interface = "TextToSpeech"

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.tokenizer = TextTokenizer(hparams["tokenizer_file"])
        self.labels = hparams.get("speakers")
        if checkpointer is not None:
            tokenizer = file_checksum(hparams["tokenizer_file"])
            checkpointer.add_recoverable(
                "belongings", Belongings(codec=hparams["codec_checksum"], tokenizer=tokenizer)
            )

    # ---- data

    def training_loader(self, dataset, **loader_kwargs):
        """Batches of about as many codes."""
        loader, sampler = text_loader(
            dataset,
            self.hparams.max_batch_codes,
            seed=self.hparams.seed,
            rank=self.rank,
            world=self.world,
            **loader_kwargs,
        )
        if len(loader) < self.grad_accumulation_factor:
            raise UserError(
                f"max_batch_codes: with {self.hparams.max_batch_codes}, an epoch has {len(loader)} "
                "batches, less than one optimizer step (grad_accumulation_factor "
                f"{self.grad_accumulation_factor}); lower one of the two"
            )
        return loader, sampler

    def evaluation_options(self):
        """Utterances in the order of their manifest."""
        return {"batch_size": self.hparams.valid_batch_size}

    # ---- a step

    def model_inputs(self, batch, stage):
        """Keyword arguments of the model's ``forward``."""
        tokens, token_lens = batch.tokens
        codes, code_lens = batch.codes
        inputs = {"tokens": tokens, "token_lens": token_lens}
        inputs |= {"codes": codes, "code_lens": code_lens}
        if hasattr(batch, "pitch"):
            inputs["pitch"] = batch.pitch.data
        if hasattr(batch, "speaker"):
            inputs["speaker"] = batch.speaker
        return inputs

    def weight_of(self, batch, stage):
        """Codes and ends."""
        codes, lens = batch.codes
        return int(whole_lengths(lens, codes.shape[1]).sum()) + len(codes)

    def compute_objectives(self, predictions, batch, stage):
        """The model's own loss; keeps utterances that are to be spoken."""
        if stage == sb.Stage.VALID:
            self._keep_utterances(batch)
        return super().compute_objectives(predictions, batch, stage)

    # ---- an epoch

    def on_stage_start(self, stage, epoch=None):
        """Begins the utterances for samples too."""
        super().on_stage_start(stage, epoch)
        self.kept, self.spoken = [], []

    def training_statistics(self):
        """Adds the perplexity."""
        return _add_perplexity(super().training_statistics())

    def evaluation_statistics(self, stage):
        """Adds the perplexity and, in validation, figures of free-running synthesis."""
        stats = _add_perplexity(super().evaluation_statistics(stage))
        if stage == sb.Stage.VALID:
            stats.update(self._speak())
        return stats

    def seconds_of(self, entry):
        """By the number of samples, at the codec's rate."""
        return entry["samples"] / self.hparams.sample_rate

    @property
    def inference_options(self):
        """The voice."""
        return ["--speaker", str(self.labels[0])] if self.labels else []

    def no_evaluation(self, stage):
        """A debugging run may evaluate nothing."""
        return UserError(
            f"no utterance of {stage.name.lower()}.json was evaluated; raise --debug_batches"
        )

    def valid_loss(self, stats):
        """Likelihood of codes and pitch, without the terms that guide the attention."""
        return stats["nll"] + stats.get("pitch_nll", 0.0)

    # ---- free-running synthesis

    def _keep_utterances(self, batch):
        """Keeps the first utterances of this process: (id, tokens, number of codes, speaker)."""
        wanted = math.ceil(self.hparams.free_running_utterances / self.world)
        tokens, token_lens = batch.tokens
        codes, code_lens = batch.codes
        token_counts = whole_lengths(token_lens, tokens.shape[1]).tolist()
        code_counts = whole_lengths(code_lens, codes.shape[1]).tolist()
        for row in range(min(len(tokens), wanted - len(self.kept))):
            speaker = self.on_device(batch.speaker[row]) if hasattr(batch, "speaker") else None
            own = tokens[row, : token_counts[row]].tolist()
            self.kept.append((batch.id[row], own, code_counts[row], speaker))

    def _speak(self):
        """Synthesizes codes for the kept texts; returns figures over all processes."""
        means, size = EpochMeans(), self.hparams.valid_batch_size
        for begin in range(0, len(self.kept), size):
            names, tokens, counts, speakers = zip(*self.kept[begin : begin + size], strict=True)
            sentences = write_sentences(
                self.evaluated,
                self.tokenizer,
                [(self.tokenizer.decode(own), own) for own in tokens],
                None if speakers[0] is None else torch.stack(speakers),
                self.hparams.search,
                generator=self.hparams.seed,
            )
            for name, sentence, count, speaker in zip(
                names, sentences, counts, speakers, strict=True
            ):
                means.add(_figures(sentence, count), 1)
                self.spoken.append((name, sentence, speaker))
        return means.summary()

    def write_epoch_samples(self, folder):
        """Sound and alignment of validation texts."""
        chosen = self.spoken[: self.hparams.samples_per_epoch]
        if not chosen:
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Loaded each time, to save GPU memory between epochs.
        codec = load_codec(self.hparams.codec, {"device": str(self.device)})
        rate = codec.sample_rate / codec.mods.model.conditioner.samples_per_code
        for name, sentence, speaker in chosen:
            picture = folder / f"{name}_attention.png"
            attention_picture(picture, sentence.attention, sentence.pieces, rate, sentence.text)
            label = codec.speakers[0] if codec.speakers else None
            if codec.speakers and self.labels is not None:
                label = self.labels[int(speaker)]
            code_file = spoken_code_file(codec, sentence.codes, sentence.pitch, label)
            voice = {} if label is None else {"speaker": label}
            blocks = codec.decode_stream(code_file, generator=self.hparams.seed, **voice)
            write_wav(folder / f"{name}.wav", torch.cat(list(blocks)).cpu(), codec.sample_rate)

    # ---- the test

    def export(self, folder):
        """Exports the evaluated model with its tokenizer and its codec."""
        export_text_to_speech(
            (Path(self.hparams.output_folder) / "hyperparams.yaml").read_text("utf-8"),
            self.evaluated,
            self.hparams.tokenizer_file,
            self.hparams.codec,
            folder,
            self.labels,
            self.hparams.codec_checksum,
        )

    def write_test_samples(self, folder):
        """Synthesizes test texts with the export, and judges them against the recordings."""
        if not self.hparams.test_utterances:
            return {}
        from waveglow_vq.evaluation.text_to_speech.judgement import judge_text_to_speech
        from waveglow_vq.inference.text_to_speech import TextToSpeech

        output_folder = Path(self.hparams.output_folder)
        most = self.debug_batches if self.debug else math.inf
        results = judge_text_to_speech(
            TextToSpeech.from_hparams(
                output_folder / "export", run_opts={"device": str(self.device)}
            ),
            Path(self.hparams.manifest_folder) / "test.json",
            self.hparams.data_root,
            utterances=min(self.hparams.test_utterances, most),
            use_word_judge=self.hparams.use_judges,
            recognizer=getattr(self.hparams, "recognizer", None),
            seed=self.hparams.seed,
            output=folder,
            pictures=self.hparams.test_samples,
            samples=self.hparams.test_samples,
            progress=not self.noprogressbar,
        )
        write_json(output_folder / "test_report.json", results)
        return {f"judged_{name}": float(value) for name, value in results["summary"].items()}


@register_checkpoint_hooks
class Belongings:
    """Part of a checkpoint: checksums of its codec and its tokenizer. Loading it with others in use
    is an error."""

    def __init__(self, codec, tokenizer):
        self.checksums = {"codec": codec, "tokenizer": tokenizer}

    @mark_as_saver
    def save(self, path):
        """Writes the checksums."""
        torch.save(self.checksums, path)

    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Compares them with those in use."""
        for name, checksum in torch.load(path, weights_only=True).items():
            if checksum != self.checksums[name]:
                raise UserError(
                    f"{Path(path).parent} was trained with the {name} of checksum "
                    f"{checksum[:12]}..., not {self.checksums[name][:12]}...; give that {name}, or "
                    "another --output_folder"
                )


def _add_perplexity(stats):
    """Figures with the perplexity of the codes behind their likelihood."""
    if "nll" not in stats:
        return stats
    return {"nll": stats["nll"], "perplexity": math.exp(min(stats["nll"], 700.0)), **stats}


def _figures(sentence, codes):
    """Figures of a synthesized text, whose recording has so many codes."""
    figures = alignment_figures(sentence.attention, tolerance_for(sentence.pieces))
    values = {"length_ratio": len(sentence.codes) / codes, "stopped": sentence.stopped}
    values |= {name: figures[name] for name in ("diagonality", "diagonal", "truncated")}
    return {f"free_{name}": torch.tensor(float(value)) for name, value in values.items()}
