"""--report and what belongs to it, for the commands that make a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from urgentmos.common.console import say
from urgentmos.errors import UsageError, need

if TYPE_CHECKING:
    from urgentmos.clips.clip import Clip
    from urgentmos.report import Options

F = TypeVar("F", bound=Callable[..., Any])

DETAILS = ("report_audio", "report_listen", "report_limit")


def report_options(items: str) -> Callable[[F], F]:
    """Adds the options; the command gets them as `page`, Options or None. `items`: what --report-listen counts."""

    def decorate(command: F) -> F:
        @wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            return command(*args, page=_options(given.pop("report"), *(given.pop(name) for name in DETAILS)), **given)

        decorated: Any = run
        for option in (
            click.option(
                "--report-limit",
                metavar="MB",
                type=click.FloatRange(min=0, min_open=True),
                default=50.0,
                show_default=True,
                help="Largest page, in megabytes.",
            ),
            click.option(
                "--report-listen",
                metavar="N",
                type=click.IntRange(min=1),
                default=40,
                show_default=True,
                help=f"How many {items} one can listen to on the page.",
            ),
            click.option(
                "--report-audio",
                type=click.Choice(("embed", "link", "none")),
                default="embed",
                show_default=True,
                help="Audio inside the page (Opus), as links to the files, or none.",
            ),
            click.option(
                "--report",
                type=click.Path(path_type=Path),
                metavar="FILE.html",
                help="Also write a page to look at and listen to.",
            ),
        ):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _options(file: Path | None, audio: Any, listen: int, limit: float) -> Options | None:
    """UsageError if the page could not be written: raised before the work."""
    if file is None:
        source = click.get_current_context().get_parameter_source
        lonely = [name for name in DETAILS if source(name) is ParameterSource.COMMANDLINE]
        if lonely:
            raise UsageError(f"--{lonely[0].replace('_', '-')} is about a page. Add --report FILE.html.")
        return None
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{file}: a report is a page. Choose a name that ends in .html.")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise UsageError(f"{file}: the folder {file.parent} does not exist or cannot be written to. Choose another place.")
    need("jinja2", "report")
    need("vl_convert", "report")
    from urgentmos.report import Options

    return Options(file, audio, listen, limit)


def check_room(clips: Sequence[Clip], n_items: int, page: Options | None) -> None:
    """UsageError if the clips of `page.listen` of the `n_items` contents (or clips) would not fit into the page."""
    if page is None or not n_items:
        return
    from urgentmos.report.audio import check_size

    check_size(clips, round(len(clips) * min(1.0, page.listen / n_items)), page)


def write_page(text: str, page: Options) -> None:
    """Write the page and report its path on stderr."""
    from urgentmos.report import write

    write(text, page)
    say(f"Report: {page.file} ({page.file.stat().st_size / 1e6:.1f} MB)")
