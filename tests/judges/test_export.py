"""ONNX files: the same numbers as the network for any batch and length, what they say of themselves, what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.judges import export as exporting  # noqa: E402
from urgentmos.judges.export import TOLERANCE, Bounds, Graph, as_if_alone, to_onnx  # noqa: E402
from urgentmos.judges.onnx import OnnxBackend, judged_pair, open_model  # noqa: E402
from urgentmos.models.folder import Loaded, load  # noqa: E402
from urgentmos.nets.encoder import EncoderConfig  # noqa: E402
from urgentmos.nets.layers import bounded  # noqa: E402
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig  # noqa: E402

RATE = 16_000
CONV = EncoderConfig("conv", model={"bands": 20, "channels": 4, "width": 16, "layers": 1, "heads": 2, "feedforward": 16})


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Loaded:
    return load(tiny_model)


@pytest.fixture(scope="module")
def exported(model: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    assert to_onnx(model, path) <= TOLERANCE
    return path


@pytest.fixture(scope="module")
def from_log_mel(model: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    assert to_onnx(model, path, "log-mel") <= TOLERANCE
    return path


@pytest.fixture(scope="module")
def session(exported: Path):
    return ort.InferenceSession(str(exported), providers=["CPUExecutionProvider"])


def answers(model: Loaded, wave: np.ndarray, n: np.ndarray) -> np.ndarray:
    """(B, M) of the network itself."""
    with torch.inference_mode():
        told = model.net.absolute(model.net.encode(torch.from_numpy(wave), torch.from_numpy(n)))
    return torch.stack(list(told.values()), dim=1).numpy()


def batch(seconds: tuple[float, ...], make_voice) -> tuple[np.ndarray, np.ndarray]:
    """(B, T) zero-padded, (B,)."""
    n = np.array([int(s * RATE) for s in seconds])
    wave = np.zeros((len(n), n.max()), np.float32)
    for i, size in enumerate(n):
        wave[i, :size] = make_voice(i, 8.0)[:size]
    return wave, n


LENGTHS = pytest.mark.parametrize("seconds", [(0.05,), (0.3, 0.31), (7.123,), (1.0, 0.02, 3.3, 2.0)], ids=str)


@LENGTHS
def test_onnxruntime_gives_the_same_numbers(seconds: tuple[float, ...], model: Loaded, session, make_voice) -> None:
    wave, n = batch(seconds, make_voice)
    (told,) = session.run(["metrics"], {"wave": wave, "n_samples": n})
    np.testing.assert_allclose(told, answers(model, wave, n), atol=TOLERANCE, rtol=0)


@LENGTHS
def test_frame_logits_are_those_of_the_network_and_their_mean_is_the_logit(
    seconds: tuple[float, ...], model: Loaded, session, make_voice
) -> None:
    wave, n = batch(seconds, make_voice)
    told, frames = session.run(["frame_logits", "n_frames"], {"wave": wave, "n_samples": n})
    with torch.inference_mode():
        encoded = model.net.encode(torch.from_numpy(wave), torch.from_numpy(n))
        want = torch.stack(list(model.net.frame_logits(encoded).values()), dim=1).numpy()
        logits = torch.stack(list(model.net.logits(encoded).values()), dim=1).numpy()
    np.testing.assert_array_equal(frames, encoded.n_frames.numpy())
    np.testing.assert_allclose(told, want, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(told.sum(axis=2) / frames[:, None], logits, atol=TOLERANCE, rtol=0)


@LENGTHS
def test_pairs_are_judged_as_by_the_network(seconds: tuple[float, ...], model: Loaded, session, make_voice) -> None:
    wave, n = batch(seconds, make_voice)
    query, key, answer, frames = session.run(["query", "key", "answer", "n_frames"], {"wave": wave, "n_samples": n})
    pairs = [(a, b) for a in range(len(n)) for b in range(len(n))]
    got = [judged_pair(query[a, :, : frames[a]], key[b, :, : frames[b]], answer[b, :, : frames[b]]) for a, b in pairs]
    with torch.inference_mode():
        encoded = model.net.encode(torch.from_numpy(wave), torch.from_numpy(n))
        said = model.net.compare(*(encoded.pick([pair[side] for pair in pairs]) for side in (0, 1)))
        a, b, tie = said.logits.unbind(dim=1)
        want = torch.stack([a, tie, b, said.cmos], dim=1).numpy()
    np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=0)
    assert len(n) == 1 or np.ptp(want, axis=0).min() > 1e-3, "all pairs are alike, and nothing is tested"


def test_both_starts_give_the_same_numbers(exported: Path, from_log_mel: Path, make_voice) -> None:
    waves = [make_voice(i, seconds) for i, seconds in enumerate((0.05, 1.0, 3.3))]
    ours, theirs = (OnnxBackend(open_model(path)).encode(waves) for path in (from_log_mel, exported))
    for one, other in zip(ours, theirs, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=TOLERANCE)
        for part, same in zip(one[1:], other[1:], strict=True):
            np.testing.assert_allclose(part, same, atol=TOLERANCE, rtol=0)


def test_the_file_hears_its_input(session, make_voice) -> None:
    n = np.array([RATE])
    told = [session.run(["metrics"], {"wave": make_voice(seed, 1.0)[None], "n_samples": n})[0] for seed in (1, 2)]
    assert np.abs(told[0] - told[1]).max() > 1e-3


def test_padding_is_not_heard(session, make_voice) -> None:
    voice = make_voice(3, 1.0)
    padded = np.concatenate([voice, np.full(RATE, 9.0, np.float32)])
    n = np.array([len(voice)])
    alone, beside = (session.run(["metrics"], {"wave": x[None], "n_samples": n})[0] for x in (voice, padded))
    np.testing.assert_allclose(alone, beside, atol=TOLERANCE, rtol=0)


def test_the_file_says_what_it_is(session, model: Loaded, from_log_mel: Path) -> None:
    said = session.get_modelmeta().custom_metadata_map
    plain = {"name": "tiny", "version": model.info["version"], "rate": "16000", "metrics": "mos_overall,utmos"}
    assert {key: said[key] for key in plain} == plain
    assert json.loads(said["ranges"]) == [[1.0, 5.0], [None, None]]
    assert json.loads(said["info"])["licence"] == "MIT" and "config" not in json.loads(said["info"])
    assert [x.name for x in session.get_inputs()] == ["wave", "n_samples"]
    per_clip = ["metrics", "frame_logits", "query", "key", "answer"]
    assert [x.name for x in session.get_outputs()] == [per_clip[0], "n_frames", *per_clip[1:]]
    other = ort.InferenceSession(str(from_log_mel), providers=["CPUExecutionProvider"])
    assert [x.name for x in other.get_inputs()] == ["log_mel"] and [x.name for x in other.get_outputs()] == per_clip
    told = json.loads(other.get_modelmeta().custom_metadata_map["log_mel"])
    assert told == {"n_fft": 400, "hop": 160, "bands": 16, "rate": 16000, "normalise": False}


def net_of(**how: Any) -> UrgentMos:
    sizes: dict[str, Any] = {"dim": 16, "heads": 2, "feedforward": 16, "layers": 1, "preference_heads": 2, "encoders": (CONV,)}
    categories = how.pop("categories", {"mos": {"mos_overall": (1.0, 5.0)}})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UrgentMos(UrgentMosConfig(categories=categories, **{**sizes, **how}))
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    return net.eval()


@pytest.mark.parametrize("start", ["waves", "log-mel"])
@pytest.mark.parametrize(
    ("how", "outputs"),
    [
        ({}, ["frame_logits"]),
        ({"pooler": "attentive"}, []),
        ({"preference": "mos", "pooler": "attentive"}, ["query", "key", "answer"]),
        ({"preference": "b", "categories": {"a": {"pesq": (1.0, 4.5), "mcd": (0.0, inf)}, "b": {"sdr": (-inf, 9.0)}}}, None),
        ({"encoders": (replace(CONV, layers="last"),)}, ["frame_logits"]),
        ({"encoders": (replace(CONV, normalise=True),)}, ["frame_logits"]),
        ({"encoders": (replace(CONV, model={**CONV.model, "strides": [4, 2], "hop": 200, "n_fft": 512}),)}, None),
    ],
    ids=str,
)
def test_every_kind_of_model_has_a_file(how: dict[str, Any], outputs: list[str] | None, start: Any, tmp_path: Path) -> None:
    model = Loaded(net_of(**how), {"name": "some", "version": "1"})
    assert to_onnx(model, tmp_path / "x.onnx", start) <= TOLERANCE
    found = [name for name in open_model(tmp_path / "x.onnx").outputs if name not in ("metrics", "n_frames")]
    assert outputs is None or found == outputs


def test_several_encoders_are_refused(tmp_path: Path) -> None:
    other = replace(CONV, model={**CONV.model, "hop": 200})
    model = Loaded(net_of(encoders=(CONV, other)), {"name": "two", "version": "1"})
    with pytest.raises(UsageError, match=r"two cannot be exported: only UrgentMOS models with the encoder conv can\."):
        to_onnx(model, tmp_path / "x.onnx")


def test_bounds_at_once_are_those_of_each_head() -> None:
    ranges = [(1.0, 5.0), (0.0, inf), (-inf, 9.0), (-inf, inf), (-1.0, 1.0)]
    x = torch.linspace(-30, 30, 25)[:, None].expand(-1, 5)
    want = torch.stack([bounded(*pair)(x[:, i]) for i, pair in enumerate(ranges)], dim=1)
    torch.testing.assert_close(Bounds(ranges)(x), want)


def test_nets_are_as_they_were_after_a_trace_as_if_alone(model: Loaded, make_voice) -> None:
    wave, n = np.stack([make_voice(0, 1.0), make_voice(1, 1.0)]), np.array([RATE, 9000])
    before = answers(model, wave, n)
    with as_if_alone():
        assert np.abs(answers(model, wave, n) - before).max() > 1e-3, "the padding is not heard, so nothing is replaced"
    np.testing.assert_array_equal(answers(model, wave, n), before)
    assert Graph(model.net).outputs[0] == "metrics"


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
    assert exporting.largest_difference(other.net, exported) > 0.01


@pytest.mark.parametrize("part", ["ncpm.cmos.bias", "ncpm.verdict.bias", "ncpm.attention.out_proj.weight"])
def test_the_check_notices_another_preference_head(part: str, model: Loaded, from_log_mel: Path, tiny_model: Path) -> None:
    other = load(tiny_model).net
    with torch.no_grad():
        other.get_parameter(part).add_(0.1)
    assert exporting.largest_difference(other, from_log_mel) > 0.01 > exporting.largest_difference(model.net, from_log_mel)
