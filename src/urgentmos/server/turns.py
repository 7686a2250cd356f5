"""Whose turn it is to compute: one thread at a time; short work comes first for most of the time, long work in rotation."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


SHORT_SHARE = 3.0  # seconds of short work for each second of long work, where both wait


class Turns:
    """A lock that is handed on fairly: to each lane in its order, to short work SHORT_SHARE times as long as to long work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[bool, deque[threading.Event]] = {True: deque(), False: deque()}
        self._taken = False
        self._is_short = False  # the turn that is taken
        self._since = 0.0
        self._owed = 0.0  # seconds that short work may compute before long work has a turn

    def take(self, *, short: bool) -> None:
        """Returns when it is the caller's turn."""
        ticket = threading.Event()
        with self._lock:
            self._waiting[short].append(ticket)
            self._hand_on()
        ticket.wait()

    def release(self) -> None:
        with self._lock:
            seconds = self._clock() - self._since
            self._owed = max(0.0, self._owed - seconds) if self._is_short else SHORT_SHARE * seconds
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
        short = bool(self._waiting[True]) and (self._owed > 0 or not self._waiting[False])
        ticket = self._waiting[short].popleft()
        self._taken, self._is_short, self._since = True, short, self._clock()
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
