"""PESQ as the URGENT challenges practise it: narrow-band at 8 kHz, wide-band at 16 kHz and above (resampled to 16 kHz).

ITU-T P.862 with the mappings P.862.1 (narrow-band) and P.862.2 (wide-band), through the `pesq` package, which does not
contain Corrigendum 2: see pesqc2.py. The two modes share one label column in the field's data; the mode is recorded.
"""

import subprocess
import sys
from collections.abc import Callable

import numpy as np

from urgentmos.errors import MeasureError, need
from urgentmos.labellers import Measure, Settings, Signals

# The ITU code keeps at most 50 utterances and writes past its arrays beyond that. An utterance and its pause take at
# least half a second, so longer clips are measured in a process of their own, whose death costs one value.
SAFE_SECONDS = 20.0
CODES = {
    -1: "the ITU code failed",
    -2: "the rate is not supported",
    -6: "the clip is shorter than the 0.25 s PESQ needs",
    -7: "PESQ finds no speech in the reference signal or the clip",
}


def mode(rate: int) -> str:
    """'nb' or 'wb' for a file's rate; MeasureError where the challenges' code raises."""
    if rate == 8_000:
        return "nb"
    if rate >= 16_000:
        return "wb"
    raise MeasureError(f"PESQ is defined for 8 kHz and for 16 kHz and above, not for {rate} Hz. Resample the files")


def load(settings: Settings) -> Measure:
    return measurer("pesq", "pesq")


def measurer(package: str, metric: str) -> Measure:
    """PESQ by one of the two packages with the same interface."""
    need(package, "label")

    def measure(signals: Signals) -> dict[str, float]:
        band = mode(signals.rate)
        reference, wave = signals.pair(8_000 if band == "nb" else 16_000)
        rate = 8_000 if band == "nb" else 16_000
        shielded = len(wave) > SAFE_SECONDS * rate
        return {metric: checked((_in_child if shielded else _here)(package, rate, band, reference, wave))}

    return measure


def checked(value: float) -> float:
    """The value, or MeasureError: the package answers with negative codes, and with NaN for a silent clip."""
    if np.isnan(value):
        raise MeasureError("PESQ has no value for a silent clip")
    if value < 0:
        raise MeasureError(CODES.get(int(value), "the ITU code ran out of memory"))
    return float(value)


def _here(package: str, rate: int, band: str, reference: np.ndarray, wave: np.ndarray) -> float:
    module = need(package, "label")
    function: Callable[..., float] = module.pesq
    with np.errstate(all="ignore"):
        return float(function(rate, reference, wave, band, on_error=module.PesqError.RETURN_VALUES))


def _in_child(package: str, rate: int, band: str, reference: np.ndarray, wave: np.ndarray) -> float:
    command = [sys.executable, "-m", __name__, package, str(rate), band]
    samples = np.stack([reference, wave]).astype(np.float32).tobytes()
    child = subprocess.run(command, input=samples, capture_output=True, check=False)
    if child.returncode != 0:
        raise MeasureError("the ITU code crashed, as it does beyond 50 utterances. Cut the recording into shorter clips")
    return float(child.stdout)


def _child_main(package: str, rate: str, band: str) -> None:
    reference, wave = np.frombuffer(sys.stdin.buffer.read(), dtype=np.float32).reshape(2, -1)
    print(_here(package, int(rate), band, reference, wave))


if __name__ == "__main__":
    _child_main(*sys.argv[1:4])
