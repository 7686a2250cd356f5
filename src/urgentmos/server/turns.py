"""Whose turn it is to compute: one thread at a time, short work every other turn, long work in rotation."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


class Turns:
    """A lock that is handed on fairly: between a short and a long waiter they alternate, long ones in their order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[bool, deque[threading.Event]] = {True: deque(), False: deque()}
        self._taken = False
        self._last_short = False

    def take(self, *, short: bool) -> None:
        """Returns when it is the caller's turn."""
        ticket = threading.Event()
        with self._lock:
            self._waiting[short].append(ticket)
            self._hand_on()
        ticket.wait()

    def release(self) -> None:
        with self._lock:
            self._taken = False
            self._hand_on()

    @property
    def contested(self) -> bool:
        """Whether anyone waits for a turn."""
        return any(self._waiting.values())

    @contextmanager
    def turn(self, *, short: bool) -> Iterator[None]:
        self.take(short=short)
        try:
            yield
        finally:
            self.release()

    def _hand_on(self) -> None:
        if self._taken or not self.contested:
            return
        short = not self._last_short if self._waiting[not self._last_short] else self._last_short
        ticket = self._waiting[short].popleft()
        self._taken, self._last_short = True, short
        ticket.set()


class ShortPace:
    """The pacer of short work: it keeps its turn, and ends if `over`."""

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over

    def step(self) -> None:
        if self._over():
            raise Abandoned

    def idle(self) -> AbstractContextManager[None]:
        return nullcontext()


class LongPace:
    """The pacer of long work: between two steps others have their turns; ends if `over`."""

    def __init__(self, turns: Turns, over: Callable[[], bool]) -> None:
        self._turns, self._over = turns, over

    def step(self) -> None:
        if self._over():
            raise Abandoned
        if self._turns.contested:
            with self.idle():
                pass

    @contextmanager
    def idle(self) -> Iterator[None]:
        self._turns.release()
        try:
            yield
        finally:
            self._turns.take(short=False)
        if self._over():
            raise Abandoned
