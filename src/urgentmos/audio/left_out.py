"""Files that were given and are not used: why, and one sentence about them."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from urgentmos.audio.formats import ARCHIVE_ENDINGS, AUDIO_SUFFIXES, FOREIGN_SUFFIXES, PARQUET_ENDINGS, is_foreign, suffix_of
from urgentmos.audio.places.names import file_name
from urgentmos.errors import visible

_TABLES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".scp", *PARQUET_ENDINGS})

# Archives that are not read -> the command that unpacks them. A single packed file is one of _PACKED behind a sound's ending.
_CLOSED = {
    ".7z": "7z x",
    ".rar": "unrar x",
    ".tar.zst": "tar --zstd -xf",
    ".tzst": "tar --zstd -xf",
    ".tar.lz4": "lz4 -d",
    ".tar.lz": "tar xf",
    ".tar.lzma": "tar xf",
    ".tar.z": "tar xf",
    ".tar.br": "brotli -d",
    ".zipx": "7z x",
    ".cab": "7z x",
    ".iso": "7z x",
    ".dmg": "7z x",
    ".arj": "7z x",
    ".lzh": "7z x",
    ".lha": "7z x",
    ".cpio": "cpio -id <",
}
_PACKED = {
    ".gz": "gunzip",
    ".bz2": "bunzip2",
    ".xz": "unxz",
    ".zst": "unzstd",
    ".lz4": "lz4 -d",
    ".lzma": "unlzma",
    ".z": "uncompress",
    ".br": "brotli -d",
}
_PARTS = (".zip.001", ".7z.001", ".z01", ".tar.gz.aa", ".tar.aa")

FOREIGN = "sound of a kind that is not read; convert it to WAV or FLAC"
TABLE = "a table beside audio files is not read; give it as an input itself"
_NAMED = 3  # files of one kind that a sentence spells out


class LeftOut(NamedTuple):
    """A file that was given and is not used. `why` is "" for files of no use here; `sound`: a ranking should warn of it."""

    name: str  # below the input
    why: str = ""
    sound: bool = False


class Note(NamedTuple):
    """A sentence about what was given. `warning` is what a ranking should repeat of it, "" where no audio is concerned."""

    sentence: str
    warning: str = ""


def audio_note(sentence: str) -> Note:
    """A note that a ranking should repeat as it is."""
    return Note(sentence, sentence)


def left_out(name: str) -> LeftOut:
    """A file that is neither a recording nor an archive."""
    if is_foreign(name):
        return LeftOut(name, FOREIGN, sound=True)
    return LeftOut(name, TABLE if suffix_of(name) in _TABLES else "")


def unpacking(name: str) -> str | None:
    """The command that unpacks an archive (or a packed recording) which is not read in place; None for any other file."""
    lower = file_name(name).lower()
    if lower.endswith(ARCHIVE_ENDINGS):
        return None
    if command := next((command for ending, command in _CLOSED.items() if lower.endswith(ending)), None):
        return command
    if lower.endswith(_PARTS):
        return "7z x"
    inner, ending = os.path.splitext(lower)
    within = os.path.splitext(inner)[1]
    if ending in _PACKED and (not within or within in AUDIO_SUFFIXES | FOREIGN_SUFFIXES or inner.endswith(ARCHIVE_ENDINGS)):
        return _PACKED[ending]
    return None


def refusal(name: str) -> str | None:
    """Why an archive is not read, with what to do; None if it is read, or is no archive."""
    command = unpacking(name)
    if command is None:
        return None
    return f"{name}: an archive of this kind is not read. Unpack it ({command} {file_name(name)}), or pack it as .zip or .tar"


def left_out_notes(where: str, files: Sequence[LeftOut]) -> list[Note]:
    """One sentence about the files that are not used, those with sound first; none if all are used."""
    sounds = [file for file in files if file.sound]
    if not files:
        return []
    others = [file for file in files if not file.sound]
    warning = f"{where}: not used: {_listed(sounds)}" if sounds else ""
    return [Note(f"{where}: not used: {_listed([*sounds, *others])}", warning)]


def _listed(files: Iterable[LeftOut]) -> str:
    by_why: dict[str, list[str]] = {}
    for file in files:
        by_why.setdefault(file.why, []).append(file.name)
    parts = [", ".join(_counted(names)) if not why else f"{some(names)} ({why})" for why, names in by_why.items()]
    return "; ".join(parts)


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(visible, names[:_NAMED])) + more


def _counted(names: Iterable[str]) -> list[str]:
    """A single file by its name, several of one suffix by their number."""
    by_suffix: dict[str, list[str]] = {}
    for name in names:
        by_suffix.setdefault(suffix_of(name), []).append(name)
    return [
        same[0] if len(same) == 1 else f"{len(same)} {suffix or 'other'} files" for suffix, same in sorted(by_suffix.items())
    ]
