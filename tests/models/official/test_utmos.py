"""The public UTMOS22 file as a model of its own: the same scores under our names, and nothing damaged gets in."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.models.official.utmos import matches, read  # noqa: E402
from urgentmos.models.torch_file import load_torch_file  # noqa: E402
from urgentmos.nets.utmos import Utmos, UtmosConfig, load_utmos, to_public  # noqa: E402

TINY = UtmosConfig(
    layers=2, hidden=64, feed_forward=24, conv_width=8, position_kernel=4, position_groups=2, embedding=3, lstm=10, projection=6
)


def public() -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return {name: tensor.clone() for name, tensor in to_public(Utmos(TINY).state_dict(), TINY).items()}


def test_a_public_file_scores_as_before(tmp_path: Path) -> None:
    path = tmp_path / "utmos.pt"
    torch.save(public(), path)
    raw = load_torch_file(path)
    assert matches(raw)
    found = read(raw, path)
    assert found.architecture == "utmos" and found.info["metrics"] == ["utmos"]
    config = UtmosConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(json.dumps(found.config)).items()})
    assert config == TINY
    net = Utmos(config).eval()
    net.load_state_dict(found.state, strict=True)
    wave = 0.1 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net(wave), load_utmos(path)(wave))


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "nan", "no tensor", "empty"])
def test_a_damaged_file_is_refused_by_name(change: str) -> None:
    state = public()
    name = "wav2vec2.encoder.layers.1.fc1.weight"
    match change:
        case "missing":
            del state[name]
        case "extra":
            state["decoder.weight"] = torch.zeros(1)
        case "shape":
            state[name] = state[name][:, 1:]
        case "nan":
            state[name][0, 0] = torch.inf
        case "no tensor":
            state[name] = [1.0]
        case "empty":
            state["wav2vec2.encoder.pos_conv.0.weight_v"] = torch.zeros(64, 0, 4)
    with pytest.raises(UsageError, match=r"some\.pt"):
        read(state, Path("some.pt"))


@pytest.mark.parametrize("raw", [None, [], {}, {"domain_emb": 1}, {"state_dict": {"domain_emb": 1}}])
def test_other_files_do_not_match(raw: Any) -> None:
    assert not matches(raw)
