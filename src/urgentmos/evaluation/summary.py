"""One report of how well predictions agree with labels: every level, every metric, every corpus, and mismatched ids."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from urgentmos.clips.verdicts import Judged
from urgentmos.errors import UsageError
from urgentmos.evaluation import agreement, published
from urgentmos.evaluation.levels import label_correlations, levels, targets_of, with_units
from urgentmos.evaluation.mismatches import mismatch_warnings, nothing_to_compare, unmatched_ids
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import Cleaned, Matched, Source, labels_first, match_clips, named_as, without_codes
from urgentmos.evaluation.preferences import (
    PairSet,
    accuracy_by_gap,
    judges_of,
    judges_part,
    pair_counts,
    pair_set,
    pairs_part,
    preferences,
)
from urgentmos.evaluation.sources import clip_warnings_of, label_warnings, origin_warnings, origins_of, same_labels
from urgentmos.evaluation.versus import versus_tests

Array = np.ndarray
DEFAULTS = Options()


def evaluate(
    predictions: Source, references: Source, options: Options = DEFAULTS, versus: Source | None = None
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
        raise UsageError(nothing_to_compare(predictions, references, matched, options.label))
    origins = origins_of(predictions, matched, targets, judges, None if pairs is None else (pairs.metric, pairs.sources))
    report: dict[str, Any] = {
        "predictions": predictions.path,
        "references": references.path,
        "delta": options.delta,
        "resample": options.resample,
        "sources": {judge: origin.to_dict() for judge, origin in origins.items()},
        "confidence": options.resampling.confidence,
        "samples": options.resampling.samples,
        "seed": options.resampling.seed,
        **with_units(levels(matched, targets, options), predicted.other_scale, labelled.other_scale),
        "preference": {},
    }
    if pairs is not None:
        report["pairs"] = pair_counts(pairs, options)
        report["preference"] = preferences(pairs, judges, options)
        report["by_gap"] = accuracy_by_gap(pairs, judges)
    report["metric_spearman"] = label_correlations(matched)
    report["corpora"] = _corpora(matched, targets, pairs, judges, options)
    for part in report["corpora"].values():
        with_units(part, predicted.other_scale, labelled.other_scale)
    if options.published:
        report["published"] = beside_published(report["corpora"])
    if versus is not None:
        report["versus"] = versus_tests(matched, targets, pairs, judges, versus, references, options)
    report["ids"] = unmatched_ids(predictions, references, matched, targets)
    report["warnings"] = [
        *clip_warnings_of(predictions),
        *predicted.sentences,
        *labelled.sentences,
        *origin_warnings(origins),
        *label_warnings(given, first, matched, alike),
        *mismatch_warnings(report, pairs, judges),
    ]
    return report


def usable(predictions: Source, references: Source) -> tuple[Cleaned, Cleaned]:
    """Both without values that no metric has, and the predictions with the uids of the references."""
    predicted, labelled = without_codes(predictions, predicted=True), without_codes(references, predicted=False)
    return replace(predicted, source=named_as(predicted.source, labelled.source)), labelled


def _corpora(
    matched: Matched, targets: Mapping[str, str], pairs: PairSet | None, judges: Mapping[str, Judged], options: Options
) -> dict[str, Any]:
    names = list(dict.fromkeys([*matched.corpora, *([] if pairs is None else [row.corpus for row in pairs.rows])]))
    quick = replace(options, resampling=replace(options.resampling, samples=0))
    corpora: dict[str, Any] = {}
    for name in (n for n in names if n is not None):
        rows = np.array([corpus == name for corpus in matched.corpora], dtype=bool)
        corpora[name] = levels(corpus_part(matched, rows), targets, quick) if rows.any() else {"utterance": {}, "system": {}}
        corpora[name]["preference"] = {}
        if pairs is not None:
            inside = np.array([row.corpus == name for row in pairs.rows], dtype=bool)
            if inside.any():
                corpora[name]["preference"] = preferences(pairs_part(pairs, inside), judges_part(judges, inside), quick)
    return corpora


def corpus_part(matched: Matched, rows: Array) -> Matched:
    keep = np.flatnonzero(rows)
    lists = {name: [getattr(matched, name)[k] for k in keep] for name in ("uids", "systems", "contents", "corpora")}
    columns = {name: {m: v[keep] for m, v in getattr(matched, name).items()} for name in ("predicted", "labels")}
    return replace(matched, **lists, **columns)  # type: ignore[arg-type]


def beside_published(corpora: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tables 4, 9 (accuracies) and 5, 10 (correlations) of the UrgentMOS paper with a row per judge of ours.

    Only the columns of corpora that were evaluated here; ours are marked, and nothing of the papers' was measured again.
    """
    lines = []
    for number in sorted((*published.PREFERENCE, *published.CORRELATION), key=int):
        table = published.TABLES[number]
        level, keys = ("preference", agreement.ACCURACIES) if number in published.PREFERENCE else ("utterance", ("lcc", "srcc"))
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
