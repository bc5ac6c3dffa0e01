"""Which audio formats can be read, by the extensions of their files."""

import functools
import os
from pathlib import Path

# Formats of libsndfile whose extension is not their name. RAW has no header to read it by.
_ENDINGS = {
    "AIFF": (".aiff", ".aif", ".aifc"),
    "AU": (".au", ".snd"),
    "IRCAM": (".ircam", ".sf"),
    "NIST": (".nist", ".sph"),
    "OGG": (".ogg", ".oga", ".opus"),
    "RAW": (),
    "SVX": (".svx", ".8svx", ".iff"),
    "WAV": (".wav", ".wave"),
}
# Audio and video that must be converted first.
_TO_CONVERT = (
    ".m4a .m4b .aac .mp4 .m4v .mov .webm .weba .mkv .mka .wma .wmv .avi .amr .3gp .ac3 .ape .wv .ra"
).split()


@functools.cache
def sound_suffixes():
    """Extensions, in lower case, of the audio files that soundfile can read: a tuple, such as
    ``.wav``, ``.flac``, ``.opus``.

    Example
    -------
    >>> {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif"} <= set(sound_suffixes())
    True
    >>> ".raw" in sound_suffixes(), ".m4a" in sound_suffixes()
    (False, False)
    """
    import soundfile

    formats = sorted(soundfile.available_formats())
    return tuple(ending for name in formats for ending in _ENDINGS.get(name, (f".{name.lower()}",)))


def is_sound(path):
    """Whether the extension of a path is one of :func:`sound_suffixes`."""
    return os.path.splitext(path)[1].lower() in sound_suffixes()


def how_to_convert(paths):
    """How to convert the first audio file that cannot be read, as the end of a sentence; "" if none
    of the paths is one.

    Example
    -------
    >>> how_to_convert(["notes.txt", "talk.M4A"])
    '; ffmpeg -i talk.M4A talk.wav converts it'
    >>> how_to_convert(["notes.txt"])
    ''
    """
    for path in map(Path, paths):
        if path.suffix.lower() in _TO_CONVERT:
            name, wav = path.name, path.with_suffix(".wav").name
            if " " in name:
                name, wav = f'"{name}"', f'"{wav}"'
            return f"; ffmpeg -i {name} {wav} converts it"
    return ""
