"""The degradation: a function of a signal, a ladder of settings from mild to strong, and a description in JSON.

A description says everything that is needed to make the same samples again from the same clean speech and sources:
`{"name": "mnru", "setting": {...}, "seed": 7}`; `simulate` in the package's front door runs one, or a chain of them.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

RATE = 16_000  # Hz; all of simulation happens here

Signal = np.ndarray  # (T,) float32 at RATE, about -1..1
Setting = Mapping[str, Any]  # plain JSON values


class Apply(Protocol):
    """signal (T,) -> (T,): as long, in time with the input (delays taken out), float32, finite."""

    def __call__(self, signal: Signal, rng: np.random.Generator, sources: "Sources", /, *_: Any, **setting: Any) -> Signal: ...


@dataclass(frozen=True)
class Degradation:
    """One kind of damage. `ladder`: settings from mild to strong, each worse than the one before for nearly every listener,
    when seed and signal are the same; a single setting claims no order."""

    name: str
    family: str  # noise | room | channel | codec | loss | enhancer | vocoder
    ladder: tuple[Setting, ...]
    apply: Apply
    programs: tuple[str, ...] = ()  # that must be on the path
    packages: tuple[str, ...] = ()  # that must be importable

    def missing(self) -> list[str]:
        """The programs and packages that this needs and this machine lacks."""
        absent = [program for program in self.programs if shutil.which(program) is None]
        return absent + [package for package in self.packages if not _importable(package)]


def _importable(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # what stands above it is missing
        return False


@dataclass(frozen=True)
class Sources:
    """Files of noise, other talkers and rooms; descriptions name them by their place in these tuples."""

    noises: Sequence[Path] = ()
    talkers: Sequence[Path] = ()
    rooms: Sequence[Path] = ()
    _heard: dict[Path, Signal] = field(default_factory=dict, compare=False, repr=False)

    def hear(self, path: Path) -> Signal:
        """(T,) at RATE; kept, since a few noises serve many clips. AudioError if it cannot be read."""
        from urgentmos.audio.samples import load

        if path not in self._heard:
            self._heard[path] = load(path, RATE).wave
        return self._heard[path]

    def stretch_of(self, files: Sequence[Path], n_samples: int, rng: np.random.Generator) -> Signal:
        """(n_samples,) from one of `files` at random: a part that is not silent, repeated where the file is too short."""
        for _ in range(20):
            whole = self.hear(files[int(rng.integers(len(files)))])
            if whole.size == 0:
                continue
            start = int(rng.integers(max(1, whole.size - n_samples + 1)))
            part = np.resize(whole[start:], n_samples) if whole.size - start < n_samples else whole[start : start + n_samples]
            if np.sqrt(np.mean(part**2)) > 1e-4:
                return np.array(part, dtype=np.float32)
        return (0.01 * rng.standard_normal(n_samples)).astype(np.float32)  # a folder of silence: hiss instead


def power(signal: Signal) -> float:
    """Mean square, never 0."""
    return float(np.mean(np.square(signal, dtype=np.float64))) + 1e-12


def active_power(signal: Signal) -> float:
    """Mean square while somebody talks, never 0: pauses do not count.

    In the spirit of ITU-T P.56 (method B), in blocks of 20 ms: the level of the blocks less than 15.9 dB below that level.
    """
    size = RATE // 50
    blocks = np.square(signal[: len(signal) // size * size].reshape(-1, size), dtype=np.float64).mean(axis=1)
    if not blocks.size or not blocks.max() > 0:
        return power(signal)
    level = float(blocks.mean())
    for _ in range(10):  # rises until no further block falls out
        level = float(blocks[blocks > level * 10**-1.59].mean())
    return level + 1e-12


def fit(signal: np.ndarray, n_samples: int) -> Signal:
    """(T,) -> (n_samples,) float32: cut, or zeros at the end."""
    out = np.zeros(n_samples, dtype=np.float32)
    n = min(n_samples, signal.shape[0])
    out[:n] = signal[:n]
    return out
