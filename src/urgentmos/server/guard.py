"""What every request passes first: who asks, how many ask; and what is written down when it is over."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from math import ceil
from typing import Any

from fastapi.responses import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from urgentmos.server.limits import CLOSED, Limits, Problem, busy
from urgentmos.server.watching import LOGGER, Meters, log
from urgentmos.server.worker import Worker

OPEN = ("/healthz", "/", "/openapi.json")  # without a token: they tell nothing that the package does not tell
PAGE = "/page/"
DRAIN_SECONDS = 2.0
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


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


class Guard:
    """ASGI middleware: token, concurrency, headers, log and counters. paths: those that may be named in log and counters."""

    def __init__(
        self, app: ASGIApp, *, token: str | None, limits: Limits, meters: Meters, worker: Worker, paths: Collection[str]
    ) -> None:
        self._app, self._limits, self._meters, self._worker, self._paths = app, limits, meters, worker, paths
        self._token = None if token is None else token.encode()
        self._active = 0

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
            await send(message)

        try:
            await self._pass(scope, body, watched)
        except ClientDisconnect:
            answer["status"] = CLOSED
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
            self._check_token(scope)
            if working:
                self._check_origin(scope)
                self._check_room()
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

    def _check_origin(self, scope: Scope) -> None:
        """A web page from elsewhere may post forms to a service on the reader's own machine: browsers say so."""
        if Headers(scope=scope).get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Problem(403, "This comes from another site's page. Use the page of this service, or no browser.")

    def _check_room(self) -> None:
        if self._active >= self._limits.requests:
            wait = max(1, min(60, ceil(self._worker.mean_seconds * (self._worker.waiting + 1))))
            raise busy(f"{self._active} requests are being served, and more may not be.", wait)

    def _note(self, scope: Scope, facts: dict[str, Any], status: int, seconds: float) -> None:
        # what is not ours is not counted by name: names would be endless; what is refused at the door has no route yet
        unrouted = scope["path"] if scope["path"] in self._paths else "other"
        path = getattr(scope.get("route"), "path", None) or unrouted
        self._meters.requests.labels(path, str(status)).inc()
        self._meters.seconds.labels(path).observe(seconds)
        log("request", **facts, path=path, status=status, seconds=round(seconds, 4))
