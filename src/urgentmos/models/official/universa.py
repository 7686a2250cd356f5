"""Uni-VERSA-Ext, the URGENT 2026 Track 2 baseline (`official-checkpoints` section 2): an UrgentMOS with one encoder and one
category, without a pair module, its heads in one matrix.

The `config.yaml` beside the weights is HyperPyYAML, a language that builds objects. Here it is read as YAML whose tags mean
nothing: no object is made and no reference followed but those to plain values at its top.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from urgentmos.common.untrusted import load_yaml, shown
from urgentmos.errors import UsageError
from urgentmos.metrics import canonical
from urgentmos.models.official import Released
from urgentmos.models.official.encoders import Wanted, find_encoder
from urgentmos.models.official.weights import bounds_of, checked_weights, only_tensors, transformer_sizes
from urgentmos.nets.urgentmos import UrgentMosConfig

NEEDS_ENCODERS = True
YAML = "config.yaml"
CATEGORY = "mos"
RATE = 16_000

MODEL = "feature_extractor.model."
WEIGHTS = "feature_extractor.weights"
PREFIXES = {
    "feature_extractor.": "encoders.0.",
    "feat_proj.0.": "fusion.linear.",
    "feat_proj.1.": "fusion.norm.",
    "encoder.layers.": f"ampm.categories.{CATEGORY}.layers.",
}
SPLIT = ("metric_proj.weight", "metric_proj.bias")
BOUNDS = re.compile(r"metric2act\.(.+)\.(min|max)_value")


def matches(raw: Any) -> bool:
    """Whether `raw` is a training state whose model has one matrix of heads."""
    state = raw.get("model") if isinstance(raw, Mapping) else None
    return isinstance(state, Mapping) and SPLIT[0] in state


def read(raw: Mapping[str, Any], path: Path, *, allow_download: bool = False) -> Released:
    """The checkpoint under our names; `config.yaml` must be in its folder.

    Raises UsageError that names the file if anything is missing, left over, of another shape, not finite, or computed in a
    way that we do not.
    """
    state = only_tensors(raw["model"], path)
    yaml = read_yaml(path.parent / YAML, path)
    theirs = _metrics(yaml, path.parent / YAML)
    metrics = [canonical(metric) for metric in theirs]
    if len(set(metrics)) < len(metrics):
        raise UsageError(f"{path.parent / YAML} lists a metric twice. Get it from the authors again.")
    _check_same_metrics(theirs, state, path)
    encoder = Wanted(
        name=_text(yaml.get("ssl_model_name")),
        weights={name[len(MODEL) :]: tensor for name, tensor in state.items() if name.startswith(MODEL)},
        weighted=WEIGHTS in state,
    )
    bounds = {ours: bounds_of(state, f"metric2act.{metric}", path) for metric, ours in zip(theirs, metrics, strict=True)}
    plain = UrgentMosConfig(
        encoders=(find_encoder(encoder, path, allow_download=allow_download),),
        categories={CATEGORY: bounds},
        heads=_heads(yaml, path.parent / YAML),
        **transformer_sizes(state, "feat_proj.0.weight", "encoder", path),
    ).to_dict()
    return Released(
        architecture="urgentmos",
        config=plain,
        state=checked_weights("urgentmos", plain, _renamed(state, metrics, path), path),
        info={
            "name": path.parent.name if path.stem == "model" else path.stem,
            "format": "Uni-VERSA-Ext checkpoint",
            "metrics": metrics,
            "sample_rate": RATE,
            "licence": "not stated",
            "source": "vvwangvv/universa-ext_*",
        },
    )


def _renamed(state: Mapping[str, Tensor], metrics: list[str], path: Path) -> dict[str, Tensor]:
    """The state under our names, each row of the matrix of heads a head of its own."""
    weight, bias = (state.get(name) for name in SPLIT)
    if weight is None or bias is None or weight.ndim != 2 or len(weight) != len(metrics) or bias.shape != (len(metrics),):
        raise UsageError(f"{path}: metric_proj does not have one row for each of the {len(metrics)} metrics of {YAML}.")
    renamed = {}
    for i, metric in enumerate(metrics):
        renamed[f"ampm.heads.{metric}.linear.weight"] = weight[i : i + 1].clone()
        renamed[f"ampm.heads.{metric}.linear.bias"] = bias[i : i + 1].clone()
    for name, tensor in state.items():
        if name not in SPLIT:
            renamed[_our_name(name)] = tensor
    return renamed


def _our_name(name: str) -> str:
    """The file's name -> ours. Unknown names stay as they are."""
    if match := BOUNDS.fullmatch(name):
        return f"ampm.heads.{canonical(match[1])}.bound.{'low' if match[2] == 'min' else 'high'}"
    for theirs, ours in PREFIXES.items():
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return name


def _check_same_metrics(metrics: Iterable[str], state: Iterable[str], path: Path) -> None:
    in_file = {match[1] for name in state if (match := BOUNDS.fullmatch(name))}
    if in_file != set(metrics):
        raise UsageError(f"{path}: the metrics of {YAML} are not those of the weights. Use the two files of one release.")


# --- config.yaml -----------------------------------------------------------------------------------------------------


def read_yaml(path: Path, checkpoint: Path) -> dict[str, Any]:
    """The HyperPyYAML file `path` as plain data: tags are dropped, references stay the text that they are.

    Raises UsageError if it is absent, or no YAML.
    """
    if not path.is_file():
        raise UsageError(f"{checkpoint} needs the {YAML} that it was released with. Put it into the same folder.")
    content = load_yaml(path, "Get it from the authors again.", drop_tags=True, extra="models")
    if not isinstance(content, dict):
        raise UsageError(f"{path} describes no model. Get it from the authors again.")
    rate = _resolved(content.get("sample_rate", RATE), content)
    if isinstance(rate, bool) or rate != RATE:
        raise UsageError(f"{path} is of a model for {shown(rate, 20)} Hz; only those for {RATE} Hz can be read.")
    return content


def _metrics(yaml: Mapping[str, Any], path: Path) -> list[str]:
    metrics = yaml.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        raise UsageError(f"{path} lists no metrics. Get it from the authors again.")
    return list(metrics)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _heads(yaml: Mapping[str, Any], path: Path) -> int:
    """Attention heads, which no shape determines. Also refuses layers that compute otherwise than ours."""
    model = yaml.get("model")
    encoder = model.get("encoder") if isinstance(model, Mapping) else None
    layer = encoder.get("encoder_layer") if isinstance(encoder, Mapping) else None
    layer = layer if isinstance(layer, Mapping) else {}
    if _resolved(layer.get("norm_first", False), yaml) is not False or layer.get("activation", "relu") != "relu":
        raise UsageError(f"{path} describes transformer layers of another kind than the released ones. They are not read.")
    heads = _resolved(layer.get("nhead"), yaml)
    if type(heads) is not int:
        raise UsageError(
            f"{path} does not say how many attention heads (nhead) the encoder has. Get it from the authors again."
        )
    return heads


def _resolved(value: Any, yaml: Mapping[str, Any]) -> Any:
    """`<name>` -> the plain value that the file has under that name at its top."""
    match = re.fullmatch(r"<(\w+)>", value) if isinstance(value, str) else None
    return yaml.get(match[1]) if match else value
