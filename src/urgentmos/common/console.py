"""Output of the commands: data on stdout, messages on stderr. Tables for a terminal, JSON lines into a pipe."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from urgentmos.errors import visible

Progress = Callable[[str, int, int], None]


def say(text: str) -> None:
    """A line to the user, on stderr: names in it steer no terminal. Nowhere to say it is no failure of the work."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(_encodable(visible(text), sys.stderr), file=sys.stderr)


def say_lines(text: str) -> None:
    """Several lines of ours, whose names are visible already; see `say`."""
    for line in text.split("\n"):
        say(line)


def show(text: str = "") -> None:
    """A line of results, on stdout, for a reader. OSError if there is no room for it."""
    print(_encodable(visible(text), sys.stdout), file=sys.stdout, flush=True)


def show_lines(text: str) -> None:
    """Several lines of results, whose names are visible already; see `show`."""
    for line in text.split("\n"):
        show(line)


def _encodable(text: str, stream: TextIO) -> str:
    """`text` in the letters that a terminal has; others are spelled out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar with the time that is left, on stderr and on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda title, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(visible(title), total=total)
            bars.update(tasks[title], completed=done, total=total)

        yield show


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
    """Print a table on stdout; the columns in `numbers` are aligned right."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        grid.add_column(visible(name), justify="right" if i in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(visible, row))
    Console(highlight=False, markup=False, emoji=False).print(grid)
    sys.stdout.flush()


def columns_that_fit(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many of a table's columns, from the left, the terminal has room for without breaking a cell."""
    from rich.console import Console

    room, gap = Console().width, 2
    for count, cells in enumerate(zip(head, *rows, strict=True)):
        room -= max(len(visible(cell)) for cell in cells) + gap * bool(count)
        if room < 0:
            return count
    return len(head)


def number(value: float | None) -> str:
    """A metric's value for a reader: three decimals, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(value: float | None, ends: Sequence[float]) -> str:
    """A score and its interval: "3.4 [2.9, 3.8]"."""
    return "-" if value is None else f"{value:.1f} [{ends[0]:.1f}, {ends[1]:.1f}]"
