"""The addresses of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from urgentmos import __version__
from urgentmos.clips import Clip, is_audio, without_suffix
from urgentmos.errors import UrgentmosError, UsageError, need
from urgentmos.metrics import parse_metrics
from urgentmos.predictor import Predictor, check_cells, judged_systems, on_its_own, warnings_about
from urgentmos.server import answers
from urgentmos.server.guard import Guard
from urgentmos.server.limits import Limits, Problem
from urgentmos.server.uploads import FORM, Form, Room, Store, Upload, check_decoded, receive
from urgentmos.server.watching import Meters
from urgentmos.server.worker import Abandoned, Job, Worker

if TYPE_CHECKING:
    from urgentmos.comparing import Comparison
    from urgentmos.results import Run
    from urgentmos.timeline import Timeline

Format = Literal["json", "csv", "html"]
PAGE_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# a list of systems' names grows with the square of their number
MAX_SYSTEMS, MAX_SAMPLES = 100, 10_000


@dataclass
class Service:
    """What all requests share."""

    judge: Predictor
    limits: Limits
    store: Store
    worker: Worker
    meters: Meters

    async def form(self, request: Request, room: Room) -> Form:
        """What was sent. Problem if it breaks a limit or is no form; ClientDisconnect."""
        form = await receive(request, room, self.limits)
        facts = request.state.facts
        facts["files"], facts["bytes"] = len(form.files), sum(upload.size for upload in form.files)
        return form

    async def result(self, request: Request, job: Job) -> Any:
        """The answer of a job; Problem if the work refuses; ClientDisconnect if nobody waits for it any more."""
        gone = asyncio.create_task(_disconnected(request))
        answer = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            request.state.facts["waited"] = round(request.state.facts.get("waited", 0.0) + job.waited, 4)
            self.meters.waited.observe(job.waited)
            return answer.result()
        except Abandoned:
            raise ClientDisconnect from None
        finally:
            gone.cancel()
            if not job.future.done():
                job.abandon()
                answer.cancel()

    def count(self, rows: Sequence[Any]) -> None:
        """rows: Score."""
        for score in rows:
            self.meters.clips.labels("failed" if score.error else "scored").inc()
            self.meters.audio.inc(0.0 if score.error else score.clip.duration or 0.0)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _deadline(service: Service) -> AsyncIterator[None]:
    seconds = service.limits.answer_seconds
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Problem(504, f"There was no answer within {seconds:g} s. Send fewer or shorter recordings at once.") from None


def create_app(judge: Predictor, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The service as an ASGI application. token: what a request must bear; None: nothing.

    The model computes in one thread, which starts and ends with the application's lifespan.
    """
    limits = limits or Limits()
    meters = Meters()
    worker = Worker(judge, limits, meters.batches.observe)
    service = Service(judge, limits, Store(limits.stored_mb), worker, meters)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)
        service.store.close()

    app = FastAPI(
        title="urgentmos",
        version=__version__,
        summary="Speech quality: score recordings, compare two, rank systems.",
        lifespan=lifespan,
        docs_url=None,  # its page would load a script from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.add_exception_handler(Problem, _say_problem)
    app.add_exception_handler(HTTPException, _say_http)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(UrgentmosError, _say_refused)
    # for the document only: the guard asks for the token before anything of a request is read
    locks = [Depends(HTTPBearer(auto_error=False, description="What the service was started with"))] if token else []
    _add_work(app, service, locks)
    _add_facts(app, service, locks)
    _add_page(app)
    paths = {getattr(route, "path", "") for route in app.routes}
    app.add_middleware(Guard, token=token, limits=limits, meters=meters, worker=worker, paths=paths)
    return app


# ---- work


FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
TEXTS = {"type": "array", "items": {"type": "string"}}


def _documented(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


def _responses(model: type[Any], *statuses: int, others: Sequence[str] = ()) -> dict[int | str, dict[str, Any]]:
    problem = answers.ProblemAnswer.model_json_schema()
    refused: dict[int | str, dict[str, Any]] = {
        status: {"description": "Refused", "content": {"application/problem+json": {"schema": problem}}} for status in statuses
    }
    document = {kind: {"schema": {"type": "string"}} for kind in others}
    return {200: {"model": model, "content": document}, **refused}


REFUSALS = (400, 401, 403, 408, 413, 415, 422, 500, 501, 503, 504)
DOCUMENTS = ("text/csv", "text/html")


def _add_work(app: FastAPI, service: Service, locks: Sequence[Any]) -> None:
    @app.post(
        "/v1/score",
        summary="Score recordings",
        dependencies=locks,
        responses=_responses(answers.ScoreAnswer, *REFUSALS, others=DOCUMENTS),
        openapi_extra=_documented(["files"], files=FILES),
    )
    async def score(
        request: Request,
        metrics: Annotated[str, Query(description="Names joined by commas, or all", max_length=1000)] = "all",
        timeline: Annotated[bool, Query(description="Also tell where in each recording its scores come from")] = False,
        format: Format = "json",
    ) -> Response:
        """One row per file, in their order. A file that cannot be scored has an `error`; if none can, the status is 422."""
        names = parse_metrics(metrics, service.judge.metrics)
        _check_format(format)
        with service.store.room() as room:
            form = await service.form(request, room)
            uploads = _files(form, "files")
            async with _deadline(service):
                await _check_all(uploads, service.limits)
                scores = await service.result(request, service.worker.score([answers.clip_of(u) for u in uploads]))
                service.count(scores)
                scores = [found.only(names) for found in scores]
                told = answers.names_of(uploads)
                lines: list[Timeline | None] = [None] * len(scores)
                if timeline:
                    asked = [None if found.error else found.clip.audio_path for found in scores]
                    lines = await service.result(
                        request, service.worker.alone(lambda judge, run: _timelines(judge, run, asked))
                    )
                rows = [answers.row_of(found, told, line) for found, line in zip(scores, lines, strict=True)]
                if all(row["error"] for row in rows):
                    raise Problem(422, f"No file could be scored. {rows[0]['error']}.", more={"clips": rows})
                if format == "csv":
                    return await _csv(rows, room.folder)
                if format == "html":
                    work = service.worker.alone(lambda judge, run: _clips_page(judge, scores, names, room.folder))
                    return _html(answers.page_text(await service.result(request, work), told))
        by = {"model": service.judge.name, "version": service.judge.version}
        return JSONResponse({**by, "warnings": warnings_about(scores, service.judge), "clips": rows})

    @app.post(
        "/v1/compare",
        summary="Compare two recordings",
        dependencies=locks,
        responses=_responses(answers.CompareAnswer, *REFUSALS),
        openapi_extra=_documented(["a", "b"], **{k: {"type": "string", "format": "binary"} for k in "ab"}),
    )
    async def compare(request: Request) -> Response:
        """Which of the files `a` and `b` sounds better: a verdict with its probabilities, and how much better A is."""
        with service.store.room() as room:
            form = await service.form(request, room)
            both = [_only(form, part) for part in "ab"]
            async with _deadline(service):
                await _check_all(both, service.limits)
                pair = (answers.clip_of(both[0]), answers.clip_of(both[1]))
                job = service.worker.alone(lambda judge, run: next(iter(judge.compare_clips([pair], run))))
                comparison: Comparison = await service.result(request, job)
        found = on_its_own(comparison, service.judge).to_dict()
        if found["error"]:
            raise Problem(422, answers.renamed(found["error"], answers.names_of(both)) + ".")
        named = {"a": both[0].name, "b": both[1].name}
        return JSONResponse({"model": service.judge.name, "version": service.judge.version, **found, **named})

    @app.post(
        "/v1/rank",
        summary="Rank systems",
        dependencies=locks,
        responses=_responses(answers.RankAnswer, *REFUSALS, others=DOCUMENTS),
        openapi_extra=_documented(["files"], files=FILES, system_id=TEXTS, reference_id=TEXTS),
    )
    async def rank(
        request: Request,
        scoring: Literal["binary", "soft", "bradley-terry", "mos"] = "binary",
        confidence: Annotated[float, Query(gt=0, lt=1)] = 0.95,
        samples: Annotated[int, Query(ge=100, le=MAX_SAMPLES)] = 1000,
        seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
        format: Format = "json",
    ) -> Response:
        """Files are named SYSTEM/CONTENT.wav, or each has a field `system_id` and a `reference_id`, in the same order."""
        _check_format(format)
        with service.store.room() as room:
            form = await service.form(request, room)
            uploads = _files(form, "files")
            clips = _systems(form, uploads)
            told = answers.names_of(uploads)
            async with _deadline(service):
                await _check_all(uploads, service.limits)
                how: dict[str, Any] = {"confidence": confidence, "samples": samples, "seed": seed}
                job = service.worker.alone(lambda judge, run: judged_systems(clips, judge, scoring, run=run, **how))
                try:
                    ranking, found = await service.result(request, job)
                except UsageError as e:
                    raise Problem(422, answers.renamed(str(e), told)) from e
                service.count(found.rows)
                result = ranking.to_dict()
                if format == "csv":
                    return await _csv(result["systems"], room.folder)
                if format == "html":
                    work = service.worker.alone(lambda judge, run: _ranking_page(judge, ranking, found, clips, room.folder))
                    return _html(answers.page_text(await service.result(request, work), told))
        failed = [{"uid": s.clip.uid, "error": answers.renamed(s.error, told)} for s in found.rows if s.error]
        result["warnings"] = [answers.renamed(warning, told) for warning in result["warnings"]]
        return JSONResponse({**result, "failed": failed})


async def _check_all(uploads: Sequence[Upload], limits: Limits) -> None:
    for upload in uploads:
        await asyncio.to_thread(check_decoded, upload, limits)


def _files(form: Form, part: str) -> list[Upload]:
    found = [upload for upload in form.files if upload.part == part]
    others = {upload.part for upload in form.files} - {part}
    if others:
        raise Problem(422, f"There is a file in the field {min(others)!r}. Files belong into the field {part!r}.")
    if not found:
        raise Problem(422, f"There is no file in the field {part!r}. Send one, as in: curl -F {part}=@clip.wav.")
    return found


def _only(form: Form, part: str) -> Upload:
    found = [upload for upload in form.files if upload.part == part]
    if len(found) != 1 or len(form.files) > 2:
        raise Problem(422, f"There must be one file {part!r}, and there are {len(found)}. Send the two as the files a and b.")
    return found[0]


def _systems(form: Form, uploads: Sequence[Upload]) -> list[Clip]:
    """Clips with systems and contents, from the fields or from the files' names. Problem if either is missing."""
    systems, contents = form.texts.get("system_id", []), form.texts.get("reference_id", [])
    if not systems and not contents:
        named = [_named(upload) for upload in uploads]
    elif len(systems) == len(contents) == len(uploads) and all(systems) and all(contents):
        named = list(zip(systems, contents, strict=True))
    else:
        counts = f"{len(uploads)} files, {len(systems)} system_id and {len(contents)} reference_id"
        raise Problem(422, f"There are {counts}. Send one system_id and one reference_id for each file, none of them empty.")
    clips = [answers.clip_of(upload, *names) for upload, names in zip(uploads, named, strict=True)]
    if len({clip.system_id for clip in clips}) > MAX_SYSTEMS:
        raise Problem(413, f"There are more than {MAX_SYSTEMS} systems. Rank them with the command: urgentmos rank.")
    check_cells(clips)
    return clips


def _named(upload: Upload) -> tuple[str, str]:
    system, slash, content = upload.name.strip("/").partition("/")
    content = without_suffix(content) if is_audio(content) else content
    if not slash or not system or not content:
        cure = "Name files SYSTEM/CONTENT.wav, or send a system_id and a reference_id for each"
        raise Problem(422, f"{upload.name} does not say its system. {cure}.")
    return system, content


def _timelines(judge: Predictor, run: Run, paths: Sequence[str | None]) -> list[Timeline | None]:
    found: list[Timeline | None] = []
    for path in paths:
        found.append(None if path is None else judge.timeline(path))
        if run.progress:
            run.progress("timelines", len(found), len(paths))
    return found


# ---- documents


def has_reports() -> bool:
    try:
        need("jinja2", "report")
        need("vl_convert", "report")
    except UsageError:
        return False
    return True


def _check_format(format: Format) -> None:
    if format == "html" and not has_reports():
        raise Problem(501, "Reports are not installed here. Install them with: pip install 'urgentmos[report]'.")


def _clips_page(judge: Predictor, scores: Sequence[Any], names: Sequence[str], folder: Path) -> str:
    from urgentmos.report import Options, clips_page

    return clips_page(scores, judge, names, Options(folder / "answer.html"))


def _ranking_page(judge: Predictor, ranking: Any, found: Any, clips: Sequence[Clip], folder: Path) -> str:
    from urgentmos.report import Options, ranking_page

    return ranking_page(ranking, found, clips, judge.judge, Options(folder / "answer.html"))


async def _csv(rows: Sequence[dict[str, Any]], folder: Path) -> Response:
    content = await asyncio.to_thread(answers.table_bytes, rows, folder)
    return Response(content, media_type="text/csv", headers={"Content-Disposition": 'attachment; filename="urgentmos.csv"'})


def _html(page: str) -> Response:
    # a report is shown by nobody here: sent as a file to keep, it runs in the reader's own place
    content = page.encode("utf-8", "backslashreplace")
    return Response(content, media_type="text/html", headers={"Content-Disposition": 'attachment; filename="urgentmos.html"'})


# ---- facts


def _add_facts(app: FastAPI, service: Service, locks: Sequence[Any]) -> None:
    judge, meters = service.judge, service.meters

    @app.get(
        "/v1/models",
        summary="The model that answers, and its limits",
        dependencies=locks,
        responses=_responses(answers.ModelsAnswer, 401),
    )
    async def models() -> Response:
        from urgentmos.model_list import known_models

        told: dict[str, Any] = {
            "name": judge.name,
            "version": judge.version,
            "metrics": list(judge.metrics),
            "judge": judge.judge,
            "about": {name: answers.about(name) for name in judge.metrics},
        }
        known = await asyncio.to_thread(known_models)
        return JSONResponse({"served": told, "limits": asdict(service.limits), "report": has_reports(), "models": known})

    @app.get("/healthz", summary="Whether the service can answer", responses=_responses(answers.HealthAnswer, 503))
    async def healthz() -> Response:
        if not service.worker.alive:
            raise Problem(503, "The model's thread has ended. Start the service again.")
        return JSONResponse({"status": "ok", "model": judge.name, "version": judge.version})

    @app.get(
        "/metrics",
        summary="Counters for Prometheus",
        dependencies=locks,
        response_class=Response,
        responses=_metrics_responses(),
    )
    async def metrics() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        meters.queued.set(service.worker.waiting)
        meters.stored.set(service.store.bytes)
        return Response(generate_latest(meters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _metrics_responses() -> dict[int | str, dict[str, Any]]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"description": "Prometheus text", "content": text}, 401: _responses(answers.ModelsAnswer, 401)[401]}


# ---- the page


def _add_page(app: FastAPI) -> None:
    folder = files("urgentmos.server") / "page"
    found = {item.name: item.read_bytes() for item in folder.iterdir() if Path(item.name).suffix in (".html", *PAGE_TYPES)}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        policy = {"Content-Security-Policy": PAGE_POLICY, "Permissions-Policy": "microphone=(self)"}
        return Response(found["index.html"], media_type="text/html", headers=policy)

    @app.get("/page/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        kind = PAGE_TYPES.get(Path(name).suffix)
        if kind is None or name not in found:
            raise Problem(404, "There is no such file.")
        return Response(found[name], media_type=kind)


# ---- what went wrong


async def _say_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    request.state.facts["problem"] = error.status
    return error.response()


async def _say_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = f"{error.detail}. GET /openapi.json tells what there is."
    return Problem(error.status_code, sentence, dict(error.headers or {})).response()


async def _say_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return Problem(422, f"{first['loc'][-1]}: {first['msg']}. GET /openapi.json tells what is allowed.").response()


async def _say_refused(request: Request, error: Exception) -> Response:
    sentence = str(error)
    return Problem(422, sentence if sentence.endswith((".", "'")) else f"{sentence}.").response()
