"""Names of places: a path, a URL, a member of an archive, a cell of a Parquet file; nothing is opened here.

A clip's audio_path names its place in one string:

    utt1.wav                          a local file
    s3://bucket/sysA/utt1.wav         an object (http, https, s3, gs, hf)
    shard-000.tar#sysA/utt1.flac      a member of a tar, plain or compressed, or of a zip
    train-0.parquet#audio[17]         the cell of a column and a row, counted from 0

The archive and the Parquet file may themselves be behind a URL. The name of an archive's member is never used as a path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from urgentmos.audio.formats import ARCHIVE_ENDINGS, PARQUET_ENDINGS
from urgentmos.errors import AudioError, UsageError

WEB = ("http", "https")
SCHEMES = {"file": "", "http": "urls", "https": "urls", "s3": "s3", "gs": "gcs", "hf": "hf", "memory": "urls"}  # -> extra

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_SQUEEZED = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+")  # what pathlib leaves of it
_HOLDERS = "|".join(re.escape(ending) for ending in (*ARCHIVE_ENDINGS, *PARQUET_ENDINGS))
_INSIDE = re.compile(rf"(?P<file>.+?(?:{_HOLDERS}))#(?P<member>.+)", re.DOTALL | re.IGNORECASE)
_CELL = re.compile(r"(?P<column>.+)\[(?P<row>\d+)\]", re.DOTALL)


class Place(NamedTuple):
    """`file` is a path or a URL; `member` is "" for all of it, an archive's member, or COLUMN[ROW] of a Parquet file."""

    file: str
    member: str = ""

    @property
    def remote(self) -> bool:
        return scheme_of(self.file) is not None


# ---- names


def scheme_of(path: str) -> str | None:
    """The scheme of a URL in small letters; None for a path."""
    match = _URL.match(path)
    return match[1].lower() if match else None


def input_name(name: str | os.PathLike[str]) -> str:
    """The path or URL that a user named. file:// becomes a path; a Path made of a URL is repaired."""
    text = os.fspath(name)
    if (
        not isinstance(name, str)
        and (match := _SQUEEZED.match(text))
        and not os.path.lexists(text)
        and match[1].lower() in SCHEMES
    ):
        text = f"{match[1]}://{text[match.end() :]}" if match[1] != "file" else f"file:///{text[match.end() :]}"
    if scheme_of(text) == "file":
        return text.split("://", 1)[1].removeprefix("localhost")
    return text


def place_of(path: str) -> Place:
    """The place that an audio_path names. A file of this machine with that very name comes first."""
    match = _INSIDE.fullmatch(path)
    if match is None or os.path.lexists(path):
        return Place(path)
    return Place(match["file"], match["member"])


def is_elsewhere(path: str) -> bool:
    """True unless `path` names a local file, which the disk knows."""
    place = place_of(path)
    return bool(place.member) or place.remote


def inside(path: str) -> str:
    """The part of an audio_path that names the recording: a member, or the path itself."""
    return place_of(path).member or path


def suffix_of(path: str) -> str:
    """The ending that names the format, in lower case: of the member, or of a URL without its query. "" for a cell."""
    place = place_of(path)
    if place.member:
        return "" if place.file.lower().endswith(PARQUET_ENDINGS) else PurePosixPath(place.member).suffix.lower()
    name = urlsplit(path).path if scheme_of(path) in WEB else path
    return os.path.splitext(name)[1].lower()


def file_name(path: str) -> str:
    """The last part of a path, or of a URL without its query."""
    return (urlsplit(path).path if scheme_of(path) in WEB else path).rstrip("/").rsplit("/", 1)[-1]


def is_archive(path: str) -> bool:
    """Whether the name is that of an archive whose members are read in place."""
    return file_name(path).lower().endswith(ARCHIVE_ENDINGS)


def joined(folder: str, path: str) -> str:
    """`path` as a manifest in `folder` means it: a URL and an absolute path are themselves."""
    if scheme_of(path) is not None:
        return path if scheme_of(path) != "file" else input_name(path)
    if scheme_of(folder) is None or os.path.isabs(path):
        return os.path.join(folder, path)
    return f"{folder.rstrip('/')}/{path}"


def cell_of(place: Place) -> tuple[str, int]:
    """(column, row) of a place in a Parquet file; AudioError if it names none."""
    match = _CELL.fullmatch(place.member)
    if match is None:
        raise AudioError(f"{place.file}#{place.member} names no cell. Write FILE.parquet#COLUMN[ROW], rows counted from 0")
    return match["column"], int(match["row"])


# ---- patterns

_BRACES = re.compile(r"\{([^{}]*)\}")
MAX_NAMES = 100_000  # that one pattern may stand for


def expand(pattern: str) -> list[str]:
    """`shards-{000..003}.tar` and `{a,b}.tar` -> names in that order, as bash does it; anything else is itself."""
    names = [pattern]
    while any(match := _BRACES.search(name) for name in names):
        grown: list[str] = []
        for name in names:
            match = _BRACES.search(name)
            choices = list(_choices(match[1])) if match else [""]
            if len(grown) + len(choices) > MAX_NAMES or len(names) * len(choices) > MAX_NAMES:
                raise UsageError(f"{pattern}: stands for more than {MAX_NAMES} names. Give several patterns.")
            grown += [name[: match.start()] + choice + name[match.end() :] for choice in choices] if match else [name]
        names = grown
    return names


def _choices(text: str) -> Iterable[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if ends is None:
        return text.split(",")
    low, high = int(ends[1]), int(ends[2])
    if abs(high - low) >= MAX_NAMES:
        raise UsageError(f"{{{text}}}: stands for more than {MAX_NAMES} names. Give several patterns.")
    width = max(len(ends[1]), len(ends[2])) if "0" in (ends[1][0], ends[2][0]) else 0
    step = 1 if low <= high else -1
    return [str(number).zfill(width) for number in range(low, high + step, step)]
