"""The clips of a shard: a tar in the layout of WebDataset, or a Parquet file with a column of sound."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from urgentmos.clips import Clip, clip_of, without_suffix
from urgentmos.sources import inside, joined, parquet, place_of, tar


class Made(NamedTuple):
    """Clips in the shard's order, whether each one's uid is ours, and a sentence for each row without a meaning."""

    clips: list[Clip]
    made: list[bool]
    problems: list[str]


def of_tar(file: str) -> Made:
    """UsageError if it cannot be read."""
    found = Made([], [], [])
    for sample in tar.samples(file):
        if sample.problem:
            found.problems.append(sample.problem)
            continue
        _add(found, file, sample.record, f"{file}#{sample.member}", sample.key, sample.key)
    return found._replace(clips=with_systems(found.clips))


def holds_sound(file: str) -> bool:
    return bool(parquet.audio_columns(file))


def of_parquet(file: str) -> Made:
    """UsageError if it cannot be read, or if it is not plain which column is meant."""
    sound = parquet.audio_columns(file)
    column = parquet.column_of(file, sound)
    found = Made([], [], [])
    stem = os.path.splitext(os.path.basename(file))[0]
    for number, row in enumerate(parquet.rows(file, column, sound)):
        uid = without_suffix(os.path.basename(row.name)) or f"{stem}[{number}]"
        _add(found, file, row.labels, f"{file}#{column}[{number}]", uid, f"row {number}")
    return found


def _add(found: Made, file: str, record: Mapping[str, Any], place: str, uid: str, where: str) -> None:
    """One clip; its paths are resolved here, so that "" is the folder of them all."""
    reference = record.get("reference_path")
    if isinstance(reference, str) and reference:
        own = reference.startswith("#")  # a member of the same tar
        reference = f"{file}{reference}" if own else joined(file.rpartition("/")[0], reference)
    try:
        clip, made = clip_of({**record, "audio_path": place, "reference_path": reference}, "")
    except ValueError as e:
        found.problems.append(f"{where}: {e}")
        return
    found.clips.append(replace(clip, uid=uid) if made else clip)
    found.made.append(made)


def with_systems(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, with systems and contents of the members' paths where these are those of systems and nothing else says so."""
    from urgentmos.manifest import homologous

    paths = [inside(clip.audio_path).removeprefix("./") for clip in clips]
    if any(clip.system_id or clip.reference_id or not place_of(clip.audio_path).member for clip in clips):
        return list(clips)
    if not homologous(paths):
        return list(clips)
    systems = [path.split("/", 1) for path in paths]
    return [
        replace(clip, system_id=system, reference_id=without_suffix(rest))
        for clip, (system, rest) in zip(clips, systems, strict=True)
    ]
