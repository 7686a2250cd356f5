"""The commands. Everything heavy is imported inside them, so that `urgentmos --help` answers at once.

Exit status: 0 all well; 1 some clips failed (their rows hold the reason); 2 the command could not be understood, its input does
not exist, or its model cannot be loaded; 3 `compare --fail-if-worse` found B worse.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urgentmos import __version__
from urgentmos.commands import evaluate as evaluating_commands
from urgentmos.commands import models as model_commands
from urgentmos.commands import prepare as prepare_command
from urgentmos.commands import serve as serve_command
from urgentmos.commands import train as train_command
from urgentmos.commands.reporting import check_room, report_options, write_page
from urgentmos.commands.shared import (
    Commands,
    check_output,
    clean_up,
    cluster_option,
    finish,
    labeller_options,
    leave,
    model_option,
    output_option,
    possible_metrics,
    run_of,
    say_notes,
    say_taken_places,
    settings_of,
    spread,
    write_comparisons,
    write_ranking,
)
from urgentmos.common.console import progress, say, say_lines, show_lines
from urgentmos.errors import UsageError

if TYPE_CHECKING:
    from urgentmos.report import Options

SCORINGS = ("binary", "soft", "bradley-terry", "mos")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="urgentmos")
def main() -> None:
    """Tell which speech system sounds better, by how much and how sure, without a listening test."""


@main.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=str)
@model_option
@click.option("--metrics", default="all", show_default=True, help="Names joined by commas, or all that the model offers.")
@labeller_options
@cluster_option
@report_options("clips")
@output_option
def score(
    inputs: tuple[str, ...],
    metrics: str,
    model: str,
    device: str,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    cluster: str | None,
    page: Options | None,
    output: Path | None,
) -> None:
    """Score clips: files, folders, manifests, shards, URLs.

    One row per clip, in the order they came; a clip that cannot be scored has the reason in its row.
    """
    from urgentmos.api import load
    from urgentmos.clips.inputs import read_inputs
    from urgentmos.clips.references import find_references
    from urgentmos.cluster.run import works_of
    from urgentmos.judges.base import warnings_about
    from urgentmos.metrics import parse_metrics

    check_output(output)
    clips, notes = read_inputs(inputs)
    say_notes(notes)
    check_room(clips, len(clips), page)
    given, settings = model, settings_of(weights)
    judge = load(given, weights=settings.weights, device=device)
    if reference_dir is not None:
        clips, notes = find_references(clips, reference_dir)
        say_notes(notes)
    names = parse_metrics(metrics, judge.metrics)
    with progress() as show:
        run = spread(cluster, clips, lambda: works_of(judge, given, device, settings), run_of(jobs, output, show), output)
        scores = [s.only(names) for s in judge.score_clips(clips, run)]
    say_taken_places(clips, [s.clip for s in scores])
    rows = [(s.clip, {"model": s.model, "error": s.error, "warnings": s.warnings, **s.interval_cell()}) for s in scores]
    warnings = warnings_about(scores, judge)

    def show_page() -> None:
        if page is not None:
            from urgentmos.report import clips_page

            write_page(clips_page(scores, judge, names, page), page)

    finish(rows, output, run, names, show_page, warnings)


@main.command()
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


@main.command()
@click.argument("source", metavar="INPUT", type=str)
@model_option
@click.option(
    "--scoring",
    type=click.Choice(SCORINGS),
    default="binary",
    show_default=True,
    help="What adds up: votes of ECS (binary or soft), strengths of Bradley-Terry with ties, or mean scores.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, True, True),
    default=0.95,
    show_default=True,
    help="Of the intervals, and of the tests that tell systems apart.",
)
@click.option(
    "--samples", type=click.IntRange(min=100), default=1000, show_default=True, help="How often the contents are resampled."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the resampling.")
@click.option(
    "--mos-strategy",
    type=click.Choice(("replication", "noisy")),
    help="How an URGENT-PK model tells a clip's MOS under --scoring mos: beside itself, or beside the unprocessed input.",
)
@click.option("--noisy-system", metavar="NAME", help="The system of unprocessed inputs, for --mos-strategy noisy.")
@click.option(
    "--subset", default="tt", show_default=True, help="Contents of an URGENT-PK data set that are ranked: tr, cv or tt."
)
@click.option("--table", "as_table", is_flag=True, help="Print the table into a pipe, too, instead of JSON.")
@labeller_options
@report_options("contents")
@output_option
def rank(
    source: str,
    model: str,
    device: str,
    scoring: str,
    confidence: float,
    samples: int,
    seed: int,
    mos_strategy: str | None,
    noisy_system: str | None,
    subset: str,
    as_table: bool,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    page: Options | None,
    output: Path | None,
) -> None:
    """Rank systems by clips of the same contents.

    INPUT is a folder with one folder per system (same file names in each), an URGENT-PK data set, or a manifest, also one
    that score or label wrote: labels of the metric named with -m that it holds are not measured again, and its predictions
    are never used as labels. Intervals come from resampling
    contents; the last column names the ranks of the systems that a system cannot be told apart from.
    """
    from dataclasses import replace

    from urgentmos.api import load, rank_with_evidence
    from urgentmos.clips.checks import FILE_FAULTS, HINDERS_RANKING, check, report
    from urgentmos.clips.inputs import read_system_inputs
    from urgentmos.clips.references import find_references
    from urgentmos.metrics import HUMAN

    check_output(output, rows="a ranking")
    if mos_strategy and scoring != "mos":
        raise UsageError(f"--mos-strategy {mos_strategy} is about MOS. Add --scoring mos.")
    if (mos_strategy == "noisy") != (noisy_system is not None):
        raise UsageError("--mos-strategy noisy and --noisy-system NAME go together. Give both, or neither.")
    inputs = read_system_inputs(source, subset)
    clips = inputs.clips
    say_notes(inputs.notes)
    check_room(clips, len({clip.reference_id for clip in clips}), page)
    if reference_dir is not None:
        clips, notes = find_references(clips, reference_dir)
        say_notes(notes)
    judge = load(model, weights=settings_of(weights).weights, device=device)
    if mos_strategy and not judge.has_opinions:
        raise UsageError(f"{judge.name} tells a clip's MOS from the clip alone. --mos-strategy is for URGENT-PK models.")
    unread = FILE_FAULTS if judge.name in HUMAN else ()  # the listeners' votes need no audio
    problems = [p for p in check(clips, systems=True) if p.kind in HINDERS_RANKING and p.kind not in unread]
    if problems:
        say_lines(report(problems))
    with progress() as show:
        run = run_of(jobs, output, show)
        resampling = {"confidence": confidence, "samples": samples, "seed": seed, "noisy_system": noisy_system}
        ranking, evidence = rank_with_evidence(clips, judge, scoring, run=run, **resampling)  # type: ignore[arg-type]
    failed = [(s.clip.audio_path, s.error) for s in evidence.rows if s.error]
    for warning in ranking.warnings:
        say(f"Warning: {warning}")
    ranking = replace(ranking, warnings=(*inputs.warnings, *ranking.warnings))
    if output is None and (as_table or sys.stdout.isatty()):
        show_lines(ranking.table())
        say(f"Scores: {ranking.sources['score']}.")
    else:
        write_ranking(ranking.to_dict(), output)
    clean_up(run, [error for _, error in failed])
    if page is not None:
        from urgentmos.report import ranking_page

        write_page(ranking_page(ranking, evidence, clips, judge.ranks_by, page), page)
    leave(failed, len(evidence.rows), "clips have no score")


@main.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=str)
@click.option(
    "--metrics",
    default="all",
    show_default=True,
    help="Names joined by commas, or all: whatever the installed packages, the given weights and the reference signals allow.",
)
@labeller_options
@cluster_option
@output_option
def label(
    inputs: tuple[str, ...],
    metrics: str,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    cluster: str | None,
    output: Path | None,
) -> None:
    """Measure clips: PESQ, ESTOI, DNSMOS, and others.

    Nothing is predicted by models of our own. INPUT: audio files, folders, wav.scp, manifests, or shards (.tar,
    .parquet), here or behind a URL.

    Intrusive metrics need reference signals: --reference-dir, or reference_path in a manifest. With -o, work that was
    interrupted goes on where it stopped when the same command is run again.
    """
    from urgentmos.clips.inputs import read_inputs
    from urgentmos.clips.references import find_references
    from urgentmos.cluster.run import label_works
    from urgentmos.common.clip_warnings import Flagged, grouped
    from urgentmos.labellers import MEASURABLE
    from urgentmos.labellers.loop import label as measure
    from urgentmos.metrics import parse_metrics

    check_output(output)
    settings = settings_of(weights)
    clips, notes = read_inputs(inputs)
    say_notes(notes)
    if reference_dir is not None:
        clips, notes = find_references(clips, reference_dir)
        say_notes(notes)
    names = possible_metrics(clips, settings) if metrics.strip() == "all" else parse_metrics(metrics, MEASURABLE)
    with progress() as show:
        run = spread(cluster, clips, lambda: label_works(names, settings), run_of(jobs, output, show), output)
        labelled = measure(clips, names, settings, jobs=run.jobs, journal=run.journal, progress=run.progress)
        rows = [(item.clip, {"error": item.error, "warnings": item.warnings}) for item in labelled]
    say_taken_places(clips, [clip for clip, _ in rows])
    warnings = grouped(Flagged(clip.system_id, extra["warnings"]) for clip, extra in rows)  # type: ignore[arg-type]
    finish(rows, output, run, names, warnings=warnings)


for command in (
    prepare_command.prepare,
    evaluating_commands.pairs,
    train_command.train,
    evaluating_commands.evaluate,
    model_commands.import_,
    model_commands.export,
    model_commands.models,
    serve_command.serve,
):
    main.add_command(command)
