"""How many requests are computed or wait for it at once; large ones may have half of the places, so that small ones pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from urgentmos.server.limits import busy

LARGE_FILES, LARGE_SECONDS = 16, 60.0  # a request with more is a large one


def is_large(files: int, seconds: float) -> bool:
    """seconds: of audio, all files together."""
    return files > LARGE_FILES or seconds > LARGE_SECONDS


class Slots:
    """wait: a guess, in seconds, at how long it takes until a place is free."""

    def __init__(self, limit: int, wait: Callable[[], int]) -> None:
        self._limit, self._limit_large, self._wait = limit, max(1, limit // 2), wait
        self._taken = {True: 0, False: 0}

    @property
    def taken(self) -> int:
        return sum(self._taken.values())

    def check(self) -> None:
        """Problem if all places are taken."""
        if self.taken >= self._limit:
            raise busy(f"{self.taken} requests are being served, and more may not be.", self._wait())

    @contextmanager
    def take(self, *, large: bool) -> Iterator[None]:
        """A place for as long as the block lasts. Problem if there is none."""
        self.check()
        if large and self._taken[True] >= self._limit_large:
            sentence = f"{self._taken[True]} large requests are being served, and more may not be. Send fewer files at once."
            raise busy(sentence, self._wait())
        self._taken[large] += 1
        try:
            yield
        finally:
            self._taken[large] -= 1
