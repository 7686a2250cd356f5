"""Sound on a page: as Opus inside it, as links to the files beside it, or not at all."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from urllib.parse import quote

import numpy as np

from urgentmos.audio.places.names import is_elsewhere
from urgentmos.audio.samples import load, probe, resample
from urgentmos.clips.clip import Clip
from urgentmos.errors import AudioError, UsageError
from urgentmos.report.page import MEGABYTE, Options, too_large

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz; others are resampled to the next one above
# libsndfile turns it into (1 - level) * 250 + 6 = 56 kbit/s a channel: generous for mono speech, since coding must not hide
# what the systems did.
OPUS_LEVEL = 0.8
BYTES_PER_SECOND = 56_000 / 8 * 4 / 3  # in base64
BLOCK = 48_000  # samples written at once
PROBED = 20  # files whose length stands for that of all


@dataclass(frozen=True)
class Sound:
    """The address of a recording for a browser: a data or a relative URL; or why there is none."""

    url: str | None
    reason: str | None = None


def sound_of(path: str, options: Options) -> Sound:
    """The recording at `path`, which opens from the current directory, for the page of `options`."""
    if options.audio == "none":
        return Sound(None, "audio was left out")
    if options.audio == "link":
        return _link(path, options)
    try:
        heard = load(path)
        return Sound("data:audio/ogg;base64," + base64.b64encode(opus(heard.wave, heard.rate)).decode("ascii"))
    except AudioError as e:
        return Sound(None, str(e))


def _link(path: str, options: Options) -> Sound:
    if is_elsewhere(path):
        return Sound(None, f"{path} is no file that a page could link to. Choose --report-audio embed")
    if not os.path.exists(path):
        return Sound(None, f"{path} does not exist")
    try:
        relative = os.path.relpath(os.path.abspath(path), os.path.abspath(options.file.parent))
    except ValueError:  # another drive
        raise UsageError(f"{options.file} cannot link to {path} on another drive. Choose --report-audio embed.") from None
    return Sound(quote(os.fsencode(relative.replace(os.sep, "/"))))


def opus(wave: np.ndarray, rate: int) -> bytes:
    """(T,) float32 mono at `rate` -> an Ogg file with Opus at about 56 kbit/s."""
    import soundfile

    to = next((r for r in OPUS_RATES if r >= rate), OPUS_RATES[-1])
    samples = np.clip(resample(wave, rate, to), -1, 1)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", to, 1, "OPUS", format="OGG", compression_level=OPUS_LEVEL) as file:
        for start in range(0, len(samples), BLOCK):
            file.write(samples[start : start + BLOCK])
    return buffer.getvalue()


def check_size(clips: Sequence[Clip], n_clips: int, options: Options) -> None:
    """UsageError, saying what fits, if `n_clips` clips like these would not fit into the page: called before any work."""
    if options.audio != "embed" or not n_clips:
        return
    seconds = [s for s in islice(map(_seconds, clips), PROBED) if s is not None]
    size = float(np.mean(seconds)) * n_clips * BYTES_PER_SECOND / MEGABYTE if seconds else 0.0
    if size > options.limit_mb:
        fits = int(options.listen * options.limit_mb / size)
        more = [f"--report-listen {fits} (which fits)"] if fits else []
        raise UsageError(too_large(options, size, *more, f"--report-limit {int(size * 1.1) + 1}"))


def _seconds(clip: Clip) -> float | None:
    if clip.duration is not None and isfinite(clip.duration):
        return clip.duration
    try:
        n_samples, rate, _ = probe(clip.audio_path)
    except AudioError:
        return None
    return n_samples / rate
