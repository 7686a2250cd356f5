"""Whisper-like encoders on log-mel: Whisper itself (Kimi-Audio's too), AF-Whisper, and the one of Qwen3-Omni.

Whisper and AF-Whisper look at windows of exactly 30 s, padded with silence; the library refuses other lengths and its
feature extractor cuts off what is longer. Here a longer clip is cut into such windows and its frames are joined again.
Qwen3-Omni's has no such limit: it attends within pieces of a few seconds.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from urgentmos.errors import UsageError
from urgentmos.nets.encoder import RATE, Encoder, EncoderConfig, equal_lengths
from urgentmos.nets.layers import valid_mask
from urgentmos.nets.spectra import complex_stft, full_precision

N_FFT, HOP = 400, 160  # 25 ms, 10 ms
WINDOWS_AT_ONCE = 8  # bounds the memory of an hour-long clip


class WhisperMel:
    """Log-mel as transformers' WhisperFeatureExtractor makes it, on any device. Holds no tensors, so no state either."""

    def __init__(self, bands: int) -> None:
        from transformers.audio_utils import mel_filter_bank

        self.filters: np.ndarray = mel_filter_bank(
            num_frequency_bins=N_FFT // 2 + 1,
            num_mel_filters=bands,
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=RATE,
            norm="slaney",
            mel_scale="slaney",
        ).astype(np.float32)  # (201, bands)

    @full_precision
    def __call__(self, wave: Tensor, n: Tensor | None = None) -> Tensor:
        """(B, T) -> (B, bands, T // 160), 8 decades below the loudest value of each clip cut off, then (x + 4) / 4.

        With `n` (B,) real samples the first n // 160 frames are those of the clip alone; those behind are 0.
        """
        window = torch.hann_window(N_FFT, device=wave.device)
        power = complex_stft(wave, N_FFT, HOP, window, n)[..., :-1].abs().square()  # the extractor drops the last frame
        filters = torch.as_tensor(self.filters, device=wave.device)
        mel = (filters.T @ power).clamp(min=1e-10).log10()
        if n is None:
            return (torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
        padding = ~valid_mask(n // HOP, mel.shape[2])[:, None]
        loudest = mel.masked_fill(padding, -torch.inf).amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(mel, loudest - 8.0) + 4.0) / 4.0).masked_fill(padding, 0.0)


class Windows(NamedTuple):
    """A batch cut into pieces of one length: all windows of the first clip, then those of the second, ..."""

    wave: Tensor  # (W, size)
    first: list[int]  # where each clip's windows begin


def cut(wave: Tensor, n_samples: Tensor, size: int) -> Windows:
    """(B, T), zero beyond n_samples -> windows of `size` samples, the last one of each clip padded with silence."""
    counts = [-(-n // size) for n in n_samples.tolist()]
    longest = max(counts) * size
    wave = functional.pad(wave[:, :longest], (0, max(0, longest - wave.shape[1])))
    pieces = [clip[: count * size].view(count, size) for clip, count in zip(wave, counts, strict=True)]
    first = [sum(counts[:i]) for i in range(len(counts))]
    return Windows(torch.cat(pieces), first)


def join(state: Tensor, first: list[int], n_frames: Tensor) -> Tensor:
    """(W, F, D) frames of windows -> (B, max(n_frames), D): all windows but a clip's last are full, so they just abut."""
    flat = state.flatten(0, 1)
    starts = [window * state.shape[1] for window in first]
    clips = [flat[start : start + n] for start, n in zip(starts, n_frames.tolist(), strict=True)]
    return pad_sequence(clips, batch_first=True)


class WhisperEncoder(Encoder):
    """The encoder half of a Whisper: 50 frames a second. `model` has the names of transformers' WhisperEncoder.

    The last of the L+1 states is behind the final layer norm, as transformers has it.
    """

    shortest = 1  # samples

    def __init__(self, config: EncoderConfig) -> None:
        settings = self.settings(config)
        super().__init__(config, settings.d_model, self.shortest, settings.encoder_layers + 1)
        self.model: Any = self.network(settings)
        self.mel = WhisperMel(settings.num_mel_bins)
        self.window_samples = settings.max_source_positions * 2 * HOP
        self.window_seconds = self.window_samples / RATE

    def settings(self, config: EncoderConfig) -> Any:
        """The transformers config."""
        return audio_settings(config, "WhisperConfig", ("whisper",))

    def network(self, settings: Any) -> Any:
        """The transformers module."""
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as Model

        return Model(settings)

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """Full windows have all frames; the last has (mel - 1) // 2 + 1 of them, with mel = ceil(samples / 160)."""
        full = self.frames_of_window(torch.full_like(n_samples, self.window_samples))
        windows = torch.div(n_samples, self.window_samples, rounding_mode="floor")
        return windows * full + self.frames_of_window(n_samples % self.window_samples)

    def frames_of_window(self, n: Tensor) -> Tensor:
        """(B,) real samples in one window, 0 included -> (B,) frames."""
        mel = torch.div(n + HOP - 1, HOP, rounding_mode="floor")
        return torch.div(mel + 1, 2, rounding_mode="floor")

    def states(self, wave: Tensor, n_samples: Tensor) -> list[Tensor]:
        """Windows of all clips, a few at a time."""
        windows = cut(wave, n_samples, self.window_samples)
        n_frames = self.n_frames(n_samples)
        parts = [self.run(self.mel(some)) for some in torch.split(windows.wave, WINDOWS_AT_ONCE)]
        return [join(torch.cat(same), windows.first, n_frames) for same in zip(*parts, strict=True)]

    def run(self, mel: Tensor) -> list[Tensor]:
        """(W, bands, 2 * max_source_positions) -> states (W, F, D)."""
        out = self.model(mel, output_hidden_states=self.weights is not None)
        if self.weights is None:
            return [out.last_hidden_state]
        return [*out.hidden_states[:-1], out.last_hidden_state]


class AfWhisperEncoder(WhisperEncoder):
    """AF-Whisper of Audio Flamingo 3, which is Qwen2-Audio's encoder: 25 frames a second, mean of two behind the layers.

    transformers' hidden states mix 50 and 25 frames a second and lack the last layer's own output. With layers "weighted"
    all but the last are averaged over pairs here; the last is behind averaging and final norm, as in the original.
    """

    shortest = 2 * HOP + 1  # three mel frames make the first of ours

    def settings(self, config: EncoderConfig) -> Any:
        """The transformers config."""
        return audio_settings(config, "Qwen2AudioEncoderConfig", ("qwen2_audio_encoder", "audioflamingo3_encoder"))

    def network(self, settings: Any) -> Any:
        """The transformers module."""
        from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder as Model

        return Model(settings)

    def frames_of_window(self, n: Tensor) -> Tensor:
        """Half of Whisper's, the odd one dropped."""
        return super().frames_of_window(n) // 2

    def run(self, mel: Tensor) -> list[Tensor]:
        """(W, bands, 2 * max_source_positions) -> states (W, F, D)."""
        *before, last = super().run(mel)
        return [functional.avg_pool1d(state.transpose(1, 2), 2).transpose(1, 2) for state in before] + [last]


class QwenOmniEncoder(Encoder):
    """The audio encoder of Qwen3-Omni: 13 frames a second (of 100 mel frames), and the library's rule for the rest.

    layers "last" has `output_dim` features, "weighted" sums the L+1 states of width `d_model` before the projection.
    Clips travel packed behind each other. A clip shorter than one piece is not padded to it when it is alone, and what the
    convolutions see at its end depends on that, so only such clips of equal length go together.
    """

    def __init__(self, config: EncoderConfig) -> None:
        settings = audio_settings(config, "Qwen3OmniMoeAudioEncoderConfig", ("qwen3_omni_moe_audio_encoder",))
        from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder as Model

        dim = settings.d_model if config.layers == "weighted" else settings.output_dim
        super().__init__(config, dim, min_samples=N_FFT // 2 + 1, n_states=settings.encoder_layers + 1)
        self.model: Any = Model(settings)
        self.mel = WhisperMel(settings.num_mel_bins)
        self.piece = 2 * settings.n_window  # mel frames that the convolutions see at once: 100

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """Frames behind three halvings of each piece of 100 mel frames, with mel = samples // 160."""
        mel = n_samples // HOP
        frames: Tensor = mel // self.piece * _three_halvings(self.piece) + _three_halvings(mel % self.piece)
        return frames

    def groups(self, wave: Tensor, n_samples: Tensor) -> list[list[int]]:
        """All clips that fill a piece, and each shorter length by itself."""
        return equal_lengths([min(n // HOP, self.piece) for n in n_samples.tolist()])

    def states(self, wave: Tensor, n_samples: Tensor) -> list[Tensor]:
        """One call, clips behind each other."""
        lengths = n_samples // HOP
        packed = torch.cat([mel[:, :n] for mel, n in zip(self.mel(wave, n_samples), lengths.tolist(), strict=True)], dim=1)
        weighted = self.weights is not None
        out = self.model(input_features=packed, feature_lens=lengths, output_hidden_states=weighted)
        states = out.hidden_states if weighted else [out.last_hidden_state]  # each (sum of frames, D)
        counts = self.n_frames(n_samples).tolist()
        return [pad_sequence(list(torch.split(state, counts)), batch_first=True) for state in states]


def _three_halvings(n: Any) -> Any:
    """Frames behind three convolutions of kernel 3, stride 2, padding 1; 0 stays 0."""
    for _ in range(3):
        n = (n + 1) // 2
    return n


def audio_settings(config: EncoderConfig, class_name: str, types: tuple[str, ...]) -> Any:
    """The transformers config of plain data, all that is random off where it is frozen; layerdrop off in any case.

    UsageError if it is of another type, or does not fit.
    """
    import transformers

    model: Mapping[str, Any] = config.model
    kind = model.get("model_type", types[0])
    if kind not in types:
        raise UsageError(f"the {config.kind} encoder cannot have model_type {kind}. Known: {', '.join(types)}.")
    own = {name: value for name, value in model.items() if name not in ("model_type", "auto_map", "architectures", "dtype")}
    try:
        settings = getattr(transformers, class_name)(**own)
    except Exception as e:  # transformers validates with classes of its own
        raise UsageError(f"the {kind} config cannot be used: {e}. Take config.json of the model as it is published.") from e
    settings.encoder_layerdrop = 0.0  # it would take a state out of the layer sum
    if config.frozen:
        settings.dropout = settings.attention_dropout = settings.activation_dropout = 0.0
    return settings
