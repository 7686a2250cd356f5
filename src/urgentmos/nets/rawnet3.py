"""RawNet3, the speaker encoder of the URGENT speaker similarity: a waveform at 16 kHz -> one embedding of 192 numbers.

Jung et al. 2022, "Pushing the limits of raw waveform speaker recognition" (Interspeech), in the variant of ESPnet's
speaker recipe (`egs2/voxceleb/spk1`, train_rawnet3_best_trnVox12_emb192_amp_subcentertopk.yaml). Attribute names are the
checkpoint's, so that the state dict of `espnet/voxcelebs12_rawnet3` fits name by name: `frontend.*` (asteroid frontend
over asteroid-filterbanks 0.4), `encoder.*`, `pooling.*`, `projector.*`; its `loss.*` (the training classifier) is not part
of the encoder. Names, sizes and arithmetic are those of ESPnet's public modules; the released file itself was not available.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10, pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError

BLOCK_POOLS = (5, 3)  # max-pooling of the first two blocks
BLOCK_DILATIONS = (2, 3, 4)
LOWEST_HZ = 50.0  # lower edge of a filter, and its narrowest band; fixed in ParamSincFB
STD_RANGE = (1e-4, 1e4)  # of the variances, before the root


@dataclass(frozen=True)
class RawNet3Config:
    """Sizes; the defaults are those of the released model."""

    sinc_filters: int = 256  # half of them even (cosine), half odd (sine)
    sinc_kernel_size: int = 251  # samples, odd
    sinc_stride: int = 16  # samples: 1000 frames a second before pooling
    preemph_coef: float = 0.97
    log_term: float = 1e-6
    model_scale: int = 8  # Res2Net groups
    ndim: int = 1024  # channels of the blocks
    encoder_size: int = 1536  # channels after the three blocks are joined
    attention_size: int = 128
    embedding_size: int = 192
    sample_rate: int = 16_000

    @classmethod
    def from_espnet(cls, config: Mapping[str, Any]) -> RawNet3Config:
        """The sizes in an ESPnet `config.yaml`, read as data. UsageError if it describes another architecture."""
        kinds = {"frontend": "asteroid_frontend", "encoder": "rawnet3", "pooling": "chn_attn_stat", "projector": "rawnet3"}
        for part, kind in kinds.items():
            if config.get(part) != kind:
                raise UsageError(
                    f"this model has the {part} {shown(config.get(part), 40)}; spksim needs RawNet3 ({part}: {kind})."
                )
        if config.get("normalize") is not None or config.get("input_size") is not None:
            raise UsageError("this RawNet3 was trained on other inputs than waveforms; spksim needs one without `normalize`.")
        encoder = _section(config, "encoder_conf")
        values = {
            **_section(config, "frontend_conf"),
            **{k: v for k, v in encoder.items() if k != "output_size"},
            "encoder_size": encoder.get("output_size", cls.encoder_size),
            "attention_size": _section(config, "pooling_conf").get("hidden_size", cls.attention_size),
            "embedding_size": _section(config, "projector_conf").get("output_size", cls.embedding_size),
        }
        types: dict[str, type] = {name: type(default) for name, default in vars(cls()).items()}
        for name in types.keys() & values.keys():
            if not isinstance(values[name], int | types[name]) or not 0 < values[name] <= 1 << 14:
                raise UsageError(f"{name}: {shown(values[name], 40)} is not a size of a RawNet3.")
        return cls(**{name: types[name](values[name]) for name in types.keys() & values.keys()})

    @property
    def min_samples(self) -> int:
        """The shortest clip with a standard deviation over time: two frames after all pooling."""
        frames = 2 * BLOCK_POOLS[0] * BLOCK_POOLS[1]
        return self.sinc_kernel_size + (frames - 1) * self.sinc_stride


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name) or {}
    if not isinstance(section, dict):
        raise UsageError(f"{name} is not a mapping. Is this the config.yaml of an ESPnet speaker model?")
    return section


class RawNet3(nn.Module):
    """Waveforms (B, T) at 16 kHz -> embeddings (B, 192), not normalised to unit length.

    Every clip of a batch must fill its T samples: there is no mask. The level does not matter, since each band's mean
    logarithm is removed, until a clip is so faint (below about -120 dBFS) that the log term takes over.
    """

    def __init__(self, config: RawNet3Config) -> None:
        super().__init__()
        self.config = config
        self.frontend = SincFrontend(config)
        self.encoder = RawNet3Encoder(config)
        self.pooling = AttentiveStatistics(config.encoder_size, config.attention_size)
        self.projector = Projector(2 * config.encoder_size, config.embedding_size)

    def forward(self, wave: Tensor) -> Tensor:
        embedding: Tensor = self.projector(self.pooling(self.encoder(self.frontend(wave))))
        return embedding


class SincFrontend(nn.Module):
    """(B, T) -> (B, D, F): pre-emphasis, instance norm, learned band-pass filters, log magnitude, minus its mean over time."""

    flipped_filter: Tensor

    def __init__(self, config: RawNet3Config) -> None:
        super().__init__()
        self.log_term = config.log_term
        self.register_buffer("flipped_filter", torch.tensor([[[-config.preemph_coef, 1.0]]]))  # (1, 1, 2)
        self.norm = nn.InstanceNorm1d(1, eps=1e-4, affine=True)
        self.conv = SincConv(config)

    def forward(self, wave: Tensor) -> Tensor:
        x = F.pad(wave.unsqueeze(1), (1, 0), mode="reflect")
        x = self.norm(F.conv1d(x, self.flipped_filter))
        x = torch.log(self.conv(x).abs() + self.log_term)
        return x - x.mean(dim=-1, keepdim=True)


class SincConv(nn.Module):
    """Holds the filterbank under the name that the checkpoint has for it. (B, 1, T) -> (B, D, F)."""

    def __init__(self, config: RawNet3Config) -> None:
        super().__init__()
        self.stride = config.sinc_stride
        self.filterbank = SincFilterbank(config)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.filterbank(), stride=self.stride)


class SincFilterbank(nn.Module):
    """Windowed ideal band-passes as pairs of even and odd filters: a real and an imaginary part, one pair for each band.

    Pariente et al. 2020, "Filterbank design for end-to-end speech separation", after SincNet (Ravanelli and Bengio 2018).
    Learned are the lower edges and the widths in Hz; a new bank is spread evenly over the mel scale.
    """

    window_: Tensor
    n_: Tensor

    def __init__(self, config: RawNet3Config) -> None:
        super().__init__()
        bands, half = config.sinc_filters // 2, config.sinc_kernel_size // 2
        self.nyquist = config.sample_rate / 2
        top = 2595 * log10(1 + (self.nyquist - 2 * LOWEST_HZ) / 700)
        bottom = 2595 * log10(1 + 30 / 700)
        steps = torch.linspace(0, 1, bands + 1, dtype=torch.float64)
        hz = 700 * (10 ** ((bottom + (top - bottom) * steps) / 2595) - 1)
        self.low_hz_ = nn.Parameter(hz[:-1, None].float())  # (bands, 1)
        self.band_hz_ = nn.Parameter(hz.diff()[:, None].float())  # (bands, 1)
        window = torch.hamming_window(config.sinc_kernel_size, periodic=False, dtype=torch.float64)[:half]
        self.register_buffer("window_", window.float())  # (half,): its rising side
        self.register_buffer("n_", 2 * pi * (torch.arange(-half, 0.0)[None] / config.sample_rate))  # (1, half): radians at 1 Hz

    def forward(self) -> Tensor:
        """(D, 1, kernel): the cosine filters of all bands, then the sine filters."""
        low = LOWEST_HZ + self.low_hz_.abs()
        high = (low + LOWEST_HZ + self.band_hz_.abs()).clamp(LOWEST_HZ, self.nyquist)
        time, window = self.n_, self.window_
        # The logarithm that follows magnifies rounding where a band is empty: keep the release's order of operations.
        even = (torch.sin(high * time) - torch.sin(low * time)) / (time / 2) * window  # (bands, half)
        odd = (torch.cos(low * time) - torch.cos(high * time)) / (time / 2) * window
        width = high - low
        cosine = torch.cat([even, 2 * width, even.flip(1)], dim=1)
        sine = torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], dim=1)
        return torch.cat([cosine / (2 * width), sine / (2 * width)]).unsqueeze(1)


class RawNet3Encoder(nn.Module):
    """(B, D, F) -> (B, encoder_size, F // 15): three residual blocks, their outputs joined."""

    def __init__(self, config: RawNet3Config) -> None:
        super().__init__()
        n, scale = config.ndim, config.model_scale
        first, second, third = BLOCK_DILATIONS
        self.layer1 = Res2Block(config.sinc_filters, n, scale, first, BLOCK_POOLS[0])
        self.layer2 = Res2Block(n, n, scale, second, BLOCK_POOLS[1])
        self.layer3 = Res2Block(n, n, scale, third, None)
        self.layer4 = nn.Conv1d(3 * n, config.encoder_size, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.layer1(x)  # (B, ndim, F // 5)
        x2 = self.layer2(x1)  # (B, ndim, F // 15)
        x1 = F.max_pool1d(x1, BLOCK_POOLS[1])
        x3 = self.layer3(x1 + x2)
        return F.relu(self.layer4(torch.cat([x1, x2, x3], dim=1)))


class Res2Block(nn.Module):
    """Bottleneck whose middle convolution runs over channel groups in a chain (Res2Net), then pooling, then AFMS."""

    def __init__(self, n_in: int, n_out: int, scale: int, dilation: int, pool: int | None) -> None:
        super().__init__()
        width = n_out // scale
        self.pool = pool
        self.conv1 = nn.Conv1d(n_in, width * scale, kernel_size=1)
        self.bn1 = nn.BatchNorm1d(width * scale)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, kernel_size=3, dilation=dilation, padding=dilation) for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(scale - 1))
        self.conv3 = nn.Conv1d(width * scale, n_out, kernel_size=1)
        self.bn3 = nn.BatchNorm1d(n_out)
        self.afms = FeatureMapScaling(n_out)
        same = n_in == n_out
        self.residual = nn.Identity() if same else nn.Sequential(nn.Conv1d(n_in, n_out, kernel_size=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, F) -> (B, n_out, F // pool). ReLU comes before each batch norm."""
        *groups, last = self.bn1(F.relu(self.conv1(x))).chunk(len(self.convs) + 1, dim=1)
        done: list[Tensor] = []
        for group, conv, norm in zip(groups, self.convs, self.bns, strict=True):
            done.append(norm(F.relu(conv(group + done[-1] if done else group))))
        out: Tensor = self.bn3(F.relu(self.conv3(torch.cat([*done, last], dim=1)))) + self.residual(x)
        if self.pool:
            out = F.max_pool1d(out, self.pool)
        scaled: Tensor = self.afms(out)
        return scaled


class FeatureMapScaling(nn.Module):
    """AFMS of RawNet2 (Jung et al. 2020): shift each channel by a learned amount, scale it by a gate on its mean."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(n, 1))
        self.fc = nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc(x.mean(dim=-1))).unsqueeze(-1)  # (B, n, 1)
        return (x + self.alpha) * gate


class AttentiveStatistics(nn.Module):
    """(B, n, F) -> (B, 2 n): mean and deviation over time, weighted per channel by attention that also sees the clip's plain
    mean and deviation (ECAPA-TDNN, Desplanques et al. 2020)."""

    def __init__(self, n: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(3 * n, hidden, kernel_size=1),
            nn.ReLU(),
            nn.BatchNorm1d(hidden),
            nn.Conv1d(hidden, n, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True).expand_as(x)
        deviation = x.var(dim=-1, keepdim=True).clamp(*STD_RANGE).sqrt().expand_as(x)
        weights = self.attention(torch.cat([x, mean, deviation], dim=1)).softmax(dim=-1)
        centre = (x * weights).sum(dim=-1)
        spread = ((x**2 * weights).sum(dim=-1) - centre**2).clamp(*STD_RANGE).sqrt()
        return torch.cat([centre, spread], dim=1)


class Projector(nn.Module):
    """(B, 2 n) -> (B, embedding_size)."""

    def __init__(self, n: int, embedding_size: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(n)
        self.fc = nn.Linear(n, embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.fc(self.bn(x))
        return embedding
