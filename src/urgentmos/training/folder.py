"""The folder of a run: configuration, data and results.

A run folder holds config.yaml (which reproduces it), run.json (versions, fingerprints of the data, the result), train.csv,
valid.csv, best/ (models by validation score), last.ckpt (the state to resume from), and model/, which can follow -m.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urgentmos import __version__
from urgentmos.common.untrusted import load_json, reason
from urgentmos.errors import UsageError, need
from urgentmos.files import write_whole as write_file
from urgentmos.training.config import HOW_FAST, TrainConfig, make_config, read_yaml

if TYPE_CHECKING:
    from urgentmos.training.data import Data

MODEL, CONFIG, RUN = "model", "config.yaml", "run.json"
MAX_JSON_BYTES = 16 << 20
ANOTHER = "Give another out=FOLDER, or remove that one."


@dataclass(frozen=True)
class Trained:
    """The result of a run."""

    folder: Path  # of the run
    model: Path  # the model folder in it
    step: int  # at which the model was kept; 0 in a process that only helped another
    score: float | None  # its validation score; None without validation data


def run_folder(config: TrainConfig) -> Path:
    """The folder that a run writes to: `out`, or runs/ and the name of the model."""
    return Path(config.out) if config.out else Path("runs") / Path(config.model).name


def open_folder(folder: Path, config: TrainConfig, description: Mapping[str, Any]) -> None:
    """A new folder, or that of the same run. UsageError if it belongs to another."""
    yaml = need("yaml", "train")
    plain = config.to_dict()
    if (folder / CONFIG).is_file():
        old = make_config(read_yaml(folder / CONFIG)).to_dict()
        other = [key for key in plain if plain[key] != old[key] and key not in (*HOW_FAST, "out")]
        if other:
            raise UsageError(
                f"{folder} holds a run with another {', '.join(other)}. Give another out=FOLDER, or remove that one."
            )
        about = _run_json(folder / RUN) if (folder / RUN).is_file() else {}
        if about.get("data", description["data"]) != description["data"]:
            raise UsageError(f"the data changed since {folder} was begun. Give another out=FOLDER, or remove that one.")
        if plain["steps"] != old["steps"] and config.schedule != "constant":
            raise UsageError(
                f"{folder} was begun with steps={old['steps']}, which its schedule needs. Give another out=FOLDER."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no run. Give another out=FOLDER.")
    if int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0")):
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    if not (folder / RUN).is_file():
        write_whole(folder / RUN, json.dumps(description, indent=1, ensure_ascii=False))


def describe(config: TrainConfig, data: Data, valid: Data) -> dict[str, Any]:
    """The content of run.json before there is a result: versions, fingerprints and counts of the data."""
    from importlib.metadata import PackageNotFoundError, version

    def found(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    packages = ("torch", "lightning", "numpy", "scipy", "soundfile", "soxr", "transformers")
    files = {name: list(getattr(config, name)) for name in ("data", "pairs", "valid", "valid_pairs")}
    return {
        "versions": {"urgentmos": __version__, **{package: found(package) for package in packages}},
        "data": [{"path": path, "as": name, "sha256": fingerprint(path)} for name, paths in files.items() for path in paths],
        "training": _counts(data),
        "validation": _counts(valid),
    }


def _counts(data: Data) -> dict[str, Any]:
    seconds = sum(clip.duration or 0.0 for clip in data.clips)
    return {"clips": len(data.clips), "hours": round(seconds / 3600, 4), "pairs": len(data.pairs), "labels": data.labelled()}


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file; of a folder, of the names and sizes of the files in it."""
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    listed = "\n".join(f"{p.relative_to(path).as_posix()}\t{p.stat().st_size}" for p in files)
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


def result_of(folder: Path) -> Trained | None:
    """The result of a finished run; None if there is none yet."""
    path = folder / RUN
    if not path.is_file():
        return None
    result = _run_json(path).get("result")
    try:
        return None if result is None else Trained(folder, folder / result["model"], int(result["step"]), result["score"])
    except (LookupError, TypeError, ValueError) as e:
        raise UsageError(f"{path} has a result that cannot be understood ({reason(e)}). {ANOTHER}") from e


def _run_json(path: Path) -> dict[str, Any]:
    about = load_json(path, MAX_JSON_BYTES, ANOTHER)
    if not isinstance(about, dict):
        raise UsageError(f"{path} does not describe a run. {ANOTHER}")
    return about


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all. UsageError if it cannot be written."""
    write_file(path, text.encode())
