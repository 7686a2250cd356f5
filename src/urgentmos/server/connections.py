"""Connections: how many there may be, and how long each may stay in each of its phases.

uvicorn has a timer for idle connections only, which a single byte ends. Here every open connection is in one phase at a time
(headers, body, computing, reading the answer, idle), and `overdue` knows the deadline of each; the server looks at all of them
a few times a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from math import inf
from typing import Literal

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from urgentmos.server.limits import Limits, busy
from urgentmos.server.watching import log

SPARE_SECONDS = 5.0  # of a body, for the answer 408 of its reader
FAIR_SECONDS = 5.0  # in which an upload is not cut off to make place
SPARE_FILES = 64  # that the process opens beside connections and the files of their requests
TICKS = 2  # between two looks at all connections; uvicorn has ten a second

Phase = Literal["headers", "idle", "body", "computing", "answer"]


class Connection(H11Protocol):
    """An HTTP connection that knows since when it is in its phase."""

    limits = Limits()
    limit = limits.connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = time.monotonic()
        self._head_begun = True  # a new connection is there to send a request
        self._unread_since: float | None = None
        if sum(not other.is_closing for other in self._others()) >= self.limit:
            self._make_place()

    @property
    def is_closing(self) -> bool:
        return self.transport.is_closing()

    @property
    def phase(self) -> Phase:
        if self.transport.get_write_buffer_size():
            return "answer"
        if self.cycle is None or self.cycle.response_complete:
            return "headers" if self._head_begun else "idle"
        return "body" if self.cycle.more_body else "computing"

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # a request has begun
            self._since, self._head_begun = time.monotonic(), False
        elif self.phase == "idle":
            self._since, self._head_begun = time.monotonic(), True

    def on_response_complete(self) -> None:
        self._since, self._head_begun = time.monotonic(), False
        super().on_response_complete()

    def look(self, now: float) -> None:
        """Close the connection if it is overdue."""
        if self.transport.get_write_buffer_size() == 0:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        if self._unread_since is not None:
            if now - self._unread_since > self.limits.read_seconds:
                self._cut("an answer was not read")
            return
        deadlines = {
            "idle": self.limits.idle_seconds,
            "headers": self.limits.header_seconds,
            "body": self.limits.upload_seconds + SPARE_SECONDS,
        }
        if now - self._since > deadlines.get(self.phase, inf):
            self.transport.close()

    def _cut(self, why: str) -> None:
        log("connection cut", why=why)
        self.transport.abort()

    def _others(self) -> Iterable[Connection]:
        return [other for other in self.connections if other is not self and isinstance(other, Connection)]

    def _make_place(self) -> None:
        """One connection too many: the one that has kept the service waiting longest goes, or this one."""
        order = {"headers": 0, "idle": 1, "body": 2}
        now = time.monotonic()
        waiting = [
            other
            for other in self._others()
            if not other.is_closing and (other.phase in ("headers", "idle") or now - other._since > FAIR_SECONDS)
        ]
        candidates = [(order[other.phase], other._since, id(other), other) for other in waiting if other.phase in order]
        if candidates:
            min(candidates)[-1]._cut("another one needed its place")
            return
        body = busy(f"There are {self.limit} connections, and more may not be.", 5).response()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {body.media_type}\r\nRetry-After: 5\r\nConnection: close\r\n"
        self.transport.write(f"{head}Content-Length: {len(body.body)}\r\n\r\n".encode() + bytes(body.body))
        self.transport.close()
        log("connection refused", connections=self.limit)


class Server(uvicorn.Server):
    """uvicorn's server, which looks at its connections."""

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look(now)
        return await super().on_tick(counter)


def protocol_of(limits: Limits) -> type[Connection]:
    """The class of a service's connections."""
    return type("LimitedConnection", (Connection,), {"limits": limits, "limit": connection_limit(limits)})


def connection_limit(limits: Limits) -> int:
    """limits.connections, or less where the process may not open two files for each."""
    try:
        import resource
    except ImportError:  # Windows
        return limits.connections
    soft = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if soft == resource.RLIM_INFINITY:
        return limits.connections
    return max(1, min(limits.connections, (soft - SPARE_FILES) // 2))
