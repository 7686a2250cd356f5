"""Load a service on loopback with simultaneous clients, first all good, then a share of them bad.

    python benchmarks/service.py --clients 16 --seconds 120 -m pocket

Starts `urgentmos serve` (or takes --url), and prints requests per second, latencies of the good requests, memory of the
service before and after, and which statuses each kind of client saw. Exit status 1 if a good request failed, or a bad one got
another answer than it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

KINDS = ("truncated form", "truncated audio", "huge", "wrong type", "bomb", "slow upload", "disconnect")
EXPECTED = {
    "good": {200},
    "truncated form": {400},
    "truncated audio": {422},
    "huge": {413},
    "wrong type": {415},
    "bomb": {413},
    "slow upload": {408},
    "disconnect": {0},
}
FILE_MB, UPLOAD_SECONDS = 5.0, 3.0  # of the service that is started here
BOUNDARY = "urgentmos-benchmark"


@dataclass
class Seen:
    """What the clients saw."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)  # of good requests
    wrong: list[str] = field(default_factory=list)
    different: int = 0  # scores of one file that were not the first one, by more than 1e-4

    def note(self, kind: str, status: int) -> None:
        self.statuses.setdefault(kind, Counter())[status] += 1


def main() -> None:
    options = _options()
    process, url = (None, options.url) if options.url else start(options.model)
    try:
        files = speech(options.folder)
        ok = True
        for share in (0.0, options.bad):
            ok &= one_round(url, files, options, share)
    finally:
        if process is not None:
            process.terminate()
            process.wait(60)
    sys.exit(0 if ok else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--bad", type=float, default=0.1, help="share of bad requests in the second round")
    parser.add_argument("-m", "--model", help="of the service that is started")
    parser.add_argument("--url", help="a service that runs already, with --max-file-mb 5 --upload-seconds 3")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "examples", help="of the files to send")
    return parser.parse_args()


def start(model: str | None) -> tuple[subprocess.Popen[str], str]:
    """A service on a free port, and its address; its log goes to a file beside nothing, since it would fill a pipe."""
    command = [sys.executable, "-c", "from urgentmos.cli import main; main()", "serve", "--port", "0"]
    command += ["--max-file-mb", str(FILE_MB), "--upload-seconds", str(UPLOAD_SECONDS), *(["-m", model] if model else [])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    if not line.startswith("{"):
        sys.exit(f"the service did not start: {line}{process.stderr.read()}")
    url = json.loads(line)["url"]
    import threading

    threading.Thread(target=lambda stream: [None for _ in stream], args=(process.stderr,), daemon=True).start()
    for _ in range(600):
        if asyncio.run(status_of(url)) == 200:
            return process, url
        time.sleep(0.1)
    sys.exit("the service did not answer within a minute")


async def status_of(url: str) -> int:
    try:
        return (await exchange(url, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))[0]
    except OSError:
        return 0


def speech(folder: Path) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))
    return [path.read_bytes() for path in random.Random(0).sample(paths, min(24, len(paths)))]


# ---- clients


def one_round(url: str, files: list[bytes], options: argparse.Namespace, bad: float) -> bool:
    memory = asyncio.run(resident(url))
    seen = Seen()
    begun = time.monotonic()
    asyncio.run(_crowd(url, files, options.clients, begun + options.seconds, bad, seen))
    took = time.monotonic() - begun
    return report(seen, took, memory, asyncio.run(resident(url)), options.clients, bad)


async def _crowd(url: str, files: list[bytes], clients: int, end: float, bad: float, seen: Seen) -> None:
    scores: dict[int, dict[str, float]] = {}
    await asyncio.gather(*(_client(i, url, files, end, bad, seen, scores) for i in range(clients)))


async def _client(
    number: int, url: str, files: list[bytes], end: float, bad: float, seen: Seen, scores: dict[int, dict[str, float]]
) -> None:
    chance = random.Random(number)
    while time.monotonic() < end:
        which = chance.randrange(len(files))
        if chance.random() < bad:
            kind = chance.choice(KINDS)
            seen.note(kind, await misbehave(kind, url, files[which]))
            continue
        begun = time.monotonic()
        status, body = await exchange(url, request(form("clip.flac", files[which])))
        seen.seconds.append(time.monotonic() - begun)
        seen.note("good", status)
        if status == 200:
            metrics = json.loads(body)["clips"][0]["metrics"]
            first = scores.setdefault(which, metrics)
            seen.different += any(abs(first[name] - value) > 1e-4 for name, value in metrics.items())
        else:
            seen.wrong.append(body.decode("utf-8", "replace")[:200])


def form(name: str, content: bytes, kind: str = "audio/flac") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def request(body: bytes, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode() + body


async def misbehave(kind: str, url: str, content: bytes) -> int:
    """The status that a bad request gets; 0 for a client that did not wait for it."""
    body = form("clip.flac", content)
    if kind == "truncated form":
        return (await exchange(url, request(body[:-20])))[0]
    if kind == "truncated audio":
        return (await exchange(url, request(form("clip.flac", content[: len(content) // 2]))))[0]
    if kind == "huge":
        return (await exchange(url, request(form("clip.flac", bytes(int(FILE_MB * 1.2e6))))))[0]
    if kind == "wrong type":
        return (await exchange(url, request(form("notes.txt", b"text", "text/plain"))))[0]
    if kind == "bomb":
        return (await exchange(url, request(form("bomb.flac", bomb()))))[0]
    if kind == "slow upload":
        return (await exchange(url, request(body[:1000], len(body))))[0]
    await exchange(url, request(body[: len(body) // 2], len(body)), stay=False)
    return 0


_bomb = b""


def bomb() -> bytes:
    """An hour of silence in some kilobytes."""
    global _bomb
    if not _bomb:
        import io

        import soundfile

        out = io.BytesIO()
        soundfile.write(out, np.zeros(8000 * 3600, dtype=np.int16), 8000, format="FLAC")
        _bomb = out.getvalue()
    return _bomb


async def exchange(url: str, sent: bytes, *, stay: bool = True) -> tuple[int, bytes]:
    """(status, body) of a request on a connection of its own."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(sent)
        await writer.drain()
        if not stay:
            return 0, b""
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        return (int(head.split(b" ", 2)[1]) if head else -1), body
    except ConnectionError:
        return -1, b""
    finally:
        writer.close()


async def resident(url: str) -> float:
    """Megabytes of the service's memory, by its own /metrics."""
    token = os.environ.get("URGENTMOS_TOKEN")
    more = f"Authorization: Bearer {token}\r\n" if token else ""
    _, body = await exchange(url, f"GET /metrics HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n".encode())
    for line in body.decode().splitlines():
        if line.startswith("process_resident_memory_bytes "):
            return float(line.split()[1]) / 1e6
    return float("nan")


def report(seen: Seen, took: float, before: float, after: float, clients: int, bad: float) -> bool:
    good = seen.statuses.get("good", Counter())
    p50, p95, p99 = (1000 * np.percentile(seen.seconds or [np.nan], q) for q in (50, 95, 99))
    print(f"\n{clients} clients, {took:.0f} s, {bad:.0%} bad requests")
    print(f"  good requests   {good.total()} ({good.total() / took:.1f}/s), failed {good.total() - good[200]}")
    print(f"  latency         p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms")
    print(f"  memory          {before:.0f} MB before, {after:.0f} MB after")
    print(f"  other scores for the same file: {seen.different}")
    ok = not seen.different
    for kind, statuses in sorted(seen.statuses.items()):
        as_expected = set(statuses) <= EXPECTED[kind]
        ok &= as_expected
        counts = ", ".join(f"{status or 'left'}: {n}" for status, n in sorted(statuses.items()))
        print(f"  {kind:16}{counts}{'' if as_expected else '   <- not as it should be'}")
    for text in seen.wrong[:5]:
        print(f"  {text}")
    return ok


if __name__ == "__main__":
    main()
