"""The command `train`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from urgentmos.commands.ending import Command
from urgentmos.common.console import progress, say
from urgentmos.errors import visible


@click.command(cls=Command)
@click.argument("what", metavar="PRESET|CONFIG.yaml|MODEL")
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--data", metavar="FILE", multiple=True, help="The same as data=FILE: clips with labels. Repeat for several.")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="The same as out=DIR: the run's folder.")
def train(what: str, settings: tuple[str, ...], data: tuple[str, ...], output: Path | None) -> None:
    """Train a model, or fine-tune one.

    PRESET is f{1,4}c{1,5}m{1,5,15}-d{ref,corpus,any} or urgent-pk; CONFIG.yaml holds KEY: VALUE lines; MODEL is pocket, a model
    folder, a released checkpoint or the name of a release. KEY=VALUE changes what they say. The run's folder holds logs, the
    best models, and the result in model/, whose path is printed. The same command goes on with a run that was interrupted.
    """
    from urgentmos.training.config import read_config
    from urgentmos.training.run import fit

    more = [f"data={','.join(data)}"] if data else []
    more += [f"out={output}"] if output is not None else []
    config = read_config(what, [*settings, *more])
    with _bar() as tell, progress() as show:
        trained = fit(config, say=say, tell=tell, progress=show)
    if trained.step:  # one process of several speaks
        click.echo(visible(str(trained.model)) if sys.stdout.isatty() else str(trained.model))


@contextmanager
def _bar() -> Iterator[Any]:
    """A bar with the losses of each metric, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("training", total=None)

        def tell(step: int, steps: int, losses: Mapping[str, float]) -> None:
            losses_text = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
            bars.update(task, completed=step, total=steps, description=losses_text)

        yield tell
