"""Models on disk: a folder with config.json, model.safetensors and MODEL_CARD.md.

Loading runs no code of a file: JSON and safetensors for ours, `models.official` for those of the authors. Weights must
be exactly those of the net that config.json describes: same names, same shapes, finite numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from math import inf, isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urgentmos.common.untrusted import load_json, reason, shown
from urgentmos.errors import UsageError, need
from urgentmos.files import write_together, write_whole
from urgentmos.models import checksums
from urgentmos.models.calibration import check_calibration
from urgentmos.models.checksums import sha256_of
from urgentmos.models.hub import check_not_a_path, is_hub_id, pull, release_of
from urgentmos.models.releases import RELEASES, Release

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "MODEL_CARD.md"
ONNX = "model.onnx"  # beside model.safetensors: the same model for onnxruntime
MAX_CONFIG_BYTES = 4 << 20
IN_MEMORY = 256 << 20  # bytes of weights that are read once and kept; larger files are mapped
AGAIN = "Get the model again."
RANGE_BUFFERS = (".bound.low", ".bound.high")  # the only numbers that may be infinite

# architecture -> module, class of its configuration, class of its net
ARCHITECTURES = {
    "urgentmos": ("urgentmos.nets.urgentmos", "UrgentMosConfig", "UrgentMos"),
    "urgentpk": ("urgentmos.nets.urgentpk", "UrgentPkConfig", "UrgentPk"),
    "utmos": ("urgentmos.nets.utmos", "UtmosConfig", "Utmos"),
}


@dataclass(frozen=True)
class Loaded:
    """A model in memory, in eval mode on the CPU, and the content of its config.json."""

    net: nn.Module
    info: dict[str, Any]  # architecture, name, version, metrics, config, licence, trained_on, ...
    notes: tuple[str, ...] = ()  # warnings of every result: the model has no checksums

    @property
    def architecture(self) -> str:
        return str(self.info["architecture"])


# --- ours ------------------------------------------------------------------------------------------------------------


def save(folder: str | Path, net: nn.Module, info: Mapping[str, Any], *, card: str | None = None) -> Path:
    """Write `net` as a model folder and return it; an existing model there is replaced, each file at once.

    info: plain data. "name" is needed; "version" is a hash of what computes (`checksums.version_of`) where it is not given, or
    given for another content; "metrics" are those that the model was taught and offers, all of an UrgentMOS net
    where not given. "trained_on", "licence" and all other keys are kept. card: the text of MODEL_CARD.md; a short one
    is written where there is none.

    Raises UsageError if `info` has no name or is not plain data, or a weight is not finite.
    """
    safetensors = need("safetensors.torch", "models")
    folder = Path(folder)
    architecture = _architecture_of(net)
    state = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in net.state_dict().items()}
    _check_finite(state, folder)
    weights: bytes = safetensors.save(state, {"format": "pt"})
    about = _plain(
        {
            **checksums.unsealed(info),
            "format": FORMAT,
            "architecture": architecture,
            "name": info.get("name"),
            "metrics": [*(info.get("metrics") or getattr(net, "metrics", None) or ())],
            "config": _plain_config(net.config),
        }
    )
    about["version"] = _version(info, about, sha256_of(weights))
    check_info(about, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(f"{folder} cannot be made ({reason(e)}). Choose another place.") from e
    contents = {folder / CONFIG: _config_text(about, {WEIGHTS: sha256_of(weights)}), folder / WEIGHTS: weights}
    if card is not None or not (folder / CARD).exists():
        contents[folder / CARD] = (card or _short_card(about)).encode()
    write_together(contents)  # config.json last: without it the folder is no model yet
    return folder


def _version(info: Mapping[str, Any], about: Mapping[str, Any], weights: str) -> str:
    """The given version, or that of the content: where none is given, or for the content of a folder that was changed since."""
    ours = checksums.version_of(about, weights)
    if checksums.is_sealed(info):
        before = {**info, "format": FORMAT, "config": about["config"]}
        if not checksums.is_whole(before) or checksums.files_of(info).get(WEIGHTS) != weights:
            return ours
    return str(info.get("version") or ours)


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """The same as it will be read back."""
    try:
        config: dict[str, Any] = json.loads(json.dumps(about, allow_nan=False))
    except (RecursionError, TypeError, ValueError) as e:
        raise UsageError(f"what is said of the model cannot be written as JSON ({reason(e)}). Use plain data.") from e
    return config


def _config_text(about: Mapping[str, Any], files: Mapping[str, str]) -> bytes:
    text = json.dumps(checksums.sealed(about, files), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _write_config(folder: Path, about: Mapping[str, Any], files: Mapping[str, str]) -> None:
    write_whole(folder / CONFIG, _config_text(about, files))


def seal(folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write config.json with the checksums of the weight files in the folder.

    about: the new content of config.json; None: as it is, without a look at its checksums. For a change of a model's files
    on purpose. UsageError if there is no config.json, or it is no JSON.
    """
    folder = Path(folder)
    plain = _plain(load_json(folder / CONFIG, MAX_CONFIG_BYTES, AGAIN) if about is None else about)
    _write_config(folder, plain, {name: _digest_of(folder / name) for name in (WEIGHTS, ONNX) if (folder / name).is_file()})


def list_file(folder: Path, name: str, digest: str | None) -> None:
    """Put a weight file into the checksums of config.json, or out of them (None); nothing if the model has no checksums."""
    about = read_info(folder)
    if checksums.is_sealed(about):
        files = {key: value for key, value in checksums.files_of(about).items() if key != name}
        _write_config(folder, about, files if digest is None else {**files, name: digest})


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(folder: str | Path) -> Loaded:
    """The model in `folder`, in eval mode on the CPU.

    UsageError that names the file and what is wrong with it: it is damaged (its checksum does not fit), or does not belong to
    the net that config.json describes.
    """
    folder = Path(folder)
    about = read_info(folder)
    source = folder / WEIGHTS
    net = assemble(about["architecture"], about["config"], _read_weights(source, about), source)
    _check_metrics(about, net, folder)
    return Loaded(net, about, notes_of(about, folder))


def notes_of(about: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Warnings that every result of the model in `folder` must carry."""
    return () if checksums.is_sealed(about) else (checksums.unchecked(folder),)


def read_info(folder: str | Path) -> dict[str, Any]:
    """config.json of a model folder, checked as far as that goes without its weights."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder} is not a model: it has no {CONFIG}. Give a folder that `urgentmos train` or `import` made.")
    about = load_json(path, MAX_CONFIG_BYTES, AGAIN)
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise UsageError(f"{path} does not describe a model. Give a folder that `urgentmos train` or `import` made.")
    if type(about.get("format")) is not int or about["format"] != FORMAT:
        raise UsageError(
            f"{path} has format {shown(about.get('format'), 40)}, and this version reads {FORMAT}. Update urgentmos."
        )
    checksums.check_config(about, path)
    check_info(about, path)
    return about


def check_info(about: Mapping[str, Any], source: Path) -> None:
    """UsageError that names `source` unless what is said of a model, without its sizes, makes sense."""
    if about.get("architecture") not in list(ARCHITECTURES):  # a list also answers to what cannot be hashed
        names = ", ".join(ARCHITECTURES)
        raise UsageError(f"{source}: there is no architecture {shown(about.get('architecture'), 60)}. Known are: {names}.")
    for key in ("name", "version"):
        if not isinstance(about.get(key), str) or not about[key]:
            raise UsageError(f"{source}: the model has no {key}. Give it one: every result names the model that made it.")
    metrics = about.get("metrics", [])
    if not isinstance(metrics, list) or not all(isinstance(metric, str) for metric in metrics):
        raise UsageError(f"{source}: the model's metrics are not a list of names. {AGAIN}")
    if len(set(metrics)) < len(metrics):
        twice = next(metric for place, metric in enumerate(metrics) if metric in metrics[:place])
        raise UsageError(f"{source}: the model's metrics name {shown(twice, 60)} twice. {AGAIN}")
    verdict_temperature(about, source)
    if "intervals" in about:
        check_calibration(about["intervals"], source)


def verdict_temperature(about: Mapping[str, Any], source: Path) -> float:
    """Divisor of the verdict logits: 1 unless config.json has a "verdict_temperature"."""
    value = about.get("verdict_temperature", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise UsageError(f"{source}: verdict_temperature is {shown(value, 60)} and should be a number above 0. Correct it.")
    if value != 1 and about["architecture"] != "urgentmos":
        raise UsageError(f"{source}: {about['architecture']} models have no verdict_temperature. Remove it.")
    return float(value)


def _check_metrics(about: dict[str, Any], net: nn.Module, folder: Path) -> None:
    can = getattr(net, "metrics", None)
    if can is not None:
        about["metrics"] = about.get("metrics") or list(can)
        if not set(about["metrics"]) <= set(can):
            raise UsageError(f"{folder} offers metrics that its net does not have. It has: {', '.join(can)}.")


def _read_weights(path: Path, about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The file's tensors: of the bytes whose checksum was taken, or mapped from a file that did not change meanwhile."""
    safetensors = need("safetensors.torch", "models")
    if not path.is_file():
        raise UsageError(f"{path} does not exist. {AGAIN}")
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            content = file.read() if before.st_size <= IN_MEMORY else None
            digest = sha256_of(content) if content is not None else hashlib.file_digest(file, "sha256").hexdigest()
        checksums.check_file(about, path, digest, AGAIN)
        state: dict[str, Tensor] = safetensors.load_file(path) if content is None else safetensors.load(content)
        now = path.stat()
    except UsageError:
        raise
    except Exception as e:  # safetensors has one exception class for all, outside the hierarchy
        raise UsageError(f"{path} cannot be read as safetensors ({reason(e)}). {AGAIN}") from e
    if content is None and (before.st_ino, before.st_size, before.st_mtime_ns) != (now.st_ino, now.st_size, now.st_mtime_ns):
        raise UsageError(f"{path} changed while it was read. Run again when it is complete.")
    return state


def _plain_config(config: Any) -> dict[str, Any]:
    plain: dict[str, Any] = config.to_dict() if hasattr(config, "to_dict") else asdict(config)
    return plain


def _architecture_of(net: nn.Module) -> str:
    for architecture, (module, _, name) in ARCHITECTURES.items():
        if type(net).__name__ == name and type(net).__module__ == module:
            return architecture
    raise UsageError(f"a {type(net).__name__} is no architecture that can be saved. Known are: {', '.join(ARCHITECTURES)}.")


def _short_card(about: Mapping[str, Any]) -> str:
    lines = [f"# {about['name']}", "", f"Version {about['version']}, architecture {about['architecture']}."]
    if about["metrics"]:
        lines.append(f"Metrics: {', '.join(about['metrics'])}.")
    for title, key in (("Trained on", "trained_on"), ("Licence", "licence"), ("Source", "source")):
        if about.get(key):
            lines.append(f"{title}: {about[key]}.")
    return "\n".join(lines) + "\n"


# --- nets ------------------------------------------------------------------------------------------------------------


def build(architecture: str, config: Mapping[str, Any], *, source: str | Path = "the model") -> nn.Module:
    """The net of this architecture and configuration (plain data), its weights not yet set; no random number is drawn.

    Raises UsageError that names `source` if there is no such net.
    """
    import torch

    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"{source}: there is no architecture {shown(architecture, 60)}. Known are: {', '.join(ARCHITECTURES)}."
        )
    module, config_name, net_name = ARCHITECTURES[architecture]
    architecture_module = import_module(module)
    try:
        with torch.random.fork_rng(devices=[]), _without_initialisation():
            net: nn.Module = getattr(architecture_module, net_name)(_config(getattr(architecture_module, config_name), config))
    except UsageError as e:
        raise UsageError(f"{source}: {e}") from e
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise UsageError(f"{source} describes a net that cannot be built ({reason(e)}). {AGAIN}") from e
    return net


def _config(config_class: Any, plain: Mapping[str, Any]) -> Any:
    if hasattr(config_class, "from_dict"):
        return config_class.from_dict(plain)
    unknown = plain.keys() - {f.name for f in fields(config_class)}
    if unknown:
        raise UsageError(f"the configuration has unknown fields: {', '.join(sorted(unknown))}.")
    return config_class(**{key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()})


@contextmanager
def _without_initialisation() -> Iterator[None]:
    """Random initialisation does nothing in this thread: all weights are about to be replaced, and it takes seconds."""
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

    random = {Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_, Tensor.exponential_}

    class Quiet(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return args[0] if func in random else func(*args, **(kwargs or {}))

    with Quiet():
        yield


def assemble(architecture: str, config: Mapping[str, Any], state: Mapping[str, Tensor], source: str | Path) -> nn.Module:
    """The net with the weights `state`, in eval mode. UsageError that names `source` if they do not belong together."""
    compare_shapes(_shapes(architecture, config, source), state, source)
    net = build(architecture, config, source=source)
    net.load_state_dict(
        {name: x.float() if x.is_floating_point() else x for name, x in state.items()}, strict=True, assign=True
    )
    _check_ranges(net, config, source)
    return net.eval()


def _check_ranges(net: nn.Module, config: Mapping[str, Any], source: str | Path) -> None:
    """Bounds stand in config.json, where people read them, and in the weights, which compute: they must agree."""
    ranges = getattr(getattr(net, "config", None), "ranges", {})
    for metric, bounds in ranges.items():
        bound = net.ampm.heads[metric].bound  # type: ignore[union-attr, index]
        for wanted, end in zip(bounds, (bound.low.item(), bound.high.item()), strict=True):
            if wanted != end and not (isfinite(wanted) and abs(wanted - end) <= 1e-6 * max(1.0, abs(wanted))):
                raise UsageError(f"{source}: {metric} has a bound of {end} and its configuration says {wanted}.")


def _shapes(architecture: str, config: Mapping[str, Any], source: str | Path) -> Mapping[str, Tensor]:
    """Names and shapes of the net's weights; takes no memory, for any sizes in the configuration."""
    import torch

    with torch.device("meta"):
        return build(architecture, config, source=source).state_dict()


def compare_shapes(wanted: Mapping[str, Tensor], held: Mapping[str, Tensor], source: str | Path) -> None:
    """UsageError that names `source` and the first differences, unless names and shapes agree and all numbers are finite."""
    wrong = _differences(wanted, held)
    if wrong:
        more = f" and {len(wrong) - 3} more differences" if len(wrong) > 3 else ""
        raise UsageError(f"{source} does not hold the weights of the net that it describes: {'; '.join(wrong[:3])}{more}.")
    other = [name for name in wanted if wanted[name].is_floating_point() != held[name].is_floating_point()]
    if other:
        raise UsageError(f"{source}: {other[0]} holds {held[other[0]].dtype}, another kind of numbers. Get the model again.")
    _check_finite(held, source)


def _differences(wanted: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> list[str]:
    wrong = [f"{k} is missing" for k in wanted if k not in held]
    wrong += [f"{k} is unknown" for k in held if k not in wanted]
    both = ((k, tuple(held[k].shape), tuple(wanted[k].shape)) for k in wanted if k in held)
    return wrong + [f"{k} is {has} and should be {should}" for k, has, should in both if has != should]


def _check_finite(state: Mapping[str, Tensor], source: str | Path) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            # Both ends at once: a NaN anywhere makes both NaN, and no mask as large as the weights is made.
            ends = [end.item() for end in tensor.aminmax()]
            allowed = (lambda x: not isnan(x)) if name.endswith(RANGE_BUFFERS) else isfinite
            if not all(map(allowed, ends)):
                raise UsageError(f"{source}: {name} holds numbers that are not finite. Get the model again.")


# --- models by any name ---------------------------------------------------------------------------------------------


def load_any(model: str | Path, *, allow_download: bool = False) -> Loaded:
    """A model folder, a released checkpoint file, the name of a release, or a hub id with a model folder of ours.

    allow_download: whether a release, or the configuration of an encoder, may be fetched from the hub.
    Raises UsageError, with the names that exist, if there is no such model or it cannot be loaded.
    """
    path = Path(model)
    if path.is_dir():
        return load(path)
    if path.is_file():
        return _load_released(path, allow_download)
    release = release_of(str(model))
    if release is None and is_hub_id(str(model)) and allow_download:
        check_not_a_path(str(model))
        return load(pull(str(model)))
    if release is None:
        raise UsageError(
            f"there is no model {shown(str(model), 200)}. Give a folder, a file, or a release: {', '.join(RELEASES)}."
        )
    if not allow_download:
        raise UsageError(
            f"{release.name} is not on this machine. Get {release.file} from {release.repo}, or allow the download."
        )
    loaded = _load_released(_fetch(release), allow_download)
    about = {"name": release.name, "trained_on": release.trained_on, "licence": release.licence or "not stated"}
    return Loaded(loaded.net, {**loaded.info, **about})


def convert(source: str | Path, folder: str | Path, *, allow_download: bool = False) -> Loaded:
    """Convert a released checkpoint file (or anything `load_any` takes) to a model folder, and load it from there."""
    loaded = load_any(source, allow_download=allow_download)
    # A model without checksums may not be of the version it states: it gets that of its content.
    left_out = ("config", "format", "version") if loaded.notes else ("config", "format")
    info = {key: value for key, value in loaded.info.items() if key not in left_out}
    return load(save(folder, loaded.net, info))


def _load_released(path: Path, allow_download: bool) -> Loaded:
    from urgentmos.models import official

    released = official.read(path, allow_download=allow_download)
    net = assemble(released.architecture, released.config, released.state, path)
    with path.open("rb") as file:
        version = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    about = {
        **released.info,
        "released_format": released.info.get("format"),
        "format": FORMAT,
        "architecture": released.architecture,
        "version": version,
        "config": released.config,
    }
    return Loaded(net, about)


def _fetch(release: Release) -> Path:
    hub = need("huggingface_hub", "models")
    if "GitHub" in release.repo:
        raise UsageError(f"{release.file} is on GitHub: get it from {release.repo} and give the file.")
    try:
        for file in release.needs:
            hub.hf_hub_download(release.repo, file, revision=release.revision)
        return Path(hub.hf_hub_download(release.repo, release.file, revision=release.revision))
    except Exception as e:
        raise UsageError(
            f"{release.name} could not be fetched from {release.repo} ({type(e).__name__}: {reason(e)}). Check the connection, "
            "or get the file on another machine and give it."
        ) from e
