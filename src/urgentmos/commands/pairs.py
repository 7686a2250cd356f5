"""`urgentmos pairs`: pairs of labelled clips with a preference."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import output_option
from urgentmos.commands.output import check_output
from urgentmos.common.console import number, say, table
from urgentmos.errors import UsageError

if TYPE_CHECKING:
    from urgentmos.clips.pairs import Pair, Pairs

SHOWN = 20  # pairs that a terminal is shown


@click.command(cls=Command)
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--scope",
    type=click.Choice(("any", "corpus", "reference")),
    default="reference",
    show_default=True,
    help="Which clips meet: any two, two of one corpus, or two systems on one content.",
)
@click.option(
    "--delta",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Clips that differ by no more than this are a tie.",
)
@click.option("--metric", default="mos_overall", show_default=True, help="The label whose difference is the CMOS.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many derived pairs.  [default: all]")
@click.option(
    "--take",
    type=click.Choice(("sample", "first")),
    default="sample",
    show_default=True,
    help="Under --limit: drawn uniformly from all pairs, or the first in file order, as published sets are.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
@click.option("--symmetric", is_flag=True, help="Put each pair and its mirror image one after the other.")
@click.option(
    "--native",
    type=click.Path(path_type=Path),
    help="Pairs that listeners judged: rows with two uids and a verdict (a, tie, b). They come first, and --limit spares them.",
)
@click.option("--split", type=click.Choice(("train", "valid", "test")), help="Only contents of this split.")
@click.option(
    "--shares", default="0.8,0.1,0.1", show_default=True, help="Shares of train, valid and test that --split chooses from."
)
@output_option
def pairs(
    manifests: tuple[Path, ...],
    scope: str,
    delta: float,
    metric: str,
    limit: int | None,
    take: str,
    seed: int,
    symmetric: bool,
    native: Path | None,
    split: str | None,
    shares: str,
    output: Path | None,
) -> None:
    """Make labelled pairs from labelled clips.

    One row per ordered pair, so that two clips give (a, b) and (b, a); with --limit, a sample of them. A split is a
    function of the content's id: all systems of a sentence are on the same side, today and after the next recording.
    """
    from urgentmos.clips import pairs as making
    from urgentmos.clips.inputs import read_clips
    from urgentmos.clips.tables import read_records
    from urgentmos.metrics import canonical

    check_output(output, rows="a pair")
    if symmetric and limit == 1:
        raise UsageError("--symmetric writes pairs two by two. Choose --limit 2 or more.")
    clips = read_clips(manifests)
    parts = _shares(shares)
    if split is not None:
        clips = making.in_split(clips, split, parts)
    judged = [] if native is None else making.native(read_records(native), clips, str(native))
    derived = making.derive(
        clips,
        scope,  # type: ignore[arg-type]
        delta=delta,
        metric=canonical(metric),
        limit=limit,
        take=take,  # type: ignore[arg-type]
        seed=seed,
        symmetric=symmetric,
    )
    if not len(derived) and not judged:
        raise UsageError(_no_pairs(derived, split, len(clips)))
    _write_pairs(derived, judged, output)
    for reason, count in derived.left_out.items():
        say(f"{count} of {len(clips)} clips {reason} and are left out")
    for warning in derived.warnings:
        say(f"Warning: {warning}")
    more = f", and {len(judged):,} native ones" if judged else ""
    say(f"{len(derived):,} of {derived.n_possible:,} possible pairs{more}")


def _shares(text: str) -> list[tuple[str, float]]:
    from urgentmos.clips.records import number as as_number

    try:
        values = [as_number(part) or 0.0 for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or min(values) < 0 or abs(sum(values) - 1) > 1e-6:
        raise UsageError(f"--shares {text}: three shares that sum to 1 are needed. Write for example 0.8,0.1,0.1.")
    return list(zip(("train", "valid", "test"), values, strict=True))


def _no_pairs(derived: Pairs, split: str | None, n_clips: int) -> str:
    reasons = "".join(f"; {count} of them {reason}" for reason, count in derived.left_out.items())
    where = f" in the split {split}" if split else ""
    wanted = {
        "any": "Two clips with a label are needed.",
        "corpus": "Two labelled clips of one corpus are needed; --scope any asks for no corpus.",
        "reference": "Labelled clips of two systems with one reference_id are needed; --scope any asks for neither.",
    }
    return f"{n_clips} clips{where} make no pair{reasons}. {wanted[derived.scope]}"


def _write_pairs(derived: Pairs, judged: Sequence[Pair], output: Path | None) -> None:
    from itertools import chain, islice

    from urgentmos.clips.pairs import RowMaker
    from urgentmos.clips.tables import write_jsonl_lines, write_records

    row = RowMaker(None if output is None else output.parent)
    rows: Iterator[dict[str, Any]] = (row(pair) for pair in chain(judged, derived))
    if output is not None:
        write_records(rows, output)
    elif sys.stdout.isatty():
        head = list(islice(rows, SHOWN))
        cells = [[*r["uids"], number(next(iter(r["metrics"].values()), None)), r["verdict"], r["scope"]] for r in head]
        table(["a", "b", "CMOS", "verdict", "scope"], cells, numbers=[2])
        if len(derived) + len(judged) > SHOWN:
            say(f"The first {SHOWN} are shown. Write all with -o pairs.jsonl.")
    else:
        write_jsonl_lines(rows, sys.stdout)
