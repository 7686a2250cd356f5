"""Hypothesis looks for cases with problems; a new kind of problem shrinks and is kept, one that is already known is counted."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from fuzz import oracle
from fuzz.cases import Case
from fuzz.seeds import Missing, bytes_of, seeds
from fuzz.strategies import cases
from fuzz.worker import Worker

CORPUS = Path(__file__).parent / "corpus"
SHRINKING_SECONDS = 10.0
EVERYTHING = list(HealthCheck)


class Failed(AssertionError):
    """A case with a problem of a kind that was not known."""

    def __init__(self, case: Case, problem: str) -> None:
        super().__init__(case, problem)
        self.case, self.problem = case, problem


@dataclass
class Result:
    """What came of many cases of one kind. counts: inputs, numbers, warnings, errors, and problems by their first word."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)  # signature -> case and problem

    def merge(self, other: Result) -> None:
        self.counts += other.counts
        for signature, failure in other.failures.items():
            self.failures.setdefault(signature, failure)


@dataclass
class Searcher:
    """Runs cases of one kind and remembers what it saw."""

    worker: Worker
    known: set[str]
    until: float  # of time.monotonic()
    result: Result
    intact: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    shrinking_since: float | None = None
    failed: dict[str, str] = field(default_factory=dict)  # case -> problem, so that a replay is never flaky

    def run(self, case: Case) -> list[str]:
        """All problems of a case."""
        if case.seed.startswith("checkpoint") and case.mutations and case.seed not in self.intact:
            self.intact[case.seed] = self.worker.run(Case(case.seed))
        report = self.worker.run(case)
        if "missing" in report:
            self.result.counts["cannot be made here"] += 1
            return []
        found = oracle.problems(case, report, self.intact.get(case.seed))
        self._count(report, found)
        return found

    def check(self, case: Case) -> None:
        """Failed if the case has a problem of a new kind; raised in one place only: by it hypothesis tells failures apart."""
        if problem := self._new_problem(case):
            raise Failed(case, problem)

    def _new_problem(self, case: Case) -> str:
        text = case.to_json()
        if text in self.failed or self._is_over():
            return self.failed.get(text, "")
        new = [problem for problem in self.run(case) if oracle.signature(case, problem) not in self.known]
        if new:
            self.shrinking_since = self.shrinking_since or time.monotonic()
            self.failed[text] = new[0]
        return new[0] if new else ""

    def _is_over(self) -> bool:
        if self.shrinking_since is not None:
            return time.monotonic() - self.shrinking_since > SHRINKING_SECONDS
        return time.monotonic() > self.until

    def _count(self, report: Mapping[str, Any], found: list[str]) -> None:
        counts, rows = self.result.counts, report["rows"]
        counts["inputs"] += 1
        counts["numbers"] += sum(row["error"] is None for row in rows)
        counts["warnings"] += sum(row["error"] is None and bool(row["warnings"]) for row in rows)
        counts["errors"] += sum(row["error"] is not None for row in rows) + (report["refusal"] is not None)
        counts.update(f"! {problem.split(':')[0]}" for problem in found)


def search(kind: str, examples: int, seed: int, seconds: float, known: set[str], folder: Path) -> Result:
    """What `examples` cases give, or as many as fit into `seconds`; reproducible by `seed`. Failures are new signatures."""
    result, known = Result(kind), set(known)
    with Worker(kind, folder) as worker:
        searcher = Searcher(worker, known, time.monotonic() + seconds, result)
        while result.counts["inputs"] < examples and time.monotonic() < searcher.until:
            failure = _round(searcher, kind, examples - result.counts["inputs"], seed)
            seed += 1
            if failure is None:
                break
            signature = oracle.signature(failure.case, failure.problem)
            known.add(signature)
            result.failures[signature] = {**json.loads(failure.case.to_json()), "problem": failure.problem}
            searcher.shrinking_since = None
            searcher.failed.clear()
    return result


def _round(searcher: Searcher, kind: str, examples: int, seed: int) -> Failed | None:
    names = [one.name for one in seeds(kind) if one.searched]
    texts = [one.name for one in seeds(kind) if one.text and one.searched]

    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=EVERYTHING,
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(cases(names, texts))
    def check(case: Case) -> None:
        searcher.check(case)

    try:
        check()
    except Failed as e:
        return e
    return None


# ---- past failures


@dataclass(frozen=True)
class Past:
    """A case that failed once. `open`: who will mend it; until then it may fail."""

    case: Case
    note: str
    open: str = ""

    @property
    def kind(self) -> str:
        return self.case.seed.split("/")[0]


def corpus(folder: Path = CORPUS) -> list[Past]:
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines() if line.strip()]
    plain = [json.loads(line) for line in lines]
    return [Past(Case.from_plain(row), row["note"], row.get("open", "")) for row in plain]


def keep(result: Result, folder: Path) -> list[Path]:
    """Writes each failure as a recipe, and the file that it stands for; returns the recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for number, (signature, failure) in enumerate(sorted(result.failures.items())):
        case = Case.from_plain(failure)
        stem = f"{result.kind}-{number:03d}-{failure['problem'].split(':')[0].replace(' ', '-')}"
        (folder / f"{stem}.json").write_text(json.dumps({**failure, "signature": signature}, indent=1) + "\n", "utf-8")
        try:
            name = case.seed.rpartition("/")[2]
            (folder / f"{stem}.{name}").write_bytes(bytes_of(case))
        except Missing:
            pass
        kept.append(folder / f"{stem}.json")
    return kept
