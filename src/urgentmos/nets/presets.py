"""The paper's names of models, F#C#M#-D* (UrgentMOS section 5.1), parsed and not listed."""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from urgentmos.errors import UsageError
from urgentmos.metrics import CATEGORIES, METRICS, TABLE1
from urgentmos.nets import known
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.urgentmos import UrgentMosConfig

Size = Literal["base", "large", "pocket"]
Scope = Literal["reference", "corpus", "any"]

JUDGE = "mos_overall"  # pairs are judged by the frames of its category
ENCODERS = {1: known.F1, 4: known.F4}
METRIC_SETS = {
    1: (JUDGE,),
    5: tuple(name for name in TABLE1 if METRICS[name].category == "naturalness"),
    15: TABLE1,
}
SCOPES: dict[str, Scope] = {"ref": "reference", "corpus": "corpus", "any": "any"}
POSSIBLE = (
    "Possible are f1 or f4 (encoders), c1 (one category) or, with m15, c5 (Table 1), m1, m5 or m15 (metrics), and "
    "dref, dcorpus or dany (pairs), as in f1c1m5-dref."
)

# Small enough for a laptop's CPU; everything in it is trained. Most of it is the encoder: 6.25 frames a second, found to learn
# most per step and per millisecond among those that recipes/pocket/LOG.md lists.
_POCKET: dict[str, Any] = {"dim": 96, "heads": 4, "feedforward": 192, "layers": 1, "preference_heads": 4}
_POCKET_ENCODER: dict[str, Any] = {
    "bands": 64,
    "n_fft": 512,
    "hop": 320,
    "channels": (16, 48, 96, 128),
    "strides": (2, 2, 2, 1),
    "activation": "relu",
    "batch_norm": True,
    "width": 160,
    "layers": 3,
    "feedforward": 480,
    "kernel": 9,
}


@dataclass(frozen=True)
class Preset:
    """A parsed name."""

    encoders: int
    categories: int
    metrics: tuple[str, ...]
    scope: Scope  # from where training draws pairs; the net is the same whatever it is

    def config(self, size: Size = "base") -> UrgentMosConfig:
        """The model of this name and size. `large` has WavLM large for its WavLM; `pocket` has one small encoder that is
        trained from scratch on log-mel."""
        if size not in get_args(Size):
            raise UsageError(f"there is no size {size!r}. Choose one of: {', '.join(get_args(Size))}.")
        if size == "pocket" and self.encoders != 1:
            raise UsageError("pocket has one encoder. Choose a preset with f1, or the size base or large.")
        categories = self._categories()
        judge = next(category for category, ranges in categories.items() if JUDGE in ranges)
        more = _POCKET if size == "pocket" else {}
        return UrgentMosConfig(encoders=self._encoders(size), categories=categories, preference=judge, **more)

    def _encoders(self, size: Size) -> tuple[EncoderConfig, ...]:
        if size == "pocket":
            return (EncoderConfig(kind="conv", frozen=False, model=_POCKET_ENCODER),)
        names = list(ENCODERS[self.encoders])
        if size == "large":
            names[names.index(known.WAVLM_BASE_PLUS)] = known.WAVLM_LARGE
        return tuple(known.KNOWN[name] for name in names)

    def _categories(self) -> dict[str, dict[str, tuple[float, float]]]:
        """The ranges are those that Table 1 gives."""
        if self.categories == 1:
            return {"mos": {name: METRICS[name].range("paper") for name in self.metrics}}
        groups = {c: [name for name in self.metrics if METRICS[name].category == c] for c in CATEGORIES}
        return {c: {name: METRICS[name].range("paper") for name in names} for c, names in groups.items()}


def read_preset(name: str) -> Preset:
    """'f1c5m15-dref', in any case -> what it means. UsageError, with what is possible, if it means nothing.

    The paper defines C1 and C5 only, and no five categories can be made of fewer than the 15 metrics.
    """
    parts = re.fullmatch(r"f(\d+)c(\d+)m(\d+)-d[_-]?([a-z]+)", name.strip().lower())
    if parts is None:
        raise UsageError(f"{name!r} is not the name of a preset. {POSSIBLE}")
    encoders, categories, metrics = (int(number) for number in parts.groups()[:3])
    for letter, number, possible in (("f", encoders, ENCODERS), ("c", categories, (1, 5)), ("m", metrics, METRIC_SETS)):
        if number not in possible:
            raise UsageError(f"{name!r} has {letter}{number}, which the paper does not define. {POSSIBLE}")
    if parts[4] not in SCOPES:
        raise UsageError(f"{name!r} has d{parts[4]}, which the paper does not define. {POSSIBLE}")
    filled = len({METRICS[metric].category for metric in METRIC_SETS[metrics]})
    if categories > filled:
        only = "category" if filled == 1 else "categories"
        raise UsageError(f"{name!r} asks for {categories} categories, but m{metrics} fills only {filled} {only}. {POSSIBLE}")
    return Preset(encoders, categories, METRIC_SETS[metrics], SCOPES[parts[4]])


def parse_preset(name: str, size: Size = "base") -> UrgentMosConfig:
    """'f1c5m15-dref' -> the configuration of that model in this size. UsageError, with what is possible."""
    return read_preset(name).config(size)
