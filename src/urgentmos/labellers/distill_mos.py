"""Distill-MOS (Stahl and Gamper 2025) with the weights that `distillmos` carries.

Crops of 7.68 s, evenly spread and at most one second apart, each divided by its peak; shorter clips are padded with
zeros. The original reads the first channel and resamples with torchaudio; here the house policy applies (mean, soxr).
"""

import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from urgentmos.errors import need
from urgentmos.labellers import Measure, Settings, Signals

RATE = 16_000


def load(settings: Settings) -> Measure:
    torch = need("torch", "label")
    network = _network(torch).to(settings.device).eval()

    def measure(signals: Signals) -> dict[str, float]:
        wave = torch.from_numpy(signals.at(RATE)[0]).to(settings.device)[None]
        with torch.inference_mode():
            return {"distill_mos": float(network(wave))}

    return measure


def _network(torch: Any) -> Any:
    with _torchaudio_unneeded():
        sqa = need("distillmos.sqa", "label")
    network = sqa.ConvTransformerSQAModel(load_weights=False)
    file = Path(str(sqa.__file__)).parent / "weights" / Path(sqa.DEFAULT_WEIGHTS_CHKPT).name
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["model"])
    return network


@contextmanager
def _torchaudio_unneeded() -> Iterator[None]:
    """The package imports torchaudio at the top but uses it in its own command only: an empty stand-in will do."""
    if "torchaudio" in sys.modules:
        yield
        return
    stand_in = types.ModuleType("torchaudio")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = stand_in
    try:
        yield
    finally:
        del sys.modules["torchaudio"]
