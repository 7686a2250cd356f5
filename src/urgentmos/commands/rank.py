"""`urgentmos rank`: Rank systems."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import labeller_options, model_option, output_option, run_of, settings_of
from urgentmos.commands.output import check_output, clean_up, leave, say_notes, write_ranking
from urgentmos.commands.reporting import check_room, report_options, write_page
from urgentmos.common.console import progress, say, say_lines, show_lines
from urgentmos.errors import UsageError
from urgentmos.ranking.names import TITLES

if TYPE_CHECKING:
    from urgentmos.report import Options


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=str)
@model_option
@click.option(
    "--scoring",
    type=click.Choice(list(TITLES)),
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
