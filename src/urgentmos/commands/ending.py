"""How a command ends: with results, or with one sentence on stderr, also without files, terminal or memory."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from urgentmos.common.console import say
from urgentmos.common.interrupts import STATUS as INTERRUPTED
from urgentmos.common.interrupts import interrupts
from urgentmos.errors import UrgentmosError
from urgentmos.files import beside, unwritable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room: on the disk, under a quota, under a limit of the shell
STDOUT = "standard output"


class Command(click.Command):
    """Ends with one sentence on stderr: exit status 2 for our errors and the system's, 130 after Ctrl-C.

    Anything else is a bug and shows.
    """

    def invoke(self, ctx: click.Context) -> Any:
        output = ctx.params.get("output")
        interrupts.sentence = lambda: _interrupted(output)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `| head` has seen enough
            raise
        except UrgentmosError as e:
            _end(e.args or [str(e)], output)
        except OSError as e:
            _end([_system_error(e, output)], output)
        except MemoryError:
            _end(["there is no memory left. Close other programs, or give fewer or shorter files at a time."], output)
        except UnicodeError as e:
            _end([f"a text cannot be read or written as UTF-8 ({e}). Rename the file, or save it as UTF-8."], output)
        except KeyboardInterrupt:
            say(interrupts.sentence())
            interrupts.sentence = lambda: ""
            sys.exit(INTERRUPTED)


class Commands(click.Group):
    """The commands. As a process of its own it survives a standard output that is closed or full, and Ctrl-C at any time."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the work, not of the alphabet

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        if args is not None:  # called by another program
            return super().main(args, *rest, **extra)
        _open_standard_streams()
        with interrupts.handled():
            try:
                return super().main(args, *rest, **extra)
            except OSError as e:  # of --help and --version
                say(f"Error: {_system_error(e, None)}")
                sys.exit(2)
            except SystemExit as e:
                if e.code == INTERRUPTED:  # threads may still work on what nobody waits for
                    _leave_at_once()
                raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # before the command began
            say("Interrupted.")
            interrupts.sentence = lambda: ""
            sys.exit(INTERRUPTED)


def _open_standard_streams() -> None:
    """Replace a standard stream that the shell closed, so that no file of ours gets its number.

    Nothing can be read from it, and writing fails for results and is silent for messages.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _leave_at_once() -> NoReturn:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(INTERRUPTED)


def _interrupted(output: Path | None) -> str:
    lost = "Nothing is kept without -o FILE." if output is None else f"{output} was not written. Run the same command again."
    return f"Interrupted. {_what_is_kept(output) or lost}"


def _end(lines: Sequence[object], output: Path | None) -> NoReturn:
    """Print the error and what is kept, and leave with exit status 2."""
    first, *more = map(str, lines)
    *before, last = [f"Error: {first}", *more]
    for line in before:
        say(line)
    say(" ".join(filter(None, (last, _what_is_kept(output)))))
    sys.exit(2)


def _system_error(error: OSError, output: Path | None) -> str:
    """A sentence about an error of the system that no code closer to it has turned into one of ours."""
    if error.filename is not None and error.errno not in FULL:
        return f"{error.filename}: {error.strerror}. Check the path and its permissions."
    if output is None and error.filename is None:
        _drop_stdout()
    return str(unwritable(error.filename or output or STDOUT, error))


def _drop_stdout() -> None:
    """Standard output cannot be written: what is left in its buffer must not end in a second error when Python exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _what_is_kept(output: Path | None) -> str:
    """A sentence on where finished work waits for the next run; "" if nothing was finished."""
    if output is None:
        return ""
    kept = journal_of(output), shards_of(output)
    with suppress(OSError):
        if any(place.is_dir() or (place.is_file() and place.stat().st_size > 1) for place in kept):
            return "Finished work is kept: run the same command again to go on."
    return ""


def journal_of(output: Path) -> Path:
    """The hidden file beside the results in which finished measurements wait."""
    return beside(output, "partial")


def shards_of(output: Path) -> Path:
    """The hidden folder beside the results in which a cluster's finished work waits."""
    return beside(output, "shards")
