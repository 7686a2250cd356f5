"""`urgentmos compare`: Compare two clips or two systems, and the gate for CI."""

from __future__ import annotations

from pathlib import Path

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import labeller_options, model_option, output_option, run_of, settings_of
from urgentmos.commands.output import check_output, clean_up, leave, say_notes, write_comparisons
from urgentmos.common.console import progress, say
from urgentmos.errors import UsageError


@click.command(cls=Command)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@model_option
@labeller_options
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, True, True),
    default=0.95,
    show_default=True,
    help="Of the interval in the summary of folders, and of --fail-if-worse.",
)
@click.option(
    "--fail-if-worse",
    is_flag=True,
    help="A gate for CI, for two folders: exit status 3 if B is worse than A, beyond chance at --confidence.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="With --fail-if-worse: how much worse B may be, in the unit of the CMOS.",
)
@output_option
def compare(
    a: Path,
    b: Path,
    model: str,
    device: str,
    confidence: float,
    fail_if_worse: bool,
    margin: float,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    output: Path | None,
) -> None:
    """Compare two files, or two folders matched by file name.

    The answer is a verdict (a, tie or b) with its probabilities, and CMOS: how much better A is. Both orders are judged and
    averaged. For folders there is one answer per name that both have, and a summary: mean CMOS with an interval over
    contents, wins, ties, losses and a sign-flip test.

    With --fail-if-worse, A is the old build and B the new one. Exit status 3: B is worse. 1: not shown to be worse, but some
    pairs could not be judged, or B lacks a file that A has. 0: neither.
    """
    from urgentmos.api import load
    from urgentmos.clips.inputs import is_collection, read_pairs
    from urgentmos.clips.references import find_references
    from urgentmos.judges.base import on_its_own, warnings_about_pairs
    from urgentmos.ranking.comparison import summarise

    check_output(output, rows="a comparison")
    if margin and not fail_if_worse:
        raise UsageError(f"--margin {margin:g} is about the gate. Add --fail-if-worse.")
    folders = is_collection(a) and is_collection(b)
    pairs, alone, notes = read_pairs(a, b)
    if fail_if_worse:
        _check_gate(folders, confidence)
    say_notes(notes)
    judge = load(model, weights=settings_of(weights).weights, device=device)
    if reference_dir is not None:
        flat, notes = find_references([clip for pair in pairs for clip in pair], reference_dir)
        say_notes(notes)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
    with progress() as show:
        run = run_of(jobs, output, show)
        rows = list(judge.compare_clips(pairs, run))
    if not folders:
        rows = [on_its_own(row, judge) for row in rows]
    summary = summarise(str(a), str(b), rows, confidence=confidence) if folders else None
    warnings = warnings_about_pairs(str(a), str(b), rows, judge)
    gate_result = None
    if fail_if_worse:
        from urgentmos.ranking.gate import gate

        lost = len(alone[0]) + sum(row.at_fault("b") and not row.at_fault("a") for row in rows)
        gate_result = gate(rows, confidence=confidence, margin=margin, lost=lost)
    write_comparisons(rows, summary, judge, output, gate_result, warnings)
    clean_up(run, [row.error for row in rows])
    for sentence in warnings:
        say(f"Warning: {sentence}")
    failed = [("", row.error) for row in rows if row.error]  # the error names the file
    n_pairs, status = len(rows), 0
    if gate_result is not None:
        say(gate_result.sentence())
        if warning := gate_result.warning():
            say(f"Warning: {warning}")
        # a build that writes nothing must not pass
        failed += [(path, f"{b} lacks its counterpart. Write it, or remove this one") for path in alone[0]]
        n_pairs, status = n_pairs + len(alone[0]), gate_result.exit_status
    leave(failed, n_pairs, "pairs could not be judged", status)


def _check_gate(folders: bool, confidence: float) -> None:
    """UsageError if there could be no gate: raised before the work."""
    from urgentmos.ranking.gate import contents_needed  # scipy: half a second, which two files need not wait for

    if not folders:
        raise UsageError("--fail-if-worse needs many contents, and these are two files. Give two folders.")
    contents_needed(confidence)
