"""ONNX files: the same numbers as the network for any batch and length, what they say of themselves, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from urgentmos import exporting  # noqa: E402
from urgentmos.checkpoints import Loaded, load  # noqa: E402
from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.exporting import TOLERANCE, to_onnx  # noqa: E402
from urgentmos.nets.encoders import EncoderConfig  # noqa: E402
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig  # noqa: E402

RATE = 16_000


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Loaded:
    return load(tiny_model)


@pytest.fixture(scope="module")
def exported(model: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    assert to_onnx(model, path) <= TOLERANCE
    return path


@pytest.fixture(scope="module")
def session(exported: Path):
    return ort.InferenceSession(str(exported), providers=["CPUExecutionProvider"])


def answers(model: Loaded, wave: np.ndarray, n: np.ndarray) -> np.ndarray:
    """(B, M) of the network itself."""
    with torch.inference_mode():
        told = model.net.absolute(model.net.encode(torch.from_numpy(wave), torch.from_numpy(n)))
    return torch.stack(list(told.values()), dim=1).numpy()


@pytest.mark.parametrize("seconds", [(0.05,), (0.3, 0.31), (7.123,), (1.0, 0.02, 3.3, 2.0)], ids=str)
def test_onnxruntime_gives_the_same_numbers(seconds: tuple[float, ...], model: Loaded, session, make_voice) -> None:
    n = np.array([int(s * RATE) for s in seconds])
    wave = np.zeros((len(n), n.max()), np.float32)
    for i, size in enumerate(n):
        wave[i, :size] = make_voice(i, 8.0)[:size]
    (told,) = session.run(None, {"wave": wave, "n_samples": n})
    np.testing.assert_allclose(told, answers(model, wave, n), atol=TOLERANCE, rtol=0)


def test_the_file_hears_its_input(session, make_voice) -> None:
    n = np.array([RATE])
    told = [session.run(None, {"wave": make_voice(seed, 1.0)[None], "n_samples": n})[0] for seed in (1, 2)]
    assert np.abs(told[0] - told[1]).max() > 1e-3


def test_padding_is_not_heard(session, make_voice) -> None:
    voice = make_voice(3, 1.0)
    padded = np.concatenate([voice, np.full(RATE, 9.0, np.float32)])
    n = np.array([len(voice)])
    alone, beside = (session.run(None, {"wave": x[None], "n_samples": n})[0] for x in (voice, padded))
    np.testing.assert_allclose(alone, beside, atol=TOLERANCE, rtol=0)


def test_the_file_says_what_it_is(session, model: Loaded) -> None:
    said = session.get_modelmeta().custom_metadata_map
    assert said == {"name": "tiny", "version": model.info["version"], "rate": "16000", "metrics": "mos_overall,utmos"}
    assert [x.name for x in session.get_inputs()] == ["wave", "n_samples"]
    assert [x.name for x in session.get_outputs()] == ["metrics"]


def test_exporting_leaves_the_network_as_it_was(model: Loaded, tmp_path: Path, make_voice) -> None:
    wave, n = make_voice(4, 1.0)[None], np.array([RATE])
    before = answers(model, wave, n)
    to_onnx(model, tmp_path / "again.onnx")
    assert not any(module.training for module in model.net.modules())
    np.testing.assert_array_equal(answers(model, wave, n), before)
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]


# ---- refusals


def with_encoder(kind: str) -> UrgentMosConfig:
    ranges = {"mos": {"mos_overall": (1.0, 5.0)}}
    return UrgentMosConfig((EncoderConfig(kind, layers="last"),), ranges, dim=8, heads=2, feedforward=8, layers=1)


@pytest.mark.parametrize("kind", ["mel", "stft"])
def test_other_encoders_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"other cannot be exported: only UrgentMOS models with the encoder conv can\."):
        to_onnx(Loaded(UrgentMos(with_encoder(kind)), {"name": "other", "version": "1"}), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    from urgentmos.nets.urgentpk import UrgentPk, UrgentPkConfig

    net = UrgentPk(UrgentPkConfig(backbone="resnet18", filters=2))
    with pytest.raises(UsageError, match="only UrgentMOS models"):
        to_onnx(Loaded(net, {"name": "pk", "version": "1"}), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "said"), [("x.pt", "with .onnx at its end"), ("no/x.onnx", "no does not exist. Create it")])
def test_a_place_that_cannot_be_written_is_refused(name: str, said: str, model: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        to_onnx(model, tmp_path / name)
    assert not list(tmp_path.iterdir())


def breaks(*_: object) -> float:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(
    ("check", "error"),
    [(lambda *_: 2 * TOLERANCE, UsageError), (lambda *_: float("nan"), UsageError), (breaks, ZeroDivisionError)],
    ids=["too far", "nan", "bug"],
)
def test_a_file_that_fails_its_check_is_not_left(
    check: Callable[..., float], error: type[Exception], model: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"an older file")
    monkeypatch.setattr(exporting, "largest_difference", check)
    with pytest.raises(error):
        to_onnx(model, tmp_path / "x.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_bytes() == b"an older file", "a failed export replaces nothing"


def test_the_check_notices_other_weights(model: Loaded, exported: Path, tiny_model: Path) -> None:
    other = replace(model, net=load(tiny_model).net)
    with torch.no_grad():
        next(iter(other.net.ampm.heads.values())).linear.bias.add_(1.0)
    assert exporting.largest_difference(exporting._Metrics(other.net).eval(), exported, RATE) > 0.01
