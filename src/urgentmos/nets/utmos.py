"""UTMOS22, the strong learner, on transformers' wav2vec 2.0: waveform -> frames -> score.

Saeki et al. 2022, "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022" (section 3, without the phoneme encoder).
The public weights are a plain state dict of 225 tensors with fairseq's names; `public_names` says which of ours each is.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from urgentmos.errors import UsageError
from urgentmos.nets.layers import check_sizes

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

MAX_SIZE = 1 << 16  # of any dimension: none is near it, and a larger one is a mistake or an attack
HEAD_WIDTH = 64  # features per attention head in every wav2vec 2.0
CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)

# Tensors of one wav2vec 2.0 layer: fairseq's name, transformers' name.
LAYER_NAMES = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.out_proj": "attention.out_proj",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
# Weight norm has two spellings in state dicts: torch.nn.utils.weight_norm's and that of its parametrizations.
WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


@dataclass(frozen=True)
class UtmosConfig:
    """Sizes; the defaults are those of the public weights."""

    layers: int = 12
    hidden: int = 768  # width of wav2vec 2.0, in heads of 64
    feed_forward: int = 3072
    conv_width: int = 512
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    position_kernel: int = 128  # convolution that tells positions
    position_groups: int = 16
    embedding: int = 128  # of the domain, and of the judge
    lstm: int = 512  # per direction: a frame has twice as many features
    projection: int = 2048

    def __post_init__(self) -> None:
        """UsageError for what is no size."""
        check_sizes(vars(self), {f.name: f.default for f in fields(self)}, MAX_SIZE)
        if len(self.conv_kernel) != len(CONV_STRIDE):
            raise UsageError(
                f"conv_kernel has {len(self.conv_kernel)} sizes and should have {len(CONV_STRIDE)}. Change the config."
            )


class Utmos(nn.Module):
    """Waveform at 16 kHz, not normalised -> score on the 1..5 opinion scale, not clamped.

    There is no padding mask, and the first layer normalises over time: score each length alone, in batches of equal
    lengths or of one.
    """

    def __init__(self, config: UtmosConfig | None = None) -> None:
        super().__init__()
        from transformers import Wav2Vec2Model

        self.config = c = config or UtmosConfig()
        self.wav2vec2: Any = Wav2Vec2Model(_wav2vec2_config(c))
        # Of the one domain (0) and the one judge (288) that the public file was cut down to.
        self.domain_emb = nn.Parameter(torch.zeros(1, c.embedding))
        self.judge_emb = nn.Parameter(torch.zeros(1, c.embedding))
        self.blstm = nn.LSTM(c.hidden + 2 * c.embedding, c.lstm, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(2 * c.lstm, c.projection), nn.ReLU(), nn.Linear(c.projection, 1))

    def frames(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, F, D): what the LSTM makes of each frame, 50 a second; D is 1024 in the public size."""
        speech = self.wav2vec2(wave).last_hidden_state  # (B, F, hidden)
        constant = torch.cat([self.domain_emb, self.judge_emb], dim=1)  # (1, 2 * embedding)
        constant = constant.expand(speech.shape[0], speech.shape[1], -1)
        frames: Tensor = self.blstm(torch.cat([speech, constant], dim=2))[0]
        return frames

    def forward(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B,) scores: the mean over frames, times 2, plus 3."""
        per_frame: Tensor = self.projection(self.frames(wave)).squeeze(2)  # (B, F)
        return per_frame.mean(dim=1) * 2 + 3


def public_names(config: UtmosConfig) -> dict[str, str]:
    """Name in the public state dict -> name in `Utmos(config).state_dict()`, for every tensor."""
    w = "wav2vec2."
    modules = {
        f"{w}feature_extractor.conv_layers.0.2": f"{w}feature_extractor.conv_layers.0.layer_norm",
        f"{w}layer_norm": f"{w}feature_projection.layer_norm",
        f"{w}post_extract_proj": f"{w}feature_projection.projection",
        f"{w}encoder.layer_norm": f"{w}encoder.layer_norm",
        "projection.0": "projection.0",
        "projection.2": "projection.2",
    }
    for n in range(config.layers):
        modules |= {f"{w}encoder.layers.{n}.{a}": f"{w}encoder.layers.{n}.{b}" for a, b in LAYER_NAMES.items()}
    names = {f"{a}.{part}": f"{b}.{part}" for a, b in modules.items() for part in ("weight", "bias")}
    for n in range(len(config.conv_kernel)):
        names[f"{w}feature_extractor.conv_layers.{n}.0.weight"] = f"{w}feature_extractor.conv_layers.{n}.conv.weight"
    for a, b in {"bias": "bias", **WEIGHT_NORM}.items():
        names[f"{w}encoder.pos_conv.0.{a}"] = f"{w}encoder.pos_conv_embed.conv.{b}"
    names[f"{w}mask_emb"] = f"{w}masked_spec_embed"  # used in training only
    same = [f"blstm.{kind}_{gate}_l0{way}" for kind in ("weight", "bias") for gate in ("ih", "hh") for way in ("", "_reverse")]
    return names | {name: name for name in ["domain_emb", "judge_emb", *same]}


def from_public(state: dict[str, Tensor]) -> tuple[UtmosConfig, dict[str, Tensor]]:
    """The public state dict -> its sizes, and the same tensors under our names. UsageError if names are missing or left over.

    Accepts both spellings of weight norm.
    """
    state = {_with_weight_g(name): tensor for name, tensor in state.items()}
    config = sizes(state)
    names = public_names(config)
    missing, extra = names.keys() - state.keys(), state.keys() - names.keys()
    if missing or extra:
        examples = ", ".join(sorted(missing)[:2] + sorted(extra)[:2])
        raise UsageError(
            f"not the state dict of UTMOS22 strong: {len(missing)} tensors are missing and {len(extra)} unknown "
            f"({examples}). Use utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS v1.2.0."
        )
    return config, {ours: state[public] for public, ours in names.items()}


def to_public(state: dict[str, Tensor], config: UtmosConfig) -> dict[str, Tensor]:
    """The other way: `Utmos(config).state_dict()` under the public names, weight norm as `weight_g` and `weight_v`."""
    return {public: state[ours] for public, ours in public_names(config).items()}


def sizes(state: dict[str, Tensor]) -> UtmosConfig:
    """The sizes that the shapes of a public state dict imply. UsageError if a tensor that shows one is not there."""

    def shape(name: str, dims: int) -> tuple[int, ...]:
        if name not in state or state[name].ndim != dims:
            raise UsageError(
                f"not the state dict of UTMOS22 strong: no {name} of {dims} dimensions in it. "
                "Use utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS v1.2.0."
            )
        return tuple(state[name].shape)

    layer, conv = "wav2vec2.encoder.layers.", "wav2vec2.feature_extractor.conv_layers."
    feed_forward, hidden = shape(f"{layer}0.fc1.weight", 2)
    _, per_group, position_kernel = shape("wav2vec2.encoder.pos_conv.0.weight_v", 3)
    return UtmosConfig(
        layers=len({name.removeprefix(layer).split(".")[0] for name in state if name.startswith(layer)}),
        hidden=hidden,
        feed_forward=feed_forward,
        conv_width=shape(f"{conv}0.0.weight", 3)[0],
        conv_kernel=tuple(shape(f"{conv}{n}.0.weight", 3)[2] for n in range(len(CONV_STRIDE))),
        position_kernel=position_kernel,
        position_groups=hidden // per_group,
        embedding=shape("domain_emb", 2)[1],
        lstm=shape("blstm.weight_hh_l0", 2)[1],
        projection=shape("projection.0.weight", 2)[0],
    )


def load_utmos(path: Path) -> Utmos:
    """`Utmos` in eval mode from a public state dict on disk, read as tensors only. UsageError if it is something else.

    The net is built without memory of its own and takes the file's tensors; the global random state stays as it was.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # a refused or damaged pickle shows itself as any of half a dozen classes
        raise UsageError(
            f"{path} cannot be read as a plain state dict ({type(e).__name__}). "
            "Use utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS v1.2.0."
        ) from e
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UsageError(f"{path} holds no plain state dict. Use utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS v1.2.0.")
    config, ours = from_public(state)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = Utmos(config)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in ours.items()}, strict=True, assign=True)
    except RuntimeError as e:
        raise UsageError(f"{path}: a tensor of UTMOS22 strong has another shape than the rest. Fetch the file anew.") from e
    return model.eval().requires_grad_(False)


def _with_weight_g(name: str) -> str:
    for old, new in WEIGHT_NORM.items():
        name = name.replace(f"pos_conv.0.{new}", f"pos_conv.0.{old}")
    return name


def _wav2vec2_config(c: UtmosConfig) -> "Wav2Vec2Config":
    from transformers import Wav2Vec2Config

    return Wav2Vec2Config(
        hidden_size=c.hidden,
        num_hidden_layers=c.layers,
        num_attention_heads=c.hidden // HEAD_WIDTH,
        intermediate_size=c.feed_forward,
        conv_dim=(c.conv_width,) * len(c.conv_kernel),
        conv_kernel=c.conv_kernel,
        conv_stride=CONV_STRIDE,
        conv_bias=False,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
        num_conv_pos_embeddings=c.position_kernel,
        num_conv_pos_embedding_groups=c.position_groups,
        # Nothing random, so that a frozen UTMOS gives the same frames inside a net in training mode.
        apply_spec_augment=False,
        layerdrop=0.0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
    )
