"""The outermost middleware: checks of host, origin and token before a request, and its log line after it."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from urgentmos.server.limits import CLOSED, Problem, busy
from urgentmos.server.slots import Slots
from urgentmos.server.watching import LOGGER, Meters, log

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HTTP_PORT = 80  # which browsers do not write
OPEN = ("/healthz", "/", "/openapi.json")  # without a token: they reveal nothing beyond the public package
PAGE = "/page/"
DRAIN_SECONDS = 2.0
UNREAD_BYTES = 200_000_000  # of answers: more, and no request is begun
PART_BYTES = 1 << 16  # of an answer that are written before the client has read what came before
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _parts(message: Message) -> Iterator[Message]:
    """A body in parts, each of which waits until the client has read those before: else all would lie in memory."""
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= PART_BYTES:
        yield message
        return
    for start in range(0, len(body), PART_BYTES):
        last = start + PART_BYTES >= len(body)
        yield {**message, "body": body[start : start + PART_BYTES], "more_body": message.get("more_body", False) or not last}


class _Body:
    """The body of a request as it comes; knows when it is whole."""

    def __init__(self, receive: Receive, expected: bool) -> None:
        self._receive = receive
        self._held_back = expected  # the client waits for a word before it sends anything
        self._whole = False

    async def __call__(self) -> Message:
        self._held_back = False
        message = await self._receive()
        self._whole = self._whole or message["type"] != "http.request" or not message.get("more_body")
        return message

    async def drain(self) -> None:
        """Read what is on its way, for a moment: a connection that is closed before loses the answer with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._whole and not self._held_back:
                    await self()


@dataclass(frozen=True)
class Hosts:
    """The names under which a service is reached.

    own: with their ports, as a browser writes them; named: any that were allowed by an option, with a port or for all ports.
    """

    own: frozenset[str]
    named: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, host: str, port: int, named: Collection[str] = ()) -> Hosts:
        """Those of a service that listens on host:port."""
        names = [*LOOPBACK, f"[{host}]" if ":" in host else host]
        own = {f"{name}:{port}" for name in names} | (set(names) if port == HTTP_PORT else set())
        return cls(frozenset(own), frozenset(name.lower() for name in named))

    def allow(self, authority: str) -> bool:
        """authority: a Host header, or what follows the scheme of an Origin."""
        authority = authority.lower()
        name = authority if authority.endswith("]") else authority.rpartition(":")[0] or authority
        return authority in self.own or authority in self.named or name in self.named


class Guard:
    """ASGI middleware: hosts, token, headers, log and counters. paths: those that may be named in log and counters.

    hosts: None: any. A web page whose name was pointed at this machine (DNS rebinding) sends its own name as Host.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Hosts | None,
        meters: Meters,
        slots: Slots,
        paths: Collection[str],
    ) -> None:
        self._app, self._hosts, self._meters, self._slots, self._paths = app, hosts, meters, slots, paths
        self._token = None if token is None else token.encode()
        self._active = 0
        self._unread = 0  # bytes of answers that clients have not read yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        facts: dict[str, Any] = {"request": uuid.uuid4().hex[:12], "method": scope["method"]}
        scope.setdefault("state", {})["facts"] = facts
        answer: dict[str, Any] = {"status": None}
        body = _Body(receive, expected="expect" in Headers(scope=scope))

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                if scope["method"] == "POST" and message["status"] not in (200, 408):
                    await body.drain()
                headers = MutableHeaders(scope=message)
                for name, value in {**SECURITY, "X-Request-Id": facts["request"]}.items():
                    headers.setdefault(name, value)
            length = len(message.get("body", b""))
            self._unread += length
            try:
                for part in _parts(message):
                    await send(part)
            finally:
                self._unread -= length

        try:
            await self._pass(scope, body, watched)
        except ClientDisconnect:
            answer["status"] = CLOSED
        except asyncio.CancelledError:  # the time to finish, when the service ends, is over
            if answer["status"] is None:
                await busy("The service is being stopped.", 10).response()(scope, body, send)
                answer["status"] = 503
        except Exception:
            LOGGER.exception("a bug", extra={"facts": {"request": facts["request"]}})
            if answer["status"] is None:
                sentence = f"The service failed. Its log says more under {facts['request']}."
                await Problem(500, sentence).response()(scope, body, watched)
        finally:
            self._note(scope, facts, answer["status"] or CLOSED, time.monotonic() - started)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        working = scope["method"] == "POST"
        try:
            self._check_host(scope)
            self._check_origin(scope)
            self._check_token(scope)
            if working:
                self._slots.check()
                self._check_unread()
        except Problem as problem:
            response: Response = problem.response()
            await response(scope, receive, send)
            return
        self._active += working
        self._meters.active.set(self._active)
        try:
            await self._app(scope, receive, send)
        finally:
            self._active -= working
            self._meters.active.set(self._active)

    def _check_token(self, scope: Scope) -> None:
        if self._token is None or scope["path"] in OPEN or scope["path"].startswith(PAGE):
            return
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
        if scheme.lower() != "bearer" or not right:
            sentence = "A token is needed, and this is not it. Send the header: Authorization: Bearer TOKEN."
            raise Problem(401, sentence, {"WWW-Authenticate": 'Bearer realm="urgentmos"'})

    def _check_host(self, scope: Scope) -> None:
        host = Headers(scope=scope).get("host", "")
        if self._hosts is not None and not self._hosts.allow(host):
            sentence = (
                f"{host[:100] or 'No host'!r} is no name of this service. Use http://127.0.0.1 with its port, or start it"
            )
            raise Problem(421, f"{sentence} with --allowed-host NAME.")

    def _check_origin(self, scope: Scope) -> None:
        """A web page from elsewhere may post forms to a service on the reader's own machine: browsers mark these."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        elsewhere = scope["method"] == "POST" and headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if origin is not None and not elsewhere:
            authority = origin.partition("://")[2].lower()
            own = authority == headers.get("host", "").lower() or (self._hosts is not None and self._hosts.allow(authority))
            elsewhere = not authority or not own
        if elsewhere:
            raise Problem(403, "This comes from another site's page. Use the page of this service, or no browser.")

    def _check_unread(self) -> None:
        if self._unread > UNREAD_BYTES:
            raise busy("Other clients have not read their answers yet.", 10)

    def _note(self, scope: Scope, facts: dict[str, Any], status: int, seconds: float) -> None:
        # what is not ours is not counted by name: names would be endless; what is refused at the door has no route yet
        unrouted = scope["path"] if scope["path"] in self._paths else "other"
        path = getattr(scope.get("route"), "path", None) or unrouted
        self._meters.requests.labels(path, str(status)).inc()
        self._meters.seconds.labels(path).observe(seconds)
        log("request", **facts, path=path, status=status, seconds=round(seconds, 4))
