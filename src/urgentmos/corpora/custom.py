"""Your own listening test: a CSV (or .tsv) whose columns you name with KEY=VALUE.

    urgentmos prepare custom my_test file=scores.csv audio_path=wav mos_overall=score system_id=model split=set

A key is a field of a manifest (audio_path, system_id, reference_id, reference_path, uid), a metric, split, or listener, and
its value the column. With listener, a recording has a row per rating, and mos_overall becomes their mean. file names the
table (default: the only one in ROOT), audio the folder that paths are relative to (default: the table's). A table without
split is all train.
Licence and citation: yours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.clips.sources import stated_sources
from urgentmos.common.untrusted import shown
from urgentmos.corpora import About, Count, NotOnDisk
from urgentmos.corpora.reading import Rated, Row, clips_of, rows_of
from urgentmos.errors import UsageError
from urgentmos.metrics import METRICS, canonical

ABOUT = About("your own corpus", "yours", "yours", "your own disk")
SPLITS = ("train", "dev", "test")
COUNTS: dict[str, Count] = {}
OPTIONS = {
    "file": "the table, below ROOT",
    "audio": "the folder that paths are relative to",
    "audio_path": "column of the recordings (needed)",
    "system_id": "column",
    "reference_id": "column of the contents",
    "reference_path": "column of the reference signals",
    "uid": "column",
    "split": "column: train, dev or test",
    "listener": "column: a row is one rating",
}
ANY_OPTION = True  # METRIC=COLUMN
_SAME = {"training": "train", "tr": "train", "val": "dev", "valid": "dev", "validation": "dev", "cv": "dev", "tt": "test"}


def clips(root: Path, split: str, /, **options: str) -> Iterator[Clip]:
    """Clips of a split. UsageError for a key, a column or a split that means nothing."""
    table = _table(root, options.get("file"))
    names = {key: column for key, column in options.items() if key not in ("file", "audio")}
    metrics = {canonical(key): column for key, column in names.items() if key not in OPTIONS}
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or "audio_path" not in names or (not metrics):
        keys = ", ".join([*OPTIONS, "a metric such as mos_overall"])
        fault = f"{unknown[0]}= is not understood" if unknown else "audio_path=COLUMN and a metric=COLUMN are needed"
        raise UsageError(f"{fault}. The keys are: {keys}.")
    folder = root / options["audio"] if "audio" in options else table.parent
    columns = list(names.values())
    rows = [row for row in rows_of(table, columns, pad=False) if _split(table, row, names) == split]
    if "listener" in names:
        if list(metrics) != ["mos_overall"]:
            raise UsageError("with listener=COLUMN the only metric is mos_overall=COLUMN. Leave the others out.")
        return clips_of("custom", (_rated(folder, row, names, metrics["mos_overall"]) for row in rows))
    return (_clip(folder, row, names, metrics) for row in rows)


def _table(root: Path, name: str | None) -> Path:
    tables = [root / name] if name else sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
    if len(tables) != 1 or not tables[0].is_file():
        raise NotOnDisk(f"{root}: {f'no {name}' if name else f'{len(tables)} tables'} there. Name one with file=NAME.csv.")
    return tables[0]


def _split(table: Path, row: dict[str, str], names: dict[str, str]) -> str:
    if "split" not in names:
        return "train"
    stated = row[names["split"]]
    split = _SAME.get(stated.lower(), stated.lower())
    if split not in SPLITS:
        raise UsageError(f"{table}: the split {shown(stated)} is none of {', '.join(SPLITS)}. Rename it.")
    return split


def _sample(row: dict[str, str], names: dict[str, str]) -> str:
    path = Path(row[names["audio_path"]])
    return row.get(names.get("uid", ""), "") or path.with_suffix("").as_posix()


def _rated(folder: Path, row: Row, names: dict[str, str], mos: str) -> Rated:
    path = folder / row[names["audio_path"]]
    system, content = (row.get(names.get(key, ""), "") or None for key in ("system_id", "reference_id"))
    return Rated(_sample(row, names), path, system, content, row[names["listener"]], row.number(mos))


def _clip(folder: Path, row: Row, names: dict[str, str], metrics: dict[str, str]) -> Clip:
    cell = {key: row[column] or None for key, column in names.items()}
    path = str(folder / cell["audio_path"]) if cell["audio_path"] else ""
    reference = cell.get("reference_path")
    uid = row.get(names.get("uid", ""), "") or f"custom:{_sample(row, names)}"
    values = {name: row.number(column) for name, column in metrics.items()}
    return Clip(
        uid,
        path,
        cell.get("system_id"),
        cell.get("reference_id"),
        "custom",
        reference_path=str(folder / reference) if reference else None,
        metrics=values,
        meta={} if path else {"unusable": "the row names no recording"},
        sources=_sources(row, metrics, values),
    )


def _sources(row: dict[str, str], metrics: dict[str, str], values: dict[str, float | None]) -> dict[str, str]:
    """The sources of metrics that the table states: a column `sources.COLUMN`, or what `score` wrote beside `metrics.NAME`."""
    sources: dict[str, str] = {}
    for name, column in metrics.items():
        record = {f"sources.{name}": row.get(f"sources.{column.removeprefix('metrics.')}")}
        if column.startswith("metrics."):  # a file of `score`; elsewhere `model` may be anything
            record["model"] = row.get("model")
        sources |= stated_sources(record, {name: values[name]}, {"version": row.get("meta.version")})
    return sources
