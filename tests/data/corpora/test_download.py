import functools
import hashlib
import http.server
import io
import tarfile
import threading

from waveglow_vq.data.corpora.download import download_file, unpack_tar
from waveglow_vq.errors import UserError

import pytest

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, by ranges; counts what it sends; cuts one answer short if asked to."""

    def do_GET(self):
        server = self.server
        if self.path != "/corpus.tar":
            self.send_error(404)
            return
        start = 0
        if server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end, server.cut = server.cut or len(CONTENT), None
        # Counted first: the client may be done before a line behind the write has run.
        server.sent.append(len(CONTENT[start:end]))
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.cut, server.sent = True, None, []
        server.url = f"http://127.0.0.1:{server.server_port}/corpus.tar"
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_download(server, tmp_path):
    file = download_file(server.url, tmp_path / "new" / "corpus.tar", SHA256)
    assert file.read_bytes() == CONTENT
    assert [entry.name for entry in file.parent.iterdir()] == ["corpus.tar"]
    download_file(server.url, file, SHA256)  # is there: nothing to fetch
    assert len(server.sent) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_it_stopped(server, tmp_path, ranges):
    server.ranges, server.cut = ranges, 1_000_000
    with pytest.raises(UserError, match="stopped after 1000000 of 2560000 bytes"):
        download_file(server.url, tmp_path / "corpus.tar", SHA256)
    assert not (tmp_path / "corpus.tar").exists()
    file = download_file(server.url, tmp_path / "corpus.tar", SHA256)
    assert file.read_bytes() == CONTENT
    assert server.sent == [1_000_000, 1_560_000 if ranges else 2_560_000]


def test_a_complete_part_needs_no_more(server, tmp_path):
    (tmp_path / "corpus.tar.part").write_bytes(CONTENT)
    assert download_file(server.url, tmp_path / "corpus.tar", SHA256).read_bytes() == CONTENT
    assert server.sent == []


def test_a_wrong_checksum_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="wrong checksum"):
        download_file(server.url, tmp_path / "corpus.tar", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_fetched_is_named(server, tmp_path):
    url = server.url.replace("corpus.tar", "other.tar")
    with pytest.raises(UserError, match=r"could not download .*other\.tar.*404"):
        download_file(url, tmp_path / "other.tar")
    with pytest.raises(UserError, match="could not download http://127.0.0.1:1/corpus.tar"):
        download_file("http://127.0.0.1:1/corpus.tar", tmp_path / "corpus.tar")


def write_tar(file, names, mode="w:bz2"):
    with tarfile.open(file, mode) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
    return file


def test_unpack(tmp_path):
    archive = write_tar(tmp_path / "a.tar.bz2", ["corpus/metadata.csv", "corpus/wavs/1.wav"])
    folder = unpack_tar(archive, tmp_path / "here", "corpus")
    assert folder == tmp_path / "here" / "corpus"
    assert (folder / "wavs" / "1.wav").read_bytes() == b"data"
    assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["corpus"]


@pytest.mark.parametrize("evil", ["../evil", "corpus/../../evil", "corpus/../../../evil"])
def test_an_archive_cannot_reach_outside(tmp_path, evil):
    archive = write_tar(tmp_path / "a.tar.bz2", ["corpus/metadata.csv", evil])
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack_tar(archive, tmp_path / "here", "corpus")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "here" / "corpus").exists()


def test_a_link_cannot_reach_outside(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("corpus/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../.."
        tar.addfile(link)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack_tar(tmp_path / "a.tar", tmp_path / "here", "corpus")


def test_a_damaged_archive_leaves_nothing_behind(tmp_path):
    archive = write_tar(tmp_path / "a.tar.bz2", ["corpus/metadata.csv"])
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(UserError, match=r"a\.tar\.bz2 cannot be unpacked"):
        unpack_tar(archive, tmp_path / "here", "corpus")
    assert list((tmp_path / "here").iterdir()) == []


def test_the_wrong_archive_is_refused(tmp_path):
    archive = write_tar(tmp_path / "a.tar.bz2", ["something/else"])
    with pytest.raises(UserError, match="has no folder corpus"):
        unpack_tar(archive, tmp_path / "here", "corpus")
