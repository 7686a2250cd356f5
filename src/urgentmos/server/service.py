"""The state that requests share, and the steps of each: measured, given a place, computed, ended in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from urgentmos.errors import AudioError, MeasureError
from urgentmos.judges.base import Predictor, Run
from urgentmos.server.calculator import Calculator
from urgentmos.server.limits import Limits, Problem, busy
from urgentmos.server.slots import Slots, is_large
from urgentmos.server.uploads import Form, Lengths, Room, Store, Upload, receive
from urgentmos.server.watching import Meters
from urgentmos.server.worker import Abandoned, Item, Job, Work, Worker

if TYPE_CHECKING:
    from urgentmos.judges.timeline import Timeline


@dataclass
class Service:
    """The state that all requests share."""

    judge: Predictor
    limits: Limits
    store: Store
    worker: Worker
    calculator: Calculator
    lengths: Lengths
    slots: Slots
    meters: Meters

    async def form(self, request: Request, room: Room) -> Form:
        """The form that was sent. Raises Problem if it breaks a limit or is no form, and ClientDisconnect."""
        form = await receive(request, room, self.limits)
        facts = request.state.facts
        facts["files"], facts["bytes"] = len(form.files), sum(upload.size for upload in form.files)
        return form

    @asynccontextmanager
    async def working(self, request: Request, uploads: Sequence[Upload], *, large: bool = False) -> AsyncIterator[None]:
        """A place among the requests that are computed, once it is known how much audio there is, until it is answered.

        Problem if that is too much, if there is no place, or at the deadline; ClientDisconnect as soon as the client has gone.
        """
        async with _deadline(request, self.limits.answer_seconds):
            seconds = await self.lengths.measure(uploads)
            request.state.facts["audio"] = round(seconds, 2)
            with self.slots.take(large=large or is_large(len(uploads), seconds)):
                yield

    async def result(self, request: Request, job: Job) -> list[Any]:
        """The answers of a job. Whoever stops waiting for them gives it up."""
        try:
            answers = await asyncio.wrap_future(job.future)
        except Abandoned:
            raise busy("The service is being stopped.", 10) from None
        finally:
            if not job.future.done():
                job.abandon()
        request.state.facts["waited"] = round(request.state.facts.get("waited", 0.0) + job.waited, 4)
        self.meters.waited.observe(job.waited)
        return answers

    async def timelines(self, request: Request, uploads: Sequence[Upload], scores: Sequence[Any]) -> list[Timeline | None]:
        """Of each clip that has a score, in turns with other clips."""
        places = [i for i, score in enumerate(scores) if score.error is None]
        items = [Item(timeline_of(str(uploads[i].path)), uploads[i].seconds) for i in places]
        lines: list[Timeline | None] = [None] * len(scores)
        for i, line in zip(places, await self.result(request, self.worker.submit(items)), strict=True):
            lines[i] = line
        return lines

    def count(self, rows: Sequence[Any]) -> None:
        """rows: Score."""
        for score in rows:
            self.meters.clips.labels("failed" if score.error else "scored").inc()
            self.meters.audio.inc(0.0 if score.error else score.clip.duration or 0.0)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _deadline(request: Request, seconds: float) -> AsyncIterator[None]:
    """A block that ends early: with Problem at the deadline, with ClientDisconnect when the client has gone."""
    loop = asyncio.get_running_loop()
    timeout = asyncio.timeout(seconds)

    def end(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            with suppress(RuntimeError):  # the block has just ended
                timeout.reschedule(loop.time())

    watching = asyncio.create_task(_disconnected(request))
    watching.add_done_callback(end)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if watching.done():
            raise ClientDisconnect from None
        raise Problem(504, f"There was no answer within {seconds:g} s. Send fewer or shorter recordings at once.") from None
    finally:
        watching.cancel()


def timeline_of(path: str) -> Work:
    def work(judge: Predictor, run: Run) -> Timeline | None:
        try:
            return judge.timeline(path)
        except (AudioError, MeasureError):  # it had a score a moment ago
            return None

    return work
