"""Identify the pretrained encoder that a released file was trained with.

The encoder's weights are in the file; only its configuration is not. It is looked for next to the file, then in the
built-in table, and on the hub only on request. Names come from the file and from strangers: they never lead
outside the file's folder, and of a configuration only numbers and a few known words are kept.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from urgentmos.common.untrusted import load_json, reason, shown
from urgentmos.errors import UsageError, need
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.known import KNOWN

MAX_JSON_BYTES = 1 << 20
KINDS = {
    "wavlm": "ssl",
    "hubert": "ssl",
    "wav2vec2": "ssl",
    "whisper": "whisper",
    "qwen3_omni_moe_audio_encoder": "qwen_omni",
    "qwen2_audio_encoder": "af_whisper",
    "audioflamingo3_encoder": "af_whisper",
}
NESTED = ("audio_config", "thinker_config")  # where a whole model's configuration keeps that of its audio encoder
# Words that may stay; any other text in a configuration could be a path, a hub id or a name of code.
WORDS = ("model_type", "hidden_act", "activation_function", "feat_extract_norm", "feat_extract_activation")
NAMES_OF_SIZES = {"d_model": "hidden_size", "encoder_layers": "num_hidden_layers"}
DEFAULT_SIZES = {"ssl": (768, 12), "whisper": (384, 4), "qwen_omni": (1280, 32), "af_whisper": (1280, 32)}  # of the classes


@dataclass(frozen=True)
class Wanted:
    """The facts in a file about one of its encoders."""

    name: str | None  # as the file calls it; None if it does not
    weights: Mapping[str, Tensor]  # transformers' names, as under `model.` in the file
    weighted: bool  # a softmax sum over the layers, not the last one
    frozen: bool = True

    @property
    def types(self) -> frozenset[str]:
        """The model types that have weights with such names."""
        if any("conv_layers" in name for name in self.weights):
            wavlm = any("gru_rel_pos" in name for name in self.weights)
            return frozenset({"wavlm"} if wavlm else {"hubert", "wav2vec2"})
        if self._known_type is not None:
            return frozenset(other for other, kind in KINDS.items() if kind == KINDS[self._known_type])
        if "conv2d1.weight" in self.weights:
            return frozenset({"qwen3_omni_moe_audio_encoder"})
        if "embed_positions.weight" in self.weights:  # one and the same list of names in all three
            return frozenset({"whisper", "qwen2_audio_encoder", "audioflamingo3_encoder"})
        return frozenset()

    @property
    def _known_type(self) -> str | None:
        """Of a well-known encoder; the Whisper-like ones cannot be distinguished by their weights."""
        model = (self.name or "").rpartition("/")[2]
        return next((str(c.model["model_type"]) for name, c in KNOWN.items() if model and name.endswith(f"/{model}")), None)

    @property
    def sizes(self) -> tuple[int, int]:
        """(width, layers) from the shapes; zeros where these do not determine them."""
        layers = {match[1] for name in self.weights if (match := re.match(r"(?:encoder\.)?layers\.(\d+)\.", name))}
        widths = [w.shape[-1] for name, w in self.weights.items() if name.endswith("layers.0.final_layer_norm.weight")]
        return (widths[0] if widths else 0, len(layers))


def find_encoder(wanted: Wanted, beside: Path, *, allow_download: bool = False) -> EncoderConfig:
    """The configuration of the encoder `wanted` of the file `beside`. UsageError if there is none, or it does not fit."""
    if not wanted.types:
        raise UsageError(f"{beside} has an encoder of an unknown kind. Known kinds are: {', '.join(KINDS)}.")
    parts = _plain_parts(wanted.name, beside)
    rejected: list[str] = []
    for place, encoder in _candidates(parts, wanted, beside, allow_download):
        why = _misfit(encoder, wanted)
        if why is None:
            return replace(encoder, name="/".join(parts) or encoder.name, frozen=wanted.frozen, layers=_layers(wanted))
        rejected.append(f"that in {place} is for {why}")
    width, layers = wanted.sizes
    own = " or ".join(sorted(wanted.types))
    tried = f" ({'; '.join(rejected)})" if rejected else ""
    raise UsageError(
        f"{beside} holds the weights of {'/'.join(parts) or 'an encoder'} ({own}, {layers} layers of {width}) but not its "
        f"configuration{tried}. Put the encoder's config.json into the folder {parts[-1] if parts else 'encoder'} next to the "
        "file, or allow it to be downloaded."
    )


def _layers(wanted: Wanted) -> Any:
    return "weighted" if wanted.weighted else "last"


def _plain_parts(name: str | None, path: Path) -> list[str]:
    """'org/model' -> its two parts; of a path on the authors' machine the last. UsageError for a way out of the folder."""
    parts = re.split(r"[/\\]", name or "")
    if ".." in parts or (name and not all(re.fullmatch(r"[\w.@+ -]*", part) for part in parts)):
        raise UsageError(f"{path} asks for an encoder in {shown(name)}, which leads out of its folder or is no name. Refused.")
    own = [part for part in parts if part not in ("", ".")]
    return own if name and len(own) <= 2 and name[0] not in "/\\." else own[-1:]


def _candidates(parts: list[str], wanted: Wanted, path: Path, allow_download: bool) -> Iterator[tuple[str, EncoderConfig]]:
    """(place, configuration), the likeliest first; the hub comes last."""
    folder = path.parent
    named = dict.fromkeys(folder.joinpath(*parts[start:]) for start in range(len(parts)))
    for place in named:
        if (place / "config.json").is_file():
            yield place.name, read_folder(place)
    name = "/".join(parts)
    if name in KNOWN:
        others = [KNOWN[name]]
    elif parts:
        others = [config for other, config in KNOWN.items() if other.rpartition("/")[2] == parts[-1]]
    else:  # the file gives no name: any that fits
        others = list(KNOWN.values())
    fitting = list(_fitting_folders(folder, wanted, set(named)))
    if fitting and all(config == fitting[0][1] for _, config in fitting):
        yield fitting[0]
    yield from (("the built-in table", config) for config in others)
    if len(fitting) > 1:
        names = ", ".join(sorted(place for place, _ in fitting))
        raise UsageError(
            f"{path} needs the configuration of {name or 'its encoder'}, and several next to it would fit: {names}. "
            f"Keep one, or call it {parts[-1] if parts else 'encoder'}."
        )
    if allow_download and len(parts) == 2:
        yield "the hub", _from_hub(name)


def _fitting_folders(folder: Path, wanted: Wanted, seen: set[Path]) -> Iterator[tuple[str, EncoderConfig]]:
    """Folders with the configuration of an encoder of this type and these sizes."""
    for config_file in sorted(folder.glob("*/config.json")):
        if config_file.parent not in seen:
            try:
                config = read_folder(config_file.parent)
            except UsageError:
                continue  # somebody else's config.json
            if _misfit(config, wanted) is None:
                yield config_file.parent.name, config


def _from_hub(name: str) -> EncoderConfig:
    hub = need("huggingface_hub", "models")
    try:
        plain = _read_json(Path(hub.hf_hub_download(name, "config.json")))
    except Exception as e:  # one class for each way in which a network fails
        why = f"{type(e).__name__}: {reason(e)}"
        raise UsageError(f"the configuration of {name} could not be fetched from the hub ({why}).") from e
    try:
        extractor = _read_json(Path(hub.hf_hub_download(name, "preprocessor_config.json")))
    except Exception:  # most encoders have one, but they need not
        extractor = {}
    return _config(plain, extractor, name)


def read_folder(folder: Path) -> EncoderConfig:
    """The encoder whose config.json, and preprocessor_config.json if there is one, are in `folder`.

    UsageError if they are no JSON, or of a model that is no known encoder.
    """
    extractor = folder / "preprocessor_config.json"
    return _config(_read_json(folder / "config.json"), _read_json(extractor) if extractor.is_file() else {}, folder)


def _read_json(path: Path) -> dict[str, Any]:
    plain = load_json(path, MAX_JSON_BYTES, "Get it from the encoder's authors again.")
    if not isinstance(plain, dict):
        raise UsageError(f"{path} holds no configuration. Get it from the encoder's authors again.")
    return plain


def _config(plain: dict[str, Any], extractor: Mapping[str, Any], source: str | Path) -> EncoderConfig:
    for nested in NESTED:
        while isinstance(plain.get(nested), dict) and plain[nested] is not plain and plain.get("model_type") not in KINDS:
            plain = plain[nested]
    model_type = plain.get("model_type")
    if not isinstance(model_type, str) or model_type not in KINDS:
        raise UsageError(f"{source} describes {shown(model_type, 60)}, no known encoder. Known are: {', '.join(KINDS)}.")
    kind: Any = KINDS[model_type]
    model = {key: value for key, value in plain.items() if _is_harmless(key, value)}
    return EncoderConfig(kind=kind, normalise=kind == "ssl" and _normalises(model, extractor), model=model)


def _is_harmless(key: str, value: Any) -> bool:
    if key.startswith("_"):
        return False
    if isinstance(value, str):
        return key in WORDS and bool(re.fullmatch(r"\w{1,40}", value))
    if isinstance(value, list):
        return len(value) <= 64 and all(isinstance(item, int | float) for item in value)
    return isinstance(value, int | float)


def _normalises(model: Mapping[str, Any], extractor: Mapping[str, Any]) -> bool:
    """Whether the clip is brought to zero mean and unit variance first: as the extractor says, whose default is yes; without
    an extractor, as the published models have it: WavLM with group norm (base) does not, all others do."""
    if extractor:
        return extractor.get("do_normalize", True) is not False
    return bool(model["model_type"] != "wavlm" or model.get("feat_extract_norm", "group") != "group")


def _misfit(config: EncoderConfig, wanted: Wanted) -> str | None:
    """The mismatch between a configuration and these weights; "" if they agree."""
    model_type = config.model.get("model_type", "")
    width, layers = _configured_sizes(config)
    if model_type in wanted.types and (width, layers) == wanted.sizes:
        return None
    return f"{model_type} with {layers} layers of {width}"


def _configured_sizes(config: EncoderConfig) -> tuple[Any, Any]:
    sizes = {NAMES_OF_SIZES.get(key, key): value for key, value in config.model.items()}
    # Whisper's config has a num_hidden_layers of its own, the encoder's; where both are given they agree.
    width, layers = DEFAULT_SIZES[config.kind]
    return sizes.get("hidden_size", width), sizes.get("num_hidden_layers", layers)
