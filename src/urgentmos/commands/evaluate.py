"""`urgentmos evaluate`: how well predictions agree with labels."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import output_option
from urgentmos.commands.output import check_output
from urgentmos.commands.reporting import report_options, write_page
from urgentmos.common.console import number, say, show, table
from urgentmos.errors import UsageError

if TYPE_CHECKING:
    from urgentmos.report import Options as Page


@click.command(cls=Command)
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("references", type=click.Path(path_type=Path))
@click.option(
    "--delta",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Tie threshold of labels that are derived from clips, and of predicted scores.",
)
@click.option(
    "--label",
    metavar="NAME",
    help="The label that each predicted metric is held against.  [default: the one of its name, else mos_overall]",
)
@click.option("--versus", type=click.Path(path_type=Path), help="Other predictions: test whether PREDICTIONS are better.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100_000, show_default=True, help="At most so many pairs made from clips."
)
@click.option(
    "--take",
    type=click.Choice(("sample", "first")),
    default="sample",
    show_default=True,
    help="Under --limit: drawn uniformly, or the first in file order.",
)
@click.option(
    "--resample",
    type=click.Choice(("contents", "systems")),
    default="contents",
    show_default=True,
    help="What the intervals are about: other sentences, or other systems.",
)
@click.option(
    "--confidence", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Of the intervals."
)
@click.option(
    "--samples", type=click.IntRange(min=0), default=200, show_default=True, help="Bootstrap samples; 0 for no intervals."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap and of draws.")
@click.option(
    "--duplicates",
    type=click.Choice(("first", "all")),
    default="first",
    show_default=True,
    help="Ids that come twice: count the first row, or each of them, as the script of Track 2 does.",
)
@click.option("--random", "guess", is_flag=True, help="Add a row of random guesses: what no model should fall below.")
@click.option("--published", is_flag=True, help="Put the papers' numbers on the same corpora beside ours.")
@click.option(
    "--efficiency",
    type=click.Path(path_type=Path),
    help="Rows about the predictors (model, real-time factor, parameters, ...), a table of the page.",
)
@report_options("clips per metric, the farthest from the listeners,")
@output_option
def evaluate(
    predictions: Path,
    references: Path,
    delta: float,
    label: str | None,
    versus: Path | None,
    limit: int,
    take: str,
    resample: str,
    confidence: float,
    samples: int,
    seed: int,
    duplicates: str,
    guess: bool,
    published: bool,
    efficiency: Path | None,
    page: Page | None,
    output: Path | None,
) -> None:
    """How well do predictions agree with listeners?

    Both files hold rows of clips (uid and values) or of pairs (two uids and a verdict, a CMOS, or both), in any mixture:
    what score, label, pairs and compare wrote, or a CSV of anyone's. MSE, LCC, SRCC and KTAU per clip and per system, the
    accuracy of preferences with and without ties, and each corpus on its own.
    """
    from urgentmos.clips.tables import read_records
    from urgentmos.evaluation.agreement import Resampling
    from urgentmos.evaluation.options import Options
    from urgentmos.evaluation.predictions import read_source
    from urgentmos.evaluation.summary import evaluate as run
    from urgentmos.metrics import canonical

    check_output(output, rows="an evaluation")
    if efficiency is not None and page is None:
        raise UsageError("--efficiency is about a page. Add --report FILE.html.")
    costs = [] if efficiency is None else read_records(efficiency)
    numbers = () if label is None else (label,)
    predicted, labels = (read_source(path, duplicates=duplicates, numbers=numbers) for path in (predictions, references))
    other = None if versus is None else read_source(versus, duplicates=duplicates, numbers=numbers)
    options = Options(
        delta=delta,
        label=None if label is None else canonical(label),
        resample=resample,  # type: ignore[arg-type]
        resampling=Resampling(samples, seed, confidence),
        limit=limit,
        take=take,  # type: ignore[arg-type]
        random=guess,
        published=published,
    )
    report = run(predicted, labels, options, other)
    _write_report(report, output)
    if page is not None:
        from urgentmos.evaluation.predictions import match_clips
        from urgentmos.evaluation.summary import usable
        from urgentmos.report import evaluation_page

        predicted, labels = (cleaned.source for cleaned in usable(predicted, labels))
        write_page(evaluation_page(report, match_clips(predicted, labels), predicted, page, costs), page)
    for warning in report["warnings"]:
        say(f"Warning: {warning}")
    _leave(report)


def _leave(report: Mapping[str, Any]) -> None:
    """Exit status 1 if a prediction could not be counted."""
    from urgentmos.evaluation.mismatches import FAILURES

    missing = sum(statistics["missing"] for statistics in report["preference"].values())
    if missing or any(report["ids"][name]["n"] for name in FAILURES):
        sys.exit(1)


def _write_report(report: dict[str, Any], output: Path | None) -> None:
    """JSON holds all; other formats a row per statistic; a terminal the tables."""
    import json

    from urgentmos.clips.tables import write_records
    from urgentmos.files import write_whole

    if output is not None and output.suffix.lower() != ".json":
        write_records(flat_rows(report), output)
    elif output is not None:
        text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
        write_whole(output, text.encode("utf-8", "backslashreplace") + b"\n")
    elif sys.stdout.isatty():
        _show(report)
    else:
        text = json.dumps(report, ensure_ascii=False, allow_nan=False)
        click.echo(text.encode("utf-8", "backslashreplace"))


STATISTICS = {
    "utterance": ("mse", "lcc", "srcc", "ktau"),
    "system": ("mse", "lcc", "srcc", "ktau"),
    "preference": ("acc_delta", "acc_0"),
}


def flat_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The report as rows: corpus (None: all), level, judge, statistic, value, low, high, n, reason, and the two sources."""
    rows = []
    for corpus, part in [(None, report), *report["corpora"].items()]:
        for level, names in STATISTICS.items():
            for judge, statistics in part[level].items():
                origin = report["sources"].get(judge, {})
                sources = {"prediction_source": origin.get("prediction"), "label_source": origin.get("label")}
                for name in names:
                    low, high = statistics["interval"].get(name, (None, None))
                    n = statistics["n_0"] if name == "acc_0" else statistics["n"]
                    value = {"statistic": name, "value": statistics[name], "low": low, "high": high, "n": n}
                    reason = statistics["reason"] or (statistics.get("mse_reason") if name == "mse" else None)
                    rows.append({"corpus": corpus, "level": level, "judge": judge, **value, "reason": reason, **sources})
    return rows


# ---- tables for a terminal


def _show(report: Mapping[str, Any]) -> None:
    rows = []
    percent = f"{report['confidence']:.0%}".replace("%", " %")
    for level in ("utterance", "system"):
        for judge, statistics in report[level].items():
            if statistics["n"]:
                name = judge if statistics["label"] == judge else f"{judge} ({statistics['label']})"
                rows.append([level, name, str(statistics["n"]), *(number(statistics[k]) for k in STATISTICS[level])])
                rows += (
                    [["", "", percent, *(_limits(statistics, k) for k in STATISTICS[level])]] if statistics["interval"] else []
                )
    if rows:
        table(["level", "metric", "n", "MSE", "LCC", "SRCC", "KTAU"], rows, numbers=range(2, 7))
    if report["preference"]:
        delta = f"{report['delta']:g}"
        shown = [_preference_row(judge, statistics) for judge, statistics in report["preference"].items()]
        table(["judge", "pairs", f"acc_{delta}", "pairs", "acc_0", "best"], shown, numbers=range(1, 6))
    for judge, origin in report["sources"].items():
        show(f"{judge}: {origin['prediction']}; labels: {origin['label']}")
    _show_corpora(report)
    for part in report.get("published", ()):
        _show_published(part)
    _show_versus(report.get("versus"))


def _limits(statistics: Mapping[str, Any], name: str) -> str:
    limits = statistics["interval"].get(name)
    return f"{limits[0]:.2f}..{limits[1]:.2f}" if limits else "-"


def _with_interval(statistics: Mapping[str, Any], name: str) -> str:
    return number(statistics[name]) + (f" {_limits(statistics, name)}" if name in statistics["interval"] else "")


def _preference_row(judge: str, statistics: Mapping[str, Any]) -> list[str]:
    best = statistics.get("best")
    best_text = "-" if best is None else f"{best['accuracy']:.2f} at {best['threshold']:g}"
    counts = [
        str(statistics["n"]),
        _with_interval(statistics, "acc_delta"),
        str(statistics["n_0"]),
        _with_interval(statistics, "acc_0"),
    ]
    return [judge, *counts, best_text]


def _show_corpora(report: Mapping[str, Any]) -> None:
    rows = []
    for corpus, part in report["corpora"].items() if len(report["corpora"]) > 1 else ():
        for judge in dict.fromkeys([*part["utterance"], *part["preference"]]):
            clips, pairs = part["utterance"].get(judge, {}), part["preference"].get(judge, {})
            cells = [number(clips.get(k)) for k in ("lcc", "srcc")] + [number(pairs.get(k)) for k in ("acc_delta", "acc_0")]
            rows.append([corpus, judge, str(clips.get("n", 0)), *cells[:2], str(pairs.get("n", 0)), *cells[2:]])
    if rows:
        head = ["corpus", "judge", "clips", "LCC", "SRCC", "pairs", f"acc_{report['delta']:g}", "acc_0"]
        table(head, rows, numbers=range(2, 8))


def _show_published(part: Mapping[str, Any]) -> None:
    show(f"{part['source']} ({' / '.join(part['statistics'])})")
    rows = []
    for row in part["rows"]:
        cells = [" / ".join("-" if x is None else f"{x:.2f}" for x in row[column]) for column in part["columns"]]
        rows.append([f"{row['model']} (here)" if row["ours"] else row["model"], *cells])
    table(["model", *part["columns"]], rows, numbers=range(1, len(part["columns"]) + 1))


def _show_versus(versus: Mapping[str, Any] | None) -> None:
    if versus is None:
        return
    rows = []
    for level, names in STATISTICS.items():
        for judge, statistics in versus[level].items():
            for name in names:
                one = statistics[name]
                ps = [number(one.get(test, {}).get("p")) for test in ("bootstrap", "williams", "steiger")]
                rows.append([level, judge, str(statistics["n"]), name, number(one["difference"]), *ps])
    show(f"difference from {versus['predictions']}, and p of no difference")
    table(["level", "judge", "n", "statistic", "difference", "bootstrap", "Williams", "Steiger"], rows, numbers=(2, 4, 5, 6, 7))
