"""NISQA v2.0: segments of a log-mel spectrogram -> overall MOS, noisiness, discontinuity, coloration, loudness.

Mittag et al. 2021, "NISQA: A deep CNN-self-attention model for multidimensional speech quality prediction with
crowdsourced datasets" (Interspeech). Attribute names are those of the released `nisqa.tar` (gabrielmittag/NISQA, class
NISQA_DIM with cnn_model "adapt", td "self_att", pool "att"): `cnn.model.*`, `time_dependency.model.*`,
`pool_layers.{0..4}.model.*`. Dropout has no parameters and does nothing when scoring, so it is left out. Names, sizes
(config/train_nisqa_cnn_sa_ap.yaml) and arithmetic are those of the public code; the released file was not available.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError

DIMENSIONS = ("mos", "noisiness", "discontinuity", "coloration", "loudness")  # the order of the outputs


@dataclass(frozen=True)
class NisqaConfig:
    """Sizes of the spectrogram and the net; the defaults are those of NISQA v2.0."""

    ms_n_fft: int = 4096
    ms_hop_length: float = 0.01  # seconds
    ms_win_length: float = 0.02  # seconds
    ms_n_mels: int = 48
    ms_fmax: float = 20_000.0  # Hz
    ms_seg_length: int = 15  # frames of a segment
    ms_seg_hop_length: int = 4  # frames between segments
    ms_max_segments: int = 1300  # longer clips are refused
    cnn_c_out_1: int = 16
    cnn_c_out_2: int = 32
    cnn_c_out_3: int = 64
    cnn_kernel_size: tuple[int, int] = (3, 3)
    cnn_pool_1: tuple[int, int] = (24, 7)  # mel bands, frames
    cnn_pool_2: tuple[int, int] = (12, 5)
    cnn_pool_3: tuple[int, int] = (6, 3)
    td_sa_d_model: int = 64
    td_sa_nhead: int = 1
    td_sa_num_layers: int = 2
    td_sa_h: int = 64
    pool_att_h: int = 128

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> NisqaConfig:
        """The sizes in the `args` of a NISQA checkpoint. UsageError if it is another kind of NISQA."""
        kinds: dict[str, tuple[object, ...]] = {
            "model": ("NISQA_DIM",),
            "cnn_model": ("adapt",),
            "cnn_fc_out_h": (None, 0, False),
            "td": ("self_att",),
            "td_sa_pos_enc": (None, False),
            "pool": ("att",),
            "ms_sr": (None,),
        }
        for name, accepted in kinds.items():
            if args.get(name) not in accepted:
                raise UsageError(
                    f"this NISQA checkpoint has {name}: {shown(args.get(name), 40)} where NISQA v2.0 has {accepted[0]!r}. "
                    "nisqa_mos needs nisqa.tar of gabrielmittag/NISQA, not nisqa_mos_only.tar, nisqa_tts.tar or your own."
                )
        return cls(**{name: _like(name, args.get(name), default) for name, default in vars(cls()).items()})

    def __post_init__(self) -> None:
        if self.ms_seg_length % 2 == 0 or self.td_sa_d_model % self.td_sa_nhead:
            raise UsageError("this NISQA checkpoint has an even segment length or heads that do not divide its width.")


def _like(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`: a positive size, or a pair of them (one number stands for both)."""
    if isinstance(default, tuple):
        pair = [value, value] if isinstance(value, int) else value
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UsageError(f"this NISQA checkpoint has {name}: {shown(value, 40)} where a pair of sizes belongs.")
        return tuple(_like(name, item, 1) for item in pair)
    kinds = int if isinstance(default, int) else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= 1 << 16:
        raise UsageError(f"this NISQA checkpoint has {name}: {shown(value, 40)} where a size belongs.")
    return type(default)(value)


class Nisqa(nn.Module):
    """Segments (B, F, mel bands, frames of a segment) in dB -> (B, 5) in the order of `DIMENSIONS`, unbounded.

    n_segments (B,) says how many of the F segments belong to each clip; the rest is padding and has no effect.
    """

    def __init__(self, config: NisqaConfig) -> None:
        super().__init__()
        self.config = config
        self.cnn = Holder(SegmentCnn(config))
        self.time_dependency = Holder(SelfAttention(config))
        self.pool_layers = nn.ModuleList(Holder(AttentionPool(config)) for _ in DIMENSIONS)

    def forward(self, segments: Tensor, n_segments: Tensor) -> Tensor:
        n = segments.shape[1]
        padding = torch.arange(n, device=segments.device) >= n_segments[:, None]  # (B, F)
        frames = self.cnn(segments.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, n))  # (B, F, D)
        frames = self.time_dependency(frames, padding)
        return torch.cat([pool(frames, padding) for pool in self.pool_layers], dim=1)


class Holder(nn.Module):
    """Gives a part the name `model`, as in the checkpoint."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.model(*inputs)
        return output


class SegmentCnn(nn.Module):
    """(N, 1, mel bands, frames) -> (N, D): six convolutions with adaptive max-pooling in between."""

    def __init__(self, config: NisqaConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.cnn_c_out_1, config.cnn_c_out_2, config.cnn_c_out_3
        kernel = config.cnn_kernel_size
        padding = (1, 0) if kernel[1] == 1 else (1, 1)
        self.pools = (config.cnn_pool_1, config.cnn_pool_2, config.cnn_pool_3)
        self.conv1 = nn.Conv2d(1, c1, kernel, padding=padding)
        self.conv2 = nn.Conv2d(c1, c2, kernel, padding=padding)
        self.conv3 = nn.Conv2d(c2, c3, kernel, padding=padding)
        self.conv4 = nn.Conv2d(c3, c3, kernel, padding=padding)
        self.conv5 = nn.Conv2d(c3, c3, kernel, padding=padding)
        self.conv6 = nn.Conv2d(c3, c3, (kernel[0], config.cnn_pool_3[1]), padding=(1, 0))  # leaves a single frame
        self.bn1, self.bn2 = nn.BatchNorm2d(c1), nn.BatchNorm2d(c2)
        self.bn3, self.bn4, self.bn5, self.bn6 = (nn.BatchNorm2d(c3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_max_pool2d(F.relu(self.bn1(self.conv1(x))), self.pools[0])
        x = F.adaptive_max_pool2d(F.relu(self.bn2(self.conv2(x))), self.pools[1])
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.adaptive_max_pool2d(F.relu(self.bn4(self.conv4(x))), self.pools[2])
        x = F.relu(self.bn5(self.conv5(x)))
        x = F.relu(self.bn6(self.conv6(x)))  # (N, c3, pooled bands, 1)
        return x.flatten(1)


class SelfAttention(nn.Module):
    """(B, F, D) and padding (B, F) -> (B, F, d_model): transformer layers without positions, normalised before the first."""

    def __init__(self, config: NisqaConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.cnn_c_out_3 * config.cnn_pool_3[0], config.td_sa_d_model)
        self.norm1 = nn.LayerNorm(config.td_sa_d_model)
        self.layers = nn.ModuleList(SelfAttentionLayer(config) for _ in range(config.td_sa_num_layers))

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = self.norm1(self.linear(x))
        for layer in self.layers:
            x = layer(x, padding)
        return x


class SelfAttentionLayer(nn.Module):
    """Post-norm transformer layer with ReLU. (B, F, d_model) -> the same."""

    def __init__(self, config: NisqaConfig) -> None:
        super().__init__()
        n = config.td_sa_d_model
        self.self_attn = nn.MultiheadAttention(n, config.td_sa_nhead, batch_first=True)
        self.linear1 = nn.Linear(n, config.td_sa_h)
        self.linear2 = nn.Linear(config.td_sa_h, n)
        self.norm1 = nn.LayerNorm(n)
        self.norm2 = nn.LayerNorm(n)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x, x, x, key_padding_mask=padding, need_weights=False)[0])
        out: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
        return out


class AttentionPool(nn.Module):
    """(B, F, d_model) and padding (B, F) -> (B, 1): a weighted mean over the clip, then a linear layer."""

    def __init__(self, config: NisqaConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.td_sa_d_model, config.pool_att_h)
        self.linear2 = nn.Linear(config.pool_att_h, 1)
        self.linear3 = nn.Linear(config.td_sa_d_model, 1)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        weights = self.linear2(F.relu(self.linear1(x))).masked_fill(padding.unsqueeze(-1), -torch.inf).softmax(dim=1)
        score: Tensor = self.linear3((weights * x).sum(dim=1))
        return score
