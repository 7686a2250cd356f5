"""Whether the service does its work: a clip of our own goes through the queue as any other does."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path

import numpy as np

from urgentmos.clips.clip import Clip
from urgentmos.server.worker import Worker

RATE = 16_000  # Hz
SECONDS = 3.0  # of the clip: every model takes that much
FRESH_SECONDS = 2.0  # for which a result counts: more frequent requests get the same


class Health:
    """folder: where the clip is written."""

    def __init__(self, worker: Worker, folder: Path, seconds: float) -> None:
        self._worker, self._seconds = worker, seconds
        self._path = folder / "health.wav"
        self._asked: asyncio.Task[str | None] | None = None
        self._since = -FRESH_SECONDS

    async def reason(self) -> str | None:
        """Why the service is not well, with what to do; None if it is. All who ask at the same time share one clip."""
        if self._asked is None or (self._asked.done() and time.monotonic() - self._since > FRESH_SECONDS):
            self._asked = asyncio.create_task(self._probe())
        return await asyncio.shield(self._asked)

    async def _probe(self) -> str | None:
        try:
            return await self._scored()
        finally:
            self._since = time.monotonic()

    async def _scored(self) -> str | None:
        if not self._worker.alive:
            return "The model's thread has ended. Start the service again."
        try:
            job = self._worker.score([self._clip()], [SECONDS])
        except RuntimeError:
            return "The service is being stopped. Ask another one."
        try:
            async with asyncio.timeout(self._seconds):
                score = (await asyncio.wrap_future(job.future))[0]
        except TimeoutError:
            job.abandon()
            return f"A clip was not scored within {self._seconds:g} s. Wait, or start the service again if it stays so."
        except Exception as e:
            return f"A clip could not be scored ({type(e).__name__}). The log says more; start the service again."
        return None if score.error is None else f"A clip could not be scored: {score.error}. Start the service again."

    def _clip(self) -> Clip:
        if not self._path.exists():
            self._path.write_bytes(test_clip())
        return Clip("health", str(self._path))


def test_clip() -> bytes:
    """A WAV file with something like a voice: harmonics of a gliding pitch, in syllables, and a little noise."""
    t = np.arange(int(RATE * SECONDS)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    envelope = np.maximum(0, np.sin(2 * np.pi * 2.5 * t)) ** 0.7
    wave = 0.1 * envelope * tone + 0.003 * np.random.default_rng(0).standard_normal(len(t))
    data = (wave * 32_767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
