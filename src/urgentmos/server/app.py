"""The addresses of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from urgentmos import __version__
from urgentmos.clips.clip import Clip, is_audio, without_suffix
from urgentmos.clips.layouts import same_names
from urgentmos.errors import UrgentmosError, UsageError, need
from urgentmos.judges.base import Predictor, check_cells, on_its_own, warnings_about
from urgentmos.metrics import parse_metrics
from urgentmos.ranking.names import Scoring
from urgentmos.server import answers
from urgentmos.server.calculator import Calculator, ClipsPageTask, RankingPageTask, RankTask, Recorded
from urgentmos.server.guard import Guard, Hosts
from urgentmos.server.health import Health
from urgentmos.server.limits import MEGABYTE, Limits, Problem, too_large
from urgentmos.server.service import Service
from urgentmos.server.slots import LARGE_FILES, Slots, is_large
from urgentmos.server.uploads import FORM, Form, Lengths, Store, Upload
from urgentmos.server.watching import Meters
from urgentmos.server.worker import LONG_SECONDS, Worker

if TYPE_CHECKING:
    from urgentmos.judges.timeline import Timeline
    from urgentmos.ranking.comparison import Comparison

T = TypeVar("T")
Format = Literal["json", "csv", "html"]
PAGE_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# a list of systems' names grows with the square of their number
MAX_SYSTEMS, MAX_SAMPLES = 100, 10_000
LAST_SECONDS = 2.0  # for work that nobody waits for when the service ends
PAGE_MB = 50.0  # largest report, as on the command line


def create_app(judge: Predictor, limits: Limits | None = None, token: str | None = None, hosts: Hosts | None = None) -> FastAPI:
    """The service as an ASGI application.

    token: what a request must bear; None: nothing; UsageError if it is empty. hosts: the names that requests may be sent to;
    None: any, which is right behind a proxy that checks them. One thread at a time computes with the model; the threads start
    and end with the application's lifespan.
    """
    if token is not None and not token.strip():
        raise UsageError("the token is empty. Use letters, digits and signs, or no token at all (None).")
    limits = limits or Limits()
    meters = Meters()
    worker = Worker(judge, limits, meters.batches.observe)
    slots = Slots(limits.requests, lambda: max(1, min(60, ceil(worker.mean_seconds * (worker.waiting + 1)))))
    calculator = Calculator(limits.answer_seconds)
    service = Service(judge, limits, Store(limits.stored_mb), worker, calculator, Lengths(limits), slots, meters)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop, LAST_SECONDS)
        await asyncio.to_thread(calculator.close)
        service.lengths.close()
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
    # for the document only: the guard checks the token before anything of a request is read
    locks = [Depends(HTTPBearer(auto_error=False, description="What the service was started with"))] if token else []
    _add_work(app, service, locks)
    _add_facts(app, service, locks)
    _add_page(app)
    paths = {getattr(route, "path", "") for route in app.routes}
    app.add_middleware(Guard, token=token, hosts=hosts, meters=meters, slots=slots, paths=paths)
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
        async with service.store.large_room() as room:
            form = await service.form(request, room)
            uploads = _files(form, "files")
            large = timeline or len(uploads) > LARGE_FILES
            async with service.working(request, uploads, large=format == "html"):
                clips = [answers.clip_of(upload) for upload in uploads]
                scores = await service.result(request, service.worker.score(clips, [upload.seconds for upload in uploads]))
                service.count(scores)
                scores = [cells.only(names) for cells in scores]
                labels = answers.names_of(uploads)
                lines: list[Timeline | None] = [None] * len(scores)
                if timeline or format == "html":
                    lines = await service.timelines(request, uploads, scores)
                rows = await _off_loop(large, answers.rows_of, scores, labels, lines if timeline else [None] * len(scores))
                if all(row["error"] for row in rows):
                    raise Problem(422, f"No file could be scored. {rows[0]['error']}.", more={"clips": rows})
                if format == "csv":
                    return await _csv(rows, room.folder)
                if format == "html":
                    recorded = Recorded(service.judge, lines=_by_path(uploads, lines))
                    task = ClipsPageTask(recorded, scores, names, room.folder)
                    return _html(await service.calculator.result(task, large=True), labels)
        by = {"model": service.judge.name, "version": service.judge.version}
        content = {**by, "warnings": warnings_about(scores, service.judge), "clips": rows}
        return await _off_loop(large, JSONResponse, content)

    @app.post(
        "/v1/compare",
        summary="Compare two recordings",
        dependencies=locks,
        responses=_responses(answers.CompareAnswer, *REFUSALS),
        openapi_extra=_documented(["a", "b"], **{k: {"type": "string", "format": "binary"} for k in "ab"}),
    )
    async def compare(request: Request) -> Response:
        """Compare the files `a` and `b`: a verdict with its probabilities, and how much better A is."""
        async with service.store.large_room() as room:
            form = await service.form(request, room)
            both = [_only(form, part) for part in "ab"]
            async with service.working(request, both):
                pair = (answers.clip_of(both[0]), answers.clip_of(both[1]))
                seconds = sum(upload.seconds for upload in both)
                job = service.worker.alone(lambda judge, run: next(iter(judge.compare_clips([pair], run))), seconds)
                comparison: Comparison = (await service.result(request, job))[0]
        cells = on_its_own(comparison, service.judge).to_dict()
        if cells["error"]:
            raise Problem(422, answers.renamed(cells["error"], answers.names_of(both)) + ".")
        named = {"a": both[0].name, "b": both[1].name}
        return JSONResponse({"model": service.judge.name, "version": service.judge.version, **cells, **named})

    @app.post(
        "/v1/rank",
        summary="Rank systems",
        dependencies=locks,
        responses=_responses(answers.RankAnswer, *REFUSALS, others=DOCUMENTS),
        openapi_extra=_documented(["files"], files=FILES, system_id=TEXTS, reference_id=TEXTS),
    )
    async def rank(
        request: Request,
        scoring: Scoring = "binary",
        confidence: Annotated[float, Query(gt=0, lt=1)] = 0.95,
        samples: Annotated[int, Query(ge=100, le=MAX_SAMPLES)] = 1000,
        seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
        format: Format = "json",
    ) -> Response:
        """Files are named SYSTEM/CONTENT.wav, or each has a field `system_id` and a `reference_id`, in the same order."""
        _check_format(format)
        async with service.store.large_room() as room:
            form = await service.form(request, room)
            uploads = _files(form, "files")
            clips = _systems(form, uploads)
            labels = answers.names_of(uploads)
            _check_draws(len({clip.system_id for clip in clips}), samples, service.limits)
            async with service.working(request, uploads):
                resampling: dict[str, Any] = {"confidence": confidence, "samples": samples, "seed": seed}
                seconds = LONG_SECONDS + sum(upload.seconds for upload in uploads)  # step by step, however short they are
                job = service.worker.alone(lambda judge, run: judge.evidence(clips, scoring, run), seconds)
                try:
                    evidence = (await service.result(request, job))[0]
                    task = RankTask(Recorded(service.judge, evidence), clips, scoring, resampling)
                    ranking, cells = await service.calculator.result(task, large=is_large(len(uploads), seconds - LONG_SECONDS))
                except UsageError as e:
                    raise Problem(422, answers.renamed(str(e), labels)) from e
                service.count(cells.rows)
                result = ranking.to_dict()
                if format == "csv":
                    return await _csv(result["systems"], room.folder)
                if format == "html":
                    page = RankingPageTask(service.judge.ranks_by, ranking, cells, clips, room.folder)
                    return _html(await service.calculator.result(page, large=True), labels)
        failed = [{"uid": s.clip.uid, "error": answers.renamed(s.error, labels)} for s in cells.rows if s.error]
        result["warnings"] = [answers.renamed(warning, labels) for warning in result["warnings"]]
        return JSONResponse({**result, "failed": failed})


async def _off_loop(large: bool, work: Callable[..., T], *values: Any) -> T:
    """The result of `work`: in a thread where it takes long, at once where changing threads would take longer."""
    return await asyncio.to_thread(work, *values) if large else work(*values)


def _files(form: Form, part: str) -> list[Upload]:
    uploads = [upload for upload in form.files if upload.part == part]
    others = {upload.part for upload in form.files} - {part}
    if others:
        raise Problem(422, f"There is a file in the field {min(others)!r}. Files belong into the field {part!r}.")
    if not uploads:
        raise Problem(422, f"There is no file in the field {part!r}. Send one, as in: curl -F {part}=@clip.wav.")
    return uploads


def _only(form: Form, part: str) -> Upload:
    uploads = [upload for upload in form.files if upload.part == part]
    if len(uploads) != 1 or len(form.files) > 2:
        raise Problem(422, f"There must be one file {part!r}, and there are {len(uploads)}. Send the two as the files a and b.")
    return uploads[0]


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
    return same_names(clips)


def _check_draws(systems: int, samples: int, limits: Limits) -> None:
    if systems * systems * samples > limits.draws:
        most = max(1, limits.draws // (systems * systems))
        sentence = f"{systems} systems with {samples} samples are more arithmetic than a request may ask for"
        raise too_large(f"{sentence}. Ask for at most {most} samples, or rank them with the command: urgentmos rank.")


def _named(upload: Upload) -> tuple[str, str]:
    system, slash, content = upload.name.strip("/").partition("/")
    content = without_suffix(content) if is_audio(content) else content
    if not slash or not system or not content:
        cure = "Name files SYSTEM/CONTENT.wav, or send a system_id and a reference_id for each"
        raise Problem(422, f"{upload.name} does not say its system. {cure}.")
    return system, content


def _by_path(uploads: Sequence[Upload], lines: Sequence[Timeline | None]) -> Mapping[str, Timeline | None]:
    return {str(upload.path): line for upload, line in zip(uploads, lines, strict=True)}


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


async def _csv(rows: Sequence[dict[str, Any]], folder: Path) -> Response:
    content = await asyncio.to_thread(answers.table_bytes, rows, folder)
    return Response(content, media_type="text/csv", headers={"Content-Disposition": 'attachment; filename="urgentmos.csv"'})


def _html(page: str, names: answers.Names) -> Response:
    if len(page) > PAGE_MB * MEGABYTE:
        raise too_large(f"The report is larger than {PAGE_MB:g} MB. Send fewer or shorter recordings at once.")
    # a report is shown by nobody here: sent as a file to keep, it runs in the reader's own place
    content = answers.page_text(page, names).encode("utf-8", "backslashreplace")
    return Response(content, media_type="text/html", headers={"Content-Disposition": 'attachment; filename="urgentmos.html"'})


# ---- facts


def _add_facts(app: FastAPI, service: Service, locks: Sequence[Any]) -> None:
    judge, meters = service.judge, service.meters
    health = Health(service.worker, service.store.own, service.limits.health_seconds)

    @app.get(
        "/v1/models",
        summary="The model that answers, and its limits",
        dependencies=locks,
        responses=_responses(answers.ModelsAnswer, 401),
    )
    async def models() -> Response:
        from urgentmos.judges.listing import known_models

        facts: dict[str, Any] = {
            "name": judge.name,
            "version": judge.version,
            "metrics": list(judge.metrics),
            "judge": judge.ranks_by,
            "about": {name: answers.about(name) for name in judge.metrics},
        }
        models = await asyncio.to_thread(known_models)
        return JSONResponse({"served": facts, "limits": asdict(service.limits), "report": has_reports(), "models": models})

    @app.get("/healthz", summary="Whether a clip of our own is scored in time", responses=_responses(answers.HealthAnswer, 503))
    async def healthz() -> Response:
        if reason := await health.reason():
            raise Problem(503, reason)
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
    contents = {item.name: item.read_bytes() for item in folder.iterdir() if Path(item.name).suffix in (".html", *PAGE_TYPES)}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        policy = {"Content-Security-Policy": PAGE_POLICY, "Permissions-Policy": "microphone=(self)"}
        return Response(contents["index.html"], media_type="text/html", headers=policy)

    @app.get("/page/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        kind = PAGE_TYPES.get(Path(name).suffix)
        if kind is None or name not in contents:
            raise Problem(404, "There is no such file.")
        return Response(contents[name], media_type=kind)


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
