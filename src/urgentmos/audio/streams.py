"""One recording as blocks of samples, as every decoder gives it, and the sentences about what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from urgentmos.audio.containers import Part
from urgentmos.common.clip_warnings import CUT_OFF, LENGTH
from urgentmos.errors import AudioError

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz
MAX_CHANNELS = 1024
MAX_FLOW = 1024 * 48_000  # samples of all channels in a second of sound


class Stream:
    """One recording, open to be decoded once.

    `n_samples` is the number that `blocks` will yield, None if unknown before decoding. `warnings` are complete
    after the last block.
    """

    rate: int
    channels: int
    n_samples: int | None

    def __init__(self, where: str) -> None:
        self.where = where
        self.warnings: list[str] = []

    def pieces(self, n: int) -> Iterator[np.ndarray]:
        """(t, C) float32, t as it comes but at most `n`."""
        raise NotImplementedError

    def blocks(self, n: int) -> Iterator[np.ndarray]:
        """(n, C) float32 each, the last one shorter. AudioError if the recording breaks off."""
        held: list[np.ndarray] = []
        count = 0
        for piece in self.pieces(n):
            while count + len(piece) >= n:
                cut = n - count
                yield piece[:cut] if not held else np.concatenate([*held, piece[:cut]])
                held, count, piece = [], 0, piece[cut:]
            if len(piece):
                held.append(piece)
                count += len(piece)
        if held:
            yield held[0] if len(held) == 1 else np.concatenate(held)


def check_form(where: str, rate: int, channels: int) -> None:
    """AudioError if a recording has a sampling rate or a number of channels that no sound has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"{where} has a sampling rate of {rate} Hz, outside {MIN_RATE}..{MAX_RATE} Hz. "
            "Check its header, or export it again at its true rate"
        )
    if not 1 <= channels <= MAX_CHANNELS or rate * channels > MAX_FLOW:
        raise AudioError(
            f"{where} has {counted_channels(channels)} at {rate} Hz, more than is decoded. Mix it down, or score a few channels"
        )


def undecodable(where: str, reason: object, part: Part) -> AudioError:
    """The error of a recording that no decoder reads."""
    if part.missing:
        return AudioError(
            f"{where} is cut off: {part.missing} bytes are missing, and the rest cannot be decoded. Copy or export it again"
        )
    return AudioError(f"{where} cannot be decoded: {reason}. Check that it is audio, and export it again")


def cut_off(parts: Sequence[Part]) -> list[str]:
    """A warning about the missing end of the container, or none."""
    missing = sum(part.missing for part in parts)
    if missing:
        return [f"{CUT_OFF}: the file is shorter than its header says ({missing} bytes are missing)"]
    if lost := sum(part.lost for part in parts):
        return [f"{CUT_OFF}: the file may be cut off: {lost} Ogg pages are missing in its middle"]
    if any(part.unended for part in parts):
        return [f"{CUT_OFF}: the file may be cut off: its last Ogg page does not end the stream"]
    return []


def counted_channels(count: int) -> str:
    """`1 channel`, `2 channels`."""
    return f"{count} channel" + "s" * (count != 1)


def length_sentence(promised: float, decoded: float) -> str:
    """The warning about a header that promises more or fewer seconds than there are."""
    return f"{LENGTH}: the header promises {promised:.2f} s and {decoded:.2f} s were decoded"
