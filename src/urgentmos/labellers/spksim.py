"""spksim: cosine of the RawNet3 embeddings of a clip and its reference signal, as the URGENT challenges measure it.

Both signals whole at 16 kHz, without voice activity detection, cropping or level change (metrics-and-corpora A.9), one
after the other through ESPnet's `espnet/voxcelebs12_rawnet3` (VoxCeleb 1 and 2, CC BY 4.0). Another speaker encoder gives
another metric and carries another name, such as spksim_ge2e.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.common.untrusted import load_yaml
from urgentmos.errors import UsageError, need
from urgentmos.labellers import Measure, Settings, Signals, hub
from urgentmos.metrics import METRICS
from urgentmos.models.torch_file import fill, load_torch_file

if TYPE_CHECKING:
    from urgentmos.nets.rawnet3 import RawNet3

RATE = 16_000


def load(settings: Settings) -> Measure:
    """measure(signals) -> {"spksim": cosine in -1..1}. UsageError if the weights are absent or of another model."""
    torch = need("torch", "models")
    where = hub.source("spksim", settings)
    if isinstance(where, hub.HubId):
        where = hub.fetch("spksim", where, ["*.pth", "*.yaml"])
    model = load_rawnet3(*find_files(where)).to(settings.device)
    shortest = max(model.config.min_samples, round(METRICS["spksim"].min_seconds * RATE))

    def embedding(wave: np.ndarray) -> Any:
        batch = torch.from_numpy(np.asarray(wave, dtype=np.float32)).unsqueeze(0)
        return model(batch.to(settings.device))[0].double().cpu()  # (D,)

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair(RATE)
        hub.check_length(len(wave), shortest, RATE)
        with torch.inference_mode():
            cosine = torch.cosine_similarity(embedding(reference), embedding(wave), dim=0)
        # Rounding can leave the cosine of equal vectors just above 1.
        return {"spksim": min(max(hub.finite(float(cosine)), -1.0), 1.0)}

    return measure


def find_files(path: Path) -> tuple[Path, Path | None]:
    """(weights, config.yaml or None) behind `path`: a .pth file, or a folder with one, such as a copy of the hub repository.

    In a folder the repository's own meta.yaml decides, if it is there. UsageError if no single .pth file is found.
    """
    if path.is_file():
        config = path.with_name("config.yaml")
        return path, config if config.is_file() else None
    meta = path / "meta.yaml"
    if meta.is_file():
        content = read_yaml(meta)
        weights = _inside(path, content.get("files"), "model_file")
        settings = _inside(path, content.get("yaml_files"), "train_config")
        if weights is not None and weights.is_file():
            return weights, settings if settings is not None and settings.is_file() else None
    files = sorted(p for p in path.rglob("*.pth") if p.is_file())
    if len(files) != 1:
        seen = ", ".join(p.name for p in files[:5]) or "none"
        raise UsageError(f"spksim: {path} should hold one .pth file, found {seen}. Name the file: --weights spksim=FILE.pth.")
    return find_files(files[0])


def _inside(folder: Path, section: Any, name: str) -> Path | None:
    """The file that `section[name]` names relative to `folder`, if it names one that does not lead out of it."""
    value = section.get(name) if isinstance(section, dict) else None
    if not isinstance(value, str) or PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
        return None
    return folder / value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`; tags that would build objects are refused, nothing is executed."""
    content = load_yaml(path, "Fetch the file again.", extra="models")
    if not isinstance(content, dict):
        raise UsageError(f"spksim: {path} should hold a YAML mapping. Fetch the file anew.")
    return content


def load_rawnet3(weights: Path, config: Path | None) -> "RawNet3":
    """The net of an ESPnet checkpoint, on the CPU, ready to score. Without a config it has the released model's sizes.

    UsageError that names the file if it holds anything but a RawNet3.
    """
    torch = need("torch", "models")
    from urgentmos.nets.rawnet3 import RawNet3, RawNet3Config

    state = load_torch_file(weights)
    if not isinstance(state, dict):
        raise UsageError(f"spksim: {weights} holds no state dict. Name the .pth file of espnet/voxcelebs12_rawnet3.")
    try:
        sizes = RawNet3Config() if config is None else RawNet3Config.from_espnet(read_yaml(config))
    except UsageError as e:
        raise UsageError(f"{config}: {e}") from e
    with torch.device("meta"):
        model = RawNet3(sizes)
    # The classifier over the training speakers comes along in the file; it is no part of the encoder.
    fill(model, {k: v for k, v in state.items() if not str(k).startswith("loss.")}, weights)
    return model.eval()
