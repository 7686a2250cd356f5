"""Objects behind URLs, through fsspec: which schemes there are, who may name them, and their bytes.

What a user names on the command line or passes to a function is fetched. What a manifest names is fetched only if it lies
where the manifest lies: a manifest of this machine names files of this machine, one behind a URL names URLs of its scheme
(and, over http, of its host). A web server that redirects to another one is followed only where the user named the URL. The
environment variable URGENTMOS_ALLOW_URLS lists further schemes, "s3,https", and "file" for files of this machine in a
manifest from elsewhere.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

from urgentmos.audio.places.names import SCHEMES, WEB, place_of, scheme_of
from urgentmos.audio.places.views import IN_MEMORY, View
from urgentmos.common.retries import AGAIN, STATUSES, may_pass, retried, retry_after
from urgentmos.errors import AudioError, UsageError, need

T = TypeVar("T")

# scheme -> the extra with the package behind it. "memory" holds objects of this process: for tests and notebooks.
ALLOWED = "URGENTMOS_ALLOW_URLS"
TRANSFER_SECONDS, SILENT_SECONDS = 600.0, 60.0  # of one request; without a byte
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
    if (scheme or "file") in _allowed():
        return None
    here = "on this machine" if home is None else f"behind {home}://"
    what = "a file of this machine" if scheme is None else f"{scheme}://{urlsplit(target).netloc if scheme in WEB else '...'}"
    cure = f"If you trust it, set {ALLOWED}={scheme or 'file'}"
    return f"names {what}, and the manifest lies {here}. {cure}"


def _allowed() -> set[str]:
    """The schemes that URGENTMOS_ALLOW_URLS lists."""
    return {name.strip().lower() for name in os.environ.get(ALLOWED, "").replace(" ", ",").split(",")}


# ---- redirects

Page = tuple[Any, ...]
_typed: set[Page] = set()  # what the user named


def trust(urls: Iterable[str]) -> None:
    """Let these URLs, which the user named, redirect to other web servers."""
    _typed.update(_page(url) for url in urls if scheme_of(url) in WEB)


def trusted() -> set[Page]:
    """The pages that the user named, for worker processes, which `trust_pages` of the parent."""
    return set(_typed)


def trust_pages(pages: Iterable[Page]) -> None:
    """In a worker process: what its parent trusts."""
    _typed.update(pages)


def _page(url: str) -> Page:
    """One key for all spellings of a URL; ValueError if it is none."""
    parts = urlsplit(url)
    return (*_origin(url), parts.path or "/", parts.query)


class Redirected(Exception):
    """A web server that points to another one."""


def check_redirect(first: str, here: str, target: str) -> None:
    """Redirected if `here`, where a request for `first` has come to, may not lead to `target`.

    It may lead to its own scheme, host and port; anywhere on the web if the user named `first`; and to a scheme that
    URGENTMOS_ALLOW_URLS lists.
    """
    try:
        origins = [_origin(here), _origin(target)]
    except ValueError:
        raise Redirected("it redirects to an address that is none") from None
    if origins[0] == origins[1] or _page(first) in _typed or origins[1][0] in _allowed():
        return
    scheme, host, port = origins[1]
    raise Redirected(
        f"it redirects to another server, {scheme}://{host}:{port}. If you trust that one, set {ALLOWED}={scheme}, then {AGAIN}"
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


async def _web_client(**settings: Any) -> Any:
    """The client behind http:// and https://: as fsspec's own, with limits of time, and with a look at each redirect."""
    import aiohttp

    async def on_start(session: Any, request: Any, step: Any) -> None:
        request.first = str(step.url)

    async def on_redirect(session: Any, request: Any, step: Any) -> None:
        target = step.response.headers.get("Location") or step.response.headers.get("URI") or ""
        check_redirect(request.first, str(step.url), urljoin(str(step.url), target))

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    trace.on_request_redirect.append(on_redirect)
    timeout = aiohttp.ClientTimeout(total=TRANSFER_SECONDS, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return aiohttp.ClientSession(trace_configs=[trace], timeout=timeout, **settings)


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
        return fsspec.filesystem(scheme, **({"get_client": _web_client} if scheme in WEB else {}))
    except (ImportError, ValueError) as e:
        raise UsageError(f"{root}: {e}. Install the package with: pip install 'urgentmos[{SCHEMES[scheme]}]'") from e


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec file system, the name of the object in it). UsageError if the scheme is unknown or its package missing."""
    fs = _filesystem(f"{scheme_of(url)}://")
    return fs, fs._strip_protocol(url)


class _Short(Exception):
    """Fewer bytes came than the store has."""


def _trying(work: Callable[[], T], url: str) -> T:
    """`work()`, retried after passing failures. AudioError if it fails for good."""
    try:
        return retried(work, _passes, lambda e: retry_after(_headers(_cause(e)).get("Retry-After")))
    except (AudioError, UsageError):
        raise
    except Exception as e:  # every package behind fsspec has errors of its own
        raise AudioError(_sentence(url, e)) from e


def _sentence(url: str, error: Exception) -> str:
    """A sentence on what is wrong with an object, and what to do."""
    cause = _cause(error)
    status = _status(cause)
    why = f"{type(cause).__name__}: {cause}".rstrip(". ")
    if status in (404, 410) or isinstance(cause, FileNotFoundError):
        return f"{url} does not exist. Check the address"
    if isinstance(cause, Redirected):
        return f"{url} cannot be fetched: {cause}"
    if status in (401, 403, 407) or isinstance(cause, PermissionError) or "Credentials" in type(cause).__name__:
        return f"{url} may not be read ({why}). Check your credentials, then {AGAIN}"
    if _passes(error):
        return f"{url} cannot be fetched ({why}). Check the address and the connection, then {AGAIN}"
    return f"{url} cannot be fetched ({why}). Check the address"


def _cause(error: Exception) -> BaseException:
    """The failure itself: fsspec reports every error of a web server as a file that is not found."""
    cause: BaseException = error
    while isinstance(cause, FileNotFoundError) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


def _passes(error: Exception) -> bool:
    """Whether a failure of a store may pass: unless it is plain that it cannot, since packages have errors of their own."""
    cause = _cause(error)
    status = _status(cause)
    if status is not None:
        return status in STATUSES
    if may_pass(cause):
        return True
    for_good = (
        AudioError,
        UsageError,
        Redirected,
        FileNotFoundError,
        PermissionError,
        ValueError,
        TypeError,
        NotImplementedError,
    )
    return not isinstance(cause, for_good) and "Credentials" not in type(cause).__name__


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that an error, or what caused it, carries; None if there is none."""
    for _ in range(5):
        if error is None:
            return None
        response = getattr(error, "response", None)
        inner = response.get("ResponseMetadata") or {} if isinstance(response, dict) else {}  # of botocore
        named = "status" if hasattr(error, "status") else "code"  # aiohttp, and gcsfs
        for status in (getattr(error, named, None), getattr(response, "status_code", None), inner.get("HTTPStatusCode")):
            if isinstance(status, int | str) and str(status).isdecimal() and 300 <= int(status) < 600:
                return int(status)
        error = error.__cause__ if isinstance(error, OSError) else None  # s3fs makes them of botocore's
    return None


def _headers(error: BaseException) -> Mapping[str, str]:
    """The headers of the answer that an error is about."""
    headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None)
    return headers if isinstance(headers, Mapping) else {}


def fetch(url: str) -> bytes | BinaryIO:
    """An object: its bytes, or a file to seek in if it is larger than IN_MEMORY. AudioError if it cannot be had."""
    fs, name = filesystem(url)

    def work() -> bytes | BinaryIO:
        with fs.open(name, "rb", block_size=BLOCK) as file:  # bounded, as the server's length may be wrong
            data: bytes = file.read(IN_MEMORY + 1)
            size = getattr(file, "size", None)
        if size is not None and len(data) < min(size, IN_MEMORY + 1):
            raise _Short(f"{len(data)} of {size} bytes came")
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
    """An object to read piece by piece, BLOCK bytes at a time; a read that fails is tried again. AudioError."""
    _check_parts(url)
    return io.BufferedReader(_Stored(url), 1 << 16)


class _Stored(View):
    """An object of a store as a file."""

    def __init__(self, url: str) -> None:
        fs, name = filesystem(url)
        self._url = url
        self._file = _trying(lambda: fs.open(name, "rb", block_size=BLOCK, cache_type="readahead"), url)
        self._size = int(self._file.seek(0, io.SEEK_END))

    def size(self) -> int:
        return self._size

    def bytes_at(self, start: int, count: int) -> bytes:
        def work() -> bytes:
            self._file.seek(start)
            data: bytes = self._file.read(count)
            if len(data) < count:
                raise _Short(f"{len(data)} of {count} bytes came")
            return data

        return _trying(work, self._url)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def read_all(url: str, limit: int) -> bytes:
    """A manifest behind a URL. UsageError if it cannot be had or has more than `limit` bytes."""
    fs, name = filesystem(url)

    def work() -> bytes:
        with fs.open(name, "rb") as file:
            data: bytes = file.read(limit + 1)
            size = getattr(file, "size", None)
        if size is not None and len(data) < min(size, limit + 1):
            raise _Short(f"{len(data)} of {size} bytes came")
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
    """(size, state in the store), requested once per process; (None, None) if the store does not answer."""
    try:
        fs, name = filesystem(url)
        info = fs.info(name)
    except Exception:  # opening it raises the reason
        return None, None
    state = next((info[key] for key in ("ETag", "etag", "mtime", "LastModified", "blob_id", "created") if info.get(key)), None)
    return info.get("size"), None if state is None else str(state)


def listing(url: str, wanted: Callable[[str], bool]) -> list[str]:
    """URLs of the objects below `url` (or that match it, where it has a *) whose names are wanted, sorted."""
    if scheme_of(url) in WEB:
        raise UsageError(f"{url}: a web server has no folders that could be listed. Name files, shards or a manifest.")
    fs, name = filesystem(url)

    def work() -> Iterable[str]:
        paths: list[str] = fs.glob(name) if "*" in url else fs.find(name)
        return paths

    try:
        names = sorted(_trying(work, url))
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    return [f"{scheme_of(url)}://{name.lstrip('/')}" for name in names if wanted(name)]
