"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from urgentmos.commands.ending import Command as Command
from urgentmos.commands.ending import Commands as Commands
from urgentmos.commands.ending import journal_of
from urgentmos.common.console import say
from urgentmos.common.packaged import DEFAULT_MODEL
from urgentmos.errors import UsageError

if TYPE_CHECKING:
    from urgentmos.clips.clip import Clip
    from urgentmos.judges.base import Run
    from urgentmos.labellers import Labeller, Settings

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Write here; the format follows the ending (.jsonl .csv .parquet .json .scp). Without it: a table on a "
        "terminal, JSON lines into a pipe.",
    )(command)


def labeller_options(command: F) -> F:
    """Options of every command that may measure."""
    for option in (
        click.option(
            "--weights",
            metavar="NAME=PATH",
            multiple=True,
            help="Weights that no package carries: a local path or a hub id, as in nisqa=nisqa.tar or "
            "sbert=utter-project/mHuBERT-147. Repeat for several.",
        ),
        click.option(
            "--jobs", type=click.IntRange(min=1), help="Processes that measure; networks need none.  [default: one per core]"
        ),
        click.option(
            "--reference-dir",
            type=click.Path(path_type=Path),
            help="Folder of the clean reference signals, matched by content or file name.",
        ),
    ):
        command = option(command)
    return command


def model_option(command: F) -> F:
    command = click.option(
        "--device",
        default="auto",
        show_default=True,
        help="Where networks compute: cpu, cuda, cuda:1, mps, or auto: a GPU if there is one.",
    )(command)
    return click.option(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        help="The judge: a measured metric such as distill_mos or pesq, a model folder, a released checkpoint file, or the "
        "name of a release or a hub id, which is fetched once. See urgentmos models.",
    )(command)


def cluster_option(command: F) -> F:
    return click.option(
        "--cluster",
        metavar="local|ADDRESS",
        help="Let Ray spread the work: over the cores of this machine (local), or over the cluster at ADDRESS (HOST:PORT).",
    )(command)


def settings_of(weights: Iterable[str]) -> Settings:
    """NAME=PATH, ... -> Settings; UsageError for a name that takes no weights."""
    from urgentmos.labellers import LABELLERS, Settings

    takers = {row.name for row in LABELLERS if row.weights} | {m for row in LABELLERS if row.weights for m in row.metrics}
    names = {m: row.name for row in LABELLERS if row.weights for m in (row.name, *row.metrics)}
    given = {}
    for item in weights:
        name, equals, path = item.partition("=")
        if not equals or not path or name not in takers:
            with_weights = ", ".join(row.name for row in LABELLERS if row.weights)
            raise UsageError(f"--weights {item} is not understood. Write NAME=PATH, where NAME is one of: {with_weights}.")
        given[names[name]] = path
    return Settings(given)


def possible_metrics(clips: Sequence[Clip], settings: Settings) -> list[str]:
    """The metrics that can be measured here; stderr lists the others with the reason."""
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
        elif problem := _load_problem(row, settings):
            left_out.setdefault(problem, []).extend(row.metrics)
        else:
            names += row.metrics
    for reason, metrics in left_out.items():
        say(f"Not measured ({reason}): {', '.join(metrics)}")
    if not names:
        raise UsageError("nothing can be measured here. Install the labellers with: pip install 'urgentmos[label]'")
    return names


def _load_problem(row: Labeller, settings: Settings) -> str:
    """Why a labeller cannot be loaded although its packages are there; "" if it can."""
    try:
        row.load(settings)
    except UsageError as e:
        return str(e)
    return ""


def run_of(jobs: int | None, output: Path | None, show: Any) -> Run:
    import os

    from urgentmos.judges.base import Run

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Run(jobs or cores, None if output is None else journal_of(output), show)
