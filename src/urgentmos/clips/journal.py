"""A journal of finished outcomes, appended one by one, so that a killed run can go on.

A later run with the same files and the same judge takes them from there. Delete the file when the results are safe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from urgentmos.audio.places.opening import fingerprint
from urgentmos.clips.records import safe_text
from urgentmos.common.retries import is_passing
from urgentmos.files import Appended, appending, replacing


class Task(NamedTuple):
    """Files to listen to. Equal tasks are measured once."""

    audio_path: str
    reference_path: str | None


@dataclass(frozen=True)
class Outcome:
    """The result of one judge, or of one stage of labellers, for one task."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # metric -> why it has no value
    error: str | None = None  # why the clip could not be decoded at all
    warnings: list[str] = field(default_factory=list)
    duration: float | None = None
    rate: int | None = None
    bandwidth: float | None = None  # Hz; see `audio.AudioInfo`

    @property
    def passing(self) -> bool:
        """Whether it lacks a value for a passing reason, so that a later run should retry."""
        return any(map(is_passing, (self.error, *self.reasons.values())))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Journal:
    """Finished outcomes in a JSONL file, appended one by one. A line cut short by a kill is ignored.

    A folder of Parquet shards (below) can be read like such a file; nothing is appended to it.
    """

    def __init__(self, outcomes: dict[str, Outcome], out: Appended | None) -> None:
        self._known, self._out = outcomes, out

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Iterator[Journal]:
        """The journal at `path`, with what an earlier run left there; None: remembers nothing."""
        if path is None:
            yield cls({}, None)
            return
        if path.is_dir():
            yield cls(Shards.read(path), None)
            return
        outcomes = cls._read(path)
        with appending(path) as out:
            if out.size:
                out.write(b"\n")  # ends a line that a kill left open
            yield cls(outcomes, out)

    @staticmethod
    def _read(path: Path) -> dict[str, Outcome]:
        outcomes = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    outcomes[entry["key"]] = Outcome(**entry["outcome"])
                except (ValueError, KeyError, TypeError):
                    continue
        return outcomes

    def get(self, stage: str, task: Sequence[str | None]) -> Outcome | None:
        return self._known.get(_entry_key(stage, task)) if self._known else None

    def append(self, stage: str, task: Sequence[str | None], outcome: Outcome) -> None:
        """`task`: a Task, or the files that the outcome rests on, in order. Passing failures are not kept."""
        if self._out is not None and not outcome.passing:
            self._out.write(json.dumps({"key": _entry_key(stage, task), "outcome": outcome.to_dict()}).encode() + b"\n")


class Shards:
    """Finished outcomes in a folder of Parquet files, each of them written whole or not at all, by one process at a time."""

    def __init__(self, folder: Path, stage: str, clips: int, seconds: float) -> None:
        self._folder, self._stage, self._limit, self._patience = folder, stage, clips, seconds
        self._number = len(list(folder.glob("shard-*.parquet")))
        self._rows: list[tuple[str, str, str]] = []
        self._since = time.monotonic()
        self.seconds = 0.0  # that writing took

    @classmethod
    @contextmanager
    def append(cls, folder: Path, stage: str, clips: int, seconds: float) -> Iterator[Shards]:
        """A shard is written after `clips` outcomes or `seconds`, and at the end, also where that is an error."""
        shards = cls(folder, stage, clips, seconds)
        try:
            yield shards
        finally:
            shards._write()

    def add(self, task: Sequence[str | None], outcome: Outcome) -> None:
        self._rows.append((_entry_key(self._stage, task), safe_text(task[0]), json.dumps(outcome.to_dict())))
        if len(self._rows) >= self._limit or time.monotonic() - self._since > self._patience:
            self._write()

    def _write(self) -> None:
        began = time.monotonic()
        if self._rows:
            from urgentmos.errors import need

            pa, parquet = need("pyarrow", "cluster"), need("pyarrow.parquet", "cluster")
            columns = dict(zip(("key", "audio_path", "outcome"), map(list, zip(*self._rows, strict=True)), strict=True))
            place = self._folder / f"shard-{self._number:06}.parquet"
            table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
            with replacing(place) as out:
                parquet.write_table(table, out)
            self._number += 1
            self._rows = []
        self._since = time.monotonic()
        self.seconds += self._since - began

    @staticmethod
    def read(folder: Path) -> dict[str, Outcome]:
        """Entries of all shards; one that cannot be read is measured again."""
        from urgentmos.errors import need

        parquet, broken = need("pyarrow.parquet", "cluster"), need("pyarrow", "cluster").ArrowException
        outcomes = {}
        for file in sorted(folder.glob("shard-*.parquet")):
            try:
                table = parquet.read_table(file, columns=["key", "outcome"])
                for key, outcome in zip(table["key"].to_pylist(), table["outcome"].to_pylist(), strict=True):
                    outcomes[key] = Outcome(**json.loads(outcome))
            except (OSError, ValueError, TypeError, KeyError, broken):
                continue
        return outcomes


def _entry_key(stage: str, task: Sequence[str | None]) -> str:
    """Names the measurement: the stage, and the files with their sizes and times."""
    return json.dumps([stage, *(fingerprint(path) for path in task)])
