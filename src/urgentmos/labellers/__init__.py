"""Measuring, not predicting: one module per labeller, one row per module in `LABELLERS`.

A module offers `load(settings) -> measure`, and `measure(signals) -> {metric: value}` looks at one clip. It raises
MeasureError with a reason where the metric has no value; it never returns NaN, a sentinel or a library's error code.
What a labeller needs beyond its packages (weights behind a hub) is named in its row, so that `urgentmos label` can say
how to get it before any work starts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Generic, TypeVar

import numpy as np
import soxr

from urgentmos.errors import MeasureError, UsageError

T = TypeVar("T")
SILENCE_ENERGY = 1e-10  # sum of squares; below it a reference signal counts as silent (metrics-and-corpora A.12)


@dataclass(frozen=True)
class Signals:
    """The input of a labeller for one clip: (T,) float32 at the file's own rate, and the reference signal if there is one."""

    wave: np.ndarray
    rate: int
    reference: np.ndarray | None = None

    @cached_property
    def _resampled(self) -> dict[int, tuple[np.ndarray, np.ndarray | None]]:
        return {self.rate: (self.wave, self.reference)}

    def at(self, rate: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(wave, reference) at `rate` by soxr HQ, resampled once for all labellers."""
        if rate not in self._resampled:
            both = (None if x is None else soxr.resample(x, self.rate, rate) for x in (self.wave, self.reference))
            wave, reference = both
            assert wave is not None
            self._resampled[rate] = (wave, reference)
        return self._resampled[rate]

    def pair(self, rate: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(reference, wave) at `rate` (None: the file's own) for an intrusive metric, or MeasureError with the reason."""
        wave, reference = self.at(rate or self.rate)
        if reference is None:
            raise MeasureError("no reference signal. Give --reference-dir or a reference_path in the manifest")
        if len(reference) != len(wave):
            raise MeasureError(f"reference signal has {len(reference)} samples and the clip {len(wave)}. Align and trim them")
        if float(np.dot(reference, reference)) < SILENCE_ENERGY:
            raise MeasureError("the reference signal is silent. Give a reference signal that holds speech")
        return reference, wave


Measure = Callable[[Signals], dict[str, float]]


class ReferenceCache(Generic[T]):
    """Remembers what was computed from the last reference signals: S systems share each, and it is half of the work."""

    def __init__(self, compute: Callable[[np.ndarray], T], size: int = 64) -> None:
        self._compute, self._size = compute, size
        self._known: dict[bytes, T] = {}

    def __call__(self, reference: np.ndarray) -> T:
        key = blake2b(reference.tobytes(), digest_size=16).digest()
        if key not in self._known:
            if len(self._known) >= self._size:
                del self._known[next(iter(self._known))]
            self._known[key] = self._compute(reference)
        return self._known[key]


@dataclass(frozen=True)
class Settings:
    """How labellers are loaded. `weights`: labeller -> a local path or a hub id ("org/name" or "org/name@revision")."""

    weights: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True)
class Labeller:
    """One row of the table of labellers."""

    name: str
    metrics: tuple[str, ...]  # all that one run yields
    packages: tuple[str, ...]  # their versions are recorded beside the labels
    model: bool = False  # has a network to keep in memory: gets a pass over the clips of its own
    weights: str | None = None  # one sentence on how to get weights that no package carries
    hub: str | None = None  # the hub id that the URGENT challenges use for them

    @property
    def module(self) -> str:
        return f"urgentmos.labellers.{self.name}"

    def load(self, settings: Settings) -> Measure:
        """The function that measures one clip. UsageError if a package or weights are missing."""
        if self.weights and self.name not in settings.weights:
            raise UsageError(f"{self.name} needs weights that no package carries. {self.weights}")
        measure: Measure = import_module(self.module).load(settings)
        return measure

    def versions(self) -> dict[str, str]:
        """Package versions, for the record."""
        installed = {}
        for package in self.packages:
            try:
                installed[package] = version(package)
            except PackageNotFoundError:
                installed[package] = "not installed"
        return installed


LABELLERS: tuple[Labeller, ...] = (
    Labeller("pesq", ("pesq",), ("pesq",)),
    Labeller("pesqc2", ("pesqc2",), ("pesqc2",)),
    Labeller("estoi", ("estoi",), ("pystoi",)),
    Labeller("sdr", ("sdr",), ("fast-bss-eval",)),
    Labeller("lsd", ("lsd",), ("numpy", "scipy")),
    Labeller("mcd", ("mcd",), ("numpy",)),
    Labeller("dnsmos", ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"), ("speechmos", "onnxruntime"), model=True),
    Labeller("plcmos", ("plcmos",), ("speechmos", "onnxruntime"), model=True),
    Labeller("distill_mos", ("distill_mos",), ("distillmos", "torch"), model=True),
    Labeller("ge2e", ("spksim_ge2e",), ("resemblyzer", "torch"), model=True),
    Labeller("pocketsphinx", ("lps_pocketsphinx",), ("pocketsphinx",), model=True),
    Labeller(
        "sbert",
        ("sbert",),
        ("transformers", "torch"),
        model=True,
        weights="Pass --weights sbert=FOLDER_OR_HUB_ID (a HuBERT; URGENT 2025 uses utter-project/mHuBERT-147).",
        hub="utter-project/mHuBERT-147",
    ),
    Labeller(
        "lps",
        ("lps",),
        ("transformers", "torch", "rapidfuzz"),
        model=True,
        weights="Pass --weights lps=FOLDER_OR_HUB_ID (URGENT uses facebook/wav2vec2-lv-60-espeak-cv-ft).",
        hub="facebook/wav2vec2-lv-60-espeak-cv-ft",
    ),
    Labeller(
        "spksim",
        ("spksim",),
        ("torch",),
        model=True,
        weights="Pass --weights spksim=FILE_OR_HUB_ID (RawNet3 of ESPnet; URGENT uses espnet/voxcelebs12_rawnet3).",
        hub="espnet/voxcelebs12_rawnet3",
    ),
    Labeller(
        "utmos",
        ("utmos",),
        ("transformers", "torch"),
        model=True,
        weights="Pass --weights utmos=FILE (utmos22_strong_step7459_v1.pt from the releases of tarepan/SpeechMOS, v1.2.0).",
    ),
    Labeller(
        "nisqa",
        ("nisqa_mos",),
        ("torch",),
        model=True,
        weights="Pass --weights nisqa=FILE (nisqa.tar from the weights folder of gabrielmittag/NISQA; CC BY-NC-SA 4.0).",
    ),
    Labeller(
        "scoreq",
        ("scoreq",),
        ("onnxruntime",),
        model=True,
        weights="Pass --weights scoreq=FILE (adapt_nr_telephone.onnx, Zenodo record 15739280).",
    ),
    Labeller(
        "sigmos",
        tuple(f"sigmos_{d}" for d in ("ovrl", "sig", "noise", "col", "disc", "loud", "reverb")),
        ("onnxruntime",),
        model=True,
        weights="Pass --weights sigmos=FILE (model-sigmos_*.onnx of microsoft/SIG-Challenge, ICASSP2024/sigmos).",
    ),
)

MEASURABLE: tuple[str, ...] = tuple(m for row in LABELLERS for m in row.metrics)


def labeller_of(metric: str) -> Labeller:
    """The row that measures `metric`."""
    for row in LABELLERS:
        if metric in row.metrics:
            return row
    raise UsageError(f"{metric} is not measured by any labeller. Measured metrics: {', '.join(MEASURABLE)}.")
