"""Labelled pairs of clips, and the accuracy with which predictions prefer the better clip."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from urgentmos.clips.pairs import Possible, chosen
from urgentmos.clips.sources import LISTENERS, UNKNOWN
from urgentmos.clips.verdicts import Judged, PairLabels, ab_accuracy_by_gap, difference, random_judge
from urgentmos.evaluation import agreement
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import UNNAMED, ClipRow, PairRow, Source, judged_pairs, label_source, values_of
from urgentmos.metrics import HUMAN, direction

Array = np.ndarray


@dataclass(frozen=True)
class PairSet:
    """P labelled pairs, and what makes clusters and corpora of them."""

    rows: list[PairRow]
    labels: PairLabels
    metric: str
    clusters: list[Hashable]
    origin: str
    n_possible: int
    sources: list[str] = field(default_factory=list)  # of the labels


def pair_set(predictions: Source, references: Source, options: Options) -> PairSet | None:
    """The labelled pairs: those of the references; else those that were predicted, with the difference of the clips'
    labels; else all of two systems on one content, capped. None if there is none."""
    metric = options.label or UNNAMED
    by_name = {row.path: row for row in references.clips if row.path} | {row.uid: row for row in references.clips}
    if references.pairs:
        by_key = {row.uid: row for row in predictions.clips} | by_name  # predictions may name the content of a pair, too
        rows = [_placed(row, *(_side(row, k, by_key) or _NO_CLIP for k in (0, 1))) for row in references.pairs]
        cmos = np.array([row.metrics.get(metric, np.nan) for row in rows])
        verdicts = np.array([row.verdict if row.native else np.nan for row in rows])
        stated = [row.sources.get(metric, LISTENERS if row.native or metric in HUMAN else UNKNOWN) for row in rows]
        return _pairs(rows, PairLabels(cmos, verdicts), metric, "the references", len(rows), stated)
    if predictions.pairs:
        rows = [row for row in predictions.pairs if _side(row, 0, by_name) and _side(row, 1, by_name)]
        sides = [[_side(row, k, by_name) or _NO_CLIP for row in rows] for k in (0, 1)]
        labels = PairLabels(_advantage(sides[0], sides[1], metric), np.full(len(rows), np.nan))
        rows = [_placed(row, a, b) for row, a, b in zip(rows, *sides, strict=True)]
        stated = [source for row in (*sides[0], *sides[1]) if (source := label_source(row, metric))]
        return _pairs(rows, labels, metric, "the predicted pairs", len(predictions.pairs), stated) if rows else None
    return _derived(predictions, references, metric, options)


_NO_CLIP = ClipRow("", None, None, None, {})


def _side(row: PairRow, k: int, by_name: Mapping[str, ClipRow]) -> ClipRow | None:
    return by_name.get((row.a, row.b)[k]) or by_name.get(row.paths[k])


def _placed(row: PairRow, a: ClipRow, b: ClipRow) -> PairRow:
    shared = a.content if a.content == b.content and a.corpus == b.corpus else None
    return replace(row, content=row.content or shared, corpus=row.corpus or (a.corpus if a.corpus == b.corpus else None))


def _advantage(a: Sequence[ClipRow], b: Sequence[ClipRow], metric: str) -> Array:
    """(P,) how much better a is; the sign is turned where a lower value is better."""
    gap = difference(values_of(a, metric), values_of(b, metric))
    return direction(metric) * gap


def _derived(predictions: Source, references: Source, metric: str, options: Options) -> PairSet | None:
    predicted_uids = {row.uid for row in predictions.clips}
    clips = [r for r in references.clips if r.uid in predicted_uids and r.values.get(metric) is not None]
    clips = [r for r in {r.uid: r for r in clips}.values() if r.system is not None and r.content is not None]
    possible = Possible([(r.corpus, r.content) for r in clips], [r.system for r in clips])
    if not len(possible):
        return None
    numbers = chosen(len(possible), options.limit, options.take, options.resampling.seed)
    chosen_pairs = [possible[k] for k in numbers]
    a, b = [clips[i] for i, _ in chosen_pairs], [clips[j] for _, j in chosen_pairs]
    rows = [
        PairRow(x.uid, y.uid, {}, np.nan, False, content=x.content, corpus=x.corpus, paths=(x.path, y.path))
        for x, y in zip(a, b, strict=True)
    ]
    labels = PairLabels(_advantage(a, b, metric), np.full(len(rows), np.nan))
    stated = [source for row in clips if (source := label_source(row, metric))]
    return _pairs(rows, labels, metric, "clips of one content", len(possible), stated)


def _pairs(rows: list[PairRow], labels: PairLabels, metric: str, origin: str, n_possible: int, sources: list[str]) -> PairSet:
    clusters: list[Hashable] = [
        (row.corpus, row.content) if row.content is not None else frozenset((row.a, row.b)) for row in rows
    ]
    return PairSet(rows, labels, metric, clusters, origin, n_possible, sources)


def judges_of(predictions: Source, pairs: PairSet, targets: Mapping[str, str]) -> dict[str, Judged]:
    """Everything in `predictions` that prefers a clip of a pair: rows about pairs, and metrics of clips."""
    judges = {name: judged for name, (judged, _) in judged_pairs(predictions, pairs.rows, pairs.metric).items()}
    by_name = {row.path: row for row in predictions.clips if row.path} | {row.uid: row for row in predictions.clips}
    a, b = ([_side(row, k, by_name) or _NO_CLIP for row in pairs.rows] for k in (0, 1))
    metrics = dict.fromkeys(name for row in predictions.clips for name in row.values)
    for metric in metrics:
        if targets.get(metric, pairs.metric) == pairs.metric:
            gap = _advantage(a, b, metric)
            if np.isfinite(gap).any():
                judges[metric] = Judged(gap=gap)
    return judges


def pair_counts(pairs: PairSet, options: Options) -> dict[str, Any]:
    """The origin of the pairs and how many there are, with the counts of their labels."""
    native = int(np.sum(~np.isnan(pairs.labels.native)))
    counts = agreement.verdict_counts(pairs.labels, options.delta)
    about = {"from": pairs.origin, "n": len(pairs.rows), "possible": pairs.n_possible, "native": native}
    return {**about, "label": pairs.metric, "labels": counts}


def preferences(pairs: PairSet, judges: Mapping[str, Judged], options: Options) -> dict[str, Any]:
    """{judge: accuracies}, random guesses included if the options want them."""
    judges = dict(judges)
    if options.random:
        judges["random"] = random_judge(len(pairs.rows), options.resampling.seed)
    return {
        name: agreement.of_preferences(judged, pairs.labels, pairs.clusters, options.resampling, options.delta)
        for name, judged in judges.items()
    }


def accuracy_by_gap(pairs: PairSet, judges: Mapping[str, Judged]) -> dict[str, Any]:
    """Table IV of URGENT-PK: accuracy by the size of the MOS difference, against native verdicts where there are some."""
    by_gap = {}
    for name, judged in judges.items():
        bins, mean = ab_accuracy_by_gap(judged.two_way(), pairs.labels.verdicts(0.0), pairs.labels.cmos)
        if any(b["n"] for b in bins):
            by_gap[name] = {"bins": bins, "mean": mean}
    return by_gap


def pairs_part(pairs: PairSet, rows: Array) -> PairSet:
    """The pairs where `rows` (P,) bool is True."""
    keep = np.flatnonzero(rows)
    clusters = [pairs.clusters[k] for k in keep]
    return replace(pairs, rows=[pairs.rows[k] for k in keep], labels=pairs.labels.take(keep), clusters=clusters)


def judges_part(judges: Mapping[str, Judged], rows: Array) -> dict[str, Judged]:
    """The verdicts of every judge where `rows` (P,) bool is True."""

    def part(column: Array | None) -> Array | None:
        return None if column is None else column[rows]

    return {name: Judged(part(j.gap), part(j.verdict), part(j.leaning)) for name, j in judges.items()}
