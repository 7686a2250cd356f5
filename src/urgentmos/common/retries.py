"""Failures that may pass: a store, a network or a disk that is busy or away for a while.

Work that fails like that is tried again after growing pauses. When it keeps failing, its sentence ends with AGAIN, and
no journal keeps a sentence with these words: the same command tries again.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

T = TypeVar("T")

AGAIN = "run the same command again"
TRIES, PAUSE = 4, 0.5  # the pause before the second try in seconds; each further one is twice as long
LONGEST_PAUSE = 20.0  # seconds, even if a server wants more
STATUSES = frozenset({408, 409, 423, 425, 429, *range(500, 600)} - {501, 505})  # of HTTP

ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "ENOLINK", "EREMOTEIO", "ECOMM", "EPIPE"),
        *("ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENOTCONN", "ESHUTDOWN", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENETDOWN", "ENETUNREACH", "ENETRESET", "ENOBUFS", "ENOMEM", "EMFILE", "ENFILE"),
        *("ENOSPC", "EDQUOT"),  # for what is unpacked into a temporary file
    )
    if hasattr(errno, name)
)


def is_passing(sentence: str | None) -> bool:
    """Whether a clip's error, or the reason of a metric, is one that may pass.

    >>> is_passing("https://host/a.wav cannot be fetched (503). Check the connection, then run the same command again")
    True
    >>> is_passing("a.wav is empty (0 bytes). Record or copy it again")
    False
    """
    return sentence is not None and AGAIN in sentence


def may_pass(error: BaseException) -> bool:
    """Whether the same call could succeed later."""
    if isinstance(error, TimeoutError | ConnectionError | MemoryError):
        return True
    return isinstance(error, OSError) and error.errno in ERRNOS


def retried(
    work: Callable[[], T],
    passes: Callable[[Exception], bool] = may_pass,
    wait: Callable[[Exception], float | None] = lambda error: None,
) -> T:
    """`work()`, tried up to TRIES times while its errors are such that `passes`; then its last error.

    wait: seconds that the other side wants between an error and a retry; None if it states none.
    """
    pause = PAUSE
    for left in reversed(range(TRIES)):
        try:
            return work()
        except Exception as e:
            if not left or not passes(e):
                raise
            seconds = wait(e)
        time.sleep(min(LONGEST_PAUSE, max(pause * random.uniform(0.8, 1.2), seconds or 0.0)))
        pause *= 2
    raise AssertionError


def retry_after(text: str | None) -> float | None:
    """Seconds in a Retry-After header, a number or a date; None if there are none.

    >>> retry_after("7"), retry_after("soon")
    (7.0, None)
    """
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text.strip())
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date - datetime.now(date.tzinfo and UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
