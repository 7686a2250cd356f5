"""What survives a kill: finished outcomes of long work, appended to a file one by one.

A later run with the same files and the same judge takes them from there. Delete the file when the results are safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from urgentmos.sources import fingerprint


class Task(NamedTuple):
    """Files to listen to. Equal tasks are measured once."""

    audio_path: str
    reference_path: str | None


@dataclass(frozen=True)
class Outcome:
    """What one judge, or one stage of labellers, found out about one task."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # metric -> why it has no value
    error: str | None = None  # why the clip could not be heard at all
    warnings: list[str] = field(default_factory=list)
    duration: float | None = None
    rate: int | None = None


class Journal:
    """Finished outcomes in a JSONL file, appended one by one. A line cut short by a kill is ignored."""

    def __init__(self, known: dict[str, Outcome], out: TextIO | None) -> None:
        self._known, self._out = known, out

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Iterator[Journal]:
        """The journal at `path`, with what an earlier run left there; None: remembers nothing."""
        if path is None:
            yield cls({}, None)
            return
        known = cls._read(path)
        with path.open("a", encoding="utf-8") as out:
            if path.stat().st_size:
                out.write("\n")  # ends a line that a kill left open
            yield cls(known, out)

    @staticmethod
    def _read(path: Path) -> dict[str, Outcome]:
        known = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    known[entry["key"]] = Outcome(**entry["outcome"])
                except (ValueError, KeyError, TypeError):
                    continue
        return known

    def get(self, stage: str, task: Sequence[str | None]) -> Outcome | None:
        return self._known.get(_entry_key(stage, task)) if self._known else None

    def append(self, stage: str, task: Sequence[str | None], outcome: Outcome) -> None:
        """`task`: a Task, or whatever files the outcome rests on, in their order."""
        if self._out is not None:
            self._out.write(json.dumps({"key": _entry_key(stage, task), "outcome": asdict(outcome)}) + "\n")
            self._out.flush()


def _entry_key(stage: str, task: Sequence[str | None]) -> str:
    """Names the measurement: the stage, and the files with their sizes and times."""
    return json.dumps([stage, *(fingerprint(path) for path in task)])
