"""The page of a ranking: who is best and how sure that is, where systems are strong, and every content to listen to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.clips.clip import Clip
from urgentmos.clips.label_range import is_outside
from urgentmos.clips.provenance import Value, label_of, values_of
from urgentmos.clips.sources import Kind, readable
from urgentmos.common.clip_warnings import is_silent
from urgentmos.metrics import HUMAN, METRICS, direction
from urgentmos.ranking.names import TITLES
from urgentmos.ranking.result import ranks_text
from urgentmos.report import charts
from urgentmos.report.audio import sound_of
from urgentmos.report.page import Options, counted, interval_text, mean_interval, metric_title, percent, render, scale_of

if TYPE_CHECKING:
    from urgentmos.judges.base import Evidence, Score
    from urgentmos.ranking.result import Ranking

Array = np.ndarray

NOTABLE = 0.5  # standard deviations of the systems from their mean: less is no strength and no weakness
NAMED_SYSTEMS = 6  # in the first line
NAMED = 3  # strengths, and weaknesses, of a system that are spelt out
TEXT_IN_CELLS = 30  # systems; the cells of more are too small for numbers


@dataclass(frozen=True)
class Field:
    """The clips of a ranking as tables; systems are in the order of their ranks. NaN where nothing is known."""

    systems: list[str]
    contents: list[str]
    value: Array  # (S, U) values of the judge, in its own unit
    wins: Array  # (S, U) share of the other systems that a system beats on a content, ties half
    human: Array  # (S, U) labels of listeners
    metrics: dict[tuple[str, Kind], Array]  # (S, U) each: predictions of the judge, and what the manifest holds
    sources: dict[tuple[str, Kind], set[str]]  # of these
    ahead: Array  # (S, S, U) 1 where the row system is better on a content, -1 where it is worse, 0 for a tie


def ranking_page(ranking: Ranking, evidence: Evidence, clips: Sequence[Clip], judge: str, options: Options) -> str:
    """The page of `ranking`, which rests on `evidence` about `clips` (in the order of evidence.rows).

    judge: the metric that it ranks by. Nothing is judged again. UsageError if the extra `report` is missing.
    """
    field = field_of(ranking, evidence, clips, judge)
    order = _disagreement(ranking, field)
    profile = _profile(field, judge)
    data = {
        "kind": "ranking",
        "deck": _deck(field, order, evidence, judge, options),
        "charts": _charts(ranking, field, profile, judge),
    }
    context = {
        "title": f"Ranking of {counted(len(field.systems), 'system')}",
        "ranking": ranking,
        "judge": metric_title(judge),
        "scoring": TITLES[ranking.scoring],
        "percent": percent(ranking.confidence),
        "headline": headline(ranking),
        "table": _table(ranking, field, judge),
        "source": readable(ranking.sources.get("score", ""), judge),
        "win_rates": [[ranking.win_rate[a][b] if a != b else None for b in field.systems] for a in field.systems],
        "systems": field.systems,
        "profile": profile,
        "failed": [(row.clip.audio_path, row.error) for row in evidence.rows if row.error],
        "n_clips": len(evidence.rows),
        "n_systems": len(field.systems),
        "with_mos": any(s.mos is not None for s in ranking.systems),
        "options": options,
    }
    return render("ranking.html", context, data)


def field_of(ranking: Ranking, evidence: Evidence, clips: Sequence[Clip], judge: str) -> Field:
    systems = [s.system_id for s in ranking.systems]
    contents = sorted(evidence.contents)
    row, column = ({name: i for i, name in enumerate(names)} for names in (systems, contents))
    shape = (len(systems), len(contents))
    metrics: dict[tuple[str, Kind], Array] = {}
    sources: dict[tuple[str, Kind], set[str]] = {}
    labels = np.full(shape, np.nan)
    for clip, score in zip(clips, evidence.rows, strict=True):
        place = row[str(clip.system_id)], column[str(clip.reference_id)]
        label = label_of(clip, HUMAN[0])
        labels[place] = np.nan if label is None or is_outside(HUMAN[0], label.value) else label.value
        for name, value in _values(clip, score, judge, ranking.sources.get("score")):
            if not is_outside(name, value.value):
                metrics.setdefault((name, value.kind), np.full(shape, np.nan))[place] = value.value
                sources.setdefault((name, value.kind), set()).add(readable(value.source, name))
    at = np.ix_([evidence.systems.index(name) for name in systems], [evidence.contents.index(name) for name in contents])
    scores = evidence.scores[at]
    ahead = np.sign(scores[:, None] - scores[None]) * direction(judge)
    if evidence.pairs is not None:
        ahead = np.sign(evidence.pairs[at[0], at[0].T][:, :, at[1][0]] - 0.5)
    silent = np.zeros(shape, bool)
    for clip, score in zip(clips, evidence.rows, strict=True):
        silent[row[str(clip.system_id)], column[str(clip.reference_id)]] = is_silent(score.warnings)
    speech = ~silent & (np.isfinite(scores) | np.isfinite(ahead).any(1))
    ahead[silent[:, None] & speech[None]] = -1.0  # as `ranking.rank` has it
    ahead[speech[:, None] & silent[None]] = 1.0
    ahead[silent[:, None] & silent[None]] = 0.0
    diagonal = np.arange(len(systems))
    ahead[diagonal, diagonal] = np.nan
    is_finite = np.isfinite(ahead)
    wins = np.where(is_finite, (ahead + 1) / 2, 0).sum(1) / np.where(is_finite.any(1), is_finite.sum(1), np.nan)
    return Field(systems, contents, scores, wins, labels, metrics, sources, ahead)


def _values(clip: Clip, score: Score, judge: str, source: str | None) -> Iterator[tuple[str, Value]]:
    """Every value of a metric of the table that the manifest or the judge has for a clip; the judge's come last.

    source: of the judge's values, where its scores do not state it.
    """
    if source and judge in score.metrics and judge not in score.clip.sources:
        score = replace(score, clip=replace(score.clip, sources={**score.clip.sources, judge: source}))
    for one in (clip, score.clip):
        for name in METRICS:
            yield from ((name, value) for value in reversed(values_of(one, name)))


# ---- the parts


def headline(ranking: Ranking) -> str:
    """Who comes first, and whether that is sure."""
    best, *rest = ranking.systems
    if not rest:
        return f"{best.system_id} is the only system."
    alike = best.not_distinguishable_from
    if not alike:
        sure = "is clearly ahead of all others"
    elif len(alike) == len(rest) > NAMED_SYSTEMS:
        sure = f"cannot be told apart from any of the {len(rest)} others"
    else:
        more = len(alike) - NAMED_SYSTEMS
        named = alike if more <= 1 else (*alike[:NAMED_SYSTEMS], f"{more} others")
        sure = f"cannot be told apart from {', '.join(named)}"
    return f"{best.system_id} comes first of {len(ranking.systems)} systems and {sure}."


def _table(ranking: Ranking, field: Field, judge: str) -> list[dict[str, Any]]:
    alike = ranking.alike()
    rows = []
    for k, s in enumerate(ranking.systems):
        mean, low, high, n = mean_interval(field.value[k], ranking.confidence, scale_of(judge))
        human = mean_interval(field.human[k], ranking.confidence, scale_of(HUMAN[0]))
        rows.append(
            {
                "rank": s.rank,
                "system": s.system_id,
                "score": s.score,
                "interval": interval_text(s.low, s.high),
                "low": s.low,
                "ranks": ranks_text(s),
                "rank_high": s.rank_high,
                "alike": alike[s.system_id],
                "n_alike": len(s.not_distinguishable_from),
                "alike_names": ", ".join(s.not_distinguishable_from),
                "mean": mean if n else None,
                "mean_interval": interval_text(low, high),
                "n": n or int(np.isfinite(field.wins[k]).sum()),
                "mos": s.mos,
                "mos_interval": interval_text(human[1], human[2]),
                "mos_n": human[3],
            }
        )
    return rows


def _charts(ranking: Ranking, field: Field, profile: dict[str, Any], judge: str) -> dict[str, Any]:
    n = ranking.n_contents
    rows = [{"system": s.system_id, "value": s.score, "low": s.low, "high": s.high, "n": n} for s in ranking.systems]
    rows = [{k: v if not isinstance(v, float) or isfinite(v) else None for k, v in row.items()} for row in rows]
    ends = ("low", "low end", ".2f"), ("high", "high end", ".2f")
    tips = (("system", "system", None), ("value", "score", ".2f"), *ends, ("n", "contents", "d"))
    title = metric_title(judge) if ranking.scoring == "mos" else TITLES[ranking.scoring]
    drawn = {"forest": charts.forest(rows, title, tips), "wins": _win_chart(ranking, field)}
    if any(s.mos is not None for s in ranking.systems):
        drawn["mos"] = _mos_chart(ranking, field, title)
    if len(profile["metrics"]) > 1:
        drawn["profile"] = _profile_chart(profile)
    return drawn


def _win_chart(ranking: Ranking, field: Field) -> dict[str, Any]:
    counts = np.isfinite(field.ahead).sum(2)
    rows = [
        {"winner": a, "loser": b, "share": ranking.win_rate[a][b], "n": int(counts[i, j])}
        for i, a in enumerate(field.systems)
        for j, b in enumerate(field.systems)
        if i != j and isfinite(ranking.win_rate[a][b])
    ]
    tips = (("winner", "row", None), ("loser", "column", None), ("share", "row wins", ".0%"), ("n", "contents", "d"))
    text = len(field.systems) <= TEXT_IN_CELLS
    legend = "share of contents that the row wins against the column"
    return charts.heat(
        rows,
        "loser",
        "winner",
        "share",
        domain=(0, 0.5, 1),
        form=".0%",
        tips=tips,
        legend=legend,
        order=(field.systems, field.systems),
        text=text,
    )


def _mos_chart(ranking: Ranking, field: Field, title: str) -> dict[str, Any]:
    rows = []
    for k, s in enumerate(ranking.systems):
        _, low, high, n = mean_interval(field.human[k], ranking.confidence, scale_of(HUMAN[0]))
        rows.append(
            {
                "system": s.system_id,
                "mos": s.mos,
                "score": s.score,
                "low": s.low,
                "high": s.high,
                "x_low": low,
                "x_high": high,
                "n": n,
            }
        )
    tips = (
        ("system", "system", None),
        ("mos", "MOS of listeners", ".2f"),
        ("n", "clips with MOS", "d"),
        ("score", "score", ".2f"),
    )
    return charts.named_scatter(rows, ("mos", "MOS of listeners"), ("score", title), "system", tips)


def _profile(field: Field, judge: str) -> dict[str, Any]:
    """Every metric's mean per system, and how far it is from the field in standard deviations of the systems."""
    kept = {name: table for name, table in field.metrics.items() if np.isfinite(table).any(1).all() and len(field.systems) > 1}
    names = sorted(kept, key=lambda key: list(METRICS).index(key[0]))
    cells = {name: [mean_interval(row, 0.95) for row in kept[name]] for name in names}
    means = np.array([[cell[0] for cell in cells[name]] for name in names]).reshape(len(names), len(field.systems))
    sd = means.std(axis=1, keepdims=True)
    signs = np.array([[direction(name)] for name, _ in names]).reshape(-1, 1)
    ahead = np.divide(means - means.mean(axis=1, keepdims=True), sd, out=np.zeros_like(means), where=sd > 1e-12) * signs
    place = 1 + (ahead[:, None, :] > ahead[:, :, None] + 1e-12).sum(2)
    systems = []
    for k, system in enumerate(field.systems):
        order = [i for i in np.argsort(-ahead[:, k], kind="stable") if abs(ahead[i, k]) >= NOTABLE]
        items: list[dict[str, Any]] = [
            {
                "metric": _titled(*names[i]),
                "z": float(ahead[i, k]),
                "place": int(place[i, k]),
                "mean": float(means[i, k]),
                "n": cells[names[i]][k][3],
            }
            for i in order
        ]
        good, bad = [t for t in items if t["z"] > 0], [t for t in items[::-1] if t["z"] < 0]
        systems.append({"system": system, "strengths": good[:NAMED], "weaknesses": bad[:NAMED]})
    columns = [
        {
            "name": name,
            "title": _titled(name, kind),
            "source": "; ".join(sorted(field.sources[name, kind])),
            "lower": direction(name) < 0,
            "cells": [{"mean": cell[0], "n": cell[3], "z": float(ahead[i, k])} for k, cell in enumerate(cells[name, kind])],
        }
        for i, (name, kind) in enumerate(names)
    ]
    return {"metrics": columns, "systems": systems, "n_systems": len(field.systems)}


def _titled(metric: str, kind: Kind) -> str:
    """The metric's title with the kind of its source, where that is known."""
    kinds = {"human": " (listeners)", "measured": " (measured)", "predicted": " (predicted)", "unknown": ""}
    return metric_title(metric) + kinds[kind]


def _profile_chart(profile: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {"system": s["system"], "metric": column["title"], "z": cell["z"], "mean": cell["mean"], "n": cell["n"]}
        for column in profile["metrics"]
        for s, cell in zip(profile["systems"], column["cells"], strict=True)
    ]
    tips = (
        ("system", "system", None),
        ("metric", "metric", None),
        ("z", "SDs from the field", "+.2f"),
        ("mean", "mean", ".3f"),
        ("n", "clips", "d"),
    )
    legend = "standard deviations from the field, up is better"
    order = [column["title"] for column in profile["metrics"]], [s["system"] for s in profile["systems"]]
    return charts.heat(rows, "metric", "system", "z", domain=(-2, 0, 2), form="+.1f", tips=tips, legend=legend, order=order)


# ---- contents


def _disagreement(ranking: Ranking, field: Field) -> dict[str, Array]:
    """(U,) each: spread of a content, and the share of pairs of systems that it orders against the ranking, or listeners do."""
    ranks = np.array([s.rank for s in ranking.systems])
    sign = np.sign(ranks[None] - ranks[:, None])
    human = np.sign(field.human[:, None] - field.human[None])
    with np.errstate(invalid="ignore"):
        spread = np.array([np.ptp(x[np.isfinite(x)]) if np.isfinite(x).any() else np.nan for x in field.value.T])
        if not np.isfinite(spread).any():  # a judge of pairs alone: how far from a tie the contents are
            spread = np.array([np.ptp(x[np.isfinite(x)]) if np.isfinite(x).any() else np.nan for x in field.wins.T])
    return {
        "spread": spread,
        "disagreement": _against(field.ahead, np.broadcast_to(sign[:, :, None], field.ahead.shape)),
        "listeners": _against(field.ahead, human),
    }


def _against(one: Array, other: Array) -> Array:
    """(S, S, U) twice -> (U,) share of the pairs in which both have a winner that have not the same; NaN where none has."""
    both = np.nan_to_num(one) * np.nan_to_num(other)
    n = (both != 0).sum((0, 1))
    return np.asarray(np.divide((both < 0).sum((0, 1)), n, out=np.full(len(n), np.nan), where=n > 0))


def listened(order: dict[str, Array], n: int) -> list[int]:
    """Places of the `n` contents that one can listen to: those that differ most and those that disagree most, in turn."""
    lists = [
        np.argsort(-np.nan_to_num(values, nan=-1), kind="stable") for values in order.values() if np.isfinite(values).any()
    ] or [np.arange(len(order["spread"]))]
    return list(dict.fromkeys(int(k) for places in zip(*lists, strict=True) for k in places))[:n]


def _deck(field: Field, order: dict[str, Array], evidence: Evidence, judge: str, options: Options) -> dict[str, Any]:
    rows = {(str(row.clip.system_id), str(row.clip.reference_id)): row for row in evidence.rows}
    heard = set(listened(order, options.listen)) if options.audio != "none" else set()
    shown = {"value": field.value, "wins": field.wins, "human": field.human}
    contents: list[dict[str, Any]] = []
    for u, content in enumerate(field.contents):
        item: dict[str, Any] = {"id": content, **{name: _short(values[u]) for name, values in order.items()}}
        item |= {name: [_short(x) for x in table[:, u]] for name, table in shown.items() if np.isfinite(table[:, u]).any()}
        if u in heard:
            clips = [rows.get((system, content)) for system in field.systems]
            sounds = [None if row is None else sound_of(row.clip.audio_path, options) for row in clips]
            item["sound"] = [None if s is None else s.url for s in sounds]
            item["why"] = ["there is no clip" if s is None else s.reason for s in sounds]
        contents.append(item)
    return {
        "systems": field.systems,
        "judge": metric_title(judge),
        "contents": contents,
        "n_heard": len(heard),
        "audio": options.audio,
    }


def _short(x: float) -> float | None:
    return float(f"{x:.4g}") if np.isfinite(x) else None
