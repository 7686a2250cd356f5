"""Observability: counters for Prometheus, and one JSON line a request on stderr. Never audio, never names."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
CLIPS = (1, 2, 4, 8, 16, 32, 64)
LOGGER = logging.getLogger("urgentmos.server")
OTHER_LOGGERS = (
    "urgentmos.server",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "asyncio",
    "concurrent.futures",
    "py.warnings",
)
LOG_BYTES_PER_SECOND, LOG_BYTES_AT_ONCE = 10_000.0, 100_000.0  # an hour of the worst is 36 MB
ERROR_SHARE = 0.2  # as much again for errors
LONGEST_TEXT = 4000  # characters of an event, and of a trace


class Meters:
    """The numbers behind /metrics; a registry of their own for each service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        here: dict[str, Any] = {"registry": self.registry, "namespace": "urgentmos"}
        self.requests = Counter(
            "requests", "Requests by address and status; 499: the client went away", ["path", "status"], **here
        )
        self.seconds = Histogram("request_seconds", "From the first byte to the answer", ["path"], buckets=SECONDS, **here)
        self.waited = Histogram("queue_seconds", "In the queue of the model", buckets=SECONDS, **here)
        self.batches = Histogram("batch_clips", "Clips scored together", buckets=CLIPS, **here)
        self.clips = Counter("clips", "Clips by outcome: scored or failed", ["outcome"], **here)
        self.audio = Counter("audio_seconds", "Duration of the clips that were scored", **here)
        self.active = Gauge("active_requests", "Requests that are uploading or waiting", **here)
        self.queued = Gauge("queued_jobs", "Jobs that wait for the model", **here)
        self.stored = Gauge("stored_bytes", "Temporary files of the requests that are active", **here)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage()[:LONGEST_TEXT],
            **getattr(record, "facts", {}),
        }
        if record.name != LOGGER.name:
            line["logger"] = record.name
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-LONGEST_TEXT:]  # the last lines matter most
        return json.dumps(line, ensure_ascii=True, default=str)


class Budget(logging.Handler):
    """Passes lines on to a stream, at most so many bytes a second; the next line that passes says how many were left out.

    Errors have a budget of their own, so that a flood of requests does not hide them.
    """

    def __init__(
        self,
        stream: TextIO,
        rate: float = LOG_BYTES_PER_SECOND,
        most: float = LOG_BYTES_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._stream, self._rate, self._most, self._clock = stream, rate, most, clock
        self._left = {False: most, True: most * ERROR_SHARE}
        self._filled = clock()
        self._omitted = 0
        self.setFormatter(_JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            self._refill()
            severe = record.levelno >= logging.ERROR
            if self._left[severe] < len(line) + 1:
                self._omitted += 1
                return
            self._left[severe] -= len(line) + 1
            if self._omitted:
                omitted, self._omitted = self._omitted, 0
                facts = {"facts": {"lines": omitted}}
                note = logging.makeLogRecord({"name": LOGGER.name, "levelno": 30, "levelname": "WARNING", **facts})
                note.msg = "lines left out: too many at once"
                self._stream.write(self.format(note) + "\n")
            self._stream.write(line + "\n")
            self._stream.flush()
        except Exception:  # a full disk, a pipe that nobody reads any more: the service goes on
            pass

    def _refill(self) -> None:
        now = self._clock()
        seconds = now - self._filled
        self._filled = now
        for severe, share in ((False, 1.0), (True, ERROR_SHARE)):
            self._left[severe] = min(self._most * share, self._left[severe] + seconds * self._rate * share)


def log(event: str, **facts: Any) -> None:
    LOGGER.info(event, extra={"facts": facts})


def log_lines() -> None:
    """From now on all logs, warnings and tracebacks of this process go to stderr, one JSON object a line, within a budget."""
    root = logging.getLogger()
    root.handlers = [Budget(sys.stderr)]
    root.setLevel(logging.WARNING)
    for name in OTHER_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in ("urgentmos.server", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    sys.unraisablehook = lambda args: _log_unraisable(args.exc_value)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    LOGGER.critical("a bug", exc_info=(kind, error, trace))


def _log_unraisable(error: BaseException | None) -> None:
    LOGGER.error("a bug, while something was cleaned up", exc_info=error)
