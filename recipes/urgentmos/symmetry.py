"""Table 8 of the UrgentMOS paper: what the order of a pair does to preference accuracy.

    python recipes/urgentmos/symmetry.py PAIRS --models "w/ symm."=runs/f1c1m5-dref/model "w/o symm."=runs/one-order/model

PAIRS holds labelled pairs with their audio, as `urgentmos prepare` and `urgentmos pairs` write them. Each model reads every
pair as it stands, (A, B), then turned round, (B, A), and with both orders averaged, which is what `urgentmos compare` does.
The paper's rows are two trainings, each read in one order; they appear where PAIRS (or --name) is called like its columns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.api import load
from urgentmos.clips.clip import Clip
from urgentmos.clips.verdicts import DELTA, Judged, PairLabels, correct, share
from urgentmos.commands.ending import journal_of
from urgentmos.commands.output import check_output, clean_up, write_ranking
from urgentmos.common.console import progress, say
from urgentmos.errors import UrgentmosError, UsageError
from urgentmos.evaluation.predictions import UNNAMED, PairRow, likeliest, read_source
from urgentmos.evaluation.published import TABLES, column_of
from urgentmos.judges.base import Predictor, Run
from urgentmos.ranking.comparison import Comparison

ORDERS = ("A, B", "B, A", "both")
Row = dict[str, Any]


@dataclass(frozen=True)
class Labelled:
    """P pairs of clips, and what listeners say of each."""

    name: str
    clips: list[tuple[Clip, Clip]]
    labels: PairLabels


def read_pairs(path: str | Path, name: str = "") -> Labelled:
    """UsageError if the file holds no pairs, or says of none which clip is better."""
    path = Path(path)
    rows = read_source(path).pairs
    if not rows:
        raise UsageError(f"{path}: holds no pairs. Give what `urgentmos pairs` writes, or a corpus's *_pairs.jsonl.")
    cmos = np.array([row.metrics.get(UNNAMED, np.nan) for row in rows])
    native = np.array([row.verdict if row.native else np.nan for row in rows])
    if np.isnan(cmos).all() and np.isnan(native).all():
        raise UsageError(f"{path}: no pair has a verdict or metrics.{UNNAMED}. Give labelled pairs.")
    corpora = {row.corpus for row in rows if row.corpus}
    called = name or (corpora.pop() if len(corpora) == 1 else path.stem)
    return Labelled(called, [_clips(row) for row in rows], PairLabels(cmos, native))


def _clips(row: PairRow) -> tuple[Clip, Clip]:
    return Clip(row.a, row.paths[0]), Clip(row.b, row.paths[1])


def rows_of(
    pairs: Labelled, name: str, raw: Predictor, averaged: Predictor, *, delta: float = DELTA, run: Run = Run()
) -> list[Row]:
    """Three rows: acc_delta and acc_0 of one order, of the other, and of both averaged.

    "same" is the share of pairs of which both orders say the same; of an order-invariant model it is 1. raw, averaged: one
    model without and with `symmetric`.
    """
    turned = [(b, a) for a, b in pairs.clips]
    judged = [
        _judged(name, list(raw.compare_clips(pairs.clips, run)), 1),
        _judged(name, list(raw.compare_clips(turned, run)), -1),
        _judged(name, list(averaged.compare_clips(pairs.clips, run)), 1),
    ]
    there, back = judged[0].three_way(delta), judged[1].three_way(delta)
    same = share(np.where(np.isnan(there) | np.isnan(back), np.nan, there == back))
    return [_row(name, order, one, pairs.labels, delta, same) for order, one in zip(ORDERS, judged, strict=True)]


def _judged(name: str, rows: Sequence[Comparison], sign: int) -> Judged:
    """The verdicts on (A, B); sign is -1 where the pair was read as (B, A)."""
    failed = [row.error for row in rows if row.error]
    if len(failed) == len(rows):
        raise UsageError(f"{name} could judge none of the {len(rows)} pairs. The first: {failed[0]}.")
    if failed:
        say(f"Warning: {name} could not judge {len(failed)} of {len(rows)} pairs. The first: {failed[0]}.")
    p_a, p_tie, p_b = (np.array([getattr(row, key) for row in rows]) for key in ("p_a", "p_tie", "p_b"))
    return Judged(verdict=sign * likeliest(p_a, p_tie, p_b), leaning=sign * np.sign(p_a - p_b))


def _row(name: str, order: str, judged: Judged, labels: PairLabels, delta: float, same: float) -> Row:
    right = correct(judged, labels, delta)
    numbers = {"acc_delta": share(right.delta), "acc_0": share(right.zero), "same": same}
    counts = {"n": int(np.sum(~np.isnan(right.delta))), "n_0": int(np.sum(~np.isnan(right.zero)))}
    return {"model": name, "order": order, **{k: None if np.isnan(v) else v for k, v in numbers.items()}, **counts}


def published_of(name: str) -> dict[str, Any] | None:
    """The paper's rows on the corpus of that name, None if it reports none."""
    table = TABLES["8"]
    column = column_of(name, table.columns)
    if column is None:
        return None
    return {"source": table.source, "rows": {model: list(row[column]) for model, row in table.rows.items()}}


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The table as text: a row per model and order, then the paper's rows."""
    theirs = [] if report["published"] is None else list(report["published"]["rows"].items())
    width = max(len(model) for model in ("model", *(row["model"] for row in report["rows"]), *(model for model, _ in theirs)))
    yield f"Table 8: preference accuracy by the order of a pair; {report['pairs']}, {report['n']} pairs"
    yield _line("model", "order", [f"acc_{report['delta']:g}", "acc_0", "same"], width)
    for row in report["rows"]:
        yield _line(row["model"], row["order"], _shown([row[key] for key in ("acc_delta", "acc_0", "same")]), width)
    if theirs:
        yield f"published: {report['published']['source']}"
        yield from (_line(model, "", _shown(values), width) for model, values in theirs)


def _shown(values: Sequence[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.2f}" for value in values]


def _line(model: str, order: str, cells: Sequence[str], width: int) -> str:
    return "  ".join([model.ljust(width), order.ljust(5), *(cell.rjust(7) for cell in cells)]).rstrip()


# ---- the command


def named_model(text: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not (name and equals and model):
        raise argparse.ArgumentTypeError(f"{text!r} is not understood. Write NAME=MODEL, as in ours=runs/f1c1m5-dref/model")
    return name, model


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("pairs", metavar="PAIRS")
    made.add_argument("--models", metavar="NAME=MODEL", type=named_model, nargs="+", required=True)
    made.add_argument("--delta", type=float, default=DELTA, help=f"tie threshold of derived labels  [default: {DELTA}]")
    made.add_argument("--name", default="", help="of the corpus in the paper, as in SpeechEval  [default: that of the rows]")
    made.add_argument("--device", default="auto")
    made.add_argument("-o", "--output", metavar="FILE.json", type=Path)
    return made


@contextmanager
def _journal(output: Path | None) -> Iterator[Path]:
    """Where a killed run finds its answers again: beside the output."""
    if output is not None:
        yield journal_of(output)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "answers"


def _build(args: argparse.Namespace) -> None:
    if args.output is not None and args.output.suffix.lower() != ".json":
        raise UsageError(f"{args.output}: this table is one JSON object. Choose a name that ends in .json.")
    check_output(args.output)
    pairs = read_pairs(args.pairs, args.name)
    rows: list[Row] = []
    with _journal(args.output) as journal, progress() as show:
        run = Run(1, journal, show)
        for name, model in args.models:
            raw, averaged = (load(model, device=args.device, symmetric=symmetric) for symmetric in (False, True))
            rows += rows_of(pairs, name, raw, averaged, delta=args.delta, run=run)
        about = {"pairs": pairs.name, "n": len(pairs.clips), "delta": args.delta}
        report = {**about, "rows": rows, "published": published_of(pairs.name)}
        if args.output is not None:
            write_ranking(report, args.output)
        clean_up(run)
    print("\n".join(lines(report)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with a sentence on stderr."""
    try:
        _build(parser().parse_args(arguments))
    except UrgentmosError as e:
        say(f"Error: {e}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
