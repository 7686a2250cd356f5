"""Released UrgentMOS checkpoints (`official-checkpoints` section 1), and any of the same format.

Sizes are read off the shapes and bounds off the buffers, which win over the file's configuration. The configuration tells
what shapes cannot: heads, which metric is in which category, and how the encoders are called. It is read as data.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.metrics import METRICS, canonical
from urgentmos.models.official import Released
from urgentmos.models.official.encoders import Wanted, find_encoder
from urgentmos.models.official.weights import bounds_of, checked_weights, only_tensors, transformer_sizes
from urgentmos.nets.urgentmos import UrgentMosConfig

NEEDS_ENCODERS = True
HEADS = 8  # of the category encoders, where the file does not state it (the paper's number)
PREFERENCE_HEADS = 4  # of the release
JUDGE = "mos_overall"

ABSOLUTE = "metric2absolute_score_predictor."
COMPARATIVE = "metric2comparative_score_predictor."
CATEGORY = "category2encoder."
ENCODER = "feature_extractor.feature_extractors."
ENDINGS = {
    "feature_extractor.feat_proj.0.": "fusion.linear.",
    "feature_extractor.feat_proj.1.": "fusion.norm.",
    ENCODER: "encoders.",
    CATEGORY: "ampm.categories.",
}
HEAD_PARTS = {
    "prediction_head.weight": "linear.weight",
    "prediction_head.bias": "linear.bias",
    "activation.min_value": "bound.low",
    "activation.max_value": "bound.high",
}
PAIR_PARTS = {"cross_attn.": "ncpm.attention.", "classification_head.": "ncpm.verdict.", "regression_head.": "ncpm.cmos."}


def matches(raw: Any) -> bool:
    """Whether `raw` is a training state whose model has the heads of UrgentMOS."""
    state = raw.get("model") if isinstance(raw, Mapping) else None
    return isinstance(state, Mapping) and any(isinstance(name, str) and name.startswith((ABSOLUTE, ENCODER)) for name in state)


def read(raw: Mapping[str, Any], path: Path, *, allow_download: bool = False) -> Released:
    """The checkpoint under our names.

    Raises UsageError that names `path` if anything is missing, left over, of another shape, not finite, or computed in a
    way that we do not.
    """
    state = only_tensors(raw["model"], path)
    config = raw.get("config") if isinstance(raw.get("config"), Mapping) else {}
    assert isinstance(config, Mapping)
    _check_architecture(config, path)
    pairs = _names_after(COMPARATIVE, state)
    judge = JUDGE if JUDGE in pairs or not pairs else pairs[0]
    if len(pairs) > 1 and judge != JUDGE:
        raise UsageError(f"{path} judges pairs by {', '.join(pairs)}, and which of them to use is not known.")
    categories = {
        category: {canonical(metric): _bounds(state, metric, path) for metric in metrics}
        for category, metrics in _category_metrics(config, state, path).items()
    }
    plain = UrgentMosConfig(
        encoders=_encoders(config, state, path, allow_download),
        categories=categories,
        preference=_category_of(canonical(judge), categories, path) if pairs else None,
        heads=_number(config, (("arch", "encoder_nhead"), (*_LAYER, "nhead")), HEADS),
        preference_heads=_number(config, (("model", COMPARATIVE[:-1], "num_heads"),), PREFERENCE_HEADS),
        **transformer_sizes(state, "feature_extractor.feat_proj.0.weight", CATEGORY + next(iter(categories)), path),
    ).to_dict()
    renamed = {ours: tensor for name, tensor in state.items() if (ours := _our_name(name, judge)) is not None}
    return Released(
        architecture="urgentmos",
        config=plain,
        state=checked_weights("urgentmos", plain, renamed, path),
        info={
            "name": path.parent.name if path.stem == "model" else path.stem,
            "format": "UrgentMOS checkpoint",
            "metrics": [metric for ranges in categories.values() for metric in ranges],
            "sample_rate": 16_000,
            "licence": "MIT (as the release states; that of other files is theirs)",
            "source": "urgent-challenge/urgent-mos-*",
        },
    )


# --- from the shapes ---------------------------------------------------------------------------------------------


def _names_after(prefix: str, state: Iterable[str]) -> list[str]:
    """'prefix.NAME.rest' -> the NAMEs, in the order of the file."""
    return list(dict.fromkeys(name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)))


def _bounds(state: Mapping[str, Tensor], metric: str, path: Path) -> tuple[float, float]:
    return bounds_of(state, f"{ABSOLUTE}{metric}.activation", path)


def _our_name(name: str, judge: str) -> str | None:
    """The file's name -> ours; None for what belongs to a pair module that is not used. Unknown names stay as they are."""
    for theirs, ours in ENDINGS.items():
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    if name.startswith(ABSOLUTE):
        metric, _, part = name[len(ABSOLUTE) :].partition(".")
        return f"ampm.heads.{canonical(metric)}.{HEAD_PARTS.get(part, part)}"
    if name.startswith(COMPARATIVE):
        metric, _, part = name[len(COMPARATIVE) :].partition(".")
        if metric != judge:
            return None
        for theirs, ours in PAIR_PARTS.items():
            if part.startswith(theirs):
                return ours + part[len(theirs) :]
    return name


# --- from the configuration alone --------------------------------------------------------------------------------

_LAYER = ("model", "category2encoder", "encoder_cfg", "encoder_layer")


def _at(config: Any, *keys: str) -> Any:
    """config[key][key]..., None where there is no such thing."""
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _number(config: Mapping[str, Any], places: Iterable[tuple[str, ...]], default: int) -> int:
    """The first whole number at one of `places`."""
    for place in places:
        value = _at(config, *place)
        if isinstance(value, int):
            return value
    return default


def _check_architecture(config: Mapping[str, Any], path: Path) -> None:
    """Refuse what leaves no trace in the weights but changes what is computed from them."""
    for layer in (_at(config, *_LAYER), _at(config, "arch", "category_encoder", "encoder_layer")):
        activation, norm_first = _at(layer, "activation"), _at(layer, "norm_first")
        if norm_first or activation not in (None, "relu"):
            raise UsageError(
                f"{path} has transformer layers of another kind (norm_first or {shown(activation, 40)}). "
                "Only the released kind is read."
            )
    poolers = [_at(config, "arch", "pooler"), _at(config, "model", ABSOLUTE[:-1], "pooler_cfg")]
    poolers += [_at(config, "model", COMPARATIVE[:-1], "pooler_cfg")]
    for target in (_at(pooler, "_target_") for pooler in poolers):
        if target is not None and not (isinstance(target, str) and target.rpartition(".")[2] == "MeanPooling"):
            name = target.rpartition(".")[2] if isinstance(target, str) else target
            raise UsageError(f"{path} pools by {shown(name, 60)}. Only MeanPooling is read.")
    for part in ("shared_encoder", "metric_encoder"):
        if _at(config, "arch", part) or _at(config, "model", part):
            raise UsageError(f"{path} has a {part}, which no released model has. It is not read.")


def _category_metrics(config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> dict[str, list[str]]:
    """category -> its metrics, in the order of the file's configuration, else of its weights."""
    categories, metrics = _names_after(CATEGORY, state), _names_after(ABSOLUTE, state)
    if not categories or not metrics:
        raise UsageError(f"{path} has no category encoder or no head for a metric. Get the file from its authors again.")
    table = _at(config, "category2metrics") or _at(config, "model", "category2encoder", "category2metrics")
    if isinstance(table, Mapping):
        matching = {str(category): _names(ours, path) for category, ours in table.items()}
        named = [metric for ours in matching.values() for metric in ours]
        if sorted(matching) != sorted(categories) or sorted(named) != sorted(metrics):
            raise UsageError(f"{path}: the metrics in its configuration are not those of its weights. Refused.")
        return matching
    if len(categories) == 1:
        return {categories[0]: metrics}
    # By the first word of Table 1's category: a file with other names is not guessed at.
    words = {category: re.split(r"[^a-z]", category.lower())[0] for category in categories}
    matching = {category: [m for m in metrics if _word(m) == word] for category, word in words.items()}
    if sorted(metric for ours in matching.values() for metric in ours) != sorted(metrics):
        raise UsageError(
            f"{path} has {len(categories)} categories and no configuration that says which metric is in which. "
            "Use a file with its configuration."
        )
    return matching


def _names(metrics: Any, path: Path) -> list[str]:
    """The names in a list, or the keys of a mapping, of the file's configuration. UsageError if it is another thing."""
    if not isinstance(metrics, list | tuple | Mapping) or not all(isinstance(metric, str) for metric in metrics):
        raise UsageError(f"{path}: its configuration has {shown(metrics)} where names of metrics belong. Refused.")
    return list(metrics)


def _word(metric: str) -> str:
    row = METRICS.get(canonical(metric))
    return row.category.split("_")[0] if row else ""


def _category_of(metric: str, categories: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    for category, ranges in categories.items():
        if metric in ranges:
            return category
    raise UsageError(f"{path} judges pairs by {metric}, for which it has no category. Get the file from its authors again.")


def _encoders(config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path, allow_download: bool) -> tuple[Any, ...]:
    """One EncoderConfig per branch."""
    numbers = _names_after(ENCODER, state)
    if numbers != [str(i) for i in range(len(numbers))] or not numbers:
        raise UsageError(
            f"{path} has no encoders 0, 1, ... but {', '.join(numbers) or 'none'}. Get the file from its authors again."
        )
    described = _at(config, "model", "feature_extractor", "feature_extractors")
    if isinstance(described, list) and len(described) != len(numbers):
        raise UsageError(f"{path} describes {len(described)} encoders and holds {len(numbers)}. Refused.")
    encoders = []
    for i in range(len(numbers)):
        about = described[i] if isinstance(described, list) else {}
        name, weighted = _at(about, "model_name"), _at(about, "layer_aggregation")
        prefix = f"{ENCODER}{i}.model."
        wanted = Wanted(
            name=name if isinstance(name, str) else None,
            weights={key[len(prefix) :]: tensor for key, tensor in state.items() if key.startswith(prefix)},
            weighted=f"{ENCODER}{i}.weights" in state if weighted is None else bool(weighted),
            frozen=_at(about, "freeze") is not False,
        )
        encoders.append(find_encoder(wanted, path, allow_download=allow_download))
    return tuple(encoders)
