"""Checks of a list of clips; all problems are collected before one report."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from urgentmos.audio.places.names import is_elsewhere
from urgentmos.audio.places.opening import fault
from urgentmos.clips.clip import Clip
from urgentmos.clips.label_range import is_outside, limits
from urgentmos.common.untrusted import shown
from urgentmos.errors import visible
from urgentmos.metrics import METRICS

_NAMED = 5  # contents or systems that one sentence spells out

# The cure for each kind, in the order of a report.
_CURES = {
    "missing file": "Correct audio_path; relative paths are relative to the manifest.",
    "empty file": "Write these files again.",
    "missing reference signal": "Correct reference_path; relative paths are relative to the manifest.",
    "duplicate uid": "Give every clip a uid of its own.",
    "repeated content": "A system has one clip per reference_id; remove the others.",
    "unequal contents": "Add the missing clips, or leave these contents out for all systems.",
    "label out of range": "Correct the labels, or leave them empty.",
    "unknown metric": "Rename the metric, or move it to meta.",
    "negative duration": "Correct or remove the duration; it is in seconds.",
}
FILE_FAULTS = ("missing file", "empty file", "missing reference signal")
HINDERS_RANKING = (*FILE_FAULTS, "repeated content", "unequal contents")


class Problem(NamedTuple):
    """One finding. `kind` is the head under which a report lists it, `uid` the clip (or system) that it is about."""

    kind: str
    uid: str
    message: str


def check(clips: Sequence[Clip], *, systems: bool = False) -> list[Problem]:
    """All problems of the clips; with `systems` also whether every system has each content once.

    Labels are held against the range that their metric has in practice. Sound is not decoded. An unknown metric is told
    once, not for every clip that has it.
    """
    problems = [problem for clip in clips for problem in _of_clip(clip)]
    problems += _duplicate_uids(clips)
    problems += _unknown_metrics(clips)
    if systems:
        problems += _repeated_contents(clips)
        problems += _unequal_contents(clips)
    return problems


def report(problems: Sequence[Problem], limit: int = 10) -> str:
    """The problems as one text: a paragraph per kind with its count, at most `limit` examples and what to do; "" if none."""
    by_kind: dict[str, list[Problem]] = {kind: [] for kind in _CURES}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    return "\n".join(_paragraph(kind, same, limit) for kind, same in by_kind.items() if same)


def _paragraph(kind: str, problems: list[Problem], limit: int) -> str:
    lines = [f"{kind} ({len(problems)})", *(f"  {p.uid}: {p.message}" for p in problems[:limit])]
    if len(problems) > limit:
        lines.append(f"  and {len(problems) - limit} more")
    return "\n".join(map(visible, [*lines, *([f"  {_CURES[kind]}"] if kind in _CURES else [])]))


def _of_clip(clip: Clip) -> Iterator[Problem]:
    fault = _file_fault(clip.audio_path)
    if fault:
        yield Problem(fault[0], clip.uid, fault[1])
    if clip.reference_path is not None and (fault := _file_fault(clip.reference_path)):
        yield Problem("missing reference signal", clip.uid, fault[1])
    if clip.duration is not None and clip.duration < 0:
        yield Problem("negative duration", clip.uid, f"{clip.duration} s")
    for name, value in clip.metrics.items():
        if is_outside(name, value):
            low, high = limits(name)
            yield Problem("label out of range", clip.uid, f"{name} is {value}, but lies between {low} and {high}")


def _file_fault(path: str) -> tuple[str, str] | None:
    """(kind, sentence) if no sound can be read from `path`; URLs are not requested."""
    if is_elsewhere(path):
        return fault(path)
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError) as e:
        return "missing file", f"{path}: {getattr(e, 'strerror', None) or e}"
    if os.path.isdir(path):
        return "missing file", f"{path} is a folder"
    return None if size else ("empty file", f"{path} has 0 bytes")


def _duplicate_uids(clips: Sequence[Clip]) -> Iterator[Problem]:
    for uid, count in Counter(clip.uid for clip in clips).items():
        if count > 1:
            yield Problem("duplicate uid", uid, f"{count} clips have it")


def _unknown_metrics(clips: Sequence[Clip]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for clip in clips:
        for name in clip.metrics:
            if name not in METRICS:
                first.setdefault(name, clip.uid)
                counts[name] += 1
    for name, uid in first.items():
        yield Problem("unknown metric", uid, f"{shown(name)} is no metric that we know ({_clips(counts[name])})")


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _repeated_contents(clips: Sequence[Clip]) -> Iterator[Problem]:
    for (system, content), count in Counter((c.system_id, c.reference_id) for c in clips if c.reference_id).items():
        if count > 1:
            yield Problem("repeated content", str(system), f"{count} clips of the content {content}")


def _unequal_contents(clips: Sequence[Clip]) -> Iterator[Problem]:
    held: dict[str | None, set[str]] = {}
    for clip in clips:
        if clip.reference_id is not None:
            held.setdefault(clip.system_id, set()).add(clip.reference_id)
    every = set().union(*held.values())
    for system, contents in held.items():
        missing = every - contents
        if missing:
            yield Problem("unequal contents", str(system), f"misses {len(missing)} of {len(every)} contents: {_some(missing)}")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more
