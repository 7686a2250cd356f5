"""Measure the service for good clients, first alone and then beside attackers.

    python benchmarks/service_under_attack.py --clients 16 --seconds 60

Good clients score a short clip again and again, each on a connection of its own. Attackers, in a process of their own, hold
connections open, send bodies byte by byte, upload too much, send files of many channels and hours of silence, rank a hundred
systems, never read their answers, and leave in the middle. Prints latencies and errors of the good clients, memory and log of
the service, and the statuses that each kind of attacker received. Exit status 1 if a good client failed
or the 99th percentile is above 2 s.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

BOUNDARY = "urgentmos-benchmark"
LATE = 2.0  # seconds, of the 99th percentile
HELD, DRIPPING, UNREAD = 150, 60, 4  # connections of the attackers that keep some open
Part = tuple[str, bytes]  # a file's name and content
Attack = Callable[["Target", Counter[str]], Awaitable[None]]


class Target:
    """The service: raw requests on connections of their own."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self, receive_buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=connection)

    def request(self, path: str, parts: Sequence[Part], length: int | None = None) -> bytes:
        head = '--{}\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n'
        body = b"".join(head.format(BOUNDARY, name).encode() + content + b"\r\n" for name, content in parts)
        body += f"--{BOUNDARY}--\r\n".encode()
        fields = (
            f"Host: 127.0.0.1:{self.port}\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        )
        return f"POST {path} HTTP/1.1\r\n{fields}Content-Length: {length or len(body)}\r\n\r\n".encode() + body

    async def exchange(self, sent: bytes) -> tuple[str, bytes]:
        """(status, body); the status is a word where there was no answer."""
        try:
            reader, writer = await self.connect()
        except OSError:
            return "not connected", b""
        try:
            writer.write(sent)
            await writer.drain()
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            return (head.split(b" ", 2)[1].decode() if head else "closed"), body
        except OSError:
            return "closed", b""
        finally:
            writer.close()


# ---- files


def flac(samples: np.ndarray, rate: int = 16_000, form: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype="PCM_16")
    return file.getvalue()


def short_clip() -> bytes:
    """Two seconds of the examples' speech."""
    path = sorted((Path(__file__).parents[1] / "examples").rglob("*.flac"))[0]
    samples, rate = soundfile.read(path)
    return flac(np.resize(samples, 2 * rate), rate, "WAV")


def silence(seconds: int, channels: int = 1, rate: int = 8000) -> bytes:
    return flac(np.zeros((seconds * rate, channels), np.int16), rate)


# ---- attackers: each goes on until it is cancelled


async def hold_headers(target: Target, seen: Counter[str]) -> None:
    """Connections that send a byte of a header now and then."""
    held: list[asyncio.StreamWriter] = []
    while True:
        held = [writer for writer in held if not writer.is_closing()]
        with suppress(OSError):
            while len(held) < HELD:
                writer = (await target.connect())[1]
                writer.write(b"POST /v1/score HTTP/1.1\r\nX: ")
                held.append(writer)
                seen["opened"] += 1
        for writer in held:
            writer.write(b"a")
        await asyncio.sleep(1)


async def drip_bodies(target: Target, seen: Counter[str]) -> None:
    """Uploads that arrive byte by byte."""

    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await target.connect()
                writer.write(target.request("/v1/score", [("a.wav", b"RIFF")], length=1_000_000)[:-40])
                head = asyncio.create_task(reader.readline())
                while not head.done():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.wait({head}, timeout=1)
                seen[(head.result() or b"- closed").split(b" ")[1].decode()] += 1
                writer.close()
            await asyncio.sleep(0.5)

    await asyncio.gather(*(one() for _ in range(DRIPPING)))


async def upload_too_much(target: Target, seen: Counter[str]) -> None:
    big = bytes(60_000_000)
    while True:
        for sent in (target.request("/v1/score", [], length=10**9), target.request("/v1/score", [("a.wav", big)])):
            seen[(await target.exchange(sent))[0]] += 1


def repeated(path: str, parts: Sequence[Part]) -> Attack:
    async def attack(target: Target, seen: Counter[str]) -> None:
        sent = target.request(path, parts)
        while True:
            seen[(await target.exchange(sent))[0]] += 1
            await asyncio.sleep(0.05)

    return attack


def unread_answers(parts: Sequence[Part]) -> Attack:
    """Asks for large answers and does not read them."""

    async def attack(target: Target, seen: Counter[str]) -> None:
        while True:
            held = []
            for _ in range(UNREAD):
                with suppress(OSError):
                    writer = (await target.connect(4096))[1]
                    writer.write(target.request("/v1/score?timeline=true", parts))
                    await writer.drain()
                    held.append(writer)
                    seen["left unread"] += 1
            await asyncio.sleep(10)
            for writer in held:
                writer.close()

    return attack


def leave_early(parts: Sequence[Part]) -> Attack:
    async def attack(target: Target, seen: Counter[str]) -> None:
        sent = target.request("/v1/score", parts)
        while True:
            with suppress(OSError):
                writer = (await target.connect())[1]
                writer.write(sent)
                await writer.drain()
                await asyncio.sleep(0.2)
                writer.transport.abort()
                seen["left"] += 1
            await asyncio.sleep(0.5)

    return attack


def attacks() -> dict[str, Attack]:
    clip = short_clip()
    tiny = [flac(np.random.default_rng(k).normal(0, 0.1, 1600)) for k in range(2)]
    systems = [(f"s{s}/u{u}.flac", tiny[(s + u) % 2]) for s in range(100) for u in range(2)]
    hours = silence(599)
    wide = flac(np.zeros((16_000, 255), np.int16), form="WAV")
    return {
        "slow headers": hold_headers,
        "slow bodies": drip_bodies,
        "huge uploads": upload_too_much,
        "255 channels": repeated("/v1/score", [("a.wav", wide)] * 4),
        "8 channels, 160 s": repeated("/v1/score", [("a.flac", silence(160, 8, 48_000))]),
        "42 hours of silence": repeated("/v1/score", [("a.flac", hours)] * 256),
        "50 minutes of silence": repeated("/v1/score", [("a.flac", hours)] * 5),
        "rank 100 systems": repeated("/v1/rank?scoring=bradley-terry&samples=5000", systems),
        "rank, 10000 samples": repeated("/v1/rank?scoring=bradley-terry&samples=10000", systems),
        "report of 16 files": repeated("/v1/score?format=html", [("a.wav", clip)] * 16),
        "256 short files": repeated("/v1/score", [("a.wav", clip)] * 256),
        "unread answers": unread_answers([("a.wav", clip)] * 100),
        "clients that leave": leave_early([("a.wav", clip)] * 100),
    }


async def attack_all(port: int, seconds: float) -> None:
    """All attackers for some seconds; prints what each saw as JSON."""
    target, kinds = Target(port), attacks()
    seen = {name: Counter[str]() for name in kinds}
    print("ready", flush=True)
    tasks = [asyncio.create_task(attack(target, seen[name])) for name, attack in kinds.items()]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(seen))


# ---- good clients


async def good_clients(port: int, clients: int, seconds: float) -> tuple[list[float], Counter[str]]:
    """Latencies in seconds, and errors by status or word."""
    target = Target(port)
    sent = target.request("/v1/score", [("clip.wav", short_clip())])
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end:
            begun = time.monotonic()
            status, body = await target.exchange(sent)
            latencies.append(time.monotonic() - begun)
            if status != "200":
                errors[status] += 1
                print(f"a good client saw {status}: {body[:200]!r}", file=sys.stderr)

    await asyncio.gather(*(one() for _ in range(clients)))
    return latencies, errors


# ---- the service


def start(port: int, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    command = [sys.executable, "-c", "from urgentmos.cli import main; main()", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stderr=log.open("wb"))
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        lines = [line for line in log.read_text().splitlines() if '"listening"' in line]
        if lines:
            return process, int(json.loads(lines[0])["url"].rstrip("/").rpartition(":")[2])
        time.sleep(0.1)
    process.kill()
    sys.exit(f"the service did not start: {log.read_text()[:500]}")


def resident(pid: int) -> float:
    """Megabytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1000


def row(name: str, latencies: Sequence[float], errors: Counter[str], pid: int, log: Path, before: float) -> str:
    p50, p99 = (1000 * np.percentile(latencies or [np.nan], q) for q in (50, 99))
    cells = [name, str(len(latencies)), f"{p50:.0f}", f"{p99:.0f}", f"{1000 * max(latencies or [0]):.0f}"]
    cells += [str(errors.total()), f"{before:.0f}", f"{resident(pid):.0f}", f"{log.stat().st_size / 1000:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="beside attackers; alone for a third of it, before and after"
    )
    parser.add_argument("--port", type=int, default=0, help="of the service that is started; 0 for a free one")
    parser.add_argument("--attack", action="store_true", help=argparse.SUPPRESS)  # the process of the attackers
    options = parser.parse_args()
    if options.attack:
        os.nice(10)  # attackers have machines of their own
        asyncio.run(attack_all(options.port, options.seconds))
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measured(options, Path(folder) / "log") else 1)


def measured(options: argparse.Namespace, log: Path) -> bool:
    process, port = start(options.port, log)
    load = "/".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{options.clients} clients, {options.seconds:g} s; {os.cpu_count()} cores, load of the machine before: {load}\n")
    print("| good clients | requests | p50 ms | p99 ms | max ms | errors | MB before | MB after | log kB |")
    print("|---|---|---|---|---|---|---|---|---|")
    try:
        ok = True
        for name in ("alone", "under attack", "alone again"):
            seconds = options.seconds if name == "under attack" else options.seconds / 3
            before, attackers = resident(process.pid), None
            if name == "under attack":
                command = [sys.executable, __file__, "--attack", "--port", str(port), "--seconds", str(seconds)]
                attackers = subprocess.Popen(command, stdout=subprocess.PIPE)
                assert attackers.stdout is not None
                attackers.stdout.readline()  # it has made its files
            latencies, errors = asyncio.run(good_clients(port, options.clients, seconds))
            print(row(name, latencies, errors, process.pid, log, before), flush=True)
            ok &= not errors and float(np.percentile(latencies, 99)) < LATE
            if attackers is not None:
                seen = json.loads(attackers.communicate()[0])
        process.terminate()
        begun = time.monotonic()
        status = process.wait(60)
        print(
            f"\nended with status {status} {time.monotonic() - begun:.1f} s after SIGTERM; {Counter(levels(log))} log lines\n"
        )
        print("| attackers | saw |\n|---|---|")
        for name, counts in seen.items():
            print(f"| {name} | {', '.join(f'{word}: {n}' for word, n in sorted(counts.items())) or 'nothing yet'} |")
    finally:
        process.kill()
    return ok


def levels(log: Path) -> list[str]:
    """Of each line of the log; an error if one is no JSON."""
    return [json.loads(line)["level"] for line in log.read_text().splitlines()]


if __name__ == "__main__":
    main()
