"""The configuration of a training run, as plain data: a preset, a YAML file or a model, and KEY=VALUE on top.

Unknown keys are refused, values are checked against the type that a key has, and YAML is read as data only.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from urgentmos.common.packaged import PACKAGED
from urgentmos.common.untrusted import load_yaml, parse_yaml, shown
from urgentmos.errors import UsageError, naming
from urgentmos.models.releases import RELEASES

URGENT_PK = "urgent-pk"
MAX_COUNT = 10**12  # of a whole number; none is near it, and libraries hold 64 bits
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what comes out of a run, and a few keys that only decide how fast."""

    # what is trained
    model: str = "f1c1m5-dref"  # a preset, urgent-pk, or to go on from pocket, a model folder, a checkpoint file, a release
    size: Literal["base", "large", "pocket"] = "base"  # of a preset
    net: dict[str, Any] = field(default_factory=dict)  # sizes of the net that replace those of the preset, e.g. net.dim
    encoder: dict[str, Any] = field(default_factory=dict)  # sizes of the preset's first encoder, e.g. encoder.width
    encoder_weights: str = ""  # folders or files with pretrained encoders, one per encoder, joined by commas
    name: str = ""  # of the result; that of the run's folder where not given

    # from what
    data: tuple[str, ...] = ()  # manifests, folders, URGENT-PK data sets: clips with any subset of labels
    pairs: tuple[str, ...] = ()  # pair rows with a CMOS, a verdict, or both
    valid: tuple[str, ...] = ()  # as data, for validation; empty: valid_share of the contents of data
    valid_pairs: tuple[str, ...] = ()
    valid_share: float = 0.1  # a function of each content's name alone, so that no content is on both sides
    max_seconds: float = 30.0  # of a longer clip the beginning is used
    judge: str = "mos_overall"  # the metric whose differences are the CMOS of derived pairs
    scope: Literal["", "reference", "corpus", "any"] = ""  # of derived pairs; empty: that of the preset, else reference
    homologous: int = 8  # clips of one content that travel together
    pairs_per_clip: float = 2.0  # at most so many derived pairs in a batch, times its clips
    speed: float = 0.0  # training clips are played up to so much faster or slower: 0.1 for 0.9 to 1.1 times
    crop: float = 1.0  # smallest share of a training clip that is used at once

    # the loss of UrgentMOS (nets.losses.LossConfig)
    absolute: float = 0.5
    comparative: float = 0.5
    regression: float = 0.5
    verdict: float = 0.5
    delta: float = 0.5  # tie threshold of Eq. 6; under urgent-pk pairs this close or closer are left out
    average: Literal["metrics", "categories"] = "metrics"
    ties: Literal["paper", "released"] = "paper"
    metric_weights: dict[str, float] = field(default_factory=dict)
    symmetric: bool = True  # each pair in both orders
    native_cmos: bool = False  # whether a native verdict also counts as a CMOS of +-1 or 0, as in the release
    standardise: bool = False  # errors of unbounded metrics in standard deviations, heads that start at the mean
    # the loss of URGENT-PK
    bce: float = 0.5
    mse: float = 0.5

    # how
    steps: int = 20_000  # of the optimiser; 0: as many as epochs make
    epochs: int = 0  # used where steps is 0
    batch_seconds: float = 400.0  # of padded speech, pair partners included, on each device
    batch_pairs: int = 12  # of a batch of urgent-pk, on each device
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices, AdamW for the rest
    lr: float = 3e-5
    weight_decay: float = 0.01
    schedule: Literal["constant", "linear"] = "constant"
    warmup: int = 0  # steps in which the learning rate rises from 0
    clip: float = 1.0  # largest norm of the gradient; 0: not clipped
    accumulate: int = 1  # batches per step
    seed: int = 0

    # what is kept
    out: str = ""  # the run's folder; runs/MODEL where not given
    valid_every: int = 0  # steps from one validation, and state to resume from, to the next; 0: 1000, or an epoch
    keep: int = 3  # best models that stay, by validation score; of urgent-pk by each of three objectives
    cache: str = ""  # folder for features of frozen encoders

    # how fast; these may change when a run goes on
    device: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    strategy: str = "auto"  # of Lightning, such as ddp
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16-mixed on a GPU
    workers: int = 0  # processes that decode
    memory_gb: float = 0.0  # of decoded speech that each of them keeps for the next epoch
    tensorboard: bool = True  # where the package tensorboard is installed

    def __post_init__(self) -> None:
        """UsageError names a value that makes no sense."""
        for key, kind in _TYPES.items():
            if kind is float:
                _check(key, getattr(self, key), isfinite(getattr(self, key)), "a finite number")
            elif kind is int:
                most = MAX_SEED if key == "seed" else MAX_COUNT
                _check(key, getattr(self, key), getattr(self, key) <= most, f"at most {most}")
        for key in ("batch_seconds", "lr", "max_seconds"):
            _check(key, getattr(self, key), getattr(self, key) > 0, "above 0")
        for key in ("batch_pairs", "accumulate", "devices", "keep"):
            _check(key, getattr(self, key), getattr(self, key) >= 1, "1 or more")
        _check("homologous", self.homologous, self.homologous >= 2, "2 or more")
        for key in ("absolute", "comparative", "regression", "verdict", "delta", "bce", "mse", "weight_decay", "clip"):
            _check(key, getattr(self, key), getattr(self, key) >= 0, "0 or more")
        for key in ("steps", "epochs", "warmup", "valid_every", "workers", "seed", "pairs_per_clip", "memory_gb"):
            _check(key, getattr(self, key), getattr(self, key) >= 0, "0 or more")
        _check("speed", self.speed, 0 <= self.speed <= 0.5, "from 0 to 0.5")
        _check("crop", self.crop, 0 < self.crop <= 1, "above 0 and at most 1")
        _check("valid_share", self.valid_share, 0 <= self.valid_share < 1, "0 or more and below 1")
        _check("steps and epochs", 0, bool(self.steps or self.epochs), "1 or more, one of them")
        if self.device == "cpu" and self.precision == "bf16-mixed":
            raise UsageError("precision=bf16-mixed needs a GPU. Leave it out, or set device=gpu.")

    @property
    def is_urgentpk(self) -> bool:
        return self.model.lower().replace("_", "-") == URGENT_PK

    @property
    def goes_on(self) -> bool:
        """Whether it starts from a model that was trained before."""
        return self.model in PACKAGED or self.model in RELEASES or Path(self.model).exists()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


HOW_FAST = ("device", "devices", "strategy", "precision", "workers", "memory_gb", "tensorboard", "steps", "epochs")
# Section III-C of the URGENT-PK paper, for the encoders mel (and stft) and utmos.
_PK_COMMON = {"weight_decay": 1e-6, "steps": 0, "delta": 0.3, "clip": 0.0}
PK_DEFAULTS: dict[str, dict[str, Any]] = {
    "mel": {**_PK_COMMON, "batch_pairs": 12, "lr": 1e-4, "epochs": 30},
    "utmos": {**_PK_COMMON, "batch_pairs": 4, "lr": 1e-5, "epochs": 15},
}


def read_config(source: str, settings: Iterable[str] = ()) -> TrainConfig:
    """A preset, `urgent-pk`, a model, or a .yaml file, with KEY=VALUE settings on top -> the whole configuration.

    Values of KEY=VALUE are YAML, lists may also be joined by commas; net.KEY, encoder.KEY and metric_weights.KEY reach into
    the three that have keys of their own. A path in a YAML file is relative to the current directory. Raises UsageError,
    with the keys that exist, for whatever is not understood.
    """
    if Path(source).suffix.lower() not in (".yaml", ".yml"):
        return make_config(_with({"model": source}, settings))
    content = read_yaml(Path(source))
    try:
        return make_config(_with(content, settings))
    except UsageError as e:
        try:
            make_config(content)
        except UsageError as own:
            raise UsageError(naming(source, str(own))) from e
        raise


def _with(given: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    changed = {key: dict(value) if isinstance(value, dict) else value for key, value in given.items()}
    for setting in settings:
        _set(changed, setting)
    return changed


def make_config(given: Mapping[str, Any]) -> TrainConfig:
    """Plain data -> the configuration; under urgent-pk what is not given is what the paper used."""
    typed = {key: _typed(key, value) for key, value in given.items()}
    model = str(typed.get("model", TrainConfig.model))
    if model.lower().replace("_", "-") == URGENT_PK:
        kind = "utmos" if typed.get("net", {}).get("encoder") == "utmos" else "mel"
        defaults = {k: v for k, v in PK_DEFAULTS[kind].items() if not (k in ("steps", "epochs") and _says_how_long(typed))}
        typed = {**defaults, **typed}
    elif typed.get("epochs") and "steps" not in typed:
        typed["steps"] = 0
    return TrainConfig(**typed)


def _says_how_long(typed: Mapping[str, Any]) -> bool:
    return bool(typed.get("steps"))


def with_epochs(config: TrainConfig, steps: int) -> TrainConfig:
    """The same with `steps` that were counted from its epochs."""
    return replace(config, steps=steps)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. UsageError if there is none; nothing in the file is executed."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Give a preset such as f1c1m5-dref, or the path of a YAML file.")
    content = load_yaml(path, "Correct it there.")
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__}. It should hold lines like `lr: 3e-5`.")
    return content or {}


def _set(given: dict[str, Any], setting: str) -> None:
    """One KEY=VALUE into `given`."""
    key, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"{shown(setting)} is not understood. Write KEY=VALUE, as in lr=1e-4.")
    head, dot, name = key.strip().partition(".")
    _known(head)
    try:
        value = parse_yaml(text) if text.strip() else ""
    except ValueError:  # no YAML, or more than a setting may hold: its type decides
        value = text
    if dot:
        if _TYPES[head] not in _MAPPINGS:
            raise UsageError(f"{shown(setting)} is not understood: {head} has no keys of its own. Write {head}=VALUE.")
        mapping = given.setdefault(head, {})
        if not isinstance(mapping, dict):
            raise UsageError(f"{head} should hold keys of its own, as in {head}.{name}={text}.")
        mapping[name] = _number_in_words(value)
    else:
        given[head] = text if _TYPES[head] is str else value


_TYPES: dict[str, Any] = get_type_hints(TrainConfig)
_MAPPINGS = (dict[str, Any], dict[str, float])


def _known(key: str) -> Any:
    if key not in _TYPES:
        raise UsageError(f"there is no key {shown(key)}. Known keys: {', '.join(f.name for f in fields(TrainConfig))}.")
    return _TYPES[key]


def _typed(key: str, value: Any) -> Any:
    """`value` as the type of `key`. UsageError if it is something else."""
    wanted = _known(key)
    if get_origin(wanted) is Literal:
        value = "" if value is None else value
        if not isinstance(value, str) or value not in get_args(wanted):
            choices = ", ".join(repr(choice) for choice in get_args(wanted))
            raise UsageError(f"{key}={shown(value)} is not possible. Choose one of: {choices}.")
        return value
    if wanted == tuple[str, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str | int | float) for item in items):
            raise UsageError(f"{key}={shown(value)} is not a list of paths. Join them by commas.")
        return tuple(str(item).strip() for item in items if str(item).strip())
    if wanted in _MAPPINGS:
        if not isinstance(value, Mapping):
            raise UsageError(f"{key} should hold keys of its own, as in {key}.NAME=VALUE.")
        names = {k if isinstance(k, str) else shown(k): v for k, v in value.items()}
        return {k: _weight(f"{key}.{k:.80}", v) if wanted == dict[str, float] else v for k, v in names.items()}
    assert get_origin(wanted) not in (Union, types.UnionType)
    return _as(key, value, wanted)


def _weight(key: str, value: Any) -> float:
    weight: float = _as(key, value, float)
    _check(key, weight, 0 <= weight < inf, "0 or more")
    return weight


def _as(key: str, value: Any, wanted: type) -> Any:
    value = _number_in_words(value) if wanted in (int, float) else value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_COUNT:
        return float(value)
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if wanted is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{key}={shown(value)} should be {_NAMES[wanted]}.")
    return value


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _number_in_words(value: Any) -> Any:
    """YAML 1.1 takes 3e-5 for text, because it has no dot."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check(key: str, value: Any, good: bool, wanted: str) -> None:
    if not good:  # NaN neither
        raise UsageError(f"{key}={shown(value)} is not possible: it should be {wanted}.")
