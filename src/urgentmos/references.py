"""Which clean signal belongs to which clip: labels that compare with a reference signal need to know."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from urgentmos.audio import AUDIO_ENDINGS
from urgentmos.clips import Clip, without_suffix
from urgentmos.errors import UsageError
from urgentmos.manifest import audio_below
from urgentmos.sources import inside


def attach_references(clips: Sequence[Clip], folder: str | Path) -> list[Clip]:
    """The clips, with reference_path filled from a folder of clean signals where there is none yet.

    A clean signal belongs to a clip if its path inside `folder`, or else its name, is the clip's reference_id; else if its
    name is the clip's; else if its path is the end of the clip's. Two that fit equally well fit not at all: a wrong
    reference signal would make wrong numbers, a missing one makes a reason. Unmatched clips keep None.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"{folder}: no such folder. --reference-dir names the folder of the clean signals.")
    found = audio_below(folder)
    if not found:
        raise UsageError(f"{folder}: holds no audio, but should hold the clean signals; audio ends in {AUDIO_ENDINGS}.")
    by_path: dict[str, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for rel in found:
        by_path.setdefault(without_suffix(rel), []).append(rel)
        by_name.setdefault(without_suffix(rel.rsplit("/", 1)[-1]), []).append(rel)
    attached = []
    for clip in clips:
        rel_or_none = None if clip.reference_path else _reference_of(clip, by_path, by_name)
        full = None if rel_or_none is None else os.path.join(folder, *rel_or_none.split("/"))
        attached.append(replace(clip, reference_path=full) if full else clip)
    return attached


def _reference_of(clip: Clip, by_path: dict[str, list[str]], by_name: dict[str, list[str]]) -> str | None:
    own = PurePosixPath(Path(without_suffix(inside(clip.audio_path))).as_posix())
    content = clip.reference_id or ""
    tails = ["/".join(own.parts[i:]) for i in range(len(own.parts))]  # longest first
    keys = [(by_path, content), (by_name, content), (by_name, own.name), *((by_path, tail) for tail in tails)]
    for index, key in keys:
        fits = index.get(key, [])
        alike = [rel for rel in fits if os.path.splitext(rel)[1] == os.path.splitext(clip.audio_path)[1]]
        for choice in (fits, alike):
            if len(choice) == 1:
                return choice[0]
    return None
