"""Parts of text to speech beside its model: tokenizer, codec and options; checks that they belong
together.
"""

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.coding import load_codec, pitch_format
from waveglow_vq.inference.conversion.voices import speaker_numbers
from waveglow_vq.inference.loading import CODEC_FOLDER, TOKENIZER_FILE
from waveglow_vq.lobes.text_to_codes.search import SearchOptions
from waveglow_vq.text.tokenizer import TextTokenizer
from waveglow_vq.utils.files import file_checksum


def read_speech_parts(folder, header, run_opts=None):
    """Reads the ``tokenizer`` and the ``codec`` of an export folder with this header
    (:func:`~waveglow_vq.inference.loading.read_export_header`). A UserError says that one is
    missing, damaged, or not the one that training exported."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise UserError(f"{folder} has no {TOKENIZER_FILE}: the tokenizer is missing.")
    tokenizer = TextTokenizer(path)
    _check_checksum("tokenizer", path, file_checksum(path), header)
    path = folder / CODEC_FOLDER
    if not path.is_dir():
        raise UserError(f"{folder} has no folder {CODEC_FOLDER}: the codec is missing.")
    codec = load_codec(path, run_opts)
    _check_checksum("codec", path, codec.checksum, header)
    return {"tokenizer": tokenizer, "codec": codec}


def _check_checksum(part, path, found, header):
    """Compares the checksum of a part of an export with ``<part>_checksum`` of its YAML."""
    expected = header.get(f"{part}_checksum", "")
    if found != expected:
        raise UserError(
            f"{path} is another {part} than the one that the model was trained with: its checksum "
            f"is {found[:12]}..., not {expected[:12]}...; export or copy it again."
        )


def check_speech_parts(model, tokenizer, codec, labels):
    """Raises a UserError unless a text-to-codes model was made for this tokenizer, this codec and
    these labels of speakers, a list."""
    network = codec.mods.model
    pitch_levels, _ = pitch_format(codec)
    for name, of_model, other, of_other in (
        ("vocabulary_size", model.vocabulary_size, "tokenizer", tokenizer.vocabulary_size),
        ("codebook_size", model.codebook_size, "codec", network.quantizer.codebook_size),
        ("pitch_levels", model.pitch_levels, "codec", pitch_levels),
    ):
        if of_model != of_other:
            raise UserError(
                f"the model does not belong to the {other}: its {name} is {of_model}, not "
                f"{of_other}; train it with this {other}."
            )
    if bool(model.max_speakers) != bool(labels) or len(labels) > model.max_speakers:
        raise UserError(
            f"speakers: {len(labels)} labels for a model with room for {model.max_speakers} "
            "speakers; export it again with the labels that it was trained with."
        )
    if labels and not voices_of(labels, codec):
        raise UserError(
            f"speakers: the codec knows none of the model's, such as {labels[0]!r}; train the "
            "model on codes of a codec of the same speakers."
        )


def voices_of(labels, codec):
    """Labels of those who can be made to speak, a list: empty if there is one voice only.
    ``labels`` are the speakers that the text model tells apart; if the codec has speakers, it
    decides whose voice is heard."""
    if not labels or not codec.speakers:
        return list(labels or codec.speakers)
    # A speaker may have been held out from the training of the codec.
    return [label for label in labels if label in codec.speakers]


def find_voice(speaker, labels, codec):
    """Who is to speak, as model and codec are told: one of :func:`voices_of`, or None where there
    is one voice.

    Returns the speaker's number for the text model, None if it does not tell speakers apart, and
    the label for the codec, None if it has no speakers. A speaker who is missing or unknown is a
    UserError.
    """
    known = voices_of(labels, codec)
    if not known:
        if speaker is not None:
            raise UserError("speaker: the model has a single voice; leave it out")
        return None, None
    if speaker is None and len(known) > 1:
        raise UserError(
            f"speaker: the model has {len(known)} voices, such as {known[0]!r}; name one of them "
            "('waveglow-vq info' lists all)"
        )
    speaker = known[0] if speaker is None else speaker
    speaker_numbers(known, [speaker], 1, "TextToSpeech")
    return labels.index(speaker) if labels else None, speaker if codec.speakers else None


def change_search(search, changes=None):
    """SearchOptions with changes: others in their place, a dict of what is to differ, or None. If
    there is no such option, or it cannot have this value, that is a UserError.

    Example
    -------
    >>> change_search(SearchOptions(), {"method": "sample", "top_p": 0.9}).top_p
    0.9
    """
    if isinstance(changes, SearchOptions):
        return changes.checked()
    changes = {} if changes is None else dict(changes)
    for name in changes:
        if name not in SearchOptions._fields:
            raise UserError(f"search: {name!r} is not one of {', '.join(SearchOptions._fields)}")
    return search._replace(**changes).checked()
