"""The service on a socket, from start to a shutdown that finishes what was accepted."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import numpy as np
import uvicorn

from urgentmos.errors import UsageError
from urgentmos.judges.base import Predictor
from urgentmos.server.app import create_app
from urgentmos.server.connections import Server, protocol_of
from urgentmos.server.guard import Hosts
from urgentmos.server.limits import Limits
from urgentmos.server.watching import log, log_lines

LAST_SECONDS = 8.0  # beyond the grace, for what does not end by itself
TICK = 0.5  # seconds
M_ARENA_MAX, ARENAS = -8, 2  # malloc.h
SWITCH_SECONDS = 0.0005  # for which a thread may keep Python from the others: the connections must not wait for the decoders
WARM_UP_RATE = 16_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def server_of(
    judge: Predictor, limits: Limits | None = None, token: str | None = None, hosts: Hosts | None = None
) -> uvicorn.Server:
    """A server that has no socket yet. Its shutdown waits for the answers of all requests that it has accepted, for a time."""
    limits = limits or Limits()
    app = create_app(judge, limits, token, hosts)
    return Server(
        uvicorn.Config(
            app,
            http=protocol_of(limits),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=limits.grace_seconds,  # type: ignore[arg-type]
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


def hosts_of(host: str, port: int, named: Collection[str] = ()) -> Hosts | None:
    """The names that requests may use: on loopback its own, and those of `named`; elsewhere any unless some are named."""
    return Hosts.of(host, port, named) if host in LOOPBACK or named else None


def serve(
    judge: Predictor,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    token: str | None = None,
    allowed_hosts: Collection[str] = (),
) -> None:
    """Serve until SIGINT or SIGTERM. UsageError if the address cannot be had, or the token is empty.

    allowed_hosts: further names, as in a browser's address, with or without a port, that requests may be sent to.
    """
    limits = limits or Limits()
    place = listening(host, port)
    server = server_of(judge, limits, token, hosts_of(host, place.getsockname()[1], allowed_hosts))
    log_lines()
    judge.score(np.zeros(WARM_UP_RATE, dtype=np.float32), sample_rate=WARM_UP_RATE)  # so that the first client need not wait
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{place.getsockname()[1]}/"
    log("listening", url=url, model=judge.name, version=judge.version, token=token is not None)
    if token is None and host not in LOOPBACK:
        log("open to all: others can reach this address, and no token is asked for. Set one with --token", host=host)
    signal.signal(signal.SIGTERM, _leave)
    sys.setswitchinterval(SWITCH_SECONDS)
    _keep_memory_small()
    threading.Thread(target=_end_at_last, args=(server, limits.grace_seconds), daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[place])


def _keep_memory_small() -> None:
    """glibc keeps what each of many threads has freed for that thread; two pools for all of them hold about half as much."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _end_at_last(server: uvicorn.Server, grace: float) -> None:
    """A thread that a decoder or a device holds must not keep the process: some time after the grace it ends all the same."""
    while not server.should_exit:
        time.sleep(TICK)
    time.sleep(grace + LAST_SECONDS)
    log("ended while something still ran")
    app: Any = server.config.app
    app.state.service.store.close()
    os._exit(1)


def _leave(number: int, frame: Any) -> None:
    """uvicorn, once all is answered, sends itself the signal that ended it: that is no failure."""
    sys.exit(0)
