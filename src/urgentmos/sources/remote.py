"""Objects behind URLs, through fsspec: which schemes there are, who may name them, and their bytes.

What a user names on the command line or passes to a function is fetched. What a manifest names is fetched only if it lies
where the manifest lies: a manifest of this machine names files of this machine, one behind a URL names URLs of its scheme
(and, over http, of its host). The environment variable URGENTMOS_ALLOW_URLS lists further schemes, "s3,https", and "file"
for files of this machine in a manifest from elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from urgentmos.errors import AudioError, UsageError, need
from urgentmos.sources import IN_MEMORY, WEB, place_of, scheme_of

T = TypeVar("T")

# scheme -> the extra with the package behind it. "memory" holds objects of this process: for tests and notebooks.
SCHEMES = {"file": "", "http": "urls", "https": "urls", "s3": "s3", "gs": "gcs", "hf": "hf", "memory": "urls"}
ALLOWED = "URGENTMOS_ALLOW_URLS"
TRIES, PAUSE = 3, 0.5  # a transfer that fails is tried again, after PAUSE seconds and then twice that
BLOCK = 1 << 20  # bytes fetched at a time from what is read piece by piece
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp", "https": "aiohttp"}


# ---- who may name what


def check_scheme(url: str) -> None:
    """UsageError for a scheme that is not offered."""
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise UsageError(f"{url}: {scheme}:// is not offered. Give one of: {', '.join(f'{name}://' for name in SCHEMES)}.")


def refusal(path: str | None, manifest: str) -> str | None:
    """Why a row of `manifest` may not name `path`, with what to do; None if it may."""
    if path is None:
        return None
    target, home = place_of(path).file, scheme_of(manifest)
    scheme = scheme_of(target)
    if scheme == home and (home not in WEB or urlsplit(target).netloc == urlsplit(manifest).netloc):
        return None
    allowed = {name.strip().lower() for name in os.environ.get(ALLOWED, "").replace(" ", ",").split(",")}
    if (scheme or "file") in allowed:
        return None
    here = "on this machine" if home is None else f"behind {home}://"
    what = "a file of this machine" if scheme is None else f"{scheme}://{urlsplit(target).netloc if scheme in WEB else '...'}"
    cure = f"If you trust it, set {ALLOWED}={scheme or 'file'}"
    return f"names {what}, and the manifest lies {here}. {cure}"


# ---- bytes


@lru_cache(maxsize=64)
def _filesystem(root: str) -> Any:
    """The file system behind "scheme://host"."""
    check_scheme(root)
    scheme = root.split(":", 1)[0]
    fsspec = need("fsspec", SCHEMES[scheme] or "urls")
    if scheme in _PACKAGES:
        need(_PACKAGES[scheme], SCHEMES[scheme])
    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as e:
        raise UsageError(f"{root}: {e}. Install the package with: pip install 'urgentmos[{SCHEMES[scheme]}]'") from e


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec file system, the name of the object in it). UsageError if the scheme is unknown or its package missing."""
    fs = _filesystem(f"{scheme_of(url)}://")
    return fs, fs._strip_protocol(url)


def _trying(work: Callable[[], T], url: str) -> T:
    """`work()`, tried again where a line may have failed. AudioError says what came of it."""
    for left in reversed(range(TRIES)):
        try:
            return work()
        except FileNotFoundError:
            raise AudioError(f"{url} does not exist. Check the address") from None
        except PermissionError as e:
            raise AudioError(f"{url} may not be read ({e}). Check your credentials") from e
        except (AudioError, UsageError):
            raise
        except Exception as e:  # every package behind fsspec has errors of its own
            if getattr(e, "status", 0) in (401, 403):
                raise AudioError(f"{url} may not be read ({e}). Check your credentials") from e
            if not left:
                why = f"{type(e).__name__}: {e}".rstrip(". ")
                raise AudioError(f"{url} cannot be fetched ({why}). Check the address and the connection") from e
            time.sleep(PAUSE * 2 ** (TRIES - 1 - left))
    raise AssertionError


def fetch(url: str) -> bytes | BinaryIO:
    """An object: its bytes, or a file to seek in if it is larger than IN_MEMORY. AudioError if it cannot be had."""
    fs, name = filesystem(url)

    def work() -> bytes | BinaryIO:
        with fs.open(name, "rb", block_size=BLOCK) as file:  # bounded, whatever length the server claims
            data: bytes = file.read(IN_MEMORY + 1)
        return data if len(data) <= IN_MEMORY else seekable(url)

    return _trying(work, url)


def fetch_range(url: str, start: int, size: int) -> bytes:
    """`size` bytes of an object from `start` on."""
    fs, name = filesystem(url)
    _check_parts(url)

    def work() -> bytes:
        data: bytes = fs.cat_file(name, start=start, end=start + size) if size else b""
        if len(data) != size:
            raise AudioError(f"{url} is cut off: {len(data)} bytes came instead of {size}. Copy it again")
        return data

    return _trying(work, url)


def _check_parts(url: str) -> None:
    """AudioError if a web server would send all of a file for each part of it."""
    if scheme_of(url) in WEB and not _gives_parts(url):
        raise AudioError(
            f"{url}: the server does not give parts of a file. Copy the file to this machine, or to a server that answers "
            "byte ranges"
        )


@lru_cache(maxsize=4096)
def _gives_parts(url: str) -> bool:
    fs, name = filesystem(url)

    def work() -> bool:
        with fs.open(name, "rb", block_size=BLOCK, cache_type="none") as file:
            if not file.seekable():
                return False
            file.seek(1)
            try:
                return file.read(1) is not None
            except ValueError:  # fsspec's word for it
                return False

    return _trying(work, url)


def seekable(url: str) -> BinaryIO:
    """An object to read piece by piece, BLOCK bytes at a time."""
    fs, name = filesystem(url)
    _check_parts(url)
    return _trying(lambda: fs.open(name, "rb", block_size=BLOCK, cache_type="readahead"), url)  # type: ignore[no-any-return]


def read_all(url: str, limit: int) -> bytes:
    """A manifest behind a URL. UsageError if it cannot be had or has more than `limit` bytes."""
    fs, name = filesystem(url)

    def work() -> bytes:
        with fs.open(name, "rb") as file:
            data: bytes = file.read(limit + 1)
        return data

    try:
        data = _trying(work, url)
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    if len(data) > limit:
        raise UsageError(f"{url}: has more than {limit >> 20} MB. Copy it to this machine.")
    return data


@lru_cache(maxsize=4096)
def stamp(url: str) -> tuple[Any, Any]:
    """(size, what the store says of its state), asked once per process; None twice if it cannot be asked."""
    try:
        fs, name = filesystem(url)
        info = fs.info(name)
    except Exception:  # whoever opens it says why
        return None, None
    state = next((info[key] for key in ("ETag", "etag", "mtime", "LastModified", "blob_id", "created") if info.get(key)), None)
    return info.get("size"), None if state is None else str(state)


def listing(url: str, wanted: Callable[[str], bool]) -> list[str]:
    """URLs of the objects below `url` (or that match it, where it has a *) whose names are wanted, sorted."""
    if scheme_of(url) in WEB:
        raise UsageError(f"{url}: a web server has no folders that could be listed. Name files, shards or a manifest.")
    fs, name = filesystem(url)

    def work() -> Iterable[str]:
        found: list[str] = fs.glob(name) if "*" in url else fs.find(name)
        return found

    try:
        names = sorted(_trying(work, url))
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    return [f"{scheme_of(url)}://{name.lstrip('/')}" for name in names if wanted(name)]
