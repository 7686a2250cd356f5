"""The small encoder that is trained from nothing: log-mel, a strided convolutional stem, a few conformer-like layers.

No absolute positions: order is seen by the convolutions, distance by nobody, so a clip may be of any length. Made of
operations that ONNX has, the Fourier transform included (as a convolution).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.nets.encoder import MAX_FRONT_END, Encoder, EncoderConfig
from urgentmos.nets.layers import check_dropout, check_sizes, join_heads, split_heads, valid_mask, zero_padding
from urgentmos.nets.spectra import full_precision, htk_filters, reflect_ends

# Share of the clip's loudness below which the logarithm stops: a little above the rounding noise of 16-bit speech at its
# usual level, so that band limits and digital silence are seen and float32 noise is not.
FLOOR = 1e-8
SILENCE = 1e-8  # loudness (power of a frame's mel bands) that nothing is turned up from
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}


@dataclass(frozen=True)
class ConvConfig:
    """Sizes; the defaults have 1.4 million parameters and give 25 frames a second."""

    bands: int = 80
    n_fft: int = 400  # 25 ms
    hop: int = 160  # 10 ms: 100 frames a second before the stem
    channels: int | tuple[int, ...] = 32  # of the stem's layers
    strides: tuple[int, ...] = (2, 2)  # of the stem's layers in time; each of them also halves the bands
    activation: str = "gelu"  # of the stem; relu costs nothing once it is exported
    batch_norm: bool = False  # in the stem: learns in fewer steps, and costs nothing once it is exported
    width: int = 144
    layers: int = 4
    heads: int = 4
    feedforward: int = 576
    kernel: int = 15  # of the layers' convolution over time, odd
    dropout: float = 0.1

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "ConvConfig":
        """From a config's `model`. UsageError for an unknown size, or sizes that do not go together."""
        unknown = data.keys() - {f.name for f in fields(cls)}
        if unknown:
            names = ", ".join(f.name for f in fields(cls))
            raise UsageError(f"the conv encoder has no size {', '.join(sorted(unknown))}. Known: {names}.")
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        defaults = {f.name: f.default for f in fields(cls)}
        check_sizes(plain, defaults, MAX_FRONT_END)
        config = cls(**plain)
        if isinstance(config.channels, tuple) and len(config.channels) != len(config.strides):
            raise UsageError(
                f"the conv encoder needs as many channels ({config.channels}) as strides ({config.strides}), or one number "
                "for all. Change the config."
            )
        if config.activation not in ACTIVATIONS:
            raise UsageError(
                f"the conv encoder has no activation {shown(config.activation, 40)}. Choose one of: {', '.join(ACTIVATIONS)}."
            )
        check_dropout(config.dropout)
        if config.width % config.heads or config.kernel % 2 == 0:
            raise UsageError(
                f"the conv encoder needs width ({config.width}) divisible by heads ({config.heads}) and an odd "
                f"kernel ({config.kernel}). Change the config."
            )
        return config


class ConvEncoder(Encoder):
    """Log-mel -> stem -> layers; states are the stem's output and each layer's, all (B, F, width)."""

    def __init__(self, config: EncoderConfig) -> None:
        sizes = ConvConfig.from_mapping(config.model)
        super().__init__(config, sizes.width, min_samples=sizes.n_fft // 2 + 1, n_states=sizes.layers + 1)
        self.sizes = sizes
        self.mel = ConvMel(sizes)
        self.stem = Stem(sizes)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """1 + n // hop, then ceil(n / stride) for each stride."""
        n = 1 + n_samples // self.sizes.hop
        for stride in self.sizes.strides:
            n = torch.div(n - 1, stride, rounding_mode="floor") + 1
        return n

    def states(self, wave: Tensor, n_samples: Tensor) -> list[Tensor]:
        """layers + 1 states; the last one behind the final norm."""
        return self.states_of(self.mel(wave, n_samples), 1 + n_samples // self.sizes.hop)

    def states_of(self, mel: Tensor, n: Tensor) -> list[Tensor]:
        """The same from log-mel (B, F, bands), n (B,) frames: other code may have computed it (urgentmos.judges.logmel)."""
        x, n = self.stem(mel, n)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], n))
        states[-1] = self.norm(states[-1])
        return states


class ConvMel(nn.Module):
    """(B, T) -> log-mel (B, 1 + T // hop, bands), about -2..2, frames centred and mirrored at each clip's own ends.

    Relative to the clip's loudness, so that its level changes nothing. Loudness is the mean power of frames weighted by that
    power, which pauses and leading silence do not move. In an exported graph the transform is a convolution with sines and
    cosines, which every runtime has. Constants are computed, not stored.
    """

    basis: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, sizes: ConvConfig) -> None:
        super().__init__()
        self.n_fft, self.hop = sizes.n_fft, sizes.hop
        self.register_buffer("basis", _fourier_basis(sizes.n_fft), persistent=False)
        self.register_buffer("window", torch.hann_window(sizes.n_fft), persistent=False)
        self.register_buffer("filters", htk_filters(sizes.n_fft // 2 + 1, sizes.bands), persistent=False)

    @full_precision
    def forward(self, wave: Tensor, n_samples: Tensor) -> Tensor:
        """wave (B, T), n_samples (B,) -> (B, F, bands), zero beyond 1 + n // hop frames."""
        wave = reflect_ends(wave, self.n_fft // 2, n_samples)
        n = 1 + n_samples // self.hop
        mel = zero_padding(self._power(wave) @ self.filters, n)
        frame = mel.sum(dim=2)  # (B, F)
        loudness = frame.square().sum(dim=1) / frame.sum(dim=1).clamp(min=SILENCE)
        share = mel / loudness.clamp(min=SILENCE)[:, None, None]
        decades = share.clamp(min=FLOOR).log10()  # -8 .. 0
        return zero_padding((decades + 4.0) / 2.0, n)

    def _power(self, wave: Tensor) -> Tensor:
        """(B, T + n_fft) -> (B, F, bins)."""
        if torch.onnx.is_in_onnx_export():
            parts = functional.conv1d(wave[:, None], self.basis, stride=self.hop).square()  # (B, 2 * bins, F)
            real, imaginary = parts.chunk(2, dim=1)
            return (real + imaginary).transpose(1, 2)
        spectrum = torch.fft.rfft(wave.unfold(1, self.n_fft, self.hop) * self.window, dim=2)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power


def _fourier_basis(n_fft: int) -> Tensor:
    """(2 * bins, 1, n_fft): cosines, then sines, under a periodic Hann window."""
    time = np.arange(n_fft)
    angle = 2 * math.pi * np.outer(np.arange(n_fft // 2 + 1), time) / n_fft
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * time / n_fft)
    basis = np.concatenate([np.cos(angle), np.sin(angle)]) * hann
    return torch.from_numpy(basis.astype(np.float32))[:, None]


class Stem(nn.Module):
    """Strided convolutions over time and bands, masked before each, then a projection to `width`."""

    def __init__(self, sizes: ConvConfig) -> None:
        super().__init__()
        self.strides = sizes.strides
        self.activation = ACTIVATIONS[sizes.activation]
        channels = (sizes.channels,) * len(sizes.strides) if isinstance(sizes.channels, int) else sizes.channels
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=(stride, 2), padding=1)
            for before, after, stride in zip((1, *channels), channels, sizes.strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) if sizes.batch_norm else nn.Identity() for n in channels)
        bands = sizes.bands
        for _ in sizes.strides:
            bands = (bands + 1) // 2
        self.project = nn.Linear(channels[-1] * bands, sizes.width)
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, mel: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F, bands), (B,) -> (B, F', width), (B,)."""
        x = mel[:, None]  # (B, channels, F, bands)
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            x = x * valid_mask(n, x.shape[2])[:, None, :, None].to(x.dtype)
            x = self.activation(norm(conv(x)))
            n = torch.div(n - 1, stride, rounding_mode="floor") + 1
        x = self.project(join_heads(x))
        return self.norm(x), n


class Layer(nn.Module):
    """Attention, convolution over time, feed-forward; each behind a norm and beside a shortcut."""

    def __init__(self, sizes: ConvConfig) -> None:
        super().__init__()
        self.heads, self.p = sizes.heads, sizes.dropout
        width = sizes.width
        self.attention_norm, self.conv_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gate = nn.Linear(width, 2 * width)
        self.conv = nn.Conv1d(width, width, sizes.kernel, padding=sizes.kernel // 2, groups=width)
        self.mix = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, sizes.feedforward), nn.GELU(), nn.Dropout(self.p), nn.Linear(sizes.feedforward, width)
        )
        self.dropout = nn.Dropout(self.p)

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, width), (B,) -> (B, F, width)."""
        mask = valid_mask(n, x.shape[1])
        x = x + self.dropout(self._attend(self.attention_norm(x), mask))
        x = x + self.dropout(self._convolve(self.conv_norm(x), mask))
        fed: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return fed

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(x), 3, self.heads)
        p = self.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :], dropout_p=p)
        out: Tensor = self.out(join_heads(mixed))
        return out

    def _convolve(self, x: Tensor, mask: Tensor) -> Tensor:
        x = functional.glu(self.gate(x), dim=2) * mask[:, :, None].to(x.dtype)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = self.mix(functional.gelu(x))
        return mixed
