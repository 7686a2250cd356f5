"""The models and metrics that -m takes, as rows for `urgentmos models`."""

import json
from typing import Any

from urgentmos.common.packaged import PACKAGED
from urgentmos.labellers import LABELLERS
from urgentmos.metrics import METRICS
from urgentmos.models.releases import RELEASES


def known_models() -> list[dict[str, Any]]:
    """A row per model in the package, per release and per measured metric.

    Keys: model, kind, ready, repo, file, revision, licence, size, metrics, trained_on.
    `ready` is what is missing before the model can be used here: "yes", "download" (its name is enough), "get the file",
    or what to install or to give.
    """
    return [*_packaged(), *_releases(), *_measured()]


def _packaged() -> list[dict[str, Any]]:
    rows = []
    for name, folder in PACKAGED.items():
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rows.append(
            {
                "model": name,
                "kind": "in the package",
                "ready": "yes",
                "repo": None,
                "file": None,
                "revision": about["version"],
                "licence": about["licence"],
                "size": f"{(folder / 'model.onnx').stat().st_size / 1e6:.1f} MB",
                "metrics": ", ".join(about["metrics"]),
                "trained_on": about["trained_on"],
            }
        )
    return rows


def _releases() -> list[dict[str, Any]]:
    return [
        {
            "model": row.name,
            "kind": row.format,
            "ready": "download" if row.on_hub else "get the file",
            "repo": row.repo,
            "file": row.file,
            "revision": row.revision,
            "licence": row.licence or "not stated",
            "size": row.size,
            "metrics": ", ".join(row.metrics) or "pairs, mos_overall",
            "trained_on": row.trained_on,
        }
        for row in RELEASES.values()
    ]


def _measured() -> list[dict[str, Any]]:
    rows = []
    for labeller in LABELLERS:
        absent = [package for package, version in labeller.versions().items() if version == "not installed"]
        ready = f"install {', '.join(absent)}" if absent else f"--weights {labeller.name}=..." if labeller.weights else "yes"
        for name in labeller.metrics:
            rows.append(
                {
                    "model": name,
                    "kind": "measured, with reference signals" if METRICS[name].needs_reference else "measured",
                    "ready": ready,
                    "repo": labeller.hub,
                    "file": None,
                    "revision": None,
                    "licence": None,
                    "size": None,
                    "metrics": name,
                    "trained_on": METRICS[name].source,
                }
            )
    return rows
