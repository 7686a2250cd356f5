"""Reading predictions and labels, of clips or of pairs, from any file of rows, and matching them by uid.

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

from urgentmos.clips.clip import clip_of, is_audio
from urgentmos.clips.delimited import looks_like_data
from urgentmos.clips.foreign import ANSWER, file_of, metrics_of, parts_of, same_file
from urgentmos.clips.label_range import Outside, codes, gap_limits, outside
from urgentmos.clips.pairs import sides_of, verdict_of
from urgentmos.clips.provenance import OTHERS, Value, label_of
from urgentmos.clips.records import NESTED, SCORE_KEYS, Record, first_id, label, named
from urgentmos.clips.sources import LISTENERS, UNKNOWN, kind_of, stated_sources
from urgentmos.clips.tables import Rows, complain, is_table, line_of, read_rows
from urgentmos.clips.verdicts import A, B, Judged
from urgentmos.common.names import name_key
from urgentmos.errors import UsageError
from urgentmos.metrics import HUMAN

Array = np.ndarray

UNNAMED = "mos_overall"  # the metric of a score without a name
_LISTED = 8  # columns that a message spells out


@dataclass(frozen=True)
class ClipRow:
    """One clip: its metrics, None where a value is missing."""

    uid: str
    system: str | None
    content: str | None
    corpus: str | None
    values: dict[str, float | None]
    path: str = ""
    file: str = ""  # the name of its file as written, where a file names the clip
    sources: dict[str, str] = field(default_factory=dict)  # of values, where the row states them
    labels: dict[str, Value] = field(default_factory=dict)  # what is not predicted, also where a prediction took its place
    warnings: tuple[str, ...] = ()  # of the recording, as `score` and `label` write them


@dataclass(frozen=True)
class PairRow:
    """One pair. NaN where nothing is stated; verdict is a code of `clips.verdicts`."""

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
    warnings: tuple[str, ...] = ()  # of both recordings, behind "a: " and "b: ", as `compare` writes them
    sources: dict[str, str] = field(default_factory=dict)  # of metrics and of the "verdict", where the row states them


@dataclass(frozen=True)
class Source:
    """The rows of one file, and what was noticed about them."""

    path: str
    clips: list[ClipRow] = field(default_factory=list)
    pairs: list[PairRow] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)  # uids that came again


def read_source(path: str | Path, *, duplicates: str = "first", numbers: Sequence[str] = ()) -> Source:
    """The clips and pairs of a .jsonl, .csv, .json, .parquet or .scp file, or of the answer.txt of a VoiceMOS challenge.

    Ids that come again are named in `duplicates`; their later rows are dropped ("first") or kept and counted as often as
    they come ("all", which is what a join in Track 2 of URGENT 2026 does). numbers: columns that are read as metrics,
    under any name. UsageError names rows without a meaning.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder. Give the file that score, label, pairs or compare wrote, or a CSV.")
    rows = _rows(path)
    source, problems, seen = Source(str(path)), list(rows.problems), set()
    for count, record in zip(rows.numbers, rows.records, strict=True):
        try:
            row = _row(record, path, numbers)
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
    complain(path, sorted(problems, key=line_of))
    if not rows.records:
        raise UsageError(f"{path}: holds no rows. Give predictions or labels, one row per clip or pair.")
    return source


def _rows(path: Path) -> Rows:
    """The rows of a file. UsageError, once for all rows, if no column names the clips."""
    rows = read_rows(path, ending=_ending(path))
    if (not rows.records and not rows.columns) or any(map(_names_something, rows.records)):
        return rows
    if looks_like_data(rows.columns):
        if len(rows.columns) == len(ANSWER):
            return read_rows(path, ending=_ending(path), columns=ANSWER)
        raise UsageError(f"{path}: line 1 looks like data: the file needs a header. Write one, e.g. uid,score.")
    keys = list(dict.fromkeys(key for record in rows.records for key in record if key not in NESTED)) or rows.columns
    listed = ", ".join(keys[:_LISTED]) + (", ..." if len(keys) > _LISTED else "")
    raise UsageError(f"{path}: has no column with the ids of the clips, but {listed}. Call the column with the ids uid.")


def _ending(path: Path) -> str | None:
    """How a file without a known ending is read: answer.txt holds `uid,score`, other text `uid score`."""
    if is_table(path) or path.suffix.lower() not in (".txt", ""):
        return None
    try:
        with path.open("rb") as file:
            head = file.readline()
    except OSError:
        return ".csv"  # whose reader reports the error
    return ".csv" if any(mark in head for mark in b",;\t") else ".scp"


def _names_something(record: Record) -> bool:
    try:
        return bool(first_id(record) or file_of(record) or sides_of(record))
    except ValueError:
        return True  # which its row will report


def _row(record: Record, path: Path, numbers: Sequence[str]) -> ClipRow | PairRow:
    sides = sides_of(record)
    return _clip_row(record, path, numbers) if sides is None else _pair_row(record, sides, path, numbers)


def _clip_row(record: Record, path: Path, numbers: Sequence[str]) -> ClipRow:
    uid = first_id(record)
    file = file_of(record) if uid is None else None
    if uid is None and file is None:
        raise ValueError(f"has no uid, but {', '.join(list(record)[:_LISTED])}. Give it one")
    whole = {**record, "audio_path": record.get("audio_path") or file or "-", **({} if uid is None else {"uid": uid})}
    clip = clip_of(whole, "")[0]
    own = clip.metrics | _numbers(record, numbers)
    values = own or metrics_of(record) or next(({UNNAMED: _label(record, key)} for key in SCORE_KEYS if key in record), {})
    full = _absolute(record.get("audio_path"), path.parent)
    names_file = (uid is None and file is not None) or is_audio(clip.uid)
    file = name_key(file if uid is None and file else clip.uid) if names_file else ""
    sources = stated_sources(whole, values, clip.meta)
    kept = clip.meta.get(OTHERS)
    names = {**values, **(kept if isinstance(kept, Mapping) else {})}
    labels = {name: label for name in names if (label := label_of(clip, name)) is not None}
    uid, system = name_key(clip.uid), clip.system_id
    return ClipRow(uid, system, clip.reference_id, clip.corpus, values, full, file, sources, labels, _warnings(record))


def _warnings(record: Mapping[str, Any]) -> tuple[str, ...]:
    warnings = record.get("warnings")
    return tuple(str(warning) for warning in warnings) if isinstance(warnings, list) else ()


def _label(record: Mapping[str, Any], key: str) -> float | None:
    try:
        return label(record[key])
    except ValueError as e:
        raise ValueError(f"{key}: {e}") from None


def _numbers(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """The columns requested as numbers, also where we do not know them as metrics."""
    places = [(name, place) for name in names for place in (record, record.get("meta") or {}) if name in place]
    return {name: _label(place, name) for name, place in places}


def _pair_row(record: Record, sides: tuple[str, str], path: Path, numbers: Sequence[str]) -> PairRow:
    metrics = {name: _float(value) for name, value in _nested(record, "metrics").items()}
    metrics |= {name: _float(value) for name, value in _numbers(record, numbers).items()}
    for key in ("cmos", "pred_score"):
        if key in record:
            metrics.setdefault(UNNAMED, _float(_label(record, key)))
            break
    p_a, p_tie, p_b = (_float(_label(record, key)) if key in record else np.nan for key in ("p_a", "p_tie", "p_b"))
    verdict = verdict_of(record)
    if np.isnan(verdict) and not np.isnan(p_a) and not np.isnan(p_b):
        verdict = float(likeliest(np.array([p_a]), np.array([p_tie]), np.array([p_b]))[0])
    has_value = any(np.isfinite(x) for x in metrics.values())
    stated = stated_sources(record, {**{name: x if np.isfinite(x) else None for name, x in metrics.items()}, UNNAMED: 0.0}, {})
    paths = record.get("audio_paths") or sides
    here = path.parent if "audio_paths" in record else Path()  # `compare` names files as they open from where it ran
    return PairRow(
        name_key(sides[0]),
        name_key(sides[1]),
        metrics=metrics,
        verdict=verdict,
        native=not np.isnan(verdict) and (record.get("scope") == "native" or not has_value),
        p_a=p_a,
        p_tie=p_tie,
        p_b=p_b,
        content=named(record, "reference_id"),
        corpus=named(record, "corpus"),
        uid=None if (own := first_id(record)) is None else name_key(own),
        paths=(_absolute(paths[0], here), _absolute(paths[1], here)),
        warnings=_warnings(record),
        sources=stated,
    )


def likeliest(p_a: Array, p_tie: Array, p_b: Array) -> Array:
    """(P,) three times -> (P,) verdict codes: a side that is ahead of the other and likelier than a tie, else a tie."""
    ahead = np.where(p_a > p_b, A, B)
    is_decided = (p_a != p_b) & (np.maximum(p_a, p_b) > np.nan_to_num(p_tie))
    return np.where(np.isnan(p_a) | np.isnan(p_b), np.nan, np.where(is_decided, ahead, 0.0))


def _nested(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    values = dict(record.get(key) or {})
    return values | {name.removeprefix(f"{key}."): v for name, v in record.items() if name.startswith(f"{key}.")}


def _float(value: object) -> float:
    x = label(value)
    return np.nan if x is None else x


@lru_cache(maxsize=100_000)
def _absolute(path: object, folder: Path) -> str:
    return name_key(os.path.abspath(os.path.join(folder, path))) if isinstance(path, str) and path else ""


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
    by_uid: dict[str, list[ClipRow]] = {}
    for row in references.clips:
        by_uid.setdefault(row.uid, []).append(row)
    both = [(p, r) for p in predictions.clips for r in by_uid.get(p.uid, ())]
    predicted_uids = {row.uid for row in predictions.clips}
    return Matched(
        [p.uid for p, _ in both],
        [r.system or p.system for p, r in both],
        [r.content or p.content for p, r in both],
        [r.corpus or p.corpus for p, r in both],
        _columns([p for p, _ in both]),
        _columns([r for _, r in both]),
        [p.uid for p in predictions.clips if p.uid not in by_uid],
        [uid for uid in by_uid if uid not in predicted_uids],
        {name: [source for p, _ in both if (source := predicted_source(p, name))] for name in _names(p for p, _ in both)},
        {name: [source for _, r in both if (source := label_source(r, name))] for name in _names(r for _, r in both)},
    )


def named_as(predictions: Source, references: Source) -> Source:
    """The predictions with the uids of the references, where a file names a clip on either side: x/utt1.wav is utt1.

    The file names may be paths: the shorter must be the end of the longer. UsageError if two files fit one clip, or two
    clips one file, as one of them would get the other's score.
    """
    predicted = {row.uid for row in predictions.clips}
    files = {side: side if is_audio(side) else "" for row in references.pairs for side in (row.a, row.b)}
    files |= {row.uid: row.file for row in references.clips}
    stems: dict[str, list[str]] = {}
    for uid, file in files.items():
        if uid not in predicted:
            stems.setdefault(parts_of(file or uid)[0], []).append(uid)
    taken: dict[str, str] = {}
    clips = []
    for row in predictions.clips:
        name = row.file or row.uid
        near = [] if row.uid in files else stems.get(parts_of(name)[0], [])
        fits = [u for u in near if (row.file or files[u]) and same_file(parts_of(name), parts_of(files[u] or u))]
        if len(fits) > 1:
            raise UsageError(_ambiguous(predictions.path, references.path, name, fits))
        if fits and taken.setdefault(fits[0], row.uid) != row.uid:
            raise UsageError(_ambiguous(references.path, predictions.path, fits[0], [taken[fits[0]], row.uid]))
        clips.append(replace(row, uid=fits[0]) if fits else row)
    return replace(predictions, clips=clips)


@dataclass(frozen=True)
class Cleaned:
    """A source without values that its metrics cannot have, sentences about them, and metrics that are on another scale."""

    source: Source
    sentences: list[str]
    other_scale: frozenset[str]


def without_codes(source: Source, *, predicted: bool) -> Cleaned:
    """`source` with None (NaN in pairs) for error codes such as -999. A column on another scale stays as it is."""
    search = codes if predicted else outside
    wrong: list[Outside] = []
    for name in dict.fromkeys(name for row in source.clips for name in row.values):
        wrong += filter(None, [search(name, ((row.uid, row.values.get(name)) for row in source.clips))])
    gaps: list[Outside] = []
    for name in dict.fromkeys(name for pair in source.pairs for name in pair.metrics):
        values = ((f"{pair.a} / {pair.b}", pair.metrics.get(name)) for pair in source.pairs)
        gaps += filter(None, [search(name, values, gap_limits(name))])
    bad, bad_gaps = ({o.metric: frozenset(o.values) for o in some if not o.other_scale} for some in (wrong, gaps))
    clips = [_without(row, bad) for row in source.clips]
    pairs = [
        replace(pair, metrics={n: np.nan if x in bad_gaps.get(n, ()) else x for n, x in pair.metrics.items()})
        for pair in source.pairs
    ]
    sentences = [o.sentence() for o in wrong]
    sentences += [o._replace(metric=f"the CMOS of {o.metric}").sentence() for o in gaps]
    other = frozenset(o.metric for o in (*wrong, *gaps) if o.other_scale)
    return Cleaned(replace(source, clips=clips, pairs=pairs), [f"{source.path}: {text}" for text in sentences], other)


def _without(row: ClipRow, bad: Mapping[str, frozenset[float]]) -> ClipRow:
    """The row with None for these values of its metrics, also where it keeps them as labels."""
    values = {name: None if x in bad.get(name, ()) else x for name, x in row.values.items()}
    labels = {name: label for name, label in row.labels.items() if label.value not in bad.get(name, ())}
    return replace(row, values=values, labels=labels)


def _ambiguous(path: str, other: str, name: str, fits: Sequence[str]) -> str:
    return (
        f"{path}: {name} may be {' or '.join(fits[:3])} of {other}, and by its file name it cannot be told which. "
        f"Give both files the same uid per clip."
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
    """The predictions for `pairs` in the rows of `predictions`: {"verdict": ..., "cmos": ...}, and whether each was found.

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
    places = [index.get((p.a, p.b)) or index.get(p.paths) for p in pairs]
    cmos = [sign * row.metrics.get(metric, np.nan) for row, sign in (f or (_NOTHING, 1.0) for f in places)]
    for k, pair in enumerate(pairs):
        if places[k] is None and pair.uid in scores:
            value = scores[pair.uid].values.get(UNNAMED)
            cmos[k] = np.nan if value is None else value
    verdict = np.array([sign * row.verdict for row, sign in (f or (_NOTHING, 1.0) for f in places)])
    lead = np.array([sign * (row.p_a - row.p_b) for row, sign in (f or (_NOTHING, 1.0) for f in places)])
    judges: dict[str, tuple[Judged, list[bool]]] = {}
    if np.isfinite(verdict).any():
        leaning = np.where(np.isnan(lead), verdict, np.sign(lead))
        judges["verdict"] = (Judged(verdict=verdict, leaning=leaning), list(np.isfinite(verdict)))
    if np.isfinite(cmos).any():
        judges["cmos"] = (Judged(gap=np.array(cmos)), list(np.isfinite(cmos)))
    return judges


_NOTHING = PairRow("", "", {}, np.nan, False)
