"""UTMOS22: the public 225 tensors, each used once and for what fairseq means by it."""

import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.nets.utmos import CONV_STRIDE, Utmos, UtmosConfig, from_public, load_utmos, public_names, sizes, to_public  # noqa: E402

TINY = UtmosConfig(
    layers=2,
    hidden=128,
    feed_forward=48,
    conv_width=16,
    position_kernel=8,
    position_groups=4,
    embedding=6,
    lstm=10,
    projection=14,
)


def public_layout(c: UtmosConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the public file, written down from its description, not from our code."""
    shapes: dict[str, tuple[int, ...]] = {"domain_emb": (1, c.embedding), "judge_emb": (1, c.embedding)}
    for way in ("", "_reverse"):
        shapes[f"blstm.weight_ih_l0{way}"] = (4 * c.lstm, c.hidden + 2 * c.embedding)
        shapes[f"blstm.weight_hh_l0{way}"] = (4 * c.lstm, c.lstm)
        shapes[f"blstm.bias_ih_l0{way}"] = shapes[f"blstm.bias_hh_l0{way}"] = (4 * c.lstm,)

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    linear("projection.0", 2 * c.lstm, c.projection)
    linear("projection.2", c.projection, 1)
    shapes["wav2vec2.mask_emb"] = (c.hidden,)
    for n, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shapes[f"wav2vec2.feature_extractor.conv_layers.{n}.0.weight"] = (c.conv_width, c.conv_width if n else 1, kernel)
    norm("wav2vec2.feature_extractor.conv_layers.0.2", c.conv_width)
    norm("wav2vec2.layer_norm", c.conv_width)
    linear("wav2vec2.post_extract_proj", c.conv_width, c.hidden)
    shapes["wav2vec2.encoder.pos_conv.0.bias"] = (c.hidden,)
    shapes["wav2vec2.encoder.pos_conv.0.weight_g"] = (1, 1, c.position_kernel)
    shapes["wav2vec2.encoder.pos_conv.0.weight_v"] = (c.hidden, c.hidden // c.position_groups, c.position_kernel)
    norm("wav2vec2.encoder.layer_norm", c.hidden)
    for n in range(c.layers):
        layer = f"wav2vec2.encoder.layers.{n}"
        for part in ("q", "k", "v", "out"):
            linear(f"{layer}.self_attn.{part}_proj", c.hidden, c.hidden)
        norm(f"{layer}.self_attn_layer_norm", c.hidden)
        linear(f"{layer}.fc1", c.hidden, c.feed_forward)
        linear(f"{layer}.fc2", c.feed_forward, c.hidden)
        norm(f"{layer}.final_layer_norm", c.hidden)
    return shapes


def random_state(c: UtmosConfig = TINY, seed: int = 0) -> dict[str, Tensor]:
    """A public state dict in which no two tensors are alike, so that a swap cannot go unseen."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in public_layout(c).items():
        fan_in = shape[1] * (shape[2] if len(shape) == 3 else 1) if len(shape) > 1 else 16
        state[name] = torch.randn(shape, generator=generator) / fan_in**0.5
        if name.endswith(("norm.weight", "0.2.weight", "weight_g")):
            state[name] = 1 + 0.3 * torch.randn(shape, generator=generator)
    return state


def by_hand(s: dict[str, Tensor], wave: Tensor, c: UtmosConfig = TINY) -> tuple[Tensor, Tensor]:
    """(B, T) -> (B, F, D) frames and (B,) scores by the description of the model, with the public names."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, s[f"{name}.weight"], s[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])

    x = wave[:, None]
    for n, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        layer = f"wav2vec2.feature_extractor.conv_layers.{n}"
        x = F.conv1d(x, s[f"{layer}.0.weight"], stride=stride)
        if n == 0:
            x = F.group_norm(x, c.conv_width, s[f"{layer}.2.weight"], s[f"{layer}.2.bias"])
        x = F.gelu(x)
    x = linear(norm(x.transpose(1, 2), "wav2vec2.layer_norm"), "wav2vec2.post_extract_proj")
    v, g = s["wav2vec2.encoder.pos_conv.0.weight_v"], s["wav2vec2.encoder.pos_conv.0.weight_g"]
    weight = g * v / v.norm(dim=(0, 1), keepdim=True)
    bias = s["wav2vec2.encoder.pos_conv.0.bias"]
    position = F.conv1d(x.transpose(1, 2), weight, bias, padding=c.position_kernel // 2, groups=c.position_groups)
    x = norm(x + F.gelu(position[..., :-1]).transpose(1, 2), "wav2vec2.encoder.layer_norm")
    batch, frames, _ = x.shape
    for n in range(c.layers):
        layer = f"wav2vec2.encoder.layers.{n}"
        q, k, v = (linear(x, f"{layer}.self_attn.{p}_proj").view(batch, frames, -1, 64).transpose(1, 2) for p in "qkv")
        attention = torch.softmax(q @ k.transpose(2, 3) / 8, dim=-1) @ v
        x = x + linear(attention.transpose(1, 2).reshape(batch, frames, -1), f"{layer}.self_attn.out_proj")
        x = norm(x, f"{layer}.self_attn_layer_norm")
        x = x + linear(F.gelu(linear(x, f"{layer}.fc1")), f"{layer}.fc2")
        x = norm(x, f"{layer}.final_layer_norm")
    constants = (s[name][:, None].expand(batch, frames, -1) for name in ("domain_emb", "judge_emb"))
    x = torch.cat([x, *constants], dim=2)
    directions = []
    for way in ("", "_reverse"):
        series = x.flip(1) if way else x
        h = cell = torch.zeros(batch, c.lstm)
        steps = []
        for t in range(frames):
            gates = F.linear(series[:, t], s[f"blstm.weight_ih_l0{way}"], s[f"blstm.bias_ih_l0{way}"])
            gates = gates + F.linear(h, s[f"blstm.weight_hh_l0{way}"], s[f"blstm.bias_hh_l0{way}"])
            i, f, new, o = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * new.tanh()
            h = o.sigmoid() * cell.tanh()
            steps.append(h)
        out = torch.stack(steps, dim=1)
        directions.append(out.flip(1) if way else out)
    series = torch.cat(directions, dim=2)
    per_frame = linear(F.relu(linear(series, "projection.0")), "projection.2")
    return series, 2 * per_frame.mean(dim=(1, 2)) + 3


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state()


@pytest.fixture
def file(state: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save(state, tmp_path / "utmos.pt")
    return tmp_path / "utmos.pt"


def waves(batch: int, samples: int, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def test_the_public_layout_has_225_tensors_and_each_is_one_of_ours() -> None:
    layout = public_layout(UtmosConfig())
    with torch.device("meta"):  # 95 million parameters without their memory
        ours = {name: tuple(tensor.shape) for name, tensor in Utmos().state_dict().items()}
    names = public_names(UtmosConfig())
    assert len(layout) == 225
    assert names.keys() == layout.keys()
    assert sorted(names.values()) == sorted(ours)  # each of ours exactly once
    assert {public: ours[name] for public, name in names.items()} == layout


def test_sizes_are_read_from_the_public_shapes() -> None:
    for config in (UtmosConfig(), TINY):
        state = {name: torch.empty(shape, device="meta") for name, shape in public_layout(config).items()}
        assert sizes(state) == config


def test_there_and_back_is_the_identity_and_strict(state: dict[str, Tensor]) -> None:
    config, ours = from_public(state)
    model = Utmos(config)
    model.load_state_dict(ours, strict=True)
    back = to_public(model.state_dict(), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_both_spellings_of_weight_norm_are_read(state: dict[str, Tensor]) -> None:
    def respelt(name: str) -> str:
        name = name.replace("pos_conv.0.weight_g", "pos_conv.0.parametrizations.weight.original0")
        return name.replace("pos_conv.0.weight_v", "pos_conv.0.parametrizations.weight.original1")

    other = {respelt(name): tensor for name, tensor in state.items()}
    assert other.keys() != state.keys()
    assert from_public(other)[1].keys() == from_public(state)[1].keys()
    assert all(a is b for a, b in zip(from_public(other)[1].values(), from_public(state)[1].values(), strict=True))


@pytest.mark.parametrize("samples", [400, 4321, 8000])  # 1, 13 and 24 frames: odd and even
def test_frames_and_score_are_those_of_the_description(state: dict[str, Tensor], file: Path, samples: int) -> None:
    wave = waves(2, samples)
    frames, scores = by_hand(state, wave)
    model = load_utmos(file)
    with torch.inference_mode():
        assert torch.allclose(model.frames(wave), frames, atol=2e-5)
        assert torch.allclose(model(wave), scores, atol=2e-5)
    assert frames.shape[2] == 2 * TINY.lstm
    assert float(scores[0] - scores[1]) != 0


def test_a_score_does_not_depend_on_batch_mates_of_equal_length(file: Path) -> None:
    model, wave = load_utmos(file), waves(3, 5000)
    with torch.inference_mode():
        together = model(wave)
        alone = torch.cat([model(row[None]) for row in wave])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_score_is_not_clamped(file: Path) -> None:
    model, wave = load_utmos(file), waves(1, 4000)
    with torch.inference_mode():
        before = model(wave)
        model.projection[2].bias += 7
        assert torch.allclose(model(wave), before + 14, atol=1e-4)


def test_loading_leaves_the_random_state_alone_and_nothing_in_the_net_is_random(file: Path) -> None:
    before = torch.get_rng_state()
    model, wave = load_utmos(file), waves(1, 4000)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    with torch.inference_mode():
        assert torch.equal(model(wave), model.train()(wave))


def test_a_missing_or_unknown_tensor_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    name = "wav2vec2.encoder.layers.1.fc2.bias"
    torch.save({key: tensor for key, tensor in state.items() if key != name}, tmp_path / "less.pt")
    with pytest.raises(UsageError, match=r"1 tensors are missing and 0 unknown .*layers\.1\.fc2\.bias.*utmos22_strong"):
        load_utmos(tmp_path / "less.pt")
    torch.save(state | {"phoneme.weight": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(UsageError, match=r"0 tensors are missing and 1 unknown .*phoneme\.weight"):
        load_utmos(tmp_path / "more.pt")


def test_a_tensor_of_another_shape_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state | {"judge_emb": torch.zeros(1, TINY.embedding + 1)}, tmp_path / "u.pt")
    with pytest.raises(UsageError, match="another shape"):
        load_utmos(tmp_path / "u.pt")


class Touch:
    """A pickle that would make a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["code", "garbage", "list", "nested", "empty"])
def test_anything_but_a_plain_state_dict_is_refused_and_never_run(content: str, tmp_path: Path) -> None:
    file, proof = tmp_path / "u.pt", tmp_path / "ran"
    if content == "code":
        torch.save({"domain_emb": Touch(proof)}, file)
    elif content == "garbage":
        file.write_bytes(pickle.dumps(Touch(proof), protocol=2)[:20])
    else:
        torch.save({"list": [1, 2], "nested": {"model": {}}, "empty": {}}[content], file)
    with pytest.raises(UsageError, match="state dict"):
        load_utmos(file)
    assert not proof.exists()


def test_the_strides_fit_the_kernels() -> None:
    assert len(CONV_STRIDE) == len(UtmosConfig().conv_kernel)
