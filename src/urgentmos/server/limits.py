"""Limits of a request, and the response to one beyond them (RFC 9457: application/problem+json)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

MEGABYTE = 1_000_000
SAMPLES_PER_SECOND = 100_000  # over all channels: a second of stereo at 48 kHz still counts as a second
CLOSED = 499  # what nginx calls a client that went away: for the log and the counters only, nobody is there to read it


@dataclass(frozen=True)
class Limits:
    """Each of them ends a request with the status named here and a sentence on what to do."""

    file_mb: float = 50.0  # one file, in megabytes: 413
    request_mb: float = 200.0  # all that a request sends: 413
    files: int = 256  # in a request: 413
    seconds: float = 600.0  # of one recording: 413
    samples: int = 64_000_000  # of one recording when decoded, over all channels; 4 bytes each: 413
    request_seconds: float = 3600.0  # of audio that a request decodes to, see `audio_seconds`: 413
    draws: int = 50_000_000  # systems x systems x samples of a ranking: 413
    requests: int = 64  # that are computed or wait for it at once, half of them large ones: 503
    stored_mb: float = 2000.0  # of temporary files, of all requests together; the last quarter is for small ones: 503
    connections: int = 256  # open at once; less where the process may not open as many files: 503
    header_seconds: float = 10.0  # until the headers of a request have arrived; then the connection is closed
    idle_seconds: float = 15.0  # between two requests of a connection; then it is closed
    upload_seconds: float = 60.0  # until a request has arrived: 408
    answer_seconds: float = 120.0  # from then on until its answer: 504
    read_seconds: float = 60.0  # until the client has read its answer; then the connection is closed
    health_seconds: float = 5.0  # until a clip of our own is scored: /healthz is 503
    grace_seconds: float = 25.0  # from SIGTERM until what is not answered is given up
    batch_ms: float = 5.0  # that a clip waits for others to be scored with, at most
    batch_clips: int = 16  # scored together, at most

    def audio_seconds(self, seconds: float, samples: int) -> float:
        """The cost of a recording: its duration, or more if it has many channels or a high rate."""
        return max(seconds, samples / SAMPLES_PER_SECOND)


@dataclass(eq=False)
class Problem(Exception):
    """A request that is refused: `detail` holds the reason and the cure."""

    status: int
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)  # further members of the answer

    def response(self) -> JSONResponse:
        body = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail, **self.more}
        return JSONResponse(body, self.status, dict(self.headers), media_type="application/problem+json")


def too_large(detail: str) -> Problem:
    return Problem(413, detail)


def busy(detail: str, seconds: int) -> Problem:
    return Problem(503, f"{detail} Try again in {seconds} s.", {"Retry-After": str(seconds)})
