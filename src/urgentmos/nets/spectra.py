"""The two front ends of URGENT-PK without trained weights, log-mel and STFT; both can treat a padded batch clip by clip.

Sizes and names as in the released checkpoints: the buffers are `spectrogram.window` [160] and `mel_scale.fb` [161, 120].
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.errors import AudioError
from urgentmos.nets.layers import zero_padding

RATE = 16_000
DB_FLOOR = 1e-10  # power below which the logarithm stops

P = ParamSpec("P")


def full_precision(front_end: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Keep autocast off inside: powers of a spectrum span ten decades, which half precision cannot hold."""

    @wraps(front_end)
    def in_float32(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return front_end(*args, **kwargs)

    return in_float32


def reflect_ends(wave: Tensor, pad: int, n: Tensor | None = None) -> Tensor:
    """(B, T) -> (B, pad + T + pad), mirrored at both ends of each clip's real `n` (B,) samples (None: all T are real).

    Beyond a clip's mirrored end stands 0. AudioError where a clip has no more than `pad` samples to mirror.
    """
    if n is None:
        if wave.shape[-1] <= pad:
            raise AudioError(f"the clip has {wave.shape[-1]} samples and needs {pad + 1}. Leave it out or lengthen it.")
        return functional.pad(wave, (pad, pad), mode="reflect")
    steps = torch.arange(1, pad + 1, device=wave.device)
    last = n[:, None] - 1
    sources = torch.cat([last - (last - steps.flip(0)).abs(), last - steps], dim=1)  # of what stands before and behind
    before, behind = torch.split(wave.gather(1, sources.clamp(min=0)), pad, dim=1)
    whole = torch.cat([before, functional.pad(zero_padding(wave, n), (0, pad))], dim=1)
    return whole.scatter(1, last + pad + steps, behind)


def complex_stft(wave: Tensor, n_fft: int, hop: int, window: Tensor | None, n: Tensor | None = None) -> Tensor:
    """(..., T) -> complex (..., n_fft // 2 + 1, 1 + T // hop): centred, reflected at each clip's ends, not normalised.

    `n` (...) are the real samples of a padded batch; the first 1 + n // hop frames are those of the clip alone.
    `window` (W,) with W <= n_fft stands in the middle of a frame; None is rectangular.
    """
    flat = reflect_ends(wave.reshape(-1, wave.shape[-1]), n_fft // 2, None if n is None else n.reshape(-1))
    width = n_fft if window is None else len(window)
    window = torch.ones(n_fft, dtype=wave.dtype, device=wave.device) if window is None else window.to(wave.dtype)
    spectrum = torch.stft(flat, n_fft, hop, width, window, center=False, return_complex=True)
    return spectrum.reshape(*wave.shape[:-1], *spectrum.shape[1:])


def htk_filters(bins: int, bands: int, rate: int = RATE) -> Tensor:
    """(bins, bands): triangles that are equally wide on the HTK mel scale from 0 to rate / 2, peak 1, no norm.

    With 161 bins and 120 bands six of the lowest are narrower than a bin and stay empty, in the released weights too.
    """
    top = 2595.0 * math.log10(1.0 + rate / 2 / 700.0)
    corners = 700.0 * (10.0 ** (torch.linspace(0.0, top, bands + 2, dtype=torch.float64) / 2595.0) - 1.0)
    centres = torch.linspace(0.0, rate / 2, bins, dtype=torch.float64)[:, None]
    width = corners.diff()
    rising = (centres - corners[:-2]) / width[:-1]
    falling = (corners[2:] - centres) / width[1:]
    return torch.minimum(rising, falling).clamp(min=0.0).float()


class _Buffers(nn.Module):
    """Holds constants under the names that the released checkpoints give them."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


class LogMel(nn.Module):
    """Log-mel power in dB: 20 ms frames, a window of 10 ms, a hop of 5 ms, 120 bands (URGENT-PK, section II)."""

    def __init__(self, bands: int = 120, n_fft: int = 320, window: int = 160, hop: int = 80) -> None:
        super().__init__()
        self.bands, self.n_fft, self.hop = bands, n_fft, hop
        self.spectrogram = _Buffers(window=torch.hann_window(window))
        self.mel_scale = _Buffers(fb=htk_filters(n_fft // 2 + 1, bands))

    @full_precision
    def forward(self, wave: Tensor, n: Tensor | None = None) -> Tensor:
        """(..., T) at 16 kHz -> (..., bands, 1 + T // hop) in dB, at least -100.

        With `n` (...), the real samples in a padded batch, the first 1 + n // hop frames are those of the clip alone.
        """
        window, filters = self.spectrogram.get_buffer("window"), self.mel_scale.get_buffer("fb")
        power = complex_stft(wave, self.n_fft, self.hop, window, n).abs().square()
        mel = (power.transpose(-1, -2) @ filters).transpose(-1, -2)
        return 10.0 * mel.clamp(min=DB_FLOOR).log10()


class Stft(nn.Module):
    """Real and imaginary parts: 20 ms rectangular frames, a hop of 10 ms, 322 rows (URGENT-PK, section II)."""

    def __init__(self, n_fft: int = 320, hop: int = 160) -> None:
        super().__init__()
        self.rows, self.n_fft, self.hop = 2 * (n_fft // 2 + 1), n_fft, hop

    @full_precision
    def forward(self, wave: Tensor, n: Tensor | None = None) -> Tensor:
        """(..., T) at 16 kHz -> (..., 322, 1 + T // hop): the real rows, then the imaginary ones. `n` as in LogMel."""
        spectrum = complex_stft(wave, self.n_fft, self.hop, None, n)
        return torch.cat([spectrum.real, spectrum.imag], dim=-2)
