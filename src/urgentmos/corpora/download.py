"""Fetching archives: resumed where a fetch stopped, compared with a checksum, unpacked only below the folder that was named.

Nothing is fetched unless the user requests it.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from urgentmos.common.untrusted import shown
from urgentmos.corpora import Source
from urgentmos.errors import UsageError, need
from urgentmos.files import appending, mark, replacing, write_whole

BLOCK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte

Show = Callable[[str, int, int], None]


def _quiet(title: str, done: int, total: int) -> None:
    pass


def fetch(source: Source, root: Path, show: Show = _quiet) -> str | None:
    """Fetch a source into root and unpack it there; the archive stays, and neither is done twice.

    Returns the archive's SHA-256 if it was fetched now. UsageError if it cannot be had or is not what was published.
    """
    folder = root / source.into
    folder.mkdir(parents=True, exist_ok=True)
    if source.hub:
        _snapshot(source.hub, folder)
        return None
    archive, done = folder / source.file, folder / f".{source.file}.unpacked"
    if done.exists():
        return None
    digest = download(source.url, archive, source.sha256, show)
    unpack(archive, folder)
    for name in source.inner:
        unpack(folder / name, folder)
    mark(done)
    return digest


def _snapshot(repo: str, folder: Path) -> None:
    hub = need("huggingface_hub", "corpora")
    try:
        hub.snapshot_download(repo, repo_type="dataset", local_dir=folder)
    except Exception as e:  # the hub's own errors, requests' and the disk's have no common base
        reason = str(e).strip().split("\n")[0] or type(e).__name__
        page = f"https://huggingface.co/datasets/{repo}"
        raise UsageError(f"{repo}: the hub does not give it ({reason}). If it is gated, accept the terms on {page}.") from e


# ---- one file


def download(url: str, target: Path, sha256: str | None = None, show: Show = _quiet) -> str:
    """Fetch `url` into `target` and return its SHA-256; what an interrupted fetch left in `target`.part is continued.

    UsageError if the server does not give it, the transfer ends early or the checksum differs.
    """
    if not target.exists():
        part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag")
        try:
            _transfer(url, part, tag, show)
        except HTTPError as e:
            raise UsageError(f"{url}: the server answers {e.code} {e.reason}. Fetch it by hand into {target}.") from None
        except (URLError, OSError) as e:
            reason = getattr(e, "reason", None) or e
            raise UsageError(f"{url}: the transfer failed ({reason}). Run the same command again to go on.") from None
        digest = _digest(part)
        if sha256 is not None and digest != sha256:
            part.unlink()
            tag.unlink(missing_ok=True)
            raise UsageError(f"{url}: SHA-256 {digest} is not the published {sha256}. Run again; if it stays, do not use it.")
        part.replace(target)
        tag.unlink(missing_ok=True)
        return digest
    digest = _digest(target)
    if sha256 is not None and digest != sha256:
        raise UsageError(f"{target}: SHA-256 {digest} is not the published {sha256}. Remove the file and run again.")
    return digest


def _transfer(url: str, part: Path, tag: Path, show: Show) -> None:
    begun = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"Range": f"bytes={begun}-", "If-Range": tag.read_text()} if begun else {}
    try:
        answer = urlopen(Request(url, headers={"User-Agent": "urgentmos", **headers}), timeout=TIMEOUT)
    except HTTPError as e:
        if e.code != 416 or not begun:  # 416: there is nothing after what we have
            raise
        part.unlink()  # it may not be whole: from the beginning
        return _transfer(url, part, tag, show)
    with answer:
        begun = begun if answer.status == 206 else 0
        # a part may be continued only if the file is known to be the same
        etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if etag and not etag.startswith("W/"):
            write_whole(tag, etag.encode())
        else:
            tag.unlink(missing_ok=True)
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else 0
        _copy(answer, part, begun, total, show)
    if total and part.stat().st_size != total:
        raise OSError(f"{part.stat().st_size} of {total} bytes came")


def _copy(answer: IO[bytes], part: Path, begun: int, total: int, show: Show) -> None:
    if not begun:
        part.unlink(missing_ok=True)
    with appending(part) as out:
        while block := answer.read(BLOCK):
            out.write(block)
            begun += len(block)
            show(part.name.removesuffix(".part"), begun, total or begun)


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


# ---- archives


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar(.gz, .bz2, .xz) into folder. Refused as a whole, before anything is written, if a member would
    leave the folder or is a link or a device. What macOS adds (__MACOSX) is left out.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as z:
                _unpack(archive, folder, list(_zip_members(z)), lambda member: z.open(member))
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as t:
                _unpack(archive, folder, list(_tar_members(t)), lambda member: t.extractfile(member))
        else:
            raise UsageError(f"{archive}: is neither a zip nor a tar archive. Remove it and run again.")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as e:
        raise UsageError(f"{archive}: cannot be unpacked into {folder} ({e}). Remove it and run again.") from e


def _zip_members(z: zipfile.ZipFile) -> Iterator[tuple[str, int, bool, Any]]:
    """(name, size, is a plain file, member) of all that are no folders."""
    for info in z.infolist():
        if not info.is_dir():
            mode = info.external_attr >> 16
            yield info.filename, info.file_size, not stat.S_IFMT(mode) or stat.S_ISREG(mode), info


def _tar_members(t: tarfile.TarFile) -> Iterator[tuple[str, int, bool, Any]]:
    for info in t:
        if not info.isdir():
            yield info.name, info.size, info.isreg(), info


def _unpack(
    archive: Path, folder: Path, members: list[tuple[str, int, bool, Any]], read: Callable[[Any], IO[bytes] | None]
) -> None:
    wanted = [(_safe(archive, folder, name, plain), member) for name, _, plain, member in members if not _is_junk(name)]
    needed, free = sum(size for _, size, _, _ in members), shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(f"{archive}: needs {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB. Make room there.")
    for target, member in wanted:
        target.parent.mkdir(parents=True, exist_ok=True)
        content = read(member)
        if content is not None:
            with content, replacing(target, sync=False) as out:
                shutil.copyfileobj(content, out, BLOCK)


def _is_junk(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1:] == (".DS_Store",)


def _safe(archive: Path, folder: Path, name: str, plain: bool) -> Path:
    """The place of a member, or UsageError. A link that is on disk already may not lead out of the folder either."""
    posix = PurePosixPath(name.replace("\\", "/"))
    target = folder.joinpath(*posix.parts)
    leaves = posix.is_absolute() or ".." in posix.parts or ":" in posix.parts[0]
    if leaves or not target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{archive}: its member {shown(name)} would be written outside {folder}. Do not use this archive.")
    if not plain:
        raise UsageError(f"{archive}: its member {shown(name, 200)} is a link or a device. Unpack it by hand if you trust it.")
    return target
