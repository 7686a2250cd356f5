"""`urgentmos label`: Measure clips with labellers."""

from __future__ import annotations

from pathlib import Path

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import cluster_option, labeller_options, output_option, possible_metrics, run_of, settings_of
from urgentmos.commands.output import check_output, finish, say_notes, say_taken_places, spread
from urgentmos.common.console import progress


@click.command(cls=Command)
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
