"""Paths and files: reading, listing, atomic writes, checksums. Nothing heavy is imported here, so
that command lines start at once.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections import Counter
from pathlib import Path

from waveglow_vq.errors import UserError

# Kinds of endings that one line names; the others are counted.
_NAMED_KINDS = 5
_LINE_END = re.compile(r"\r\n|\n|\r")


def user_path(path):
    """A path as users write it: ``~`` stands for the home folder.

    Example
    -------
    >>> user_path("~/speech.wav") == Path.home() / "speech.wav"
    True
    >>> user_path("speech~.wav")
    PosixPath('speech~.wav')
    """
    return Path(os.path.expanduser(path))


def lines_of(text):
    """The lines of a text as editors number them; ``str.splitlines`` also splits at characters such
    as a form feed.

    Example
    -------
    >>> lines_of("one\\r\\ntwo\\x0c and\\u2028more\\rthree")
    ['one', 'two\\x0c and\\u2028more', 'three']
    """
    return _LINE_END.split(text)


def read_text(path):
    """The text of a UTF-8 file; a UserError if it cannot be read."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error})") from error


def walk_files(folder):
    """The files of a folder at any depth, sorted.

    Hidden files and folders are skipped. Links are followed, but not in circles; a dead link is
    listed, so that whoever opens it gets the error.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "more").mkdir()
    >>> (folder / "more" / "again").symlink_to(folder)
    >>> for name in ("a.wav", "more/b.wav", ".hidden.wav"):
    ...     (folder / name).touch()
    >>> [str(file.relative_to(folder)) for file in walk_files(folder)]
    ['a.wav', 'more/b.wav']
    """
    return sorted(Path(path) for path in _walk(os.fspath(folder), ()))


def _walk(folder, above):
    try:
        status = os.stat(folder)
        here = status.st_dev, status.st_ino
        if here in above:
            return
        with os.scandir(folder) as entries:
            entries = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        if is_folder(entry):
            yield from _walk(entry.path, (*above, here))
        elif entry.is_symlink() or entry.is_file():
            yield entry.path


def is_folder(entry):
    """Whether an ``os.DirEntry`` is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def count_kinds(paths):
    """Counts files by their endings, in words; "" for none.

    Example
    -------
    >>> count_kinds(["a.m4a", "b.M4A", "notes.txt", "README"])
    '2 files .m4a, 1 .txt, 1 without an ending'
    """
    kinds = Counter(Path(path).suffix.lower() or "without an ending" for path in paths)
    words = [f"{count} {kind}" for kind, count in kinds.most_common(_NAMED_KINDS)]
    if not words:
        return ""
    count, kind = words[0].split(" ", 1)
    words[0] = f"{count} file{'s' if count != '1' else ''} {kind}"
    others = kinds.total() - sum(count for _, count in kinds.most_common(_NAMED_KINDS))
    return ", ".join(words + ([f"{others} of other kinds"] if others else []))


def read_json(path):
    """The object of a JSON file; {} if there is none that can be read."""
    try:
        content = json.loads(Path(path).read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


# ---- writing


@contextlib.contextmanager
def atomic_write(path):
    """Writes a file that appears complete or not at all; missing folders are made, an old file is
    replaced.

    Yields the name to write to, in the same folder, hidden, with the ending ``.part``. It becomes
    ``path`` unless an error interrupts. Names and rights are checked before the work is done.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "a.txt"
    >>> with atomic_write(path) as part:
    ...     _ = part.write_text("all of it")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('all of it', 1)
    """
    path = user_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        code = errno.ENOTDIR
        raise NotADirectoryError(code, os.strerror(code), error.filename) from None
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # fails if the name is too long
    # It does not hold the name, which may be as long as a name can be.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.touch()
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def partial_folder(path):
    """Gives a new folder beside ``path``, for what is moved to its place when it is complete. The
    folder is hidden, is named as by :func:`atomic_write`, and is gone in the end."""
    folder = Path(path).with_name(f".{uuid.uuid4().hex}.part")
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path, content):
    """Writes a JSON file that appears complete or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(path) as part:
        # What stands for bytes of a name that are no UTF-8 is escaped as JSON escapes it.
        part.write_bytes(text.encode("utf-8", "backslashreplace"))


# ---- checksums


def file_checksum(path):
    """SHA-256 of a file, 64 hexadecimal digits; a UserError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def model_checksum(model):
    """SHA-256 of a model's weights, in hexadecimal: over the name, type, shape and bytes of every
    entry of its state dict, in the order of the names. It is the same on every device.

    Example
    -------
    >>> import torch
    >>> a, b = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    >>> model_checksum(a) == model_checksum(b)
    False
    >>> _ = b.load_state_dict(a.state_dict())
    >>> model_checksum(a) == model_checksum(b)
    True
    """
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        kind = str(value.dtype).removeprefix("torch.")
        digest.update(f"{name}\n{kind}\n{list(value.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16; reshaped, since a scalar has no bytes of its own.
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(flat.numpy())
    return digest.hexdigest()
