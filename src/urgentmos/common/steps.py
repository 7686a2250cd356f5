"""Long computations in steps: their runner may let others compute between two steps, or end them.

`step` costs nothing where nobody listens. A pacer is set per thread, by `paced`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol


class Pacer(Protocol):
    """Decides what happens between two steps of a computation."""

    def step(self) -> None:
        """Return when the computation may go on; raise to end it."""

    def idle(self) -> AbstractContextManager[None]:
        """A block in which the computation only waits, so that others may compute."""


_pacer: ContextVar[Pacer | None] = ContextVar("pacer", default=None)


def step() -> None:
    """Called between two parts of a long computation, none of which should last longer than some tenths of a second."""
    if (pacer := _pacer.get()) is not None:
        pacer.step()


def idle() -> AbstractContextManager[None]:
    """Around what waits for another thread, a process or a disk."""
    pacer = _pacer.get()
    return nullcontext() if pacer is None else pacer.idle()


@contextmanager
def paced(pacer: Pacer) -> Iterator[None]:
    """In this block of this thread, `step` and `idle` are those of `pacer`."""
    token = _pacer.set(pacer)
    try:
        yield
    finally:
        _pacer.reset(token)
