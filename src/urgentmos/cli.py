"""The commands. Everything heavy is imported inside them, so that `urgentmos --help` answers at once.

Exit status: 0 all well; 1 some clips failed (their rows say why); 2 the command could not be understood, its input does
not exist, or its model cannot be loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from urgentmos import __version__
from urgentmos.console import number, progress, say, table
from urgentmos.errors import UrgentmosError, UsageError

if TYPE_CHECKING:
    from urgentmos.clips import Clip
    from urgentmos.labellers import Settings
    from urgentmos.results import Run

F = TypeVar("F", bound=Callable[..., Any])
SCORINGS = ("binary", "soft", "bradley-terry", "mos")


class Command(click.Command):
    """Ends with one sentence on stderr: exit status 2 for our errors, 130 after Ctrl-C. Anything else is a bug and shows."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UrgentmosError as e:
            say(f"Error: {e}")
            sys.exit(2)
        except KeyboardInterrupt:
            output = ctx.params.get("output")
            keeping = (
                "Nothing is kept without -o FILE."
                if output is None
                else "Finished work is kept: run the same command again to go on."
            )
            say(f"Interrupted. {keeping}")
            sys.exit(130)


class Commands(click.Group):
    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the work, not of the alphabet


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="urgentmos")
def main() -> None:
    """Tell which speech system sounds better, by how much and how sure, without a listening test."""


def output_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Write here; the format follows the ending (.jsonl .csv .parquet .json .scp). Without it: a table on a "
        "terminal, JSON lines into a pipe.",
    )(command)


def labeller_options(command: F) -> F:
    """What every command that may measure needs."""
    for option in (
        click.option(
            "--weights",
            metavar="NAME=PATH",
            multiple=True,
            help="Weights that no package carries: a local path or a hub id, as in nisqa=nisqa.tar or "
            "sbert=utter-project/mHuBERT-147. Repeat for several.",
        ),
        click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one per core]"),
        click.option(
            "--reference-dir",
            type=click.Path(path_type=Path),
            help="Folder of the clean reference signals, matched by content or file name.",
        ),
    ):
        command = option(command)
    return command


def model_option(command: F) -> F:
    return click.option(
        "-m",
        "--model",
        default=None,
        help="What judges: a measured metric such as dnsmos_ovrl, distill_mos or pesq.  [default: dnsmos_ovrl]",
    )(command)


@main.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@labeller_options
@output_option
def score(
    inputs: tuple[Path, ...],
    model: str | None,
    reference_dir: Path | None,
    jobs: int | None,
    weights: tuple[str, ...],
    output: Path | None,
) -> None:
    """Score clips: audio files, folders, wav.scp or manifests.

    One row per clip, in the order they came; a clip that cannot be scored has the reason in its row.
    """
    from urgentmos.manifest import attach_references, read_clips
    from urgentmos.predictor import DEFAULT_MODEL, load

    _check_output(output)
    clips = read_clips(inputs)
    judge = load(model or DEFAULT_MODEL, weights=_settings(weights).weights)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    with progress() as show:
        run = _run(jobs, output, show)
        rows = [(s.clip, {"model": s.model, "error": s.error, "warnings": s.warnings}) for s in judge.score_clips(clips, run)]
    _finish(rows, output, run, judge.metrics)


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
    "--subset", default="tt", show_default=True, help="Contents of an URGENT-PK data set that are ranked: tr, cv or tt."
)
@labeller_options
@output_option
def rank(
    source: Path,
    model: str | None,
    scoring: str,
    confidence: float,
    samples: int,
    seed: int,
    subset: str,
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
    from urgentmos.checking import check, report
    from urgentmos.manifest import attach_references, read_systems
    from urgentmos.predictor import DEFAULT_MODEL, load, rank_clips

    _check_output(output, ranking=True)
    clips = read_systems(source, subset)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    judge = load(model or DEFAULT_MODEL, weights=_settings(weights).weights)
    problems = check(clips, systems=True)
    if problems:
        say(report(problems))
    with progress() as show:
        run = _run(jobs, output, show)
        how = {"confidence": confidence, "samples": samples, "seed": seed}
        ranking, scores = rank_clips(clips, judge, scoring, run=run, **how)  # type: ignore[arg-type]
    failed = [(s.clip.audio_path, s.error) for s in scores if s.error]
    for warning in ranking.warnings:
        say(f"Warning: {warning}")
    if output is None and sys.stdout.isatty():
        click.echo(safe_text(ranking.table()))
    else:
        _write_ranking(ranking.to_dict(), output)
    _clean_up(run)
    _exit(failed, len(scores), "clips have no score")


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

    _check_output(output)
    settings = _settings(weights)
    clips = read_clips(inputs)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    names = _possible(clips, settings) if metrics.strip() == "all" else parse_metrics(metrics, MEASURABLE)
    with progress() as show:
        run = _run(jobs, output, show)
        found = measure(clips, names, settings, jobs=run.jobs, journal=run.journal, progress=run.progress)
        rows = [(item.clip, {"error": item.error, "warnings": item.warnings}) for item in found]
    _finish(rows, output, run, names)


# ---- shared by the commands


def _settings(weights: Iterable[str]) -> Settings:
    """NAME=PATH, ... -> Settings; UsageError for a name that takes no weights."""
    from urgentmos.labellers import LABELLERS, Settings

    takers = {row.name for row in LABELLERS if row.weights} | {m for row in LABELLERS if row.weights for m in row.metrics}
    names = {m: row.name for row in LABELLERS if row.weights for m in (row.name, *row.metrics)}
    given = {}
    for item in weights:
        name, equals, path = item.partition("=")
        if not equals or not path or name not in takers:
            known = ", ".join(row.name for row in LABELLERS if row.weights)
            raise UsageError(f"--weights {item} is not understood. Write NAME=PATH, where NAME is one of: {known}.")
        given[names[name]] = path
    return Settings(given)


def _possible(clips: Sequence[Clip], settings: Settings) -> list[str]:
    """The metrics that can be measured here; stderr says which others cannot, and why."""
    from urgentmos.labellers import LABELLERS
    from urgentmos.metrics import METRICS

    with_reference = any(clip.reference_path for clip in clips)
    names: list[str] = []
    left_out: dict[str, list[str]] = {}
    for row in LABELLERS:
        absent = [package for package, version in row.versions().items() if version == "not installed"]
        if absent:
            left_out.setdefault(f"{', '.join(absent)} not installed", []).extend(row.metrics)
        elif row.weights and row.name not in settings.weights:
            left_out.setdefault("weights not given, see --weights", []).extend(row.metrics)
        elif METRICS[row.metrics[0]].needs_reference and not with_reference:
            left_out.setdefault("no reference signals, see --reference-dir", []).extend(row.metrics)
        else:
            names += row.metrics
    for reason, metrics in left_out.items():
        say(f"Not measured ({reason}): {', '.join(metrics)}")
    if not names:
        raise UsageError("nothing can be measured here. Install the labellers with: pip install 'urgentmos[label]'")
    return names


def _check_output(output: Path | None, *, ranking: bool = False) -> None:
    """UsageError if the results could not be written: said before the work, not after it."""
    from urgentmos.tables import SUFFIXES, check_output

    if output is None:
        return
    check_output(output)
    if ranking and output.suffix.lower() == ".scp":
        others = " ".join(suffix for suffix in SUFFIXES if suffix != ".scp")
        raise UsageError(f"{output}: a ranking does not fit into a .scp file. Choose one of: {others}.")
    journal = _journal(output)
    existed = journal.exists()
    try:
        journal.open("a").close()
    except OSError as e:
        raise UsageError(
            f"{output}: the folder {output.parent} cannot be written to ({e.strerror}). Choose another place."
        ) from None
    if not existed:
        journal.unlink()


def _journal(output: Path) -> Path:
    """Where finished measurements wait until the results are written: beside them, hidden."""
    return output.with_name(f".{output.name}.partial")


def _run(jobs: int | None, output: Path | None, show: Any) -> Run:
    import os

    from urgentmos.results import Run

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Run(jobs or cores, None if output is None else _journal(output), show)


def _finish(rows: list[tuple[Clip, dict[str, Any]]], output: Path | None, run: Run, metrics: Sequence[str]) -> None:
    """Write or show the rows of clips, say what failed, and leave with the right exit status."""
    from urgentmos.clips import to_record
    from urgentmos.tables import write_jsonl_lines, write_records

    if output is not None:
        write_records((to_record(clip, output.parent, extra) for clip, extra in rows), output)
    elif sys.stdout.isatty():
        shown = [[clip.uid, *(number(clip.metrics.get(m)) for m in metrics)] for clip, _ in rows]
        table(["clip", *metrics], shown, numbers=range(1, len(metrics) + 1))
    else:
        write_jsonl_lines((to_record(clip, None, extra) for clip, extra in rows), sys.stdout)
    for clip, extra in rows if output is None and sys.stdout.isatty() else ():
        for warning in extra["warnings"]:
            say(f"Warning: {clip.audio_path}: {warning}")
    _clean_up(run)
    _exit([(clip.audio_path, extra["error"]) for clip, extra in rows if extra["error"]], len(rows))


def _write_ranking(result: dict[str, Any], output: Path | None) -> None:
    """JSON holds all; CSV, Parquet and JSONL a row per system."""
    import json

    from urgentmos.tables import write_records

    if output is None or output.suffix.lower() == ".json":
        text = json.dumps(result, ensure_ascii=False, indent=None if output is None else 1, allow_nan=False)
        data = text.encode("utf-8", "backslashreplace") + b"\n"  # a name that is not UTF-8 becomes a JSON escape
        if output is None:
            click.echo(data, nl=False)
        else:
            output.write_bytes(data)
    else:
        write_records(result["systems"], output)


def _clean_up(run: Run) -> None:
    """The results are safe: what was kept for a resume can go."""
    if run.journal is not None:
        run.journal.unlink(missing_ok=True)


def _exit(
    failed: Sequence[tuple[str, str | None]], n_clips: int, what: str = "clips lack a metric (their rows say why)"
) -> None:
    """Exit status 1, with the first reasons on stderr, if a clip failed."""
    if not failed:
        return
    say(f"{len(failed)} of {n_clips} {what}:")
    for path, error in failed[:10]:
        say(f"  {error}" if str(error).startswith(path) else f"  {path}: {error}")
    if len(failed) > 10:
        say(f"  and {len(failed) - 10} more")
    sys.exit(1)
