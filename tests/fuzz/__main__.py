"""`python -m fuzz`: searches for FUZZ_SECONDS on two processes and says what came out. Exit status 1 if anything failed.

python -m fuzz KIND ...        only these kinds
python -m fuzz FAILURE.json    runs one recipe again and prints what it gives
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

from fuzz import oracle
from fuzz.cases import Case
from fuzz.search import Result, corpus, keep, search
from fuzz.seeds import KINDS
from fuzz.worker import Worker

BUILD = Path(__file__).resolve().parents[2] / "build" / "fuzz"
PROCESSES = 2
ROUND_SECONDS, ROUND_CASES = 60.0, 2000
SHARES = {"audio": 4, "manifest": 2, "archive": 2, "checkpoint": 2, "config": 1, "request": 2}  # rounds of each in a cycle


def main(arguments: list[str]) -> int:
    if arguments and arguments[0].endswith(".json"):
        return again(Path(arguments[0]))
    kinds = arguments or os.environ.get("FUZZ_KINDS", "").split() or list(KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        print(f"there is no kind {unknown[0]}. Kinds: {', '.join(KINDS)}.", file=sys.stderr)
        return 2
    seconds = float(os.environ.get("FUZZ_SECONDS", "60"))
    seed = int(os.environ.get("FUZZ_SEED", "0"))
    results = run(kinds, seconds, seed)
    print_table(results)
    failures = sum(len(result.failures) for result in results.values())
    for result in results.values():
        for signature in sorted(result.failures):
            failure = result.failures[signature]
            print(f"\n{failure['problem']}\n  {json.dumps({k: failure[k] for k in ('seed', 'mutations', 'repaired')})}")
        keep(result, BUILD / "failures")
    if failures:
        print(f"\n{failures} kinds of failures; recipes and files are in {BUILD / 'failures'}. Run one again by:")
        print(f"  PYTHONPATH=src:tests {sys.executable} -m fuzz build/fuzz/failures/NAME.json")
    return 1 if failures else 0


def run(kinds: list[str], seconds: float, seed: int) -> dict[str, Result]:
    """Rounds of all kinds in turns, two at a time, until the time is over; each round knows what earlier ones found."""
    end = time.monotonic() + seconds
    results = {kind: Result(kind) for kind in kinds}
    turns = [kind for share in range(max(SHARES.values())) for kind in kinds if SHARES[kind] > share]
    length = min(ROUND_SECONDS, max(5.0, PROCESSES * seconds / len(turns)))
    pending, number = {}, 0
    known = {oracle.signature(past.case, past.note) for past in corpus() if past.open}
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        while pending or time.monotonic() < end:
            while len(pending) < PROCESSES and time.monotonic() < end:
                kind = turns[number % len(turns)]
                seen = known | set(results[kind].failures)
                task = pool.submit(search, kind, ROUND_CASES, seed + 1000 * number, length, seen, BUILD / f"work-{number}")
                pending[task] = kind
                number += 1
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for task in finished:
                results[pending.pop(task)].merge(task.result())
    return results


def print_table(results: dict[str, Result]) -> None:
    columns = ["inputs", "numbers", "warnings", "errors"]
    problems = sorted({name for result in results.values() for name in result.counts if name.startswith("!")})
    print(f"{'kind':<12}" + "".join(f"{column:>10}" for column in columns) + "  problems")
    for kind, result in results.items():
        counted = ", ".join(f"{result.counts[name]} {name[2:]}" for name in problems if result.counts[name]) or "none"
        print(f"{kind:<12}" + "".join(f"{result.counts[column]:>10}" for column in columns) + f"  {counted}")


def again(path: Path) -> int:
    case = Case.from_plain(json.loads(path.read_text("utf-8")))
    kind = case.seed.split("/")[0]
    with Worker(kind, BUILD / "again") as worker:
        intact = worker.run(Case(case.seed)) if kind == "checkpoint" else None
        report = worker.run(case)
    print(json.dumps(report, indent=1, default=str))
    found = oracle.problems(case, report, intact)
    print("\n".join(found) or "no problem")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
