"""spksim_ge2e: cosine of the GE2E speaker embeddings (Wan et al. 2018) of clip and reference signal, by `resemblyzer`.

The offline stand-in for `spksim`; not comparable with it. The package's own preparation is kept: levels below -30 dBFS
are raised to it, and long pauses are shortened by a voice activity detector.
"""

import atexit
import os
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from urgentmos.errors import MeasureError, need
from urgentmos.labellers import Measure, ReferenceCache, Settings, Signals

RATE = 16_000


def load(settings: Settings) -> Measure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports names that scipy has moved
        keep_numba_from_home()
        resemblyzer = need("resemblyzer", "label")
    encoder = resemblyzer.VoiceEncoder(settings.device, verbose=False)

    def embed(wave: np.ndarray, what: str) -> np.ndarray:
        """(T,) at 16 kHz -> (256,) of unit length"""
        if not wave.any():
            raise MeasureError(f"{what} is silent, so it has no speaker")
        peak = max(1.0, float(np.abs(wave).max()))  # the detector takes 16 bit samples
        voiced = resemblyzer.preprocess_wav(wave / peak)
        if len(voiced) == 0:
            raise MeasureError(f"no voice is found in {what}, so it has no speaker")
        embedding: np.ndarray = encoder.embed_utterance(voiced)
        return embedding

    references = ReferenceCache(lambda wave: embed(wave, "the reference signal"))

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair(RATE)
        return {"spksim_ge2e": float(np.dot(references(reference), embed(wave, "the clip")))}

    return measure


def keep_numba_from_home() -> None:
    """Sets NUMBA_CACHE_DIR to a private temporary folder where librosa's own cannot be written.

    librosa is compiled by numba, which keeps the code beside it or else in the user's home, and runs what it finds there. So
    the folder must be one that nobody else can write.
    """
    spec = find_spec("librosa")
    if spec is None or spec.origin is None or "NUMBA_CACHE_DIR" in os.environ:
        return
    try:
        with tempfile.TemporaryFile(dir=Path(spec.origin).parent / "__pycache__"):
            return
    except OSError:
        os.environ["NUMBA_CACHE_DIR"] = str(_private_folder())


def _private_folder() -> Path:
    """One that stays for this user's next run; a new one that goes with the process where another user took its name."""
    folder = Path(tempfile.gettempdir(), f"urgentmos-numba-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="urgentmos-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
