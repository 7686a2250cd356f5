"""The commands. Everything heavy is imported inside them, so that `urgentmos --help` answers at once.

Exit status: 0 all well; 1 some clips failed (their rows say why); 2 the command could not be understood, its input does
not exist, or its model cannot be loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from urgentmos import __version__
from urgentmos.commands import evaluate as evaluating_commands
from urgentmos.commands import models as model_commands
from urgentmos.commands import prepare as prepare_command
from urgentmos.commands import train as train_command
from urgentmos.commands.shared import (
    Commands,
    check_output,
    clean_up,
    finish,
    labeller_options,
    leave,
    model_option,
    output_option,
    possible_metrics,
    run_of,
    settings_of,
    write_comparisons,
    write_ranking,
)
from urgentmos.console import progress, say
from urgentmos.errors import UsageError

SCORINGS = ("binary", "soft", "bradley-terry", "mos")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="urgentmos")
def main() -> None:
    """Tell which speech system sounds better, by how much and how sure, without a listening test."""


@main.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@click.option("--metrics", default="all", show_default=True, help="Names joined by commas, or all that the model offers.")
@labeller_options
@output_option
def score(
    inputs: tuple[Path, ...],
    metrics: str,
    model: str | None,
    device: str,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    output: Path | None,
) -> None:
    """Score clips: audio files, folders, wav.scp or manifests.

    One row per clip, in the order they came; a clip that cannot be scored has the reason in its row.
    """
    from urgentmos.manifest import attach_references, read_clips
    from urgentmos.metrics import parse_metrics
    from urgentmos.predictor import DEFAULT_MODEL, load

    check_output(output)
    clips = read_clips(inputs)
    judge = load(model or DEFAULT_MODEL, weights=settings_of(weights).weights, device=device)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    names = parse_metrics(metrics, judge.metrics)
    with progress() as show:
        run = run_of(jobs, output, show)
        scores = [s.only(names) for s in judge.score_clips(clips, run)]
    rows = [(s.clip, {"model": s.model, "error": s.error, "warnings": s.warnings}) for s in scores]
    finish(rows, output, run, names)


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
    help="Of the interval in the summary of folders.",
)
@output_option
def compare(
    a: Path,
    b: Path,
    model: str | None,
    device: str,
    confidence: float,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    output: Path | None,
) -> None:
    """Compare two files, or two folders matched by file name.

    The answer is a verdict (a, tie or b) with its probabilities, and CMOS: how much better A is. Both orders are judged and
    averaged. For folders there is one answer per name that both have, and a summary: mean CMOS with an interval over
    contents, wins, ties, losses and a sign test.
    """
    from urgentmos.comparing import summarise
    from urgentmos.manifest import attach_references, pair_folders
    from urgentmos.predictor import DEFAULT_MODEL, load

    check_output(output, rows="a comparison")
    folders = a.is_dir() and b.is_dir()
    pairs, alone = pair_folders(a, b)
    if alone:
        verb = "file has" if len(alone) == 1 else "files have"
        say(f"{len(alone)} {verb} no counterpart of the same name. Left out, the first: {alone[0]}")
    judge = load(model or DEFAULT_MODEL, weights=settings_of(weights).weights, device=device)
    if reference_dir is not None:
        flat = attach_references([clip for pair in pairs for clip in pair], reference_dir)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
    with progress() as show:
        run = run_of(jobs, output, show)
        rows = list(judge.compare_clips(pairs, run))
    summary = summarise(str(a), str(b), rows, confidence=confidence) if folders else None
    write_comparisons(rows, summary, judge, output)
    clean_up(run)
    failed = [(row.b if row.error.startswith(row.b) else row.a, row.error) for row in rows if row.error]
    leave(failed, len(rows), "pairs could not be judged")


@main.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
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
    help="Of the intervals, and of the tests behind the ties.",
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
@output_option
def rank(
    source: Path,
    model: str | None,
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
    output: Path | None,
) -> None:
    """Rank systems by clips of the same contents.

    INPUT is a folder with one folder per system (same file names in each), an URGENT-PK data set, or a manifest, also one
    that score or label wrote: values of the model that it holds are not measured again. Intervals come from resampling
    contents; systems that share a letter in the column "ties" cannot be told apart.
    """
    from urgentmos.cells import safe_text
    from urgentmos.checking import HINDERS_RANKING, check, report
    from urgentmos.manifest import attach_references, read_systems
    from urgentmos.predictor import DEFAULT_MODEL, load, rank_clips

    check_output(output, rows="a ranking")
    if mos_strategy and scoring != "mos":
        raise UsageError(f"--mos-strategy {mos_strategy} is about MOS. Add --scoring mos.")
    if (mos_strategy == "noisy") != (noisy_system is not None):
        raise UsageError("--mos-strategy noisy and --noisy-system NAME go together. Give both, or neither.")
    clips = read_systems(source, subset)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    judge = load(model or DEFAULT_MODEL, weights=settings_of(weights).weights, device=device)
    if mos_strategy and not judge.tells_opinions:
        raise UsageError(f"{judge.name} tells a clip's MOS from the clip alone. --mos-strategy is for URGENT-PK models.")
    problems = [p for p in check(clips, systems=True) if p.kind in HINDERS_RANKING]
    if problems:
        say(report(problems))
    with progress() as show:
        run = run_of(jobs, output, show)
        how = {"confidence": confidence, "samples": samples, "seed": seed, "noisy_system": noisy_system}
        ranking, scores = rank_clips(clips, judge, scoring, run=run, **how)  # type: ignore[arg-type]
    failed = [(s.clip.audio_path, s.error) for s in scores if s.error]
    for warning in ranking.warnings:
        say(f"Warning: {warning}")
    if output is None and (as_table or sys.stdout.isatty()):
        click.echo(safe_text(ranking.table()))
    else:
        write_ranking(ranking.to_dict(), output)
    clean_up(run)
    leave(failed, len(scores), "clips have no score")


@main.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--metrics",
    default="all",
    show_default=True,
    help="Names joined by commas, or all: whatever the installed packages, the given weights and the reference signals allow.",
)
@labeller_options
@output_option
def label(
    inputs: tuple[Path, ...],
    metrics: str,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    output: Path | None,
) -> None:
    """Measure clips: PESQ, ESTOI, DNSMOS, and others.

    Nothing is predicted by models of our own. INPUT: audio files, folders, wav.scp or manifests.

    Intrusive metrics need reference signals: --reference-dir, or reference_path in a manifest. With -o, work that was
    interrupted goes on where it stopped when the same command is run again.
    """
    from urgentmos.labellers import MEASURABLE
    from urgentmos.labellers.loop import label as measure
    from urgentmos.manifest import attach_references, read_clips
    from urgentmos.metrics import parse_metrics

    check_output(output)
    settings = settings_of(weights)
    clips = read_clips(inputs)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    names = possible_metrics(clips, settings) if metrics.strip() == "all" else parse_metrics(metrics, MEASURABLE)
    with progress() as show:
        run = run_of(jobs, output, show)
        found = measure(clips, names, settings, jobs=run.jobs, journal=run.journal, progress=run.progress)
        rows = [(item.clip, {"error": item.error, "warnings": item.warnings}) for item in found]
    finish(rows, output, run, names)


for command in (
    prepare_command.prepare,
    evaluating_commands.pairs,
    train_command.train,
    evaluating_commands.evaluate,
    model_commands.import_,
    model_commands.export,
    model_commands.models,
):
    main.add_command(command)
