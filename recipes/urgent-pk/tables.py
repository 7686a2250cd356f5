"""Tables II to V of the URGENT-PK paper for any data set and any judges, the published numbers below ours.

    python recipes/urgent-pk/tables.py DATASET --models mel=runs/urgent-pk/mel/model UTMOS=utmos -o tables.json

DATASET is what `urgentmos rank` ranks, with listeners' MOS: an URGENT-PK data set, or a manifest. What follows NAME= is what
can follow -m. The published rows appear where DATASET (or --name) is called like a column of the paper.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.api import load, rank_clips
from urgentmos.clips.clip import Clip
from urgentmos.clips.inputs import read_systems
from urgentmos.clips.pairs import Pair, derive, native
from urgentmos.clips.provenance import label_of
from urgentmos.clips.tables import read_records
from urgentmos.clips.verdicts import PK_BINS, ab_accuracy_by_gap, difference, verdict_code
from urgentmos.commands.ending import journal_of
from urgentmos.commands.output import check_output, clean_up, write_ranking
from urgentmos.common.console import progress, say
from urgentmos.errors import UrgentmosError, UsageError
from urgentmos.evaluation.published import TABLES, column_of
from urgentmos.judges.base import Predictor, Run
from urgentmos.metrics import HUMAN
from urgentmos.ranking.names import Scoring
from urgentmos.ranking.rank import Ranking, correlations

STATISTICS = ("krcc", "srcc", "lcc")
WORDS: dict[Scoring, str] = {"mos": "mean", "binary": "BS", "soft": "NBS"}  # BS and NBS are the paper's
SAMPLES = 2  # of the bootstrap: these tables show no intervals
Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """The clips whose systems have MOS, and what the set is called."""

    name: str
    clips: list[Clip]
    noisy: list[Clip]  # of the unprocessed input, where it has no MOS and so is no system of the tables


def read_data(path: str | Path, *, name: str = "", subset: str = "tt", noisy_system: str | None = None) -> Data:
    """UsageError if no two systems have MOS, which every table needs. Systems without any are left out, and named."""
    clips = read_systems(path, subset)
    rated = {clip.system_id for clip in clips if _mos(clip) is not None}
    if len(rated) < 2:
        raise UsageError(
            f"{path}: {len(rated)} systems have {HUMAN[0]}. Add SYSTEM/mos.scp, or metrics.{HUMAN[0]} in a manifest."
        )
    bare = {clip.system_id for clip in clips} - rated
    if noisy_system is not None and noisy_system not in rated | bare:
        systems = ", ".join(sorted(str(s) for s in rated | bare))
        raise UsageError(f"there is no system {noisy_system!r}. Name the unprocessed one with --noisy-system: {systems}.")
    if bare - {noisy_system}:
        say(f"Left out, since listeners gave no MOS: {', '.join(sorted(str(s) for s in bare - {noisy_system}))}.")
    own = [clip for clip in clips if clip.system_id in rated]
    noisy = [clip for clip in clips if clip.system_id == noisy_system and noisy_system in bare]
    return Data(name or Path(path).resolve().stem, own, noisy)


def _mos(clip: Clip) -> float | None:
    """Of listeners; predictions are no opinions."""
    label = label_of(clip, HUMAN[0])
    return None if label is None else label.value


# ---- Tables II, III and V: correlation over systems


def ranking_rows(data: Data, judges: Mapping[str, Predictor], run: Run = Run()) -> list[Row]:
    """Tables II and III: ECS with each judge by binary and by soft votes; a judge of single clips also by its mean."""
    rows = []
    for name, judge in judges.items():
        scorings: tuple[Scoring, ...] = ("binary", "soft") if compares(judge) else ("mos", "binary", "soft")
        for scoring in scorings:
            ranking = _ranked(data.clips, judge, scoring, run)
            rows.append(_row(f"{name} {WORDS[scoring]}", ranking, ranking.correlation, scoring=scoring))
    return rows


def opinion_rows(data: Data, judges: Mapping[str, Predictor], noisy_system: str | None = None, run: Run = Run()) -> list[Row]:
    """Table V: the mean MOS of each system, told from a clip alone (a model of pairs hears it twice) or beside the noisy
    input (section III-F3)."""
    rows = []
    mos = _system_mos(data.clips)
    for name, judge in judges.items():
        strategy = "replication" if judge.has_opinions else "mean"
        ranking = _ranked(data.clips, judge, "mos", run)
        rows.append(_row(f"{name} {strategy}", ranking, ranking.correlation, strategy=strategy))
        if judge.has_opinions and noisy_system:
            ranking = _ranked([*data.clips, *data.noisy], judge, "mos", run, noisy_system)
            score = np.array([s.score for s in ranking.systems])
            known = np.array([mos.get(s.system_id, np.nan) for s in ranking.systems])
            rows.append(_row(f"{name} noisy", ranking, correlations(score, known), strategy="noisy"))
    return rows


def compares(judge: Predictor) -> bool:
    """Whether it judges pairs as such; else its scores of both clips are compared."""
    return bool(getattr(judge, "compares", False))


def _ranked(clips: Sequence[Clip], judge: Predictor, scoring: Scoring, run: Run, noisy_system: str | None = None) -> Ranking:
    ranking, _ = rank_clips(clips, judge, scoring, noisy_system=noisy_system, run=run, samples=SAMPLES)
    for warning in ranking.warnings:
        say(f"Warning: {judge.name}, {scoring}: {warning}")
    return ranking


def _row(label: str, ranking: Ranking, found: Mapping[str, float | None] | None, **more: str) -> Row:
    numbers = {name: (found or {}).get(name) for name in STATISTICS}
    about = {"judge": ranking.model, "version": ranking.version, "contents": ranking.n_contents}
    return {"model": label, **more, **numbers, **about}


def _system_mos(clips: Sequence[Clip]) -> dict[str, float]:
    by_system: dict[str, list[float]] = {}
    for clip in clips:
        if (mos := _mos(clip)) is not None:
            by_system.setdefault(str(clip.system_id), []).append(mos)
    return {system: float(np.mean(values)) for system, values in by_system.items()}


# ---- Table IV: A/B accuracy over pairs


def drawn_pairs(clips: Sequence[Clip], per_bin: int, seed: int = 0) -> list[Pair]:
    """Up to `per_bin` pairs of one content from each bin of MOS difference, without replacement; equal MOS prefers nobody."""
    found = [pair for pair in derive(clips, "reference", delta=0.0) if pair.cmos and pair.a.uid < pair.b.uid]
    size = np.abs([pair.cmos or 0.0 for pair in found])
    rng = np.random.default_rng(seed)
    drawn: list[Pair] = []
    for low, high in pairwise(PK_BINS):
        inside = np.flatnonzero((size >= low) & (size < high))
        drawn += [found[k] for k in np.sort(rng.choice(inside, min(per_bin, len(inside)), replace=False))]
    return drawn


def accuracy_rows(pairs: Sequence[Pair], judges: Mapping[str, Predictor], run: Run = Run()) -> list[Row]:
    """Table IV: how often a judge prefers what listeners prefer, by bins of the difference in MOS.

    Pairs that listeners judged as such (`pair.scope` is "native") are what the paper has, and the first row MOS_cp says how
    often the clip with the higher MOS is the one that they prefer. Otherwise the MOS are the listeners' preference.
    """
    if not pairs:
        raise UsageError("no two clips of one content differ in MOS. Table IV needs MOS per clip; choose another --table.")
    subjective = np.array([verdict_code(pair.verdict) for pair in pairs])
    values = [[np.nan if (mos := _mos(clip)) is None else mos for clip in (pair.a, pair.b)] for pair in pairs]
    gap = difference(*np.array(values, dtype=float).T)
    rows = [_accuracy("MOS_cp", np.sign(gap), subjective, gap)] if pairs[0].scope == "native" else []
    for name, judge in judges.items():
        compared = list(judge.compare_clips([(pair.a, pair.b) for pair in pairs], run))
        failed = [row.error for row in compared if row.error]
        if failed:
            say(f"Warning: {name} could not judge {len(failed)} of {len(pairs)} pairs. The first: {failed[0]}.")
        preferred = np.sign([row.p_a - row.p_b for row in compared])
        rows.append(_accuracy(name, preferred, subjective, gap))
    return rows


def _accuracy(label: str, preferred: np.ndarray, subjective: np.ndarray, gap: np.ndarray) -> Row:
    bins, mean = ab_accuracy_by_gap(preferred, subjective, gap)
    return {"model": label, "bins": bins, "mean": None if np.isnan(mean) else mean}


# ---- all, and on paper


def make(
    data: Data,
    judges: Mapping[str, Predictor],
    wanted: Sequence[int] = (2, 4, 5),
    *,
    noisy_system: str | None = None,
    judged: str | Path | None = None,
    per_bin: int = 20,
    seed: int = 0,
    run: Run = Run(),
) -> dict[str, Any]:
    """The tables as plain data: {"dataset", "tables": {number: {"rows", "published": None or {"source", "rows"}}}}.

    judged: a file of pairs that listeners compared, for Table IV. UsageError if a table cannot be made.
    """
    tables: dict[str, Any] = {}
    for number in wanted:
        if number == 2:
            rows = ranking_rows(data, judges, run)
        elif number == 4:
            pairs = native(read_records(judged), data.clips, str(judged)) if judged else drawn_pairs(data.clips, per_bin, seed)
            rows = accuracy_rows(pairs, judges, run)
        else:
            rows = opinion_rows(data, judges, noisy_system, run)
        tables[str(number)] = {"rows": rows, "published": published_of(number, data.name)}
    n_systems = len({clip.system_id for clip in data.clips})
    return {"dataset": data.name, "systems": n_systems, "judged": str(judged) if judged else None, "tables": tables}


def published_of(number: int, name: str) -> dict[str, Any] | None:
    """The paper's rows on the data set of that name, None if it reports none."""
    if number == 4:
        table = TABLES["PK-IV"]  # its columns are bins; all of it is on urgent25_en
        if column_of(name, ("urgent25_en",)) is None:
            return None
        return {
            "source": table.source,
            "rows": {model: [row[c][0] for c in table.columns] for model, row in table.rows.items()},
        }
    for key in ("PK-II", "PK-III") if number == 2 else ("PK-V",):
        column = column_of(name, TABLES[key].columns)
        if column is not None:
            return {"source": TABLES[key].source, "rows": {m: list(row[column]) for m, row in TABLES[key].rows.items()}}
    return None


TITLES = {
    2: "Tables II and III: correlation of the ranking with listeners",
    4: "Table IV: A/B accuracy by difference in MOS",
    5: "Table V: correlation of the predicted MOS with listeners",
}


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The tables as text, in the paper's layout: a row per model, the statistics or bins as columns, then the paper's rows."""
    for number, table in report["tables"].items():
        yield f"{TITLES[int(number)]}; {report['dataset']}, {report['systems']} systems"
        by_bin = number == "4"
        if by_bin:
            head = [*(f"[{low:g},{high:g})" for low, high in pairwise(PK_BINS)), "Avg"]
            ours = [(row["model"], [*(b["accuracy"] for b in row["bins"]), row["mean"]]) for row in table["rows"]]
            counts = [max(row["bins"][k]["n"] for row in table["rows"]) for k in range(len(PK_BINS) - 1)]
        else:
            head = [name.upper() for name in STATISTICS]
            ours = [(row["model"], [row[name] for name in STATISTICS]) for row in table["rows"]]
        theirs = [] if table["published"] is None else list(table["published"]["rows"].items())
        width = max(len(model) for model, _ in [("model", None), *ours, *theirs])
        yield _line("model", head, width)
        yield from (_line(model, _shown(values, 2 if by_bin else 3), width) for model, values in ours)
        if by_bin:
            yield _line("pairs", [str(n) for n in (*counts, sum(counts))], width)
        if theirs:
            yield f"published: {table['published']['source']}"
            yield from (_line(model, _shown(values, 2 if by_bin else 3), width) for model, values in theirs)
        yield ""


def _shown(values: Sequence[float | None], decimals: int) -> list[str]:
    return ["-" if value is None else f"{value:.{decimals}f}" for value in values]


def _line(model: str, cells: Sequence[str], width: int) -> str:
    return "  ".join([model.ljust(width), *(cell.rjust(9) for cell in cells)]).rstrip()


# ---- the command


def named_model(text: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not (name and equals and model):
        raise argparse.ArgumentTypeError(f"{text!r} is not understood. Write NAME=MODEL, as in UTMOS=utmos")
    return name, model


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("dataset", metavar="DATASET")
    made.add_argument("--models", metavar="NAME=MODEL", type=named_model, nargs="+", required=True)
    made.add_argument(
        "--table", type=int, choices=(2, 4, 5), action="append", help="only this one; 2 is III, too  [default: all]"
    )
    made.add_argument("--noisy-system", metavar="NAME", help="the unprocessed input, for the second half of Table V")
    made.add_argument("--judged", metavar="FILE", help="pairs that listeners judged, for Table IV  [default: drawn by MOS]")
    made.add_argument("--per-bin", type=int, default=20, help="pairs of Table IV that are drawn from each bin  [default: 20]")
    made.add_argument("--seed", type=int, default=0, help="of that draw  [default: 0]")
    made.add_argument("--subset", default="tt", help="of an URGENT-PK data set  [default: tt]")
    made.add_argument("--name", default="", help="of the data set in the paper, as in urgent25_en  [default: DATASET's]")
    made.add_argument("--device", default="auto")
    made.add_argument("-o", "--output", metavar="FILE.json", type=Path)
    return made


@contextmanager
def _journal(output: Path | None) -> Iterator[Path]:
    """Binary and soft votes rest on the same answers: they are asked for once, and kept where a killed run finds them."""
    if output is not None:
        yield journal_of(output)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "answers"


def _build(args: argparse.Namespace) -> None:
    if args.output is not None and args.output.suffix.lower() != ".json":
        raise UsageError(f"{args.output}: these tables are one JSON object. Choose a name that ends in .json.")
    if args.per_bin < 1:
        raise UsageError(f"--per-bin {args.per_bin} draws no pairs. Give 1 or more.")
    check_output(args.output)
    data = read_data(args.dataset, name=args.name, subset=args.subset, noisy_system=args.noisy_system)
    names = [name for name, _ in args.models]
    if len(set(names)) < len(names):
        raise UsageError(f"--models gives a name twice: {', '.join(names)}. Give each model its own.")
    judges = {name: load(model, device=args.device) for name, model in args.models}
    with _journal(args.output) as journal, progress() as show:
        run = Run(1, journal, show)
        report = make(
            data,
            judges,
            args.table or (2, 4, 5),
            noisy_system=args.noisy_system,
            judged=args.judged,
            per_bin=args.per_bin,
            seed=args.seed,
            run=run,
        )
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
