"""The clips of a shard: an archive in the layout of WebDataset, or a Parquet file with a column of sound."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from urgentmos.audio.left_out import LeftOut
from urgentmos.audio.places import archives, parquet
from urgentmos.audio.places.names import joined
from urgentmos.clips.clip import Clip, clip_of, without_suffix


class Made(NamedTuple):
    """Clips in the shard's order, with each one's path inside and whether its uid is ours.

    `problems` holds a sentence for each row without a meaning, `left_out` the members that are not used.
    """

    clips: list[Clip]
    paths: list[str]
    made: list[bool]
    problems: list[str]
    left_out: list[LeftOut]


def of_archive(file: str) -> Made:
    """UsageError if it cannot be read."""
    contents = archives.contents(file)
    shard = Made([], [], [], [], contents.left_out)
    for sample in contents.samples:
        if sample.problem:
            shard.problems.append(sample.problem)
            continue
        _add(shard, file, sample.record, f"{file}#{sample.member}", sample.path, sample.key, sample.key)
    return shard


def holds_sound(file: str) -> bool:
    return bool(parquet.audio_columns(file))


def of_parquet(file: str) -> Made:
    """UsageError if it cannot be read, or if it is not plain which column is meant."""
    sound = parquet.audio_columns(file)
    column = parquet.column_of(file, sound)
    shard = Made([], [], [], [], [])
    stem = os.path.splitext(os.path.basename(file))[0]
    for number, row in enumerate(parquet.rows(file, column, sound)):
        uid = without_suffix(os.path.basename(row.name)) or f"{stem}[{number}]"
        cell = f"{column}[{number}]"
        _add(shard, file, row.labels, f"{file}#{cell}", cell, uid, f"row {number}")
    return shard


def _add(shard: Made, file: str, record: Mapping[str, Any], place: str, path: str, uid: str, where: str) -> None:
    """One clip; its paths are resolved here, so that "" is the folder of them all."""
    reference = record.get("reference_path")
    if isinstance(reference, str) and reference:
        own = reference.startswith("#")  # a member of the same archive
        reference = f"{file}{reference}" if own else joined(file.rpartition("/")[0], reference)
    try:
        clip, ours = clip_of({**record, "audio_path": place, "reference_path": reference}, "")
    except ValueError as e:
        shard.problems.append(f"{where}: {e}")
        return
    shard.clips.append(replace(clip, uid=uid) if ours else clip)
    shard.paths.append(path)
    shard.made.append(ours)
