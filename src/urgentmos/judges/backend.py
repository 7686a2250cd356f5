"""The interface of an architecture to `Network`: encode clips, predict metrics of each, judge ordered pairs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from urgentmos.common.steps import step
from urgentmos.errors import UsageError

T = TypeVar("T")


class Backend(Protocol):
    """An architecture behind `Network`. Features are opaque: one object per clip, made once."""

    rate: int  # Hz
    min_samples: int
    window_seconds: float  # longest input in one piece
    batch_seconds: float
    metrics: tuple[str, ...]
    compares: bool  # whether it judges pairs
    metrics_with_encoding: bool  # whether `absolute` costs next to nothing once a clip is encoded
    batch_invariant: bool  # whether `judge` gives a pair the same bits in any batch
    padding_costs: bool  # whether clips encoded together cost as much as the longest of them
    max_length_difference: float  # seconds by which clips of one content may differ before part of them goes unjudged

    def encode(self, waves: Sequence[np.ndarray]) -> list[Any]:
        """(T_i,) float32 each -> features; no clip's features depend on the others."""

    def absolute(self, features: Sequence[Any]) -> list[dict[str, float]]:
        """Metrics of each clip."""

    def judge(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): p_a, p_tie, p_b, CMOS, in the order given only."""


@runtime_checkable
class OpinionBackend(Protocol):
    """A backend that predicts the opinion scores of both clips of a pair, as URGENT-PK does."""

    def opinions(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 2)."""


def halving(work: Callable[[Sequence[T]], list[Any]], items: Sequence[T]) -> list[Any]:
    """`work(items)`, a step of a long computation; when the device's memory does not suffice, in halves."""
    step()
    try:
        return work(items)
    except RuntimeError as e:
        torch = sys.modules.get("torch")  # who has not imported it has no device whose memory could be short
        if torch is None or not isinstance(e, torch.cuda.OutOfMemoryError):
            raise
        if len(items) == 1:
            raise UsageError("one clip or pair alone does not fit into the device's memory. Choose --device cpu") from None
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return halving(work, items[:middle]) + halving(work, items[middle:])
