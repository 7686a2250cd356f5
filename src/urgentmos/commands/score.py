"""`urgentmos score`: Score clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import cluster_option, labeller_options, model_option, output_option, run_of, settings_of
from urgentmos.commands.output import check_output, finish, say_notes, say_taken_places, spread
from urgentmos.commands.reporting import check_room, report_options, write_page
from urgentmos.common.console import progress

if TYPE_CHECKING:
    from urgentmos.report import Options


@click.command(cls=Command)
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
