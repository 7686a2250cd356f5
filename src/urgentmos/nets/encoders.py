"""The table of encoders, and the two without weights."""

from collections.abc import Callable

from torch import Tensor

from urgentmos.errors import UsageError
from urgentmos.nets.conv import ConvEncoder
from urgentmos.nets.encoder import MAX_FRONT_END, Encoder, EncoderConfig
from urgentmos.nets.layers import check_sizes
from urgentmos.nets.pretrained import SslEncoder
from urgentmos.nets.spectra import LogMel, Stft
from urgentmos.nets.whisper import AfWhisperEncoder, QwenOmniEncoder, WhisperEncoder


class SpectrumEncoder(Encoder):
    """Log-mel (D = 120, 200 frames a second) or STFT (D = 322, 100 frames a second), centred frames. Nothing to train."""

    def __init__(self, config: EncoderConfig) -> None:
        check_sizes(config.model, dict.fromkeys(config.model, 1), MAX_FRONT_END)
        try:
            spectrum: LogMel | Stft = LogMel(**config.model) if config.kind == "mel" else Stft(**config.model)
        except TypeError as e:
            raise UsageError(f"the {config.kind} encoder has no such size: {e}. Remove it from the config's model.") from e
        dim = spectrum.bands if isinstance(spectrum, LogMel) else spectrum.rows
        # A frame reaches half of n_fft past the ends, where samples are mirrored.
        super().__init__(config, dim, min_samples=spectrum.n_fft // 2 + 1, n_states=1)
        self.spectrum = spectrum

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """1 + n // hop."""
        return 1 + n_samples // self.spectrum.hop

    def states(self, wave: Tensor, n_samples: Tensor) -> list[Tensor]:
        """One state: there are no layers."""
        return [self.spectrum(wave, n_samples).transpose(1, 2)]


CLASSES: dict[str, Callable[[EncoderConfig], Encoder]] = {
    "mel": SpectrumEncoder,
    "stft": SpectrumEncoder,
    "conv": ConvEncoder,
    "ssl": SslEncoder,
    "whisper": WhisperEncoder,
    "af_whisper": AfWhisperEncoder,
    "qwen_omni": QwenOmniEncoder,
}


def build_encoder(config: EncoderConfig) -> Encoder:
    """The encoder of `config`, with random weights; load a state dict to get trained ones. UsageError if it cannot be built.

    A frozen one is in eval mode and stays there; one to be trained starts in training mode, as any nn.Module.
    """
    encoder: Encoder = CLASSES[config.kind](config)
    return encoder.freeze() if config.frozen else encoder
