"""The ranking as a result: rows, JSON, a table for a terminal, groups of ties; no arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from math import isfinite
from typing import Any

from urgentmos.errors import visible


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
    not_distinguishable_from: tuple[str, ...] = ()  # best first; mutual; all others are significantly better or worse


@dataclass(frozen=True)
class Ranking:
    """A ranking of systems, best first; see `ranking.rank` for how its numbers are made."""

    model: str
    scoring: str
    confidence: float
    n_contents: int  # on which the scores rest
    systems: tuple[SystemRank, ...]
    win_rate: dict[str, dict[str, float]]  # [a][b]: share of common contents that a won against b, ties half; NaN: none
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

    @cached_property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Groups in which no two systems can be told apart; two systems share one exactly if they cannot be."""
        return tie_groups({s.system_id: s.not_distinguishable_from for s in self.systems})

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
        """Plain text, a line per system."""
        alike = self.alike()
        with_mos = any(s.mos is not None for s in self.systems)
        head = ["rank", "system", "score", f"{100 * self.confidence:g} % interval", "ranks", ALIKE]
        rows = [head + ["listeners' MOS"] * with_mos]
        for s in self.systems:
            cells = [str(s.rank), s.system_id, _shown(s.score), _interval(s), ranks_text(s), alike[s.system_id]]
            rows.append(cells + [_shown(s.mos)] * with_mos)
        return _aligned(rows, left={1, 5})

    def alike(self) -> dict[str, str]:
        """Of each system, the ranks of those that it is not distinguishable from, such as "2-5, 8"; "" if there are none.

        Where only some of the systems that share a rank are meant, it is their names.
        """
        return {s.system_id: _ranks_of(self.systems, s) for s in self.systems}


ALIKE = "not distinguishable from rank"


def ranks_text(s: SystemRank) -> str:
    """The ranks that the data allow: "2-5", or "2"."""
    return f"{s.rank_low}-{s.rank_high}" if s.rank_low < s.rank_high else str(s.rank)


def tie_groups(alike: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Groups of two systems or more, none inside another, that put two systems together exactly if they are alike.

    alike: of each system, best first, those that it is not distinguishable from. Every group is as large as it can be; with
    hundreds of systems there are too many such groups to list all, and enough are listed to hold every pair.
    """
    place = {name: k for k, name in enumerate(alike)}
    neighbours = {name: set(others) for name, others in alike.items()}
    groups: list[tuple[str, ...]] = []
    held: dict[str, set[str]] = {name: set() for name in alike}
    for name, others in alike.items():
        for other in others:
            if place[other] < place[name] or other in held[name]:
                continue
            group, common = [name, other], neighbours[name] & neighbours[other]
            # The nearest first, downwards and then upwards: groups are runs of neighbours where they can be.
            for candidate in sorted(common, key=lambda c: (place[c] < place[name], abs(place[c] - place[name]))):
                if candidate in common:
                    group.append(candidate)
                    common &= neighbours[candidate]
            groups.append(tuple(sorted(group, key=place.__getitem__)))
            for member in group:
                held[member].update(group)
    return tuple(sorted(dict.fromkeys(groups), key=lambda group: [place[name] for name in group]))


def _ranks_of(systems: Sequence[SystemRank], own: SystemRank) -> str:
    chosen = set(own.not_distinguishable_from)
    parts: list[str | list[int]] = []
    joined = False  # whether the rank before is the end of a range
    for rank, sharing in groupby(systems, key=lambda s: s.rank):
        names = [s.system_id for s in sharing if s.system_id != own.system_id]
        meant = [name for name in names if name in chosen]
        whole = bool(names) and len(meant) == len(names)
        if whole and joined and isinstance(parts[-1], list):
            parts[-1][1] = rank
        elif whole:
            parts.append([rank, rank])
        else:
            parts += meant
        joined = whole
    shown = [part if isinstance(part, str) else "-".join(map(str, dict.fromkeys(part))) for part in parts]
    return ", ".join(shown)


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
    if s.mos is not None:
        row["mos"] = _number(s.mos)
    return row | {"not_distinguishable_from": list(s.not_distinguishable_from)}


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _shown(value: float | None) -> str:
    return "-" if value is None or not isfinite(value) else f"{round(value, 2) + 0.0:.2f}"  # + 0.0: no "-0.00"


def _interval(s: SystemRank) -> str:
    return f"{_shown(s.low)} .. {_shown(s.high)}" if isfinite(s.low) or isfinite(s.high) else "-"


def _aligned(rows: list[list[str]], left: set[int]) -> str:
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if c in left else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
