"""What an evaluation reads: predictions and labels, of clips or of pairs, from any file that holds rows; matched by uid.

A row that names two clips (`uids`, or `a` and `b`, ...) is about a pair, any other about a clip. Audio is never opened: a
peer's CSV of ids and scores will do.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.cells import Record, number
from urgentmos.clips import clip_of
from urgentmos.errors import UsageError
from urgentmos.metrics import HUMAN
from urgentmos.pairs import sides_of, verdict_of
from urgentmos.preferences import NAMES, A, B, Judged
from urgentmos.provenance import LISTENERS, OTHERS, UNKNOWN, Value, kind_of, label_of, stated_sources
from urgentmos.tables import complain, read_rows

Array = np.ndarray

_ID_KEYS = ("uid", "sample_id", "id", "utterance_id", "utt_id", "key")
_SCORE_KEYS = ("pred_score", "score", "value", "prediction", "pred", "cmos")  # of a metric without a name
UNNAMED = "mos_overall"


@dataclass(frozen=True)
class ClipRow:
    """One clip: its metrics, None where a value is missing."""

    uid: str
    system: str | None
    content: str | None
    corpus: str | None
    values: dict[str, float | None]
    path: str = ""
    sources: dict[str, str] = field(default_factory=dict)  # of values, where the row states them
    labels: dict[str, Value] = field(default_factory=dict)  # what is not predicted, also where a prediction took its place


@dataclass(frozen=True)
class PairRow:
    """One pair. NaN where nothing is said; verdict is a code of `preferences`."""

    a: str
    b: str
    metrics: dict[str, float]
    verdict: float
    native: bool  # the verdict is the listeners' own, not derived from a CMOS
    p_a: float = np.nan
    p_tie: float = np.nan
    p_b: float = np.nan
    content: str | None = None
    corpus: str | None = None
    uid: str | None = None  # of the pair itself
    paths: tuple[str, str] = ("", "")
    sources: dict[str, str] = field(default_factory=dict)  # of metrics and of the "verdict", where the row states them


@dataclass(frozen=True)
class Source:
    """The rows of one file, and what was noticed about them."""

    path: str
    clips: list[ClipRow] = field(default_factory=list)
    pairs: list[PairRow] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)  # uids that came again


def read_source(path: str | Path, *, duplicates: str = "first") -> Source:
    """The clips and pairs of a .jsonl, .csv, .json, .parquet or .scp file.

    Ids that come again are named in `duplicates`; their later rows are dropped ("first") or kept and counted as often as
    they come ("all", which is what a join in Track 2 of URGENT 2026 does). UsageError names rows without a meaning.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder. Give the file that score, label, pairs or compare wrote, or a CSV.")
    rows = read_rows(path)
    source, problems, seen = Source(str(path)), list(rows.problems), set()
    for count, record in zip(rows.numbers, rows.records, strict=True):
        try:
            row = _row(record, path)
        except ValueError as e:
            problems.append(f"{rows.unit} {count}: {e}")
            continue
        name = row.uid if isinstance(row, ClipRow) else (row.a, row.b)
        if name in seen:
            source.duplicates.append(str(name) if isinstance(name, str) else " / ".join(name or ()))
            if duplicates == "first":
                continue
        seen.add(name)
        (source.clips if isinstance(row, ClipRow) else source.pairs).append(row)  # type: ignore[arg-type]
    complain(path, problems)
    if not rows.records:
        raise UsageError(f"{path}: holds no rows. Give predictions or labels, one row per clip or pair.")
    return source


def _row(record: Record, path: Path) -> ClipRow | PairRow:
    sides = sides_of(record)
    return _clip_row(record, path) if sides is None else _pair_row(record, sides, path)


def _clip_row(record: Record, path: Path) -> ClipRow:
    uid = next((record[key] for key in _ID_KEYS if record.get(key) not in (None, "")), None)
    if uid is None and not record.get("audio_path"):
        raise ValueError(f"has no uid, but {', '.join(list(record)[:8])}")
    whole = {**record, "audio_path": record.get("audio_path") or "-", **({} if uid is None else {"uid": uid})}
    clip = clip_of(whole, "")[0]
    values = dict(clip.metrics) or next(({UNNAMED: number(record[key])} for key in _SCORE_KEYS if key in record), {})
    full = _absolute(record.get("audio_path"), path.parent)
    sources = stated_sources(whole, values, clip.meta)
    kept = clip.meta.get(OTHERS)
    names = {**values, **(kept if isinstance(kept, Mapping) else {})}
    labels = {name: label for name in names if (label := label_of(clip, name)) is not None}
    return ClipRow(clip.uid, clip.system_id, clip.reference_id, clip.corpus, values, full, sources, labels)


def _pair_row(record: Record, sides: tuple[str, str], path: Path) -> PairRow:
    metrics = {name: _float(value) for name, value in _nested(record, "metrics").items()}
    if "cmos" in record:
        metrics.setdefault(UNNAMED, _float(record["cmos"]))
    elif "pred_score" in record:
        metrics.setdefault(UNNAMED, _float(record["pred_score"]))
    p_a, p_tie, p_b = (_float(record.get(key)) for key in ("p_a", "p_tie", "p_b"))
    verdict = verdict_of(record)
    if np.isnan(verdict) and not np.isnan(p_a) and not np.isnan(p_b):
        verdict = float(likeliest(np.array([p_a]), np.array([p_tie]), np.array([p_b]))[0])
    known = any(np.isfinite(x) for x in metrics.values())
    stated = stated_sources(record, {**{name: x if np.isfinite(x) else None for name, x in metrics.items()}, UNNAMED: 0.0}, {})
    paths = record.get("audio_paths") or sides
    here = path.parent if "audio_paths" in record else Path()  # `compare` names files as they open from where it ran
    return PairRow(
        *sides,
        metrics=metrics,
        verdict=verdict,
        native=not np.isnan(verdict) and (record.get("scope") == "native" or not known),
        p_a=p_a,
        p_tie=p_tie,
        p_b=p_b,
        content=None if record.get("reference_id") is None else str(record["reference_id"]),
        corpus=None if record.get("corpus") is None else str(record["corpus"]),
        uid=next((str(record[key]) for key in ("uid", "sample_id", "key") if record.get(key) not in (None, "")), None),
        paths=(_absolute(paths[0], here), _absolute(paths[1], here)),
        sources=stated,
    )


def likeliest(p_a: Array, p_tie: Array, p_b: Array) -> Array:
    """(P,) three times -> (P,) verdict codes: a side that is ahead of the other and likelier than a tie, else a tie."""
    ahead = np.where(p_a > p_b, A, B)
    told = (p_a != p_b) & (np.maximum(p_a, p_b) > np.nan_to_num(p_tie))
    return np.where(np.isnan(p_a) | np.isnan(p_b), np.nan, np.where(told, ahead, 0.0))


def _nested(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = dict(record.get(key) or {})
    return found | {name.removeprefix(f"{key}."): v for name, v in record.items() if name.startswith(f"{key}.")}


def _float(value: object) -> float:
    found = number(value)
    return np.nan if found is None else found


@lru_cache(maxsize=100_000)
def _absolute(path: object, folder: Path) -> str:
    return os.path.abspath(os.path.join(folder, path)) if isinstance(path, str) and path else ""


# ---- matching


@dataclass(frozen=True)
class Matched:
    """Clips that have a row in both files: (N,) values, NaN where a row has none."""

    uids: list[str]
    systems: list[str | None]
    contents: list[str | None]
    corpora: list[str | None]
    predicted: dict[str, Array]
    labels: dict[str, Array]
    without_label: list[str]  # predicted, but the references do not know them
    without_prediction: list[str]  # known to the references only
    predicted_sources: dict[str, list[str]] = field(default_factory=dict)  # metric -> the source of each value
    label_sources: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.uids)


def match_clips(predictions: Source, references: Source) -> Matched:
    """Rows of clips, joined on uid in the order of the predictions. System, content and corpus come from either file.

    The references are read by `labels_first`.
    """
    references = labels_first(references)
    known: dict[str, list[ClipRow]] = {}
    for row in references.clips:
        known.setdefault(row.uid, []).append(row)
    both = [(p, r) for p in predictions.clips for r in known.get(p.uid, ())]
    said = {row.uid for row in predictions.clips}
    return Matched(
        [p.uid for p, _ in both],
        [r.system or p.system for p, r in both],
        [r.content or p.content for p, r in both],
        [r.corpus or p.corpus for p, r in both],
        _columns([p for p, _ in both]),
        _columns([r for _, r in both]),
        [p.uid for p in predictions.clips if p.uid not in known],
        [uid for uid in known if uid not in said],
        {name: [source for p, _ in both if (source := predicted_source(p, name))] for name in _names(p for p, _ in both)},
        {name: [source for _, r in both if (source := label_source(r, name))] for name in _names(r for _, r in both)},
    )


def labels_first(references: Source) -> Source:
    """The references with the labels that rows keep beside predictions in their place.

    Where any clip has a label of a metric, predictions of that metric by others are no references and left out.
    """
    clips = [_with_labels(row) for row in references.clips]
    labelled = {name for row in clips for name, x in row.values.items() if x is not None and not _is_predicted(row, name)}
    return replace(references, clips=[_without_predictions(row, labelled) for row in clips])


def _with_labels(row: ClipRow) -> ClipRow:
    better = {n: label for n, label in row.labels.items() if row.values.get(n) is None or _is_predicted(row, n)}
    values = row.values | {name: label.value for name, label in better.items()}
    return replace(row, values=values, sources=row.sources | {name: label.source for name, label in better.items()})


def _without_predictions(row: ClipRow, metrics: set[str]) -> ClipRow:
    drop = [name for name in metrics if row.values.get(name) is not None and _is_predicted(row, name)]
    return replace(row, values={**row.values, **dict.fromkeys(drop)}) if drop else row


def _is_predicted(row: ClipRow, metric: str) -> bool:
    return kind_of(row.sources.get(metric), metric) == "predicted"


def predicted_source(row: ClipRow, metric: str) -> str | None:
    """The source of a value in a file of predictions, None without a value; what states none is unknown."""
    return None if row.values.get(metric) is None else row.sources.get(metric, UNKNOWN)


def label_source(row: ClipRow, metric: str) -> str | None:
    """The source of a label, None without a value; human MOS that states none is the listeners'."""
    return None if row.values.get(metric) is None else row.sources.get(metric, LISTENERS if metric in HUMAN else UNKNOWN)


def _names(rows: Iterable[ClipRow]) -> dict[str, None]:
    return dict.fromkeys(name for row in rows for name in row.values)


def _columns(rows: Sequence[ClipRow]) -> dict[str, Array]:
    return {name: values_of(rows, name) for name in _names(rows)}


def values_of(rows: Sequence[ClipRow], name: str) -> Array:
    """(N,) a metric of clips, NaN where missing."""
    return np.array([np.nan if (x := row.values.get(name)) is None else x for row in rows], dtype=float)


def judged_pairs(predictions: Source, pairs: Sequence[PairRow], metric: str) -> dict[str, tuple[Judged, list[bool]]]:
    """What the rows of pairs in `predictions` say of `pairs`: {"verdict": ..., "cmos": ...}, and whether each was found.

    A pair is found by its two uids, else by its two audio files, in this order or mirrored, else by its own uid.
    """
    index: dict[object, tuple[PairRow, float]] = {}
    for row in predictions.pairs:
        for a, b in ((row.a, row.b), row.paths):
            if a:
                index.setdefault((b, a), (row, -1.0))
    for row in predictions.pairs:  # a row in the right order goes before a mirrored one
        for a, b in (row.paths, (row.a, row.b)):
            if a:
                index[(a, b)] = (row, 1.0)
    scores = {row.uid: row for row in predictions.clips}
    found = [index.get((p.a, p.b)) or index.get(p.paths) for p in pairs]
    cmos = [sign * row.metrics.get(metric, np.nan) for row, sign in (f or (_NOTHING, 1.0) for f in found)]
    for k, pair in enumerate(pairs):
        if found[k] is None and pair.uid in scores:
            value = scores[pair.uid].values.get(UNNAMED)
            cmos[k] = np.nan if value is None else value
    verdict = np.array([sign * row.verdict for row, sign in (f or (_NOTHING, 1.0) for f in found)])
    lead = np.array([sign * (row.p_a - row.p_b) for row, sign in (f or (_NOTHING, 1.0) for f in found)])
    judges: dict[str, tuple[Judged, list[bool]]] = {}
    if np.isfinite(verdict).any():
        leaning = np.where(np.isnan(lead), verdict, np.sign(lead))
        judges["verdict"] = (Judged(verdict=verdict, leaning=leaning), list(np.isfinite(verdict)))
    if np.isfinite(cmos).any():
        judges["cmos"] = (Judged(gap=np.array(cmos)), list(np.isfinite(cmos)))
    return judges


_NOTHING = PairRow("", "", {}, np.nan, False)


def verdict_name(code: float) -> str | None:
    """The word for a code, None for NaN."""
    return NAMES.get(code)
