"""The page of an evaluation: how predictions agree with listeners, corpus by corpus, and where they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.clips.sources import LISTENERS
from urgentmos.metrics import METRICS
from urgentmos.report import charts
from urgentmos.report.audio import Sound, sound_of
from urgentmos.report.page import Options, interval_text, mean_interval, metric_title, number, percent, render, scale_of

if TYPE_CHECKING:
    from urgentmos.evaluation.predictions import Matched, Source

Report = Mapping[str, Any]
Array = np.ndarray

POINTS = 1000  # clips in one scatter plot
SYSTEMS = 60  # in one scatter plot
RESIDUALS = 40  # systems whose residuals are shown
FARTHEST = 12  # clips per metric that one is shown, and can listen to
LEVELS = {"utterance": ("mse", "lcc", "srcc", "ktau"), "system": ("mse", "lcc", "srcc", "ktau")}
HEADS = {"mse": "MSE", "lcc": "LCC", "srcc": "SRCC", "ktau": "KTAU"}


def evaluation_page(
    report: Report,
    matched: Matched,
    predictions: Source,
    options: Options,
    efficiency: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page of `report` (`evaluation.summary.evaluate`) about `matched` clips (`evaluation.predictions.match_clips`).

    efficiency: rows about the predictors, whatever is known of them ("model", real-time factor, parameters, ...), shown as they
    come. Clips are listened to from the paths in `predictions`. UsageError if the extra `report` is missing.
    """
    drawn = {m: row["label"] for m, row in report["utterance"].items() if row["n"] and m in matched.predicted}
    corpora = list(dict.fromkeys(matched.corpora))
    cells: dict[str, Any] = {}
    sections = []
    for metric, label in drawn.items():
        scatters = [_scatter(matched, metric, label, corpus, report, cells) for corpus in corpora]
        sections.append(
            {
                "metric": metric,
                "title": _against(metric, label),
                "whose": _whose(report, [metric]),
                "scatters": [s for s in scatters if s],
                "residuals": _residuals(matched, metric, label, report, cells),
                "farthest": _farthest(matched, metric, label, predictions, options),
            }
        )
    context = {
        "title": f"Agreement with {_whose(report, report['sources'])}",
        "sources": [(metric_title(judge), origin) for judge, origin in report["sources"].items()],
        "report": report,
        "percent": percent(report["confidence"]),
        "levels": _levels(report),
        "preference": _preference(report),
        "layouts": _layouts(report),
        "published": report.get("published", []),
        "versus": _versus(report),
        "sections": sections,
        "sweep": _sweep(report, cells),
        "spearman": _spearman(matched, report, cells),
        "by_gap": _by_gap(report),
        "efficiency": _efficiency(efficiency),
        "n_clips": len(matched),
        "n_systems": len({s for s in matched.systems if s is not None}),
        "n_contents": len({c for c in zip(matched.corpora, matched.contents, strict=True) if c[1] is not None}),
        "n_pairs": report.get("pairs", {}).get("n", 0),
        "options": options,
    }
    return render("evaluation.html", context, {"kind": "evaluation", "charts": cells})


def _whose(report: Report, judges: Iterable[str]) -> str:
    """ "listeners" if all labels that the judges are held against are theirs, else "labels"."""
    return "listeners" if all(report["sources"][judge]["label"] == LISTENERS for judge in judges) else "labels"


def _against(metric: str, label: str) -> str:
    return metric_title(metric) if metric == label else f"{metric_title(metric)} against {metric_title(label)}"


# ---- tables


def _cell(statistics: Report, name: str) -> dict[str, Any]:
    return {
        "value": statistics.get(name),
        "interval": interval_text(*statistics["interval"][name]) if name in statistics["interval"] else "",
    }


def _levels(report: Report) -> list[dict[str, Any]]:
    """Track 2's layout: a table per level, a row per metric."""
    titles = {"utterance": ("Clip by clip", "clips"), "system": ("Means of systems", "systems")}
    tables = []
    for level, names in LEVELS.items():
        rows = [
            {"judge": _against(m, f["label"]), "n": f["n"], "cells": [_cell(f, k) for k in names], "reason": f["reason"]}
            for m, f in report[level].items()
            if f["n"]
        ]
        if rows:
            title, unit = titles[level]
            tables.append({"title": title, "unit": unit, "heads": [HEADS[k] for k in names], "rows": rows})
    return tables


def _preference(report: Report) -> list[dict[str, Any]]:
    rows = []
    for judge, f in report["preference"].items():
        cells = [(_cell(f, k), f[n]) for k, n in (("acc_delta", "n"), ("acc_0", "n_0"))]
        rows.append(
            {
                "judge": metric_title(judge),
                "cells": cells,
                "best": f.get("best"),
                "missing": f["missing"],
                "reason": f["reason"],
            }
        )
    return rows


def _layouts(report: Report) -> list[dict[str, Any]]:
    """The layout of Tables 4 and 5 of the UrgentMOS paper: a row per judge, a column per corpus, two statistics a cell."""
    kinds = (
        ("utterance", "Correlation by corpus", ("lcc", "srcc"), "LCC / SRCC", ("n",)),
        ("system", "Correlation of systems by corpus", ("lcc", "srcc"), "LCC / SRCC", ("n",)),
        ("preference", "Preferences by corpus", ("acc_delta", "acc_0"), f"acc {report['delta']:g} / acc 0", ("n", "n_0")),
    )
    tables = []
    for level, title, names, what, counts in kinds:
        columns = [c for c, part in report["corpora"].items() if any(f["n"] for f in part[level].values())]
        judges = dict.fromkeys(j for c in columns for j, f in report["corpora"][c][level].items() if f["n"])
        rows = []
        for judge in judges:
            cells = [report["corpora"][c][level].get(judge) for c in columns]
            texts = ["-" if f is None or not f["n"] else " / ".join(number(f[k]) for k in names) for f in cells]
            ns = ["" if f is None else " / ".join(dict.fromkeys(f"{f[k]:,}" for k in counts)) for f in cells]
            rows.append({"judge": metric_title(judge), "cells": list(zip(texts, ns, strict=True))})
        if rows:
            tables.append({"title": title, "what": what, "columns": columns, "rows": rows})
    return tables


def _versus(report: Report) -> dict[str, Any] | None:
    versus = report.get("versus")
    if versus is None:
        return None
    rows = []
    for level, names in (*LEVELS.items(), ("preference", ("acc_delta", "acc_0"))):
        for judge, statistics in versus[level].items():
            for name in names:
                tests = [statistics[name].get(test, {}).get("p") for test in ("bootstrap", "williams", "steiger")]
                rows.append(
                    {
                        "level": level,
                        "judge": judge,
                        "n": statistics["n"],
                        "what": HEADS.get(name, name),
                        "gap": statistics[name]["difference"],
                        "p": tests,
                    }
                )
    return {"file": versus["predictions"], "rows": rows}


def _by_gap(report: Report) -> dict[str, Any] | None:
    """Table IV of URGENT-PK."""
    by_gap = report.get("by_gap") or {}
    if not by_gap:
        return None
    bins = next(iter(by_gap.values()))["bins"]
    heads = [f"{b['low']:g} to {b['high']:g}" if b["high"] is not None else f"above {b['low']:g}" for b in bins]
    rows = [
        {"judge": metric_title(judge), "cells": [(b["accuracy"], b["n"]) for b in f["bins"]], "mean": f["mean"]}
        for judge, f in by_gap.items()
    ]
    return {"heads": heads, "rows": rows}


def _efficiency(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    kept = [dict(row) for row in rows]
    heads = list(dict.fromkeys(key for row in kept for key in row))
    cells = [
        [f"{x:g}" if isinstance((x := row.get(h)), float) else "-" if x is None else str(x) for h in heads] for row in kept
    ]
    return {"heads": heads, "rows": cells} if kept else None


# ---- charts


def _scatter(
    matched: Matched, metric: str, label: str, corpus: str | None, report: Report, sections: dict[str, Any]
) -> dict[str, Any] | None:
    inside = np.array([c == corpus for c in matched.corpora], dtype=bool)
    p, r = matched.predicted[metric], matched.labels[label]
    rows = np.flatnonzero(inside & np.isfinite(p) & np.isfinite(r))
    if not len(rows):
        return None
    shown = rows if len(rows) <= POINTS else np.sort(np.random.default_rng(report["seed"]).choice(rows, POINTS, replace=False))
    clips = [{"x": _short(r[k]), "y": _short(p[k]), "uid": matched.uids[k], "system": matched.systems[k] or "-"} for k in shown]
    systems = _system_points(matched, (metric, label), rows, report["confidence"])
    ends = float(min(p[rows].min(), r[rows].min())), float(max(p[rows].max(), r[rows].max()))
    diagonal = ends if _same_unit(metric, label) else None
    name = f"scatter:{metric}:{corpus or ''}"
    sections[name] = charts.clip_scatter(
        clips, systems, f"label: {metric_title(label)}", f"predicted: {metric_title(metric)}", diagonal
    )
    part = report["corpora"].get(corpus, report)["utterance"].get(metric, {})
    return {
        "chart": name,
        "corpus": corpus or "All clips",
        "n": len(rows),
        "shown": len(shown),
        "n_systems": len(systems),
        "lcc": part.get("lcc"),
        "srcc": part.get("srcc"),
    }


def _same_unit(metric: str, label: str) -> bool:
    if metric == label:
        return True
    return metric in METRICS and label in METRICS and METRICS[metric].range("paper") == METRICS[label].range("paper")


def _system_points(matched: Matched, names: tuple[str, str], rows: Array, confidence: float) -> list[dict[str, Any]]:
    """The mean of each system; names: of the predicted metric and of the label."""
    metric, label = names
    points = []
    for system, own in _by_system(matched, rows).items():
        y, y_low, y_high, n = mean_interval(matched.predicted[metric][own], confidence, scale_of(metric))
        x, x_low, x_high, _ = mean_interval(matched.labels[label][own], confidence, scale_of(label))
        ends = {"x_low": x_low, "x_high": x_high, "y_low": y_low, "y_high": y_high}
        points.append({"system": system, "x": x, "y": y, **ends, "n": n})
    return points[:SYSTEMS]


def _by_system(matched: Matched, rows: Array) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for k in rows:
        if matched.systems[k] is not None:
            groups.setdefault(str(matched.systems[k]), []).append(int(k))
    return dict(sorted(groups.items()))


def _residuals(matched: Matched, metric: str, label: str, report: Report, sections: dict[str, Any]) -> dict[str, Any] | None:
    """Mean (predicted - label) per system: which systems the predictor is too kind to, and to which too hard."""
    p, r = matched.predicted[metric], matched.labels[label]
    rows = np.flatnonzero(np.isfinite(p) & np.isfinite(r))
    groups = _by_system(matched, rows)
    if not groups or not _same_unit(metric, label):
        return None
    points: list[dict[str, Any]] = []
    for system, own in groups.items():
        mean, low, high, n = mean_interval((p - r)[own], report["confidence"])
        points.append({"system": system, "value": mean, "low": low, "high": high, "n": n})
    points.sort(key=lambda row: -abs(row["value"]))
    shown = sorted(points[:RESIDUALS], key=lambda row: -row["value"])
    tips = (
        ("system", "system", None),
        ("value", "residual", "+.3f"),
        ("low", "low end", "+.3f"),
        ("high", "high end", "+.3f"),
        ("n", "clips", "d"),
    )
    name = f"residuals:{metric}"
    sections[name] = charts.forest(shown, "predicted - label", tips, zero=0)
    return {"chart": name, "n": len(shown), "of": len(points), "rows": shown}


def _farthest(matched: Matched, metric: str, label: str, predictions: Source, options: Options) -> list[dict[str, Any]]:
    """The clips whose residual is farthest from the mean residual; ranks are compared where the units differ."""
    p, r = matched.predicted[metric], matched.labels[label]
    rows = np.flatnonzero(np.isfinite(p) & np.isfinite(r))
    if _same_unit(metric, label):
        gap = (p - r)[rows]
    else:
        from scipy.stats import rankdata

        gap = (rankdata(p[rows]) - rankdata(r[rows])) / len(rows)
    order = np.argsort(-np.abs(gap), kind="stable")[: min(FARTHEST, options.listen)]
    paths = {row.uid: row.path for row in predictions.clips if row.path}
    listed = []
    for k in order:
        row = rows[k]
        uid = matched.uids[row]
        sound = sound_of(paths[uid], options) if uid in paths else Sound(None, "the predictions do not say where it lies")
        item = {"uid": uid, "system": matched.systems[row] or "-", "predicted": float(p[row]), "label": float(r[row])}
        listed.append({**item, "gap": float(gap[k]), "sound": sound.url, "why": sound.reason})
    return listed


def _sweep(report: Report, sections: dict[str, Any]) -> list[dict[str, Any]]:
    rows, marks, items = [], [], []
    for judge, f in report["preference"].items():
        if "sweep" not in f:
            continue
        name = f"{metric_title(judge)} (n = {f['n']:,})"
        points = zip(f["sweep"]["threshold"], f["sweep"]["accuracy"], strict=True)
        rows += [{"threshold": t, "accuracy": a, "judge": name} for t, a in points if a is not None]
        marks.append({"threshold": f["best"]["threshold"], "accuracy": f["best"]["accuracy"], "judge": name})
        items.append({"judge": metric_title(judge), "n": f["n"], **f["best"]})
    if rows:
        y = ("accuracy", f"accuracy, labels at {report['delta']:g}")
        sections["sweep"] = charts.lines(rows, ("threshold", "threshold of the predicted difference"), y, "judge", marks)
    return items


def _spearman(matched: Matched, report: Report, sections: dict[str, Any]) -> dict[str, Any] | None:
    """Figure 3 of the UrgentMOS paper: how the metrics of the references go together."""
    matrix = report["metric_spearman"]
    if matrix is None:
        return None
    names, values = matrix["metrics"], matrix["srcc"]
    finite = {name: np.isfinite(matched.labels[name]) for name in names}
    rows = [
        {"a": metric_title(a), "b": metric_title(b), "srcc": values[i][j], "n": int((finite[a] & finite[b]).sum())}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if values[i][j] is not None
    ]
    tips = (("a", "metric", None), ("b", "metric", None), ("srcc", "SRCC", ".3f"), ("n", "clips", "d"))
    titles = [metric_title(name) for name in names]
    legend, order = "Spearman correlation", (titles, titles)
    sections["spearman"] = charts.heat(
        rows, "b", "a", "srcc", domain=(-1, 0, 1), form=".2f", tips=tips, legend=legend, order=order, cell=30
    )
    ns = [row["n"] for row in rows]
    return {"names": titles, "values": values, "n": (min(ns), max(ns)) if ns else (0, 0)}


def _short(x: float) -> float:
    return float(f"{x:.4g}")
