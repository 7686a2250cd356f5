"""Tell which speech system sounds better, by how much and how sure, without a listening test.

    import urgentmos

    model = urgentmos.load()
    model.score("clip.wav").metrics
    urgentmos.rank("submissions/", model=model).table()

Importing the package imports nothing heavy: what a name needs comes when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Packages that report to their makers read these when they are imported; nothing leaves the machine unasked.
for _switch in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_switch, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

__version__ = "0.1.0"
_HOMES = {
    "load": "api",
    "rank": "api",
    "score": "api",
    "compare": "api",
    "Clip": "clips.clip",
    "METRICS": "metrics",
}
__all__ = ["METRICS", "Clip", "__version__", "compare", "load", "rank", "score"]

if TYPE_CHECKING:
    from urgentmos.api import compare, load, rank, score
    from urgentmos.clips.clip import Clip
    from urgentmos.metrics import METRICS


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
