"""An exported model as a judge: the numbers of the network, whatever the company and the threads; odd files are refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.judges.backend import Backend, OpinionBackend  # noqa: E402
from urgentmos.judges.export import to_onnx  # noqa: E402
from urgentmos.judges.onnx import OnnxBackend, judged_pair, light_file, open_backend, open_model, thread_count  # noqa: E402
from urgentmos.judges.torch import backend_of  # noqa: E402
from urgentmos.models import checksums  # noqa: E402
from urgentmos.models.folder import load  # noqa: E402

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["waves", "log-mel"])
def file(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    to_onnx(load(tiny_model), path, request.param)
    return path


@pytest.fixture(scope="module")
def judge(file: Path) -> OnnxBackend:
    return open_backend(file)[0]


@pytest.fixture(scope="module")
def original(tiny_model: Path) -> Any:
    return backend_of(load(tiny_model).net, "cpu")


def waves(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.uniform(0.01, 0.3) * rng.standard_normal(n)).astype(np.float32) for n in lengths]


def test_it_has_what_the_predictor_asks(judge: OnnxBackend, original: Any) -> None:
    for attribute in Backend.__annotations__:
        assert getattr(judge, attribute) is not None, attribute
    for same in (
        "rate",
        "min_samples",
        "window_seconds",
        "metrics",
        "compares",
        "metrics_with_encoding",
        "max_length_difference",
    ):
        assert getattr(judge, same) == getattr(original, same), same
    assert not isinstance(judge, OpinionBackend)


LENGTHS = st.lists(st.integers(201, 40_000), min_size=1, max_size=5)


@settings(max_examples=15)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_it_answers_as_the_network_does(judge: OnnxBackend, original: Any, lengths: list[int], seed: int) -> None:
    clips = waves(lengths, seed)
    ours, theirs = judge.encode(clips), original.encode(clips)
    for one, other in zip(judge.absolute(ours), original.absolute(theirs), strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE)
    pairs = [(i, j) for i in range(len(clips)) for j in range(len(clips))]
    np.testing.assert_allclose(judge.judge(ours, pairs), original.judge(theirs, pairs), atol=TOLERANCE, rtol=0)


@settings(max_examples=10)
@given(lengths=LENGTHS, seed=st.integers(0, 99), threads=st.integers(2, 4))
def test_company_and_threads_change_nothing(judge: OnnxBackend, lengths: list[int], seed: int, threads: int) -> None:
    clips = waves(lengths, seed)
    alone = [judge.encode([clip])[0] for clip in clips]
    together = OnnxBackend(judge.model, threads=threads).encode(clips)
    for one, other in zip(alone, together, strict=True):
        assert one.metrics == other.metrics
        for part, same in zip(one[1:], other[1:], strict=True):
            np.testing.assert_array_equal(part, same)
    pairs = [(0, len(clips) - 1), (len(clips) - 1, 0)]
    np.testing.assert_array_equal(
        judge.judge(together, pairs), np.concatenate([judge.judge(alone, [pair]) for pair in reversed(pairs)])[::-1]
    )


def test_no_clips_and_no_pairs_have_no_answers(judge: OnnxBackend) -> None:
    assert judge.encode([]) == [] and judge.judge([], []).shape == (0, 4)


def test_a_timeline_is_that_of_the_network(judge: OnnxBackend, tiny_model: Path, make_voice) -> None:
    wave = make_voice(0, 2.0)
    told = judge.frame_logits(wave)
    net = load(tiny_model).net
    with torch.inference_mode():
        want = net.frame_logits(net.encode(torch.from_numpy(wave)[None], torch.tensor([len(wave)])))
    assert told is not None and told.keys() == want.keys() == judge.ranges.keys()
    for name, logits in told.items():
        np.testing.assert_allclose(logits, want[name][0].numpy(), atol=TOLERANCE)
    assert judge.ranges == net.config.ranges


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4], ids=["small", "large", "beyond exp"])
def test_a_pair_is_attention_of_any_size(size: float) -> None:
    rng = np.random.default_rng(0)
    query, key, answer = (rng.standard_normal((2, frames, d)).astype(np.float32) for frames, d in ((5, 3), (7, 3), (7, 4)))
    query *= np.float32(size)
    dots = np.einsum("hfd,hgd->hfg", query.astype(float), key.astype(float))
    weights = np.exp(dots - dots.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    want = np.einsum("hfg,hgk->hfk", weights, answer).mean(axis=1).sum(axis=0)
    np.testing.assert_allclose(judged_pair(query, key, answer), want, atol=1e-4)


def test_a_temperature_softens_verdicts_and_nothing_else(file: Path, original: Any, tiny_model: Path) -> None:
    clips = waves([9000, 16_000])
    soft = OnnxBackend(open_model(file), temperature=3.0)
    raw = soft.raw(soft.encode(clips), [(0, 1)])[0]
    told = soft.judge(soft.encode(clips), [(0, 1)])[0]
    np.testing.assert_allclose(told[:3], np.exp(raw[:3] / 3) / np.exp(raw[:3] / 3).sum(), rtol=1e-6)
    by_torch = backend_of(load(tiny_model).net, "cpu", temperature=3.0)
    np.testing.assert_allclose(told, by_torch.judge(by_torch.encode(clips), [(0, 1)])[0], atol=TOLERANCE)
    hard = original.judge(original.encode(clips), [(0, 1)])[0]
    assert abs(hard[0] - told[0]) > 0.01 and abs(hard[3] - told[3]) < TOLERANCE


def test_threads_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, wanted in (("3", 3), ("5,2", 5)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert thread_count() == wanted
    every = set()
    for said in ("", "0", "many", "-1"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        every.add(thread_count())
    assert every == {thread_count()} and min(every) >= 1


# ---- files


def test_light_files_are_found(file: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert light_file(file) == file and light_file(tmp_path) is None and light_file(tmp_path / "no.onnx") is None
    (tmp_path / "model.onnx").write_bytes(b"")
    assert light_file(str(tmp_path)) == tmp_path / "model.onnx"
    (tmp_path / "config.json").unlink()
    assert light_file(tmp_path) is None and light_file("pocket") is None


def edited(file: Path, to: Path, **facts: str | None) -> Path:
    """The file with other metadata, on purpose: its checksum fits, unless it is to have none (sha256=None, sealed=None)."""
    graph = onnx.load(str(file))
    said = {p.key: p.value for p in graph.metadata_props} | checksums.empty_entry() | facts
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {key: value for key, value in said.items() if value is not None})
    content = graph.SerializeToString()
    to.write_bytes(content if facts.get("sha256", "") is None else checksums.sealed_onnx(content))
    return to


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"metrics": None}, "'metrics' is not there"),
        ({"rate": "fast"}, "invalid literal"),
        ({"metrics": "mos_overall"}, ""),
        ({"info": "[1"}, ""),
        ({"log_mel": json.dumps({"n_fft": 400})}, "missing"),
        ({"ranges": "[[1, 2], 3]"}, "unpack"),
    ],
    ids=str,
)
def test_a_file_of_another_maker_is_refused(facts: dict[str, Any], said: str, file: Path, tmp_path: Path) -> None:
    other = edited(file, tmp_path / "other.onnx", **facts)
    with pytest.raises(UsageError, match=f"other.onnx is not what this version of `urgentmos export` writes.*{said}"):
        open_model(other)


def test_inputs_and_metadata_must_agree(file: Path, tmp_path: Path) -> None:
    mel = {"n_fft": 400, "hop": 160, "bands": 16, "rate": 16_000}
    swapped = json.dumps(mel) if open_model(file).front is None else None
    with pytest.raises(UsageError, match="its inputs are"):
        open_model(edited(file, tmp_path / "other.onnx", log_mel=swapped))


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x07" * 50], ids=["empty", "text", "bytes"])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"x.onnx (cannot be read by onnxruntime|is not what)"):
        open_model(tmp_path / "x.onnx")


def test_the_judge_needs_no_torch() -> None:
    import subprocess

    code = "import sys; from urgentmos.judges import onnx, network, loading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
