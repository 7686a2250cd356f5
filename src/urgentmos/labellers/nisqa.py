"""nisqa_mos: `mos_pred` of NISQA v2.0 at the file's own rate (metrics-and-corpora A.10); unbounded.

The spectrogram is that of the release: librosa 0.8.1's melspectrogram (reflect padding, centred frames, Slaney mel scale
and norm, magnitudes) and amplitude_to_db (floor 1e-4, 80 dB below the clip's maximum), written out here in numpy. Bands
above half the clip's rate are empty, as in the release: nothing is resampled, whatever its comments say.

The weights (nisqa.tar, CC BY-NC-SA 4.0) are not in this package.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from urgentmos.audio.spectra import mel_filters
from urgentmos.errors import MeasureError, UsageError, need
from urgentmos.labellers import Measure, Settings, Signals, hub
from urgentmos.models.torch_file import fill, load_torch_file

if TYPE_CHECKING:
    from urgentmos.nets.nisqa import Nisqa, NisqaConfig

AMPLITUDE_FLOOR = 1e-4
TOP_DB = 80.0
FRAMES_AT_ONCE = 512  # of the spectrogram, so that a minute at 48 kHz needs megabytes and not gigabytes


def load(settings: Settings) -> Measure:
    """measure(signals) -> {"nisqa_mos": ...}. UsageError if the weights are absent or not NISQA v2.0."""
    torch = need("torch", "models")
    model = load_nisqa(hub.one_file("nisqa", settings, "nisqa.tar")).to(settings.device)

    def measure(signals: Signals) -> dict[str, float]:
        pieces = torch.from_numpy(segments(signals.wave, signals.rate, model.config)).unsqueeze(0)
        count = torch.tensor([pieces.shape[1]], device=settings.device)
        with torch.inference_mode():
            scores = model(pieces.to(settings.device), count)[0]  # (5,)
        return {"nisqa_mos": hub.finite(float(scores[0]))}

    return measure


def load_nisqa(path: Path) -> "Nisqa":
    """The net of `nisqa.tar`, on the CPU, ready to score. UsageError that names the file if it holds anything else."""
    torch = need("torch", "models")
    from urgentmos.nets.nisqa import Nisqa, NisqaConfig

    checkpoint = load_torch_file(path)
    args = checkpoint.get("args") if isinstance(checkpoint, Mapping) else None
    state = checkpoint.get("model_state_dict") if isinstance(checkpoint, Mapping) else None
    if not isinstance(args, Mapping) or not isinstance(state, Mapping):
        raise UsageError(f"{path} is not a NISQA checkpoint: it lacks args or model_state_dict. Name the file nisqa.tar.")
    try:
        config = NisqaConfig.from_args(args)
    except UsageError as e:
        raise UsageError(f"{path}: {e}") from e
    with torch.device("meta"):
        model = Nisqa(config)
    fill(model, state, path)
    return model.eval()


def segments(wave: np.ndarray, rate: int, config: "NisqaConfig") -> np.ndarray:
    """(T,) at `rate` Hz -> (F, mel bands, frames of a segment) float32 in dB, cut every few frames.

    MeasureError if the clip is shorter than one segment (0.14 s) or longer than NISQA's limit (52 s).
    """
    length, hop = config.ms_seg_length, config.ms_seg_hop_length
    frames = 1 + len(wave) // hop_samples(rate, config)
    if frames < length:
        need_s = (length - 1) * config.ms_hop_length
        raise MeasureError(f"{len(wave) / rate:.2f} s is shorter than the {need_s:.2f} s that NISQA needs")
    count = 1 + (frames - length) // hop
    if count > config.ms_max_segments:
        limit_s = ((config.ms_max_segments - 1) * hop + length) * config.ms_hop_length
        raise MeasureError(f"{len(wave) / rate:.1f} s is longer than the {limit_s:.0f} s that NISQA takes. Cut the clip")
    spectrogram = log_mel(wave, rate, config)  # (F, mel bands)
    windows = np.lib.stride_tricks.sliding_window_view(spectrogram, length, axis=0)[::hop]
    return np.ascontiguousarray(windows, dtype=np.float32)


def hop_samples(rate: int, config: "NisqaConfig") -> int:
    """Samples between frames. MeasureError where the release has none or a window longer than its transform."""
    hop, window = int(rate * config.ms_hop_length), int(rate * config.ms_win_length)
    if hop < 1 or window > config.ms_n_fft:
        raise MeasureError(f"NISQA takes no clips at {rate} Hz. Resample the clip to 48000 Hz")
    return hop


def log_mel(wave: np.ndarray, rate: int, config: "NisqaConfig") -> np.ndarray:
    """(T,) -> (F, mel bands) float64 in dB relative to amplitude 1, at most 80 dB below the loudest cell of the clip."""
    n_fft, hop = config.ms_n_fft, hop_samples(rate, config)
    window = _padded_hann(int(rate * config.ms_win_length), n_fft)
    filters = mel_filters(rate, n_fft, config.ms_n_mels, config.ms_fmax)
    padded = np.pad(np.asarray(wave, dtype=np.float64), n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]  # (F, n_fft), a view
    mel = np.concatenate(
        [
            np.abs(np.fft.rfft(frames[i : i + FRAMES_AT_ONCE] * window)) @ filters.T
            for i in range(0, len(frames), FRAMES_AT_ONCE)
        ]
    )
    decibels = 20 * np.log10(np.maximum(mel, AMPLITUDE_FLOOR))
    return np.asarray(np.maximum(decibels, decibels.max() - TOP_DB))


def _padded_hann(length: int, n_fft: int) -> np.ndarray:
    """(n_fft,): a periodic Hann window of `length` samples with zeros on both sides."""
    window = np.zeros(n_fft)
    start = (n_fft - length) // 2
    window[start : start + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return window
