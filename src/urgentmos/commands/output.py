"""Writing and showing results, and the exit status that follows from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urgentmos.commands.ending import Command as Command
from urgentmos.commands.ending import Commands as Commands
from urgentmos.commands.ending import journal_of, shards_of
from urgentmos.common.console import columns_that_fit, number, say, table, with_interval
from urgentmos.errors import UsageError
from urgentmos.files import check_writable, write_whole

if TYPE_CHECKING:
    from urgentmos.audio.left_out import Note
    from urgentmos.clips.clip import Clip
    from urgentmos.cluster.run import Work
    from urgentmos.judges.base import Predictor, Run
    from urgentmos.ranking.comparison import Comparison, Summary
    from urgentmos.ranking.gate import Gate

SHOWN_WARNINGS = 10  # of clips on a terminal


def say_notes(notes: Iterable[Note]) -> None:
    """Each note once on stderr."""
    for sentence in dict.fromkeys(note.sentence for note in notes):
        say(f"Note: {sentence}.")


def check_output(output: Path | None, *, rows: str = "") -> None:
    """UsageError if the results could not be written: raised before the work. `rows`: what no .scp can hold."""
    from urgentmos.clips import tables

    if output is None:
        return
    tables.check_output(output)
    if rows and output.suffix.lower() == ".scp":
        others = " ".join(suffix for suffix in tables.SUFFIXES if suffix != ".scp")
        raise UsageError(f"{output}: {rows} does not fit into a .scp file. Choose one of: {others}.")
    check_writable(journal_of(output), output)


def spread(
    cluster: str | None, clips: Sequence[Clip], works: Callable[[], Sequence[Work]], run: Run, output: Path | None
) -> Run:
    """Let a cluster do the work, if one was named: what is left of the run finds its results done."""
    if cluster is None:
        return run
    import tempfile
    from dataclasses import replace

    from urgentmos.clips.journal import Task
    from urgentmos.cluster.run import run_on_cluster

    shards = Path(tempfile.mkdtemp(prefix="urgentmos-")) if output is None else shards_of(output)
    all_works = list(works())
    with_reference = any(hasattr(work, "passing") for work in all_works)  # networks listen to the clip alone
    tasks = [Task(clip.audio_path, clip.reference_path if with_reference else None) for clip in clips]
    run_on_cluster(cluster, tasks, all_works, shards, run.progress, jobs=run.jobs)
    return replace(run, journal=shards)


def say_taken_places(before: Sequence[Clip], after: Sequence[Clip]) -> None:
    """Report which values of the input were replaced, and where they are kept."""
    from urgentmos.clips.provenance import taken_places

    for sentence in taken_places(before, after):
        say(f"Note: {sentence}")


def finish(
    rows: list[tuple[Clip, dict[str, Any]]],
    output: Path | None,
    run: Run,
    metrics: Sequence[str],
    then: Callable[[], None] = lambda: None,
    warnings: Sequence[str] = (),
) -> None:
    """Write or show the rows of clips, do what comes `then`, report failures, and leave with the right exit status.

    warnings: of all clips, grouped; the rows have each clip's own.
    """
    from urgentmos.clips.clip import to_record
    from urgentmos.clips.tables import write_jsonl_lines, write_records

    if output is not None:
        written = [(_alone(clip, metrics), extra) for clip, extra in rows] if output.suffix.lower() == ".scp" else rows
        write_records((to_record(clip, output.parent, extra) for clip, extra in written), output)
    elif sys.stdout.isatty():
        _show_clips(rows, metrics)
    else:
        write_jsonl_lines((to_record(clip, None, extra) for clip, extra in rows), sys.stdout)
    for warning in warnings:
        say(f"Warning: {warning}")
    if output is None and sys.stdout.isatty():
        _say_warnings([(clip.audio_path, warning) for clip, extra in rows for warning in extra["warnings"]])
    clean_up(run, [extra["error"] for _, extra in rows])
    then()
    leave([(clip.audio_path, extra["error"]) for clip, extra in rows if extra["error"]], len(rows))


def _say_warnings(of_clips: Sequence[tuple[str, str]]) -> None:
    """The first warnings of clips, for which a table has no room."""
    for path, warning in of_clips[:SHOWN_WARNINGS]:
        say(f"  {path}: {warning}")
    if len(of_clips) > SHOWN_WARNINGS:
        say(f"  and {len(of_clips) - SHOWN_WARNINGS} more. Write them with -o FILE.")


def _alone(clip: Clip, metrics: Sequence[str]) -> Clip:
    """The clip with these metrics alone: a .scp file has no room for the manifest's other labels."""
    from dataclasses import replace

    return replace(clip, metrics={name: clip.metrics.get(name) for name in metrics})


def _show_clips(rows: list[tuple[Clip, dict[str, Any]]], metrics: Sequence[str]) -> None:
    """A table of as many metrics as the terminal has room for, the opinion score first, and a word about the others."""
    metrics = sorted(metrics, key=lambda name: name != "mos_overall")
    shown = [[clip.uid, *_shown(clip, extra.get("intervals") or {}, metrics)] for clip, extra in rows]
    fitting = max(2, columns_that_fit(["clip", *metrics], shown))
    table(["clip", *metrics[: fitting - 1]], [row[:fitting] for row in shown], numbers=range(1, fitting))
    if metrics[fitting - 1 :]:
        say(f"{', '.join(metrics[fitting - 1 :])}: no room here. Choose some with --metrics, or write all with -o FILE.")


def _shown(clip: Clip, intervals: Mapping[str, Sequence[float]], metrics: Sequence[str]) -> list[str]:
    """Metrics for a reader: the opinion score with its interval, as many decimals as that allows; the others plain."""
    return [
        with_interval(clip.metrics.get(name), intervals[name])
        if name == "mos_overall" and name in intervals
        else number(clip.metrics.get(name))
        for name in metrics
    ]


def write_ranking(result: dict[str, Any], output: Path | None) -> None:
    """JSON holds all; CSV, Parquet and JSONL a row per system."""
    from urgentmos.clips.tables import write_records

    if output is None:
        click.echo(_json_bytes(result), nl=False)
    elif output.suffix.lower() == ".json":
        write_whole(output, _json_bytes(result, indent=1))
    else:
        write_records(result["systems"], output)


def _json_bytes(result: dict[str, Any], indent: int | None = None) -> bytes:
    """One JSON object and a line end; a name that is not UTF-8 becomes a JSON escape."""
    import json

    text = json.dumps(result, ensure_ascii=False, indent=indent, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def write_comparisons(
    rows: Sequence[Comparison],
    summary: Summary | None,
    judge: Predictor,
    output: Path | None,
    gate: Gate | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """One pair as one object; folders as {"model", "summary", "warnings", "rows"} in JSON, rows elsewhere.

    A gate stands beside the summary in JSON.
    """
    from urgentmos.clips.tables import write_jsonl_lines, write_records

    by = {"model": judge.name, "version": judge.version}
    records = [{**by, **row.to_dict()} for row in rows]
    on_terminal = output is None and sys.stdout.isatty()
    if on_terminal:
        _show_comparisons(rows, None if summary is None else summary.a)
    elif output is not None and output.suffix.lower() == ".json":
        gate_cell = {} if gate is None else {"gate": gate.to_dict()}
        about = {} if summary is None else {"summary": summary.to_dict(), **gate_cell, "warnings": list(warnings)}
        result = records[0] if summary is None else {**by, **about, "rows": records}
        write_whole(output, _json_bytes(result, indent=1))
    elif output is not None:
        write_records(records, output)
    else:
        write_jsonl_lines(records, sys.stdout)
    if summary is not None:
        say(summary.sentence(gated=gate is not None))


def _show_comparisons(rows: Sequence[Comparison], folder: str | None) -> None:
    """Two paths fit no terminal: the contents of folders are named once, and two files have just been named by the user."""
    numbers = ("p_a", "p_tie", "p_b", "cmos")
    shown = [[row.verdict or "-", *(number(row.to_dict()[key]) for key in numbers)] for row in rows]
    head = ["verdict", *numbers]
    if folder is not None:
        head = ["content", *head]
        contents = [_content(row.a, folder) for row in rows]
        shown = [[content, *cells] for content, cells in zip(contents, shown, strict=True)]
    table(head, shown, numbers=range(len(head) - 4, len(head)))


def _content(path: str, folder: str) -> str:
    """The path of a clip below its folder or in its archive, without suffix."""
    import os

    from urgentmos.audio.places.names import place_of

    return os.path.splitext(place_of(path).member or os.path.relpath(path, folder))[0]


def clean_up(run: Run, errors: Iterable[str | None] = ()) -> None:
    """The results are safe: what was kept for a resume can go, unless one of the clips' errors may pass."""
    from urgentmos.common.retries import is_passing

    if run.journal is not None and any(map(is_passing, errors)):
        say("Some clips failed for a reason that may pass. Finished work is kept: run the same command again to ask for these.")
        return
    if run.journal is not None and run.journal.is_dir():
        import shutil

        shutil.rmtree(run.journal, ignore_errors=True)
    elif run.journal is not None:
        run.journal.unlink(missing_ok=True)


def leave(
    failed: Sequence[tuple[str, str | None]],
    n_clips: int,
    what: str = "clips lack a metric (their rows say why)",
    status: int = 0,
) -> None:
    """Leave with `status`, or with 1 if that is 0 and a clip failed; the first reasons go to stderr."""
    if failed:
        say(f"{len(failed)} of {n_clips} {what}:")
        status = status or 1
    for path, error in failed[:10]:
        say(f"  {error}" if str(error).startswith(path) else f"  {path}: {error}")
    if len(failed) > 10:
        say(f"  and {len(failed) - 10} more")
    if status:
        sys.exit(status)
