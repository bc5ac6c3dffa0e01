"""Downloads and unpacks public corpora."""

import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import file_checksum

from tqdm import tqdm

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


def download_file(url, file, sha256=None):
    """Downloads a file, unless it exists already. Until it is complete it is called `<file>.part`,
    and an interrupted download is resumed. The SHA-256 is checked if it is given.
    """
    file = Path(file)
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            resumed = response.status == 206  # a server may ignore the range and send it all
            expected = response.headers.get("Content-Length")
            total = int(expected) + (have if resumed else 0) if expected else None
            with (
                open(part, "ab" if resumed else "wb") as output,
                tqdm(
                    desc=file.name,
                    total=total,
                    initial=have if resumed else 0,
                    unit="B",
                    unit_scale=True,
                ) as progress,
            ):
                while block := response.read(_BLOCK_BYTES):
                    output.write(block)
                    progress.update(len(block))
    except urllib.error.HTTPError as error:
        # 416: the range starts at the end, so everything is there already.
        if error.code != 416:
            raise UserError(f"could not download {url}: {error}") from error
        total = None
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"could not download {url} ({reason}); call again to resume") from error
    if total is not None and part.stat().st_size < total:
        raise UserError(
            f"the download of {url} stopped after {part.stat().st_size} of {total} bytes;"
            " call again to resume"
        )
    if sha256 is not None and file_checksum(part) != sha256:
        part.unlink()
        raise UserError(f"the download of {url} has a wrong checksum and was removed; try again")
    part.replace(file)
    return file


def unpack_tar(archive, folder, expected):
    """Unpacks a tar archive, compressed or not, so that `folder / expected`, its top folder,
    appears complete or not at all. An archive that reaches outside of the folder, or holds
    something else, is refused.
    """
    folder = Path(folder)
    workplace = folder / f"{expected}.part"
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            members = tqdm(tar, desc=f"unpacking {Path(archive).name}", unit="file")
            # The data filter refuses absolute paths, paths with "..", links out, and devices.
            tar.extractall(workplace, members=members, filter="data")
        if not (workplace / expected).is_dir():
            raise UserError(f"{archive} has no folder {expected}; is it the right archive?")
        (workplace / expected).replace(folder / expected)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return folder / expected
