"""The texts of recordings."""

import json
from collections import Counter

from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import lines_of, read_text, user_path, walk_files


def texts_of(path, names):
    """The texts of recordings, by their names.

    Arguments
    ---------
    path : str or Path
        A folder of ``.txt`` files as VCTK has it; a manifest, ``{id: {"text": ...}}`` in a file
        ``.json``; or any other file of lines ``id|...|text``, as LJSpeech's metadata.csv.
    names : iterable of str
        Relative paths of the recordings, without extension. A text belongs to a recording by the
        whole of it, else by its last part.

    Returns
    -------
    dict
        ``{name: text}``, of those that have one.

    Raises
    ------
    UserError
        If it cannot be read, is of none of these forms, or has no text of any recording.

    Example
    -------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "metadata.csv"
    >>> _ = path.write_text("LJ001-0001|Printing, in 1450|Printing, in fourteen fifty\\n")
    >>> texts_of(path, ["wavs/LJ001-0001", "wavs/LJ001-0002"])
    {'wavs/LJ001-0001': 'Printing, in fourteen fifty'}
    """
    path = user_path(path)
    texts = _of_folder(path) if path.is_dir() else _of_file(path)
    # Names without their folders, where they are told apart by that.
    count = Counter(map(_last, texts))
    short = {_last(name): text for name, text in texts.items() if count[_last(name)] == 1}
    found = {name: texts.get(name) or short.get(_last(name)) for name in names}
    found = {name: text for name, text in found.items() if text}
    if not found:
        raise UserError(f"{path} has no text of any recording, such as {min(names)}")
    return found


def _last(name):
    return name.rsplit("/", 1)[-1]


def _of_folder(folder):
    files = [path for path in walk_files(folder) if path.suffix == ".txt"]
    return {
        path.relative_to(folder).with_suffix("").as_posix(): read_text(path).strip()
        for path in files
    }


def _of_file(path):
    content = read_text(path)
    if path.suffix == ".json":
        try:
            entries = json.loads(content)
            return {name: str(entry.get("text") or "") for name, entry in entries.items()}
        except (ValueError, AttributeError):
            raise UserError(f"{path} is no manifest of texts: {{id: {{text: ...}}}}") from None
    rows = [line.split("|") for line in lines_of(content) if "|" in line]
    return {row[0].strip(): row[-1].strip() for row in rows}
