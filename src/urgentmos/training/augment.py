"""Variants of training clips that keep their labels: played faster or slower, or a part of them.

Both change what is said and by whom, not how well it is heard, or little. Clips of one content get the same, so that they stay
homologous.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augment:
    """speed: largest change of speed, 0.1 for 0.9 to 1.1 times. crop: smallest share of a clip that is kept."""

    speed: float = 0.0
    crop: float = 1.0
    seed: int = 0

    def __call__(self, waves: Sequence[np.ndarray], contents: Sequence[str], index: int, shortest: int) -> list[np.ndarray]:
        """(T_i,) float32 each -> as many, of other lengths; none below `shortest` unless it was.

        contents: of each clip. index: of the batch; the same one gives the same variants, whatever the company.
        """
        if not self.speed and self.crop >= 1:
            return list(waves)
        drawn = {content: self._drawn(content, index) for content in dict.fromkeys(contents)}
        return [self._variant(wave, drawn[content], shortest) for wave, content in zip(waves, contents, strict=True)]

    def _drawn(self, content: str, index: int) -> np.ndarray:
        """(3,) from 0 to 1; the same in every process."""
        return np.random.default_rng([self.seed, index, zlib.crc32(content.encode())]).random(3)

    def _variant(self, wave: np.ndarray, drawn: np.ndarray, shortest: int) -> np.ndarray:
        at, share, start = (float(x) for x in drawn)
        length = max(int(len(wave) * (self.crop + (1 - self.crop) * share)), shortest)
        first = int((len(wave) - length) * start) if length < len(wave) else 0
        wave = wave[first : first + length]
        speed = 1 + self.speed * (2 * at - 1)
        if len(wave) / speed < shortest + 1 or speed == 1:
            return wave
        return faster(wave, speed)


def faster(wave: np.ndarray, speed: float) -> np.ndarray:
    """(T,) -> (about T / speed,): shorter and higher for a speed above 1, as from a tape."""
    import soxr

    return np.asarray(soxr.resample(wave, speed, 1.0), dtype=np.float32)
