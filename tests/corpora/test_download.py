"""Fetching from a local server: continued, checked, unpacked only below its folder."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from urgentmos.corpora import Source
from urgentmos.corpora.download import download, fetch, unpack
from urgentmos.errors import UsageError

CONTENT = bytes(range(256)) * 40_000  # about 10 MB: several blocks
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; ends the answer early after `stop` bytes; remembers the ranges that were asked for."""

    content, etag, stop, ranges_ok = CONTENT, '"v1"', -1, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/x.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if self.path != "/x.zip":
            self.send_error(404)
            return
        valid = asked and server.ranges_ok and self.headers.get("If-Range") in (None, server.etag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and valid else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if valid else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body if server.stop < 0 else body[: server.stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_what_an_interruption_left_is_continued(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "x.zip"
    server.stop = 4_000_000
    with pytest.raises(UsageError, match="Run the same command again"):
        download(server.url, target, SHA)
    assert not target.exists()
    got = (tmp_path / "x.zip.part").stat().st_size
    server.stop = -1
    assert download(server.url, target, SHA) == SHA
    assert target.read_bytes() == CONTENT and server.asked == [None, f"bytes={got}-"] and 0 < got <= 4_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("change", ["another file", "no ranges"])
def test_a_part_of_another_file_is_not_continued(server: Server, tmp_path: Path, change: str) -> None:
    target = tmp_path / "x.zip"
    server.stop = 4_000_000
    with pytest.raises(UsageError):
        download(server.url, target)
    server.stop = -1
    if change == "another file":
        server.content, server.etag = CONTENT[::-1], '"v2"'
    else:
        server.ranges_ok = False
    download(server.url, target)
    assert target.read_bytes() == server.content


def test_a_whole_part_is_told_from_an_unfinished_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.zip.part").write_bytes(CONTENT)
    (tmp_path / "x.zip.etag").write_text(server.etag)
    assert download(server.url, tmp_path / "x.zip", SHA) == SHA


def test_another_checksum_is_refused_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the published"):
        download(server.url, tmp_path / "x.zip", "0" * 64)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.zip").write_bytes(b"changed")
    with pytest.raises(UsageError, match="Remove the file"):
        download(server.url, tmp_path / "x.zip", SHA)


def test_a_refusal_and_a_silent_server_are_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="404"):
        download(server.url.replace("x.zip", "y.zip"), tmp_path / "y.zip")
    with pytest.raises(UsageError, match="the transfer failed"):
        download("http://127.0.0.1:9/x.zip", tmp_path / "z.zip")


# ---- archives


def zipped(path: Path, members: dict[str, bytes], *, link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        for name, content in members.items():
            z.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            z.writestr(info, "/etc/passwd")
    return path


def tarred(path: Path, members: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as t:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, "/etc/passwd"
            t.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [zipped, tarred])
def test_archives_are_unpacked_without_what_macos_adds(make, tmp_path: Path) -> None:
    archive = make(tmp_path / "x", {"a b/ü.wav": b"1", "c.csv": b"2", "__MACOSX/a b/._ü.wav": b"3", ".DS_Store": b"4"})
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(archive, folder)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a b/ü.wav": b"1", "c.csv": b"2"}


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:/evil"])
def test_a_member_that_leaves_the_folder_refuses_the_whole_archive(make, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(UsageError, match="outside"):
        unpack(make(tmp_path / "x", {"good": b"1", name: b"2"}), folder)
    assert not list(folder.iterdir()) and not (tmp_path / "evil").exists()


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    archives = [zipped(tmp_path / "z", {"good": b"1"}, link="link")]
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
    archives += [tarred(tmp_path / f"t{kind!r}", {"link": b""}, kind=kind) for kind in kinds]
    for archive in archives:
        with pytest.raises(UsageError, match="link or a device"):
            unpack(archive, folder)
    assert not list(folder.iterdir())


def test_a_link_on_disk_does_not_lead_out(tmp_path: Path) -> None:
    folder, outside = tmp_path / "out", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "sub").symlink_to(outside)
    with pytest.raises(UsageError, match="outside"):
        unpack(zipped(tmp_path / "x", {"sub/evil": b"1"}), folder)
    assert not list(outside.iterdir())


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("<html>")
    with pytest.raises(UsageError, match="neither a zip nor a tar"):
        unpack(tmp_path / "x", tmp_path)


def test_a_source_with_an_archive_in_its_archive_is_fetched_once(server: Server, tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", {"audios/1.wav": b"1"}).read_bytes()
    server.content = zipped(tmp_path / "outer", {"audios.zip": inner, "t.csv": b"2"}).read_bytes()
    source = Source(server.url, "x.zip", inner=("audios.zip",), into="somos")
    root = tmp_path / "root"
    assert fetch(source, root) == hashlib.sha256(server.content).hexdigest()
    assert (root / "somos/audios/1.wav").read_bytes() == b"1" and (root / "somos/t.csv").exists()
    assert fetch(source, root) is None and len(server.asked) == 1
