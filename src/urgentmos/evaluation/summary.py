"""Two files, predictions and labels, to one report: every level, every metric, every corpus, and what did not match."""

from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from urgentmos.clips.pairs import CAP, Possible, Take, chosen
from urgentmos.clips.sources import LISTENERS, UNKNOWN
from urgentmos.clips.verdicts import DELTA, Judged, PairLabels, ab_accuracy_by_gap, difference, random_judge
from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.evaluation import agreement as evaluation
from urgentmos.evaluation import published
from urgentmos.evaluation.agreement import Resampling
from urgentmos.evaluation.predictions import (
    UNNAMED,
    Cleaned,
    ClipRow,
    Matched,
    PairRow,
    Source,
    judged_pairs,
    label_source,
    labels_first,
    match_clips,
    named_as,
    values_of,
    without_codes,
)
from urgentmos.evaluation.sources import clip_warnings_of, label_warnings, origin_warnings, origins_of, same_labels
from urgentmos.metrics import HUMAN, direction, is_opinion

Array = np.ndarray
_LISTED = 10  # ids that a report spells out


@dataclass(frozen=True)
class Options:
    """The request: levels, metrics and intervals."""

    delta: float = DELTA
    label: str | None = None  # the label that every predicted metric is held against; None: its namesake, or human MOS
    resample: Literal["contents", "systems"] = "contents"
    how: Resampling = field(default_factory=Resampling)
    limit: int | None = CAP  # pairs that are derived from clips
    take: Take = "sample"
    random: bool = False  # a row of random guesses
    published: bool = False  # the papers' numbers on the same corpora


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


def evaluate(
    predictions: Source, references: Source, options: Options = Options(), versus: Source | None = None
) -> dict[str, Any]:
    """The report, plain data for JSON.

    "utterance" and "system": {metric: mse, lcc, srcc, ktau, n, interval, reason}; "preference": {judge: acc_delta, acc_0,
    ...}, a judge being a predicted metric, or "verdict" and "cmos" of rows about pairs; the same for each corpus under
    "corpora"; "versus": tests of the difference from a second file of predictions; ids that did not match under "ids".
    UsageError if nothing can be compared.
    """
    given, references = references, labels_first(references)
    first = references
    predicted, labelled = usable(predictions, references)
    versus = None if versus is None else usable(versus, references)[0].source
    predictions, references = predicted.source, labelled.source
    matched = match_clips(predictions, references)
    targets = targets_of(matched, options.label)
    alike = same_labels(matched, targets)
    targets = {metric: target for metric, target in targets.items() if metric not in alike}
    pairs = pair_set(predictions, references, options)
    judges = {} if pairs is None else judges_of(predictions, pairs, targets)
    judges = {name: judged for name, judged in judges.items() if name not in alike}
    if not targets and not judges:
        raise UsageError(_nothing(predictions, references, matched, options.label))
    origins = origins_of(predictions, matched, targets, judges, None if pairs is None else (pairs.metric, pairs.sources))
    report: dict[str, Any] = {
        "predictions": predictions.path,
        "references": references.path,
        "delta": options.delta,
        "resample": options.resample,
        "sources": {judge: origin.to_dict() for judge, origin in origins.items()},
        "confidence": options.how.confidence,
        "samples": options.how.samples,
        "seed": options.how.seed,
        **_with_units(_levels(matched, targets, options), predicted.other_scale, labelled.other_scale),
        "preference": {},
    }
    if pairs is not None:
        report["pairs"] = _about(pairs, options)
        report["preference"] = _preferences(pairs, judges, options)
        report["by_gap"] = _by_gap(pairs, judges)
    report["metric_spearman"] = _matrix(matched)
    report["corpora"] = _corpora(matched, targets, pairs, judges, options)
    for part in report["corpora"].values():
        _with_units(part, predicted.other_scale, labelled.other_scale)
    if options.published:
        report["published"] = beside_published(report["corpora"])
    if versus is not None:
        report["versus"] = _versus(matched, targets, pairs, judges, versus, references, options)
    report["ids"] = _ids(predictions, references, matched, targets)
    report["warnings"] = [
        *clip_warnings_of(predictions),
        *predicted.sentences,
        *labelled.sentences,
        *origin_warnings(origins),
        *label_warnings(given, first, matched, alike),
        *_warnings(report, pairs, judges),
    ]
    return report


def usable(predictions: Source, references: Source) -> tuple[Cleaned, Cleaned]:
    """Both without values that no metric has, and the predictions with the uids of the references."""
    predicted, labelled = without_codes(predictions, predicted=True), without_codes(references, predicted=False)
    return replace(predicted, source=named_as(predicted.source, labelled.source)), labelled


# ---- clips


def targets_of(matched: Matched, label: str | None) -> dict[str, str]:
    """Predicted metric -> the label it is held against: `label`, its namesake, or human MOS, in this order."""
    if not len(matched):
        return {}
    if label is not None and label not in matched.labels:
        return {}
    targets = {m: label or (m if m in matched.labels else UNNAMED) for m in matched.predicted}
    return {m: target for m, target in targets.items() if target in matched.labels}


def _clusters(matched: Matched, options: Options) -> list[Hashable]:
    """The groups that are resampled together; a clip without a content (or system) is on its own."""
    names = matched.contents if options.resample == "contents" else matched.systems
    pairs = zip(matched.corpora, names, matched.uids, strict=True)
    return [(corpus, name) if name is not None else ("uid", uid) for corpus, name, uid in pairs]


def _system_names(matched: Matched) -> list[Hashable]:
    return list(matched.systems)


def _levels(matched: Matched, targets: Mapping[str, str], options: Options) -> dict[str, Any]:
    clusters, whole = _clusters(matched, options), options.resample == "systems"
    systems = _system_names(matched)
    utterance: dict[str, Any] = {}
    system: dict[str, Any] = {}
    for metric, target in targets.items():
        p, r = matched.predicted[metric], matched.labels[target]
        utterance[metric] = {"label": target, **evaluation.of_clips(p, r, clusters, options.how)}
        system[metric] = {"label": target, **evaluation.of_systems(p, r, systems, clusters, options.how, whole=whole)}
    if options.random and targets:
        target = next(iter(targets.values()))
        r = matched.labels[target]
        p = np.random.default_rng(options.how.seed).permutation(r)
        utterance["random"] = {"label": target, **evaluation.of_clips(p, r, clusters, options.how)}
        system["random"] = {"label": target, **evaluation.of_systems(p, r, systems, clusters, options.how, whole=whole)}
    return {"utterance": utterance, "system": system}


def _with_units(part: dict[str, Any], predicted: Set[str], labelled: Set[str]) -> dict[str, Any]:
    """`part` without mean squared errors of values in different units, and why; sets: metrics that are on another scale."""
    for level in ("utterance", "system"):
        for metric, statistics in part[level].items():
            statistics["mse_reason"] = _unit_fault(
                metric, statistics["label"], metric in predicted, statistics["label"] in labelled
            )
            if statistics["mse_reason"]:
                statistics["mse"] = None
                statistics["interval"].pop("mse", None)
    return part


def _unit_fault(metric: str, label: str, other_scale: bool, other_label: bool) -> str | None:
    """Why values of a metric and of a label cannot be subtracted; None if they can."""
    if metric not in ("random", label) and not (is_opinion(metric) and is_opinion(label)):
        return f"{metric} and {label} have different units"
    if metric != "random" and other_scale != other_label:
        return (
            f"{'the predictions' if other_scale else 'the labels'} are not on the scale of {metric if other_scale else label}"
        )
    return None


def _matrix(matched: Matched) -> dict[str, Any] | None:
    if len(matched.labels) < 2:
        return None
    return {"metrics": list(matched.labels), "srcc": evaluation.spearman_matrix(matched.labels)}


# ---- pairs


def pair_set(predictions: Source, references: Source, options: Options) -> PairSet | None:
    """The labelled pairs: those of the references; else those that were predicted, with the difference of the clips'
    labels; else all of two systems on one content, capped. None if there is none."""
    metric = options.label or UNNAMED
    by_name = {row.path: row for row in references.clips if row.path} | {row.uid: row for row in references.clips}
    if references.pairs:
        by_key = {row.uid: row for row in predictions.clips} | by_name  # who else may know the content of a pair
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
    numbers = chosen(len(possible), options.limit, options.take, options.how.seed)
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


def _about(pairs: PairSet, options: Options) -> dict[str, Any]:
    native = int(np.sum(~np.isnan(pairs.labels.native)))
    counts = evaluation.verdict_counts(pairs.labels, options.delta)
    about = {"from": pairs.origin, "n": len(pairs.rows), "possible": pairs.n_possible, "native": native}
    return {**about, "label": pairs.metric, "labels": counts}


def _preferences(pairs: PairSet, judges: Mapping[str, Judged], options: Options) -> dict[str, Any]:
    judges = dict(judges)
    if options.random:
        judges["random"] = random_judge(len(pairs.rows), options.how.seed)
    return {
        name: evaluation.of_preferences(judged, pairs.labels, pairs.clusters, options.how, options.delta)
        for name, judged in judges.items()
    }


def _by_gap(pairs: PairSet, judges: Mapping[str, Judged]) -> dict[str, Any]:
    """Table IV of URGENT-PK: accuracy by the size of the MOS difference, against native verdicts where there are some."""
    by_gap = {}
    for name, judged in judges.items():
        bins, mean = ab_accuracy_by_gap(judged.two_way(), pairs.labels.verdicts(0.0), pairs.labels.cmos)
        if any(b["n"] for b in bins):
            by_gap[name] = {"bins": bins, "mean": mean}
    return by_gap


# ---- corpora and published numbers


def _corpora(
    matched: Matched, targets: Mapping[str, str], pairs: PairSet | None, judges: Mapping[str, Judged], options: Options
) -> dict[str, Any]:
    names = list(dict.fromkeys([*matched.corpora, *([] if pairs is None else [row.corpus for row in pairs.rows])]))
    quick = replace(options, how=replace(options.how, samples=0))
    corpora: dict[str, Any] = {}
    for name in (n for n in names if n is not None):
        rows = np.array([corpus == name for corpus in matched.corpora], dtype=bool)
        corpora[name] = _levels(_part(matched, rows), targets, quick) if rows.any() else {"utterance": {}, "system": {}}
        corpora[name]["preference"] = {}
        if pairs is not None:
            inside = np.array([row.corpus == name for row in pairs.rows], dtype=bool)
            if inside.any():
                corpora[name]["preference"] = _preferences(_pairs_part(pairs, inside), _judges_part(judges, inside), quick)
    return corpora


def _part(matched: Matched, rows: Array) -> Matched:
    keep = np.flatnonzero(rows)
    lists = {name: [getattr(matched, name)[k] for k in keep] for name in ("uids", "systems", "contents", "corpora")}
    columns = {name: {m: v[keep] for m, v in getattr(matched, name).items()} for name in ("predicted", "labels")}
    return replace(matched, **lists, **columns)  # type: ignore[arg-type]


def _pairs_part(pairs: PairSet, rows: Array) -> PairSet:
    keep = np.flatnonzero(rows)
    clusters = [pairs.clusters[k] for k in keep]
    return replace(pairs, rows=[pairs.rows[k] for k in keep], labels=pairs.labels.take(keep), clusters=clusters)


def _judges_part(judges: Mapping[str, Judged], rows: Array) -> dict[str, Judged]:
    def part(column: Array | None) -> Array | None:
        return None if column is None else column[rows]

    return {name: Judged(part(j.gap), part(j.verdict), part(j.leaning)) for name, j in judges.items()}


def beside_published(corpora: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tables 4, 9 (accuracies) and 5, 10 (correlations) of the UrgentMOS paper with a row per judge of ours.

    Only the columns of corpora that were evaluated here; ours are marked, and nothing of the papers' was measured again.
    """
    lines = []
    for number in sorted((*published.PREFERENCE, *published.CORRELATION), key=int):
        table = published.TABLES[number]
        level, keys = (
            ("preference", evaluation.ACCURACIES) if number in published.PREFERENCE else ("utterance", ("lcc", "srcc"))
        )
        columns = {c: name for name in corpora if (c := published.column_of(name, table.columns))}
        if not columns:
            continue
        rows = [
            {"model": model, "ours": False, **{c: list(values[c]) for c in columns}} for model, values in table.rows.items()
        ]
        ours = list(dict.fromkeys(judge for name in columns.values() for judge in corpora[name][level]))
        for judge in ours:
            cells = {c: [corpora[name][level].get(judge, {}).get(k) for k in keys] for c, name in columns.items()}
            rows.append({"model": judge, "ours": True, **cells})
        lines.append({"source": table.source, "statistics": list(table.statistics), "columns": list(columns), "rows": rows})
    return lines


# ---- two predictors


def _versus(
    matched: Matched,
    targets: Mapping[str, str],
    pairs: PairSet | None,
    judges: Mapping[str, Judged],
    versus: Source,
    references: Source,
    options: Options,
) -> dict[str, Any]:
    """Tests of "both are equally good": metric against its namesake, or the only one of each side."""
    other = match_clips(versus, references)
    other_targets = targets_of(other, options.label)
    result: dict[str, Any] = {"predictions": versus.path, "utterance": {}, "system": {}, "preference": {}}
    clusters = _clusters(matched, options)
    for mine, theirs in _counterparts(targets, other_targets):
        target = targets[mine]
        second = _aligned(matched, other, other.predicted[theirs])
        first, label = matched.predicted[mine], matched.labels[target]
        name = mine if mine == theirs else f"{mine} - {theirs}"
        units = [_unit_fault(m, target, False, False) for m in (mine, theirs)]
        result["utterance"][name] = _without_mse(
            evaluation.difference_of_clips(first, second, label, clusters, options.how), any(units)
        )
        both = ~np.isnan(first) & ~np.isnan(second) & ~np.isnan(label)
        names, p, r = evaluation.system_means(np.where(both, first, np.nan), np.where(both, label, np.nan), matched.systems)
        q = evaluation.system_means(np.where(both, second, np.nan), label, matched.systems)[1]
        if len(names) > 1:
            result["system"][name] = _without_mse(evaluation.difference_of_clips(p, q, r, names, options.how), any(units))
    if pairs is not None:
        theirs_judges = judges_of(versus, pairs, other_targets)
        for mine, theirs in _counterparts(judges, theirs_judges):
            name = mine if mine == theirs else f"{mine} - {theirs}"
            result["preference"][name] = evaluation.difference_of_preferences(
                judges[mine], theirs_judges[theirs], pairs.labels, pairs.clusters, options.how, options.delta
            )
    if not (result["utterance"] or result["preference"]):
        raise UsageError(
            f"{versus.path}: predicts nothing that {references.path} has labels for. Compare the ids of both files."
        )
    return result


def _without_mse(tests: dict[str, Any], other_unit: bool) -> dict[str, Any]:
    """Tests of two predictors, without that of the error where it has no meaning."""
    return {**tests, "mse": {"difference": None}} if other_unit else tests


def _counterparts(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str]]:
    shared = [(name, name) for name in mine if name in theirs]
    if not shared and len(mine) == 1 and len(theirs) == 1:
        return [(next(iter(mine)), next(iter(theirs)))]
    return shared


def _aligned(matched: Matched, other: Matched, values: Array) -> Array:
    """The other file's values in the order of `matched`, NaN where it has none."""
    by_uid = dict(zip(other.uids, values, strict=True))
    return np.array([by_uid.get(uid, np.nan) for uid in matched.uids])


# ---- what did not fit


def _ids(predictions: Source, references: Source, matched: Matched, targets: Mapping[str, str]) -> dict[str, Any]:
    without = [
        uid
        for k, uid in enumerate(matched.uids)
        if targets and all(np.isnan(matched.predicted[m][k]) and not np.isnan(matched.labels[t][k]) for m, t in targets.items())
    ]
    kinds = {
        "duplicate_predictions": predictions.duplicates,
        "duplicate_references": references.duplicates,
        "predicted_without_reference": matched.without_label if references.clips else [],
        "reference_without_prediction": matched.without_prediction if predictions.clips else [],
        "prediction_without_value": without,
    }
    return {name: {"n": len(uids), "first": uids[:_LISTED]} for name, uids in kinds.items()}


_SENTENCES = {
    "duplicate_predictions": "{n} predictions repeat an id, the first: {first}",
    "duplicate_references": "{n} references repeat an id, the first: {first}",
    "predicted_without_reference": "{n} predictions have no label and are left out, the first: {first}",
    "reference_without_prediction": "{n} labels have no prediction and are left out, the first: {first}",
    "prediction_without_value": "{n} predictions hold no value, the first: {first}",
}
FAILURES = ("predicted_without_reference", "prediction_without_value")  # exit status 1


def _warnings(report: Mapping[str, Any], pairs: PairSet | None, judges: Mapping[str, Judged]) -> Iterator[str]:
    for name, sentence in _SENTENCES.items():
        ids = report["ids"][name]
        if ids["n"]:
            yield sentence.format(n=ids["n"], first=ids["first"][0])
    for level in ("utterance", "system"):
        for metric, statistics in report[level].items():
            if statistics["reason"] and not (level == "system" and statistics["n"] == 0):
                yield f"no {level} correlation for {metric}: {statistics['reason']}"
    for name, statistics in report["preference"].items():
        if statistics["missing"]:
            yield f"{name} says nothing of {statistics['missing']} of {len(pairs.rows) if pairs else 0} labelled pairs"
    if pairs is not None and not judges:
        yield "there are labelled pairs, but no prediction that tells which clip of a pair is better"


def _nothing(predictions: Source, references: Source, matched: Matched, label: str | None) -> str:
    if len(matched):
        wanted = f"the label {label}" if label else "a label of that name, or mos_overall"
        predicted, labelled = ", ".join(matched.predicted) or "no metric", ", ".join(matched.labels) or "no metric"
        return (
            f"{predictions.path} predicts {predicted}, but {references.path} holds {labelled}: {wanted} is missing. "
            f"Choose one with --label."
        )
    sides = []
    for source in (predictions, references):
        ids = [row.uid for row in source.clips[:1]] + [f"{row.a} / {row.b}" for row in source.pairs[:1]]
        sides.append(f"{source.path} has ids such as {shown(ids[0])}")
    return f"no row of the two files belongs together: {', '.join(sides)}. Give both the same uid per clip."
