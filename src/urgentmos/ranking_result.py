"""What a ranking looks like: its rows, its JSON, its table for a terminal, and its groups of ties; no arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SystemRank:
    """One system. rank_low <= rank <= rank_high, and low <= score <= high; low and high are infinite if unknown."""

    system_id: str
    rank: int  # 1 is best; systems with equal scores share it
    rank_low: int  # best rank that the data allow
    rank_high: int
    score: float
    low: float
    high: float
    mos: float | None = None  # of listeners


@dataclass(frozen=True)
class Ranking:
    """A ranking of systems, best first; see `ranking.rank` for how its numbers are made."""

    model: str
    scoring: str
    confidence: float
    n_contents: int  # on which the scores rest
    systems: tuple[SystemRank, ...]
    win_rate: dict[str, dict[str, float]]  # [a][b]: share of common contents that a won against b, ties half; NaN: none
    ties: tuple[tuple[str, ...], ...]  # groups in which no two systems can be told apart
    correlation: dict[str, float | None] | None  # krcc, srcc, lcc with the MOS of listeners
    samples: int
    seed: int
    warnings: tuple[str, ...] = ()
    # Not in the JSON, which grows with the square of the systems as it is: share of bootstrap samples with a above b, and
    # p-value of "a and b are equally good", corrected for all pairs.
    p_better: dict[str, dict[str, float]] = field(default_factory=dict)
    p_value: dict[str, dict[str, float]] = field(default_factory=dict)
    version: str = ""  # of the model
    sources: dict[str, str] = field(default_factory=dict)  # of "score", and of "mos" where there is one

    def to_dict(self) -> dict[str, Any]:
        """The rank output of the file formats: plain data for JSON, None for what is not a finite number."""
        result: dict[str, Any] = {
            "model": self.model,
            "version": self.version,
            "scoring": self.scoring,
            "confidence": self.confidence,
            "n_contents": self.n_contents,
            "n_systems": len(self.systems),
            "sources": dict(self.sources),
            "systems": [_row(s) for s in self.systems],
            "win_rate": {a: {b: _number(share) for b, share in row.items()} for a, row in self.win_rate.items()},
            "ties": [list(group) for group in self.ties],
            "samples": self.samples,
            "seed": self.seed,
            "warnings": list(self.warnings),
        }
        if self.correlation is not None:
            result["correlation"] = {name: _number(value) for name, value in self.correlation.items()}
        return result

    def table(self) -> str:
        """Plain text, a line per system. Systems that share a letter cannot be told apart."""
        letters = tie_letters([s.system_id for s in self.systems], self.ties)
        with_mos = any(s.mos is not None for s in self.systems)
        head = ["rank", "system", "score", f"{100 * self.confidence:g} % interval", "ranks", "ties"]
        rows = [head + ["listeners' MOS"] * with_mos]
        for s in self.systems:
            ranks = f"{s.rank_low}-{s.rank_high}" if s.rank_low < s.rank_high else str(s.rank)
            cells = [str(s.rank), s.system_id, _shown(s.score), _interval(s), ranks, letters[s.system_id]]
            rows.append(cells + [_shown(s.mos)] * with_mos)
        return _aligned(rows, left={1, 5})


def tie_groups(names: Sequence[str], clear: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """Longest runs of neighbours in which no pair is told apart, of two or more; each run reaches further than the last.

    names (S,) best first; clear (S, S) is 0 where two of them cannot be told apart.
    """
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(names)):
        end = start + 1
        while end < len(names) and not clear[start:end, end].any():
            end += 1
        if end > reached and end - start >= 2:
            groups.append(tuple(names[start:end]))
        reached = max(reached, end)
    return tuple(groups)


def tie_letters(names: Sequence[str], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Compact letter display: one letter per group, in order; '' for a system that ties with nobody."""
    return {name: " ".join(_letter(k) for k, group in enumerate(groups) if name in group) for name in names}


def _letter(k: int) -> str:
    """a..z, then aa, ab, ..."""
    return (_letter(k // 26 - 1) if k >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[k % 26]


def _row(s: SystemRank) -> dict[str, Any]:
    row: dict[str, Any] = {
        "system_id": s.system_id,
        "rank": s.rank,
        "rank_low": s.rank_low,
        "rank_high": s.rank_high,
        "score": _number(s.score),
        "low": _number(s.low),
        "high": _number(s.high),
    }
    return row if s.mos is None else row | {"mos": _number(s.mos)}


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _shown(value: float | None) -> str:
    return "-" if value is None or not isfinite(value) else f"{round(value, 2) + 0.0:.2f}"  # + 0.0: no "-0.00"


def _interval(s: SystemRank) -> str:
    return f"{_shown(s.low)} .. {_shown(s.high)}" if isfinite(s.low) or isfinite(s.high) else "-"


def _aligned(rows: list[list[str]], left: set[int]) -> str:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if c in left else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
