"""The training loop for several speakers."""

from pathlib import Path

from waveglow_vq.data.datasets import read_manifest
from waveglow_vq.data.segments import read_utterance
from waveglow_vq.data.shards.format import sound_source
from waveglow_vq.errors import UserError
from waveglow_vq.training.waveglow_brain import WaveGlowBrain

import torch
from speechbrain.utils.distributed import if_main_process, run_on_main

# Training clips per speaker, whose mean vector the encoder of speakers keeps.
CLIPS_OF_A_CENTROID = 10


class MultiSpeakerBrain(WaveGlowBrain):
    """The loop for a corpus of several speakers, ``hparams["speakers"]``; it uses the keys of the
    VCTK recipe too."""

    def __init__(self, modules, opt_class, hparams, run_opts=None, checkpointer=None):
        speakers, condition = hparams["speakers"], hparams["model"].speakers
        if condition is not None:
            # Before the base class copies the model for its average.
            condition.set_f0_statistics(speakers.f0_statistics)
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Loads, and gives an encoder of speakers the vectors of the known ones."""
        super().on_evaluate_start(max_key=max_key, min_key=min_key)
        condition = self.evaluated.speakers
        if condition is not None and condition.hears_references:
            # Without any training left, it is in train mode.
            self.evaluated.eval()
            manifest = Path(self.hparams.manifest_folder) / "train.json"
            data = read_manifest(manifest, self.hparams.audio_folder).data
            condition.set_centroids(
                speaker_centroids(condition, self.features, data.values(), self.speakers)
            )

    def _end_of_test(self, stats):
        super()._end_of_test(stats)
        if self.evaluated.speakers is not None and self.hparams.diagnose:
            run_on_main(self._diagnose)

    def _diagnose(self):
        from waveglow_vq.evaluation.conversion.diagnosis import diagnose_conversion
        from waveglow_vq.evaluation.conversion.diagnosis_options import DiagnosisOptions

        if not if_main_process():
            return
        hparams = self.hparams
        diagnose_conversion(
            self.evaluated,
            self.features,
            self.speakers.labels,
            hparams.manifest_folder,
            hparams.audio_folder,
            Path(hparams.output_folder) / "diagnostics",
            DiagnosisOptions(
                max_utterances=hparams.diagnose_utterances,
                max_targets=hparams.diagnose_targets,
                min_train_clips=hparams.diagnose_min_clips,
                max_wrong=hparams.diagnose_wrong,
                use_judges=hparams.use_judges,
                recognizer=getattr(hparams, "recognizer", None),
                sigma=hparams.sampling_sigma,
                seed=hparams.seed,
                refine=getattr(hparams, "refine", 0),
            ),
        )


@torch.no_grad()
def speaker_centroids(condition, features, entries, speakers):
    """Mean vectors ``[speakers, channels]`` of the speakers' training clips, which ``entries`` of
    the manifest name. The condition has an encoder, in eval mode.
    """
    vectors = {label: [] for label in speakers.labels}
    unreadable = {}
    device = condition.centroids.device
    features = features.cpu()
    for entry in entries:
        label = entry["speaker_label"]
        if len(vectors[label]) == CLIPS_OF_A_CENTROID:
            continue
        try:
            mel = read_utterance(sound_source(entry["path"]), features)["mel"]
        except UserError as error:
            unreadable[label] = str(error)
            continue
        vectors[label].append(condition(reference=mel.T[None].to(device)))
    features.to(device)
    for label, found in vectors.items():
        if not found:
            raise UserError(f"no clip of the speaker {label} can be read: {unreadable.get(label)}")
    return torch.stack([torch.cat(found).mean(0) for found in vectors.values()])
