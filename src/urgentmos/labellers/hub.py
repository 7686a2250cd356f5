"""Weights that no package carries: from the name that the user gave to a file on disk, and from there to an open model.

`settings.weights[NAME]` is a local file or folder, or a hub id: `org/name` or `org/name@revision`. A hub is contacted only
because the user wrote a hub id, and nothing of what it holds is ever executed: JSON, safetensors, ONNX, and tensors-only
pickles.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.common.untrusted import load_json, shown
from urgentmos.errors import MeasureError, UsageError, need
from urgentmos.labellers import LABELLERS, Settings, onnx

MAX_JSON_BYTES = 16 << 20  # of a vocabulary
HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
# "weights/utmos.pt" is shaped like a hub id; with one of these endings a missing file is meant.
FILE_ENDINGS = {".bin", ".ckpt", ".json", ".onnx", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".zip"}
# Never used when labelling, so a checkpoint without them is complete.
TRAINING_ONLY = {"masked_spec_embed"}


@dataclass(frozen=True)
class HubId:
    """A repository on the hub."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def source(name: str, settings: Settings) -> Path | HubId:
    """The target of `settings.weights[name]`: a file or folder that exists, or else a hub id. UsageError if neither."""
    if name not in settings.weights:
        raise UsageError(f"{name} needs weights that no package carries. {_how_to_get(name)}")
    value = settings.weights[name]
    path = Path(value).expanduser()
    if value and path.exists():
        return path
    hub_id = HUB_ID.fullmatch(value)
    if hub_id is None or path.suffix.lower() in FILE_ENDINGS:
        raise UsageError(f"{name}: there is no file or folder {value!r}. {_how_to_get(name)}")
    return HubId(hub_id["repo"], hub_id["revision"])


def fetch(name: str, hub_id: HubId, files: Sequence[str]) -> Path:
    """The local folder with those `files` (patterns) of a repository, downloaded unless they are there already.

    UsageError with the reason if the hub does not give them.
    """
    hub = need("huggingface_hub", "models")
    try:
        return Path(hub.snapshot_download(hub_id.repo, revision=hub_id.revision, allow_patterns=list(files)))
    except Exception as e:  # no network, no such repository, gated, offline mode: several libraries' own classes
        raise UsageError(
            f"{name}: {hub_id} is no local path and could not be fetched from the hub ({_first_line(e)}). Check the name "
            f"and the connection, or fetch it on another machine and pass --weights {name}=PATH."
        ) from e


def one_file(name: str, settings: Settings, pattern: str) -> Path:
    """The file behind `settings.weights[name]`; of a folder or a hub repository the only one that fits `pattern`."""
    where = source(name, settings)
    path = fetch(name, where, [pattern]) if isinstance(where, HubId) else where
    if path.is_file():
        return path
    files = sorted(p for p in path.rglob(pattern) if p.is_file())
    if len(files) != 1:
        seen = ", ".join(p.name for p in files[:5]) or "none"
        raise UsageError(
            f"{name}: {settings.weights[name]!r} should hold one {pattern} file, found {seen}. Name the file itself: "
            f"--weights {name}=FILE."
        )
    return files[0]


def pretrained_folder(name: str, settings: Settings) -> Path:
    """The folder with `config.json` and weights in transformers format behind `settings.weights[name]`."""
    where = source(name, settings)
    folder = _fetch_pretrained(name, where) if isinstance(where, HubId) else where
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{name}: {settings.weights[name]!r} is no model folder: it has no config.json. Name the folder that holds "
            "config.json and model.safetensors."
        )
    return folder


def pretrained(model_class: Any, name: str, folder: Path, device: str) -> Any:
    """`model_class` of transformers from `folder`: float32, in eval mode, on `device`, no weight missing.

    UsageError if the files are of another architecture, damaged or incomplete: the library would fill the gaps with
    random numbers.
    """
    torch = need("torch", "models")
    _check_architecture(model_class, name, folder)
    try:
        with _quiet_progress(), torch.random.fork_rng(devices=[]):  # building a net draws from the global generator
            model, report = model_class.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as e:  # the library has no common base class for what a damaged folder can do to it
        raise UsageError(f"{name}: cannot load {folder} ({_first_line(e)}). Fetch the files anew. {_how_to_get(name)}") from e
    missing = sorted(key for key in report["missing_keys"] if key.rsplit(".", 1)[-1] not in TRAINING_ONLY)
    if missing:
        raise UsageError(
            f"{name}: {folder} lacks {len(missing)} of the weights of {model_class.__name__}, such as {missing[0]}. "
            "Name a complete checkpoint."
        )
    return model.eval().to(device)


def onnx_session(name: str, settings: Settings) -> Any:
    """An onnxruntime session of the `.onnx` file of `name`; UsageError if it is another kind of file."""
    return onnx.session(one_file(name, settings, "*.onnx"))


def run_onnx(session: Any, features: np.ndarray) -> np.ndarray:
    """First output of a one-input ONNX model, flattened to (M,). MeasureError if the model cannot run on these features."""
    try:
        output = session.run(None, {session.get_inputs()[0].name: features})[0]
    except Exception as e:
        raise MeasureError(f"the model cannot run on this clip: {_first_line(e)}. Is the clip long enough?") from e
    return np.asarray(output).reshape(-1)


def check_onnx(name: str, session: Any, features: np.ndarray, outputs: int) -> None:
    """UsageError unless the model turns one second of `features` into `outputs` numbers: then it is another model."""
    try:
        got = len(run_onnx(session, features))
    except MeasureError as e:
        raise UsageError(f"{name}: the ONNX file is not the model that {name} needs: {e}. {_how_to_get(name)}") from e
    if got != outputs:
        raise UsageError(f"{name}: the ONNX model gives {got} numbers and {name} needs {outputs}. {_how_to_get(name)}")


def finite(value: float) -> float:
    """`value`, or MeasureError if it is not a number."""
    if not math.isfinite(value):
        raise MeasureError("the model's answer is not a finite number. Check the clip for NaN, infinity and digital silence")
    return value


def check_length(samples: int, shortest: int, rate: int) -> None:
    """MeasureError if a clip has fewer than the `shortest` number of samples of which the model makes a frame."""
    if samples < shortest:
        seconds, needed = samples / rate, shortest / rate
        raise MeasureError(f"{seconds:.3f} s is shorter than the {needed:.3f} s that the model needs. Use a longer clip")


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples of which a stack of unpadded convolutions makes its first frame (400 for wav2vec 2.0 and HuBERT)."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _fetch_pretrained(name: str, hub_id: HubId) -> Path:
    folder = fetch(name, hub_id, ["*.json", "model*.safetensors"])
    if any(folder.glob("model*.safetensors")):
        return folder
    # Older repositories have only the pickle; where both exist, asking for it at once would double the download.
    return fetch(name, hub_id, ["*.json", "pytorch_model*.bin*"])


@contextmanager
def _quiet_progress() -> Iterator[None]:
    """Without the library's bar, which it draws into log files too."""
    logging = need("transformers", "models").utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_architecture(model_class: Any, name: str, folder: Path) -> None:
    model_type = read_json(folder / "config.json").get("model_type")
    wanted = model_class.config_class.model_type
    if model_type != wanted:
        other = shown(model_type, 60)
        raise UsageError(f"{name}: {folder} holds a {other} model and {name} needs {wanted!r}. {_how_to_get(name)}")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; UsageError if it is missing or something else."""
    content = load_json(path, MAX_JSON_BYTES, "Fetch the model's files again.")
    if not isinstance(content, dict):
        raise UsageError(f"{path} should hold a JSON object. Fetch the model's files anew.")
    return content


def _how_to_get(name: str) -> str:
    for row in LABELLERS:
        if row.name == name and row.weights:
            return row.weights
    return f"Pass --weights {name}=FILE_OR_HUB_ID."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
