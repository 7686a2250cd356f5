"""What may come out of a case. Each problem opens with its kind, which is also what failures are grouped by."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fuzz.cases import Case
from fuzz.seeds import seed_named
from urgentmos.errors import visible

LONGEST = 1000  # characters of a sentence
MOST_LINES = 25
MOST_BYTES = 1 << 30  # of memory that a case may take beyond what stood before it
CPU_SECONDS = 10.0
WALL_SECONDS = 60.0  # a machine may be busy: only a process that waits for ever takes so long
SHARE_LOST = 0.15  # seconds that may be missing without a word
REFUSING = (501, 503, 504)  # statuses of a server that says why
UNSURE = re.compile(r"Traceback|<class '|\bobject at 0x|\b[A-Z]\w+(?:Error|Exception)\b|\bErrno\b")


def problems(case: Case, report: Mapping[str, Any], intact: Mapping[str, Any] | None = None) -> list[str]:
    """All that is wrong with what came out; intact: the report of the seed without mutations."""
    return list(_problems(case, report, intact))


def _problems(case: Case, report: Mapping[str, Any], intact: Mapping[str, Any] | None) -> Iterator[str]:
    for key in ("crash", "hang", "raised"):
        if report.get(key):
            yield f"{key}: {report[key]}"
            return
    for violation in report.get("guard", []):
        yield f"guard: {violation}"
    if report.get("peak", 0) > MOST_BYTES:
        yield f"memory: {report['peak'] >> 20} MiB"
    if report["refusal"] is not None:
        yield from sentence_problems(report["refusal"], report.get("names", []))
    if report.get("status", 200) >= 500 and report["status"] not in REFUSING:
        yield f"status: {report['status']}"
    for row in report["rows"]:
        yield from row_problems(row)
    if not all(math.isfinite(x) for x in report.get("numbers", [])):
        yield "made-up number: the answer holds one that is not finite"
    yield from _of_kind(case, report, intact)


def sentence_problems(sentence: object, names: list[str]) -> Iterator[str]:
    """names: of files, one of which the sentence must hold; none: it need not."""
    if not isinstance(sentence, str) or not sentence.strip():
        yield f"sentence: it is {sentence!r:.60}"
        return
    if found := UNSURE.search(sentence):
        yield f"sentence: {found[0]} is in it: {sentence[:200]}"
    lines = re.split(r"\n(?=  )|\n(?=[A-Z][^\n]*$)", sentence)  # a list of faults, and what to do
    if any("\n" in line.strip() for line in lines):
        yield f"sentence: it is broken into lines: {sentence[:200]!r}"
    if max(map(len, lines)) > LONGEST or len(lines) > MOST_LINES:
        yield f"sentence: it has {len(sentence)} characters in {len(lines)} lines: {sentence[:200]}"
    if names and not any(name in sentence for name in names):
        yield f"sentence: it names no file: {sentence[:200]}"


def row_problems(row: Mapping[str, Any]) -> Iterator[str]:
    """A row has a finite number for every metric, or a sentence; never both, never neither."""
    values = {name: value for name, value in row["metrics"].items() if name != "mos_human"}
    predicted = [value for value in values.values() if value is not None]
    if row["error"] is not None:
        yield from sentence_problems(_with_visible_names(row, row["error"]), [])
        return
    if not predicted:
        yield "unexplained: a row without a number and without an error"
    if any(not isinstance(value, int | float) or not math.isfinite(value) for value in predicted):
        yield f"made-up number: {predicted}"
    opinion = row["metrics"].get("mos_overall")
    if opinion is not None and not 0.999 <= opinion <= 5.001:
        yield f"made-up number: mos_overall is {opinion}"
    if row["duration"] is not None and not 0 < row["duration"] < 1e7:
        yield f"made-up number: a duration of {row['duration']} s"
    for warning in row["warnings"]:
        yield from sentence_problems(_with_visible_names(row, warning), [])


def _with_visible_names(row: Mapping[str, Any], sentence: Any) -> Any:
    """The sentence with a short name of its file: rows hold names as they are, however long, so that they can be matched."""
    path = row.get("path")
    return sentence.replace(path, visible(path)[:100]) if isinstance(sentence, str) and path else sentence


def _of_kind(case: Case, report: Mapping[str, Any], intact: Mapping[str, Any] | None) -> Iterator[str]:
    kind = case.seed.split("/")[0]
    if kind == "audio" and report["rows"]:
        yield from _of_audio(case, report)
    if kind == "checkpoint" and intact is not None and report["rows"] and intact["rows"]:
        yield from _of_model(report, intact)


def _of_audio(case: Case, report: Mapping[str, Any]) -> Iterator[str]:
    (row,) = report["rows"]
    if not _same(row, report["again"]):
        yield f"unequal: {_brief(row)} as a clip, {_brief(report['again'])} as a file"
    seed = seed_named(case.seed)
    only_cut = [name for name, *_ in case.mutations] == ["cut"]
    lost = seed.seconds - (row["duration"] or 0.0)
    if row["error"] is None and only_cut and seed.counted and lost > SHARE_LOST and not _tells(row["warnings"]):
        yield f"unexplained: {lost:.2f} of {seed.seconds:g} s are missing without a word"


def _same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if (row["error"], row["warnings"], row["metrics"].keys()) != (other["error"], other["warnings"], other["metrics"].keys()):
        return False
    pairs = [(value, other["metrics"][name]) for name, value in row["metrics"].items()]
    return all(a == b or (a is not None and b is not None and abs(a - b) < 1e-4) for a, b in pairs)


def _brief(row: Mapping[str, Any]) -> str:
    return f"({row['error']}, {row['warnings']}, {row['metrics'].get('mos_overall')})"


def _tells(warnings: list[str]) -> bool:
    return any(warning.startswith(("cut off", "length")) for warning in warnings)


def _of_model(report: Mapping[str, Any], intact: Mapping[str, Any]) -> Iterator[str]:
    """A model under the same name and version gives the same number."""
    values, before = (one["rows"][0]["metrics"] for one in (report, intact))
    if report["model"] == intact["model"] and any(name in before and value != before[name] for name, value in values.items()):
        yield f"made-up number: {report['model']} gave {before} and gives {values}"


def signature(case: Case, problem: str) -> str:
    """What failures have in common: of sentences and exceptions what is wrong with them, of all others also the format."""
    kind, stem = case.seed.split("/")[0], case.seed.rpartition("/")[0]
    parts = problem.split(":")
    if parts[0] in ("sentence", "raised"):
        return f"{kind} {':'.join(parts[: 2 if parts[0] == 'sentence' else 3])}"
    name = case.seed.removeprefix(f"{stem}/")
    return f"{stem}/{name.partition('.')[2] or name} {parts[0]}"
