"""WavLM, HuBERT and wav2vec 2.0 by transformers, made independent of padding.

In the common ("base") ones the first convolution is followed by a group norm over time, which sees the padding: a clip's
score moves by up to 0.4 MOS with its batch mates. Here the norm is taken over each clip's own frames, and everything
behind it is masked, so that a batch of any lengths can run in one call. It does so where calls are dear, on an
accelerator. On a CPU each length runs by itself, without padding: for 8 clips of 2 to 10 s through WavLM base+ that took
6.6 s of one core, against 8.0 s in four pairs of neighbours and 14.4 s in one batch, of which 41 % was padding.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.errors import UsageError
from urgentmos.nets.encoder import Encoder, EncoderConfig, equal_lengths

SSL_TYPES = ("wavlm", "hubert", "wav2vec2")
# Frames of each clip behind the first convolution, while a padded batch is under way in this thread.
_FRAMES: ContextVar[list[int] | None] = ContextVar("frames behind the first convolution", default=None)


class SslEncoder(Encoder):
    """`model` is the transformers module under its own parameter names; 50 frames a second in every usual one.

    States are hidden_states as transformers 5 has them: the input of the first layer, then each layer's output. Where the
    layers normalise first (do_stable_layer_norm) the last state is therefore the one *before* the final layer norm, on
    which UrgentMOS was trained; layers="last" takes last_hidden_state, after it.
    """

    def __init__(self, config: EncoderConfig) -> None:
        settings = ssl_settings(config.model, trained=not config.frozen)
        super().__init__(
            config,
            dim=settings.hidden_size,
            min_samples=conv_field(settings.conv_kernel, settings.conv_stride),
            n_states=settings.num_hidden_layers + 1,
        )
        import transformers

        auto: Any = transformers.AutoModel
        self.model: Any = auto.from_config(settings, dtype=torch.float32)
        first = self.model.feature_extractor.conv_layers[0]
        if settings.feat_extract_norm == "group":
            first.layer_norm = PerClipGroupNorm.like(first.layer_norm)
        if settings.model_type == "wavlm":
            _attend_by_sdpa(self.model)
        # A batch norm before the positional convolution lifts the padding from 0: only equal lengths go together.
        self.padding = "exact" if getattr(settings, "conv_pos_batch_norm", False) else "masked"

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """The frames left by the convolutions, without padding."""
        return conv_frames(n_samples, self.model.config.conv_kernel, self.model.config.conv_stride)

    def groups(self, wave: Tensor, n_samples: Tensor) -> list[list[int]]:
        """Equal lengths on a CPU, or where padding cannot be masked; else one."""
        if self.padding == "exact" or wave.device.type == "cpu":
            return equal_lengths(n_samples.tolist())
        return super().groups(wave, n_samples)

    def states(self, wave: Tensor, n_samples: Tensor) -> list[Tensor]:
        """One call, padding masked."""
        lengths = n_samples.tolist()
        mask, frames = None, None
        if len(set(lengths)) > 1:
            mask = torch.arange(wave.shape[1], device=wave.device) < n_samples[:, None]
            first = self.model.config
            frames = conv_frames(n_samples, first.conv_kernel[:1], first.conv_stride[:1]).tolist()
        weighted = self.weights is not None
        token = _FRAMES.set(frames)
        try:
            out = self.model(wave, attention_mask=mask, output_hidden_states=weighted)
        finally:
            _FRAMES.reset(token)
        return list(out.hidden_states) if weighted else [out.last_hidden_state]


def ssl_settings(model: Mapping[str, Any], trained: bool) -> Any:
    """The transformers config of plain data, with all that is random switched off unless `trained`. UsageError if unfit.

    Off in any case: layerdrop, which would take a state out of the layer sum, and SpecAugment, which would hide the very
    distortions that are to be judged and fails on clips that are shorter than its mask.
    """
    from transformers import AutoConfig

    kind = model.get("model_type")
    if kind not in SSL_TYPES:
        raise UsageError(f"an ssl encoder of type {kind} is not known. Its model_type must be one of: {', '.join(SSL_TYPES)}.")
    own = {name: value for name, value in model.items() if name not in ("model_type", "auto_map", "architectures")}
    try:
        settings = AutoConfig.for_model(kind, **own)
    except Exception as e:  # transformers validates with classes of its own
        raise UsageError(f"the {kind} config cannot be used: {e}. Take config.json of the model as it is published.") from e
    if getattr(settings, "add_adapter", False):
        raise UsageError(f"a {kind} with an adapter behind it (add_adapter) cannot be used. Take one without.")
    settings.layerdrop = 0.0
    settings.apply_spec_augment = False
    if not trained:
        for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"):
            setattr(settings, name, 0.0)
    return settings


def conv_frames(n: Tensor, kernels: list[int], strides: list[int]) -> Tensor:
    """(B,) samples -> (B,) frames behind a chain of convolutions without padding."""
    for kernel, stride in zip(kernels, strides, strict=True):
        n = torch.div(n - kernel, stride, rounding_mode="floor") + 1
    return n


def conv_field(kernels: list[int], strides: list[int]) -> int:
    """Samples that one frame behind a chain of convolutions needs: 400 for the usual kernels."""
    n = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        n = (n - 1) * stride + kernel
    return n


class PerClipGroupNorm(nn.GroupNorm):
    """One group per channel, over each clip's own frames where a padded batch is under way, else as nn.GroupNorm."""

    @classmethod
    def like(cls, norm: nn.GroupNorm) -> "PerClipGroupNorm":
        """With the sizes and the very parameters of `norm`."""
        ours = cls(norm.num_groups, norm.num_channels, eps=norm.eps, affine=True)
        ours.weight, ours.bias = norm.weight, norm.bias
        return ours

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, C, F), zero beyond each clip's frames."""
        frames = _FRAMES.get()
        if frames is None:
            return super().forward(x)
        size = x.shape[2]
        clips = [
            functional.pad(super(PerClipGroupNorm, self).forward(x[i : i + 1, :, :n]), (0, size - n))
            for i, n in enumerate(frames)
        ]
        return torch.cat(clips)


def _attend_by_sdpa(model: nn.Module) -> None:
    """Give each WavLM attention the fused kernel: transformers' own way also computes weights that nobody reads.

    The same numbers within rounding, and no warning about mask types for every padded batch.
    """
    for module in model.modules():
        if hasattr(module, "torch_multi_head_self_attention"):
            vars(module)["torch_multi_head_self_attention"] = MethodType(_attend, module)


def _attend(attention: Any, hidden: Tensor, mask: Tensor | None, bias: Tensor) -> tuple[Tensor, None]:
    """hidden (B, F, D), mask (B, F) True where real, position bias (B * heads, F, F) -> (B, F, D), no weights."""
    b, f, d = hidden.shape
    heads: int = attention.num_heads

    def split(projection: nn.Module) -> Tensor:
        projected: Tensor = projection(hidden)
        return projected.view(b, f, heads, d // heads).transpose(1, 2)

    bias = bias.view(b, heads, f, f)
    if mask is not None:
        bias = bias.masked_fill(~mask[:, None, None, :], float("-inf"))
    dropout = attention.dropout if attention.training else 0.0
    mixed = functional.scaled_dot_product_attention(
        split(attention.q_proj), split(attention.k_proj), split(attention.v_proj), attn_mask=bias, dropout_p=dropout
    )
    return attention.out_proj(mixed.transpose(1, 2).reshape(b, f, d)), None
