"""The base class of encoders: from a waveform to frames.

An encoder takes a padded batch and gives each clip the frames it would have alone (promise 1 of the project): padding,
whatever stands in it, and neighbours never show. Building one draws its weights from torch's global random state, as any
nn.Module does, and downloads nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.common.untrusted import shown
from urgentmos.errors import AudioError, UsageError
from urgentmos.nets.layers import layer_sum, zero_padding

KINDS = ("mel", "stft", "conv", "ssl", "whisper", "qwen_omni", "af_whisper")
RATE = 16_000
MAX_FRONT_END = 8192  # bands, window lengths: what is computed from them is not on the meta device


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder as plain data: what a config.json holds, and all that `build_encoder` needs."""

    kind: str
    name: str = ""  # where its weights came from, such as "microsoft/wavlm-base-plus"; never fetched from here
    layers: str = "weighted"  # "weighted": learned sum of all hidden states; "last": only the last one
    frozen: bool = True  # also kept in eval(): no dropout, regardless of .train()
    gradient_scale: float = 1.0  # of what flows back into an encoder that is not frozen
    normalise: bool = False  # zero mean and unit variance of each clip's real samples, as some were trained
    model: Mapping[str, Any] = field(default_factory=dict)  # the transformers config, or sizes of mel, stft, conv

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"there is no encoder kind {shown(self.kind, 40)}. Choose one of: {', '.join(KINDS)}.")
        if self.layers not in ("weighted", "last"):
            raise UsageError(f"layers of an encoder are 'weighted' or 'last', not {shown(self.layers, 40)}. Change the config.")
        for name in ("frozen", "normalise"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} is {shown(getattr(self, name), 40)} and should be true or false. Change the config.")
        if not self.gradient_scale > 0:
            raise UsageError(f"gradient_scale is {self.gradient_scale}; it must be above 0. Use frozen to stop gradients.")

    def to_dict(self) -> dict[str, Any]:
        """As a dict that JSON can hold."""
        return asdict(self) | {"model": dict(self.model)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EncoderConfig":
        """The reverse of `to_dict`. UsageError for a field that does not exist, or without a kind."""
        names = [f.name for f in fields(cls)]
        unknown = data.keys() - set(names)
        if unknown or "kind" not in data:
            wrong = f"unknown fields {', '.join(sorted(unknown))}" if unknown else "no kind"
            raise UsageError(f"the config of an encoder has {wrong}. Known fields: {', '.join(names)}.")
        return cls(**data)


class Encoder(nn.Module):
    """Base of all encoders. A subclass has its sizes and yields hidden states; the rest is the same for all.

    Attributes: `dim` features per frame; `rate` Hz; `min_samples` of the shortest clip; `window_seconds`, the longest
    piece that the network behind sees at once (None: any), longer clips are cut up inside; `padding`: "masked" where a
    batch of any lengths runs in one call, "exact" where each length needs a call of its own (then equal lengths batch
    better). Either way a clip's frames do not depend on its batch.
    """

    rate: int = RATE
    padding: str = "masked"
    window_seconds: float | None = None
    weights: nn.Parameter | None

    def __init__(self, config: EncoderConfig, dim: int, min_samples: int, n_states: int) -> None:
        super().__init__()
        self.config, self.dim, self.min_samples = config, dim, min_samples
        weighted = config.layers == "weighted" and n_states > 1
        self.weights = nn.Parameter(torch.zeros(n_states)) if weighted else None

    def states(self, wave: Tensor, n_samples: Tensor) -> list[Tensor]:
        """Clips that `groups` put together: (B, T), zero beyond `n_samples` (B,) -> hidden states, each (B, F, D).

        As many as there are `weights`, or at least the last one where there are none. Their padding may hold anything.
        """
        raise NotImplementedError

    def groups(self, wave: Tensor, n_samples: Tensor) -> list[list[int]]:
        """Rows that may share one call of `states`, each row once; all of them unless a subclass overrides it."""
        return [list(range(len(wave)))]

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames that `forward` gives."""
        raise NotImplementedError

    def forward(self, wave: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """wave (B, T) float32 at 16 kHz, real samples (B,) -> frames (B, F, D), zero beyond n_frames; n_frames (B,).

        AudioError where a clip is shorter than `min_samples`.
        """
        if not exporting():
            self._check(wave, n_samples)
            wave = wave[:, : int(n_samples.max())]
        wave = zero_padding(wave, n_samples)
        if self.config.normalise:
            wave = normalised(wave, n_samples)
        n_frames = self.n_frames(n_samples)
        groups = [] if exporting() else self.groups(wave, n_samples)
        if len(groups) < 2:
            return zero_padding(self._frames(wave, n_samples), n_frames), n_frames
        size = int(n_frames.max())
        parts = []
        for rows in groups:
            frames = self._frames(wave[rows, : int(n_samples[rows].max())], n_samples[rows])
            parts.append(functional.pad(zero_padding(frames, n_frames[rows]), (0, 0, 0, size - frames.shape[1])))
        back = torch.tensor([row for rows in groups for row in rows], device=wave.device).argsort()
        return torch.cat(parts)[back], n_frames

    def train(self, mode: bool = True) -> "Encoder":
        """As nn.Module.train, but a frozen encoder stays in eval: no dropout, no layerdrop, no batch statistics."""
        super().train(mode and not self.config.frozen)
        return self

    def freeze(self) -> "Encoder":
        """Stop gradients of all parameters but the layer weights, which are always learned. Called by build_encoder."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name == "weights")
        return self.train(self.training)

    def _frames(self, wave: Tensor, n_samples: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            states = self.states(wave, n_samples)
        states = [self._scaled(state) for state in states]
        return states[-1] if self.weights is None else layer_sum(states, self.weights)

    def _scaled(self, state: Tensor) -> Tensor:
        scale = self.config.gradient_scale
        if scale != 1.0 and state.requires_grad:
            state = state.view_as(state)  # a hook on the state itself would also scale what flows between layers
            state.register_hook(lambda gradient: gradient * scale)  # type: ignore[no-untyped-call]
        return state

    def _check(self, wave: Tensor, n_samples: Tensor) -> None:
        if wave.ndim != 2 or n_samples.shape != wave.shape[:1]:
            raise ValueError(f"an encoder takes (B, T) and (B,), not {tuple(wave.shape)} and {tuple(n_samples.shape)}")
        shortest, longest = int(n_samples.min()), int(n_samples.max())
        if longest > wave.shape[1]:
            raise ValueError(f"n_samples says {longest} samples and the batch holds {wave.shape[1]}")
        if shortest < self.min_samples:
            raise AudioError(
                f"a clip has {shortest} samples at {self.rate} Hz and the {self.config.kind} encoder needs "
                f"{self.min_samples} ({self.min_samples / self.rate:.3f} s). Leave it out or lengthen it."
            )


def exporting() -> bool:
    """True while a graph is made of the net: it holds no checks, and its sizes must not become constants."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def equal_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of equal length together."""
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length, []).append(row)
    return list(groups.values())


def normalised(wave: Tensor, n_samples: Tensor) -> Tensor:
    """(B, T), zero beyond n_samples (B,) -> zero mean and unit variance of each clip's real samples, zero beyond."""
    n = n_samples[:, None]
    centred = zero_padding(wave - wave.sum(dim=1, keepdim=True) / n, n_samples)
    variance = centred.square().sum(dim=1, keepdim=True) / n
    return centred / (variance + 1e-7).sqrt()  # the constant of transformers' Wav2Vec2FeatureExtractor
