"""Matching clips with their clean reference signals, which intrusive metrics need."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from urgentmos.audio.formats import AUDIO_ENDINGS
from urgentmos.audio.left_out import Note, some
from urgentmos.audio.places.names import inside, is_archive
from urgentmos.clips.clip import Clip, without_suffix
from urgentmos.clips.inputs import Inputs
from urgentmos.clips.layouts import Group, archive_group, folder_group
from urgentmos.common.names import name_key, nearest
from urgentmos.errors import UsageError

_NONE = "no reference signal: "
_CURE = "Rename the clean signal, or give a reference_path in a manifest"
_COMPARISONS = 200_000  # of names, in the search for the nearest


def attach_references(clips: Sequence[Clip], folder: str | Path) -> list[Clip]:
    """The clips, with reference_path filled from a folder of clean signals where there is none yet; see `find_references`."""
    return find_references(clips, folder).clips


def find_references(clips: Sequence[Clip], folder: str | Path) -> Inputs:
    """The clips with a reference_path from a folder or archive of clean signals where there is none yet, and notes.

    A clean signal belongs to a clip if its path inside `folder`, or else its name, is the clip's reference_id; else if its
    name is the clip's; else if its path is the end of the clip's. Of two that fit equally well the one of the clip's format is
    taken; otherwise neither: a wrong reference signal would give wrong values, a missing one gives a reason. Clips without a
    match keep None, and their reference_fault names what was searched for, where, and which names are nearest.
    """
    shelf = _Shelf.of(folder)
    attached = [clip if clip.reference_path else shelf.serve(clip) for clip in clips]
    lacking = [clip for clip in attached if not clip.reference_path]
    notes = shelf.group.all_notes()
    if shelf.chosen:
        first = next(iter(shelf.chosen.values()))
        several = f"several signals for {len(shelf.chosen)} of its names, such as {some(first)}"
        notes.append(Note(f"{folder}: {several}; the one of the clip's format is taken"))
    if lacking:
        fault = str(lacking[0].reference_fault).removeprefix(_NONE)
        count = f"{len(lacking)} of {len(attached)} clips have no reference signal"
        notes.append(Note(f"{count}; the first, {lacking[0].audio_path}: {fault}"))
    return Inputs(attached, notes)


@dataclass
class _Shelf:
    """The clean signals of a folder by path and by name, as keys."""

    group: Group
    by_path: dict[str, list[str]] = field(default_factory=dict)
    by_name: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # path -> what opens
    chosen: dict[str, list[str]] = field(default_factory=dict)  # key -> signals of which one was taken for its format
    near: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: str | Path) -> "_Shelf":
        if os.path.isdir(folder):
            group = folder_group(Path(folder), own_folder=False)
        elif is_archive(os.fspath(folder)) and os.path.isfile(folder):
            group = archive_group(os.fspath(folder))
        else:
            raise UsageError(f"{folder}: no such folder. --reference-dir names the folder of the clean signals.")
        if not group.items:
            raise UsageError(f"{folder}: holds no audio, but should hold the clean signals; audio ends in {AUDIO_ENDINGS}.")
        shelf = cls(group)
        for clip, _, path in group.items:
            key = name_key(without_suffix(path))
            shelf.by_path.setdefault(key, []).append(path)
            shelf.by_name.setdefault(key.rpartition("/")[2], []).append(path)
            shelf.places[path] = clip.audio_path
        return shelf

    def serve(self, clip: Clip) -> Clip:
        """The clip with its reference signal, or with the reason why it has none."""
        own = PurePosixPath(name_key(Path(without_suffix(inside(clip.audio_path))).as_posix()))
        content = name_key(clip.reference_id or "")
        tails = ["/".join(own.parts[i:]) for i in range(len(own.parts))]  # longest first
        keys = [(self.by_path, content), (self.by_name, content), (self.by_name, own.name), *((self.by_path, t) for t in tails)]
        unclear: list[str] = []
        for index, key in keys:
            fits = index.get(key, [])
            alike = [path for path in fits if _suffix(path) == _suffix(clip.audio_path)]
            for choice in (fits, alike):
                if len(choice) == 1:
                    if len(fits) > 1:
                        self.chosen[key] = fits
                    return replace(clip, reference_path=self.places[choice[0]], reference_fault=None)
            unclear = unclear or fits
        return replace(clip, reference_fault=self._fault([key for key in (content, own.name) if key], unclear))

    def _fault(self, keys: list[str], unclear: list[str]) -> str:
        where, names = self.group.where, " or ".join(dict.fromkeys(keys))
        if unclear:
            return f"{_NONE}{where} has several for {names} ({some(unclear)}). Keep one, or give a reference_path"
        close = self._nearest(keys[0])
        hint = f"; the nearest names there are {some(close)}" if close else ""
        return f"{_NONE}{where} has none called {names}{hint}. {_CURE}"

    def _nearest(self, key: str) -> list[str]:
        """For as many keys as can be compared in a moment."""
        if key not in self.near:
            names = [*self.by_path, *self.by_name]
            enough = len(self.near) * len(names) > _COMPARISONS
            self.near[key] = [] if enough else nearest(key, names)
        return self.near[key]


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
