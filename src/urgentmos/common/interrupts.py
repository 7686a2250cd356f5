"""Ctrl-C: a command ends with one sentence and exit status 130, however often it is pressed; finished work is on the disk.

The first one unwinds the stack as usual. A second one, which would break into that with tracebacks of its own, ends the
process at once. Worker processes do not see it: they go when their parent goes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from urgentmos.files import remove_unfinished

STATUS = 130
_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that this thread starts inside are not interrupted by Ctrl-C, from their first instruction on."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def quiet_tracker() -> None:
    """Start the process with which multiprocessing removes its semaphores, so that it does so without a word.

    Call it before a pool is made: an interrupted command leaves them to it, and nobody can do anything about its warning.
    """
    if os.name == "nt":  # has none
        return
    from multiprocessing import resource_tracker

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker")))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


class Interrupts:
    """The handler of Ctrl-C in a command's process; `sentence` is printed then, "" if it has been printed."""

    def __init__(self) -> None:
        self.sentence: Callable[[], str] = lambda: "Interrupted."
        self._pressed = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Inside, the second Ctrl-C ends the process. Does nothing where another handler than Python's is at work."""
        default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not default or threading.current_thread() is not threading.main_thread():
            yield
            return
        hook = sys.unraisablehook
        signal.signal(signal.SIGINT, self._press)
        sys.unraisablehook = self._unraisable
        try:
            yield
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _press(self, number: int, frame: Any) -> None:
        if self._pressed:
            self._end()
        self._pressed = True
        raise KeyboardInterrupt

    def _unraisable(self, unraisable: Any) -> None:
        """An interrupt that came where nothing can be raised, as in a destructor, is not lost."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._end()
        sys.__unraisablehook__(unraisable)

    def _end(self) -> None:
        """Leave without unwinding: running work may take long, or fail for lack of what is gone already."""
        with suppress(Exception):
            remove_unfinished()
        with suppress(Exception):
            text = self.sentence()
            os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + (f"{text}\n".encode() if text else b""))
        os._exit(STATUS)


interrupts = Interrupts()  # of this process
