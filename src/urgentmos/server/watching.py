"""What the service says of itself: counters for Prometheus, and one JSON line a request on stderr. Never audio, never names."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
CLIPS = (1, 2, 4, 8, 16, 32, 64)
LOGGER = logging.getLogger("urgentmos.server")


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
        said: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=True)


def log(event: str, **facts: Any) -> None:
    LOGGER.info(event, extra={"facts": facts})


def log_lines() -> None:
    """From now on our log and uvicorn's go to stderr, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in ("urgentmos.server", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
