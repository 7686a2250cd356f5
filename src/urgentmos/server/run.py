"""The service on a socket, from start to a shutdown that finishes what was accepted."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from urgentmos.errors import UsageError
from urgentmos.predictor import Predictor
from urgentmos.server.app import create_app
from urgentmos.server.limits import Limits
from urgentmos.server.watching import log, log_lines

HEADER_SECONDS = 10.0  # from a connection to the headers of its first request
WARM_UP_RATE = 16_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Impatient(H11Protocol):
    """Closes a connection that does not ask for anything: uvicorn itself waits for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def server_of(judge: Predictor, limits: Limits | None = None, token: str | None = None) -> uvicorn.Server:
    """A server that has no socket yet. Its shutdown waits for the answers of all requests that it has accepted."""
    app = create_app(judge, limits, token)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Impatient,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=15,
            lifespan="on",
        )
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. UsageError if the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as e:
        raise UsageError(f"{host}:{port} cannot be listened on ({e.strerror or e}). Choose another --port or --host.") from None


def serve(
    judge: Predictor, *, host: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None, token: str | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. UsageError if the address cannot be had."""
    place = listening(host, port)
    log_lines()
    judge.score(np.zeros(WARM_UP_RATE, dtype=np.float32), sample_rate=WARM_UP_RATE)  # so that the first client need not wait
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{place.getsockname()[1]}/"
    log("listening", url=url, model=judge.name, version=judge.version, token=token is not None)
    if token is None and host not in LOOPBACK:
        log("open to all: others can reach this address, and no token is asked for. Set one with --token", host=host)
    signal.signal(signal.SIGTERM, _leave)
    with suppress(KeyboardInterrupt):
        server_of(judge, limits, token).run(sockets=[place])


def _leave(number: int, frame: Any) -> None:
    """uvicorn, once all is answered, sends itself the signal that ended it: that is no failure."""
    sys.exit(0)
