"""The command serve: HTTP and a web page over one model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import model_option, settings_of
from urgentmos.errors import UsageError, need

TOKEN = "URGENTMOS_TOKEN"
F = TypeVar("F", bound=Callable[..., Any])

# The fields of server.limits.Limits, which is not imported here since it needs the extra; a test compares the defaults.
LIMITS: tuple[tuple[str, str, int | float, str], ...] = (
    ("--max-file-mb", "file_mb", 50.0, "Largest file, in megabytes."),
    ("--max-request-mb", "request_mb", 200.0, "Most that a request may send, in megabytes."),
    ("--max-files", "files", 256, "Most files in a request."),
    ("--max-seconds", "seconds", 600.0, "Longest recording."),
    ("--max-samples", "samples", 64_000_000, "Most samples of a recording once decoded, over all channels; 4 bytes each."),
    ("--max-request-seconds", "request_seconds", 3600.0, "Most audio of a request, in seconds, all files together."),
    ("--max-draws", "draws", 50_000_000, "Most arithmetic of a ranking: systems x systems x samples."),
    ("--max-requests", "requests", 64, "Most requests that are computed or wait for it at once; half of them large ones."),
    ("--max-stored-mb", "stored_mb", 2000.0, "Most temporary files of all requests together, in megabytes."),
    ("--max-connections", "connections", 256, "Most connections at once."),
    ("--header-seconds", "header_seconds", 10.0, "Time in which the headers of a request must have arrived."),
    ("--idle-seconds", "idle_seconds", 15.0, "Time for which a connection stays open between two requests."),
    ("--upload-seconds", "upload_seconds", 60.0, "Time in which a request must have arrived."),
    ("--answer-seconds", "answer_seconds", 120.0, "Time from then on in which its answer must be there."),
    ("--read-seconds", "read_seconds", 60.0, "Time in which the client must have read its answer."),
    ("--health-seconds", "health_seconds", 5.0, "Time in which /healthz must score its own clip."),
    ("--grace-seconds", "grace_seconds", 25.0, "Time from SIGTERM on in which requests under way are finished."),
    ("--batch-ms", "batch_ms", 5.0, "How long a clip waits for others to be scored with, in milliseconds."),
    ("--batch-clips", "batch_clips", 16, "Most clips scored together."),
)


def limit_options(command: F) -> F:
    for option, name, default, text in reversed(LIMITS):
        kind = click.IntRange(min=1) if isinstance(default, int) else click.FloatRange(min=0, min_open=name != "batch_ms")
        command = click.option(option, name, type=kind, default=default, show_default=True, help=text)(command)
    return command


@click.command(cls=Command)
@model_option
@click.option("--weights", metavar="NAME=PATH", multiple=True, help="Weights that no package carries, as in nisqa=nisqa.tar.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all, which others can reach."
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Port to listen on; 0 for a free one."
)
@click.option(
    "--token", envvar=TOKEN, help="What requests must bear; better in the environment, as URGENTMOS_TOKEN. Never empty."
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME[:PORT]",
    multiple=True,
    help="A further name that requests may be sent to, as it stands in a browser's address; on loopback others are refused.",
)
@limit_options
def serve(
    model: str,
    device: str,
    weights: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    allowed_hosts: tuple[str, ...],
    **limits: Any,
) -> None:
    """Serve one model over HTTP, with a web page.

    POST /v1/score, /v1/compare and /v1/rank take files and give what the commands give; the page at / is for people. One JSON
    line a request goes to stderr. Ctrl-C or SIGTERM ends the service when all that it accepted is answered.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        need(module, "serve")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: clips are shared among threads, and more would only spin
    from urgentmos.api import load
    from urgentmos.metrics import HUMAN, METRICS
    from urgentmos.server import Limits
    from urgentmos.server import serve as run

    if token is None and (token := os.environ.get(TOKEN)) is not None and not token.strip():  # click skips an empty variable
        raise UsageError(f"the token in {TOKEN} is empty. Set it to letters, digits and signs, or unset it: unset {TOKEN}.")
    if token is not None and (not token.isascii() or not token.isprintable() or not token.strip()):
        raise UsageError("the token is empty or holds what no HTTP header can. Use letters, digits and signs.")
    judge = load(model, weights=settings_of(weights).weights, device=device)
    if judge.name in HUMAN or (judge.name in METRICS and METRICS[judge.name].needs_reference):
        raise UsageError(f"{judge.name} cannot be told from a recording alone. Choose another model with -m.")
    token = None if token is None else token.strip()
    run(judge, host=host, port=port, limits=Limits(**limits), token=token, allowed_hosts=allowed_hosts)
