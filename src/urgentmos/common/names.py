"""Names of files and contents: which are the same, which is nearest, and what a path that leads nowhere may mean.

One name has several spellings: macOS stores an accent as a letter and a mark (NFD) where other systems have one letter (NFC),
and a byte that is not UTF-8 is a lone surrogate in Python but `\\udcXX` in a CSV file. `name_key` maps all of them to one
key; matching of names compares keys. Names that differ in case are different names.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_ESCAPED = re.compile(r"\\udc([89a-f][0-9a-f])")  # as cells.safe_text spells a byte that is not UTF-8
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"})
_HOME = re.compile(r"(^|/)~[\w.-]*(/|$)")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}|%\w+%")


def name_key(name: str) -> str:
    """The same text for every spelling of `name`: NFC, NFD, and bytes that are not UTF-8 as such or spelled out."""
    if name.isascii() and "\\" not in name:
        return name
    return unicodedata.normalize("NFC", _ESCAPED.sub(lambda match: chr(0xDC00 + int(match[1], 16)), name))


def is_utf8(name: str) -> bool:
    """False for a name with bytes that are not UTF-8; C libraries that expect text cannot open it by name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_junk(name: str) -> bool:
    """Whether one part of a path is hidden, or is what macOS and Windows leave behind (`._x.wav`, `__MACOSX`, `Thumbs.db`)."""
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in _JUNK


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the names that look like `name`, the most similar first; one that differs only in case is first."""
    by_key: dict[str, str] = {}
    for other in names:
        by_key.setdefault(name_key(other), other)
    key = name_key(name)
    cased = [other for other_key, other in by_key.items() if other_key.casefold() == key.casefold()]
    close = [by_key[other] for other in get_close_matches(key, list(by_key), n=count, cutoff=0.5)]
    return list(dict.fromkeys([*cased, *close]))[:count]


def advice(path: str) -> str:
    """Advice about a path that does not exist."""
    if _HOME.search(path):
        return "A ~ is expanded by a shell only. Write the full path"
    if _VARIABLE.search(path):
        return "Variables such as $NAME are expanded by a shell only. Write the full path"
    if "\\" in path and os.sep == "/":
        return "It has backslashes, as on Windows. Write / between folders"
    return "Check the path"


class Disk:
    """Finds files of this machine by any spelling of their names; remembers the folders that it has listed."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> str:
        """`path` as the disk spells it; `path` itself if it exists, is plain ASCII, or nothing on the disk matches."""
        if (path.isascii() and "\\udc" not in path) or os.path.lexists(path):
            return path
        folder, name = os.path.split(path)
        here = self.find(folder) if folder and folder != path else folder
        spellings = self._listed(here or ".").get(name_key(name), [])
        return os.path.join(here, spellings[0]) if len(spellings) == 1 else path

    def _listed(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._folders:
            names: dict[str, list[str]] = {}
            try:
                for name in os.listdir(folder):
                    names.setdefault(name_key(name), []).append(name)
            except (OSError, ValueError):
                pass
            self._folders[folder] = names
        return self._folders[folder]
