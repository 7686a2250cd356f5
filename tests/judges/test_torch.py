"""Architectures behind one interface: what each answers, in which order, and what they leave alone."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.judges import torch as judges_module  # noqa: E402
from urgentmos.judges.backend import Backend, OpinionBackend  # noqa: E402
from urgentmos.judges.torch import backend_of, choose_device  # noqa: E402
from urgentmos.nets.encoder import EncoderConfig  # noqa: E402
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig  # noqa: E402
from urgentmos.nets.urgentpk import UrgentPk, UrgentPkConfig  # noqa: E402
from urgentmos.nets.utmos import Utmos, UtmosConfig  # noqa: E402

CONV = EncoderConfig(kind="conv", model={"bands": 20, "channels": 4, "width": 16, "layers": 1, "heads": 2, "feedforward": 16})
CATEGORIES = {"naturalness": {"mos_overall": (1.0, 5.0)}, "speaker": {"spksim": (-1.0, 1.0)}}
SIZES: dict[str, Any] = {"dim": 16, "heads": 2, "feedforward": 24, "layers": 1, "preference_heads": 2}
TINY_UTMOS = UtmosConfig(
    layers=1, hidden=64, feed_forward=24, conv_width=8, position_kernel=4, position_groups=2, embedding=3, lstm=10, projection=6
)


def nets() -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "urgentmos": UrgentMos(UrgentMosConfig((CONV,), CATEGORIES, preference="naturalness", **SIZES)).eval(),
            "urgentpk": UrgentPk(UrgentPkConfig(backbone="resnet18", filters=4)).eval(),
            "utmos": Utmos(TINY_UTMOS).eval(),
        }


NETS = nets()
PAIRED = ["urgentmos", "urgentpk"]


def waves(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.uniform(0.01, 0.3) * rng.standard_normal(n)).astype(np.float32) for n in lengths]


@pytest.fixture(params=PAIRED)
def judge(request: pytest.FixtureRequest) -> Any:
    return backend_of(NETS[request.param], "cpu")


@pytest.mark.parametrize("name", NETS)
def test_every_judge_has_what_the_predictor_asks(name: str) -> None:
    judge = backend_of(NETS[name], "cpu")
    for attribute in Backend.__annotations__:
        assert getattr(judge, attribute) is not None, attribute
    assert judge.window_seconds <= 30 and judge.rate == 16_000 and isinstance(judge, OpinionBackend) == (name == "urgentpk")


def test_what_is_no_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match="Linear is no architecture that can score or compare"):
        backend_of(torch.nn.Linear(1, 1), "cpu")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="is not available here"):
        choose_device(device)


def test_the_automatic_device_exists() -> None:
    assert torch.zeros(1, device=choose_device("auto")).item() == 0 and choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name", NETS)
def test_the_shortest_clip_that_is_promised_is_scored(name: str) -> None:
    judge = backend_of(NETS[name], "cpu")
    (told,) = judge.absolute(judge.encode(waves([judge.min_samples])))
    assert told.keys() == set(judge.metrics) and np.isfinite(list(told.values())).all()


@settings(max_examples=10)
@given(
    lengths=st.lists(st.integers(800, 6000), min_size=2, max_size=4),
    seed=st.integers(0, 99),
    data=st.data(),
    name=st.sampled_from(PAIRED),
)
def test_a_pairs_answer_does_not_depend_on_its_company(lengths: list[int], seed: int, data: st.DataObject, name: str) -> None:
    judge = backend_of(NETS[name], "cpu")
    features = judge.encode(waves(lengths, seed))
    place = st.integers(0, len(lengths) - 1)
    pairs = data.draw(st.lists(st.tuples(place, place), min_size=1, max_size=6))
    together = judge.judge(features, pairs)
    assert together.shape == (len(pairs), 4)
    np.testing.assert_allclose(together[:, :3].sum(axis=1), 1, atol=1e-6)
    for (i, j), row in zip(pairs, together, strict=True):
        alone = judge.judge([features[i], features[j]], [(0, 1)])[0]
        np.testing.assert_allclose(row, alone, atol=1e-4)
        if judge.batch_invariant:
            np.testing.assert_array_equal(row, alone)


def test_no_pairs_have_no_answers(judge: Any) -> None:
    assert judge.judge(judge.encode(waves([2000])), []).shape == (0, 4)


def test_many_pairs_of_long_clips_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = backend_of(NETS["urgentmos"], "cpu")
    features = judge.encode(waves([9000, 3000, 5000]))
    pairs = [(i, j) for i in range(3) for j in range(3)] * 3
    at_once = judge.judge(features, pairs)
    sizes: list[int] = []
    original = judge._judge
    monkeypatch.setattr(judge, "_judge", lambda f, some: (sizes.append(len(some)), original(f, some))[1])
    monkeypatch.setattr(judges_module, "PAIR_FRAMES", 2 * max(f.n_frames for f in features))
    np.testing.assert_allclose(judge.judge(features, pairs), at_once, atol=1e-6)
    assert max(sizes) == 2 and sum(sizes) == len(pairs)


def test_urgentpk_says_of_a_clip_what_it_says_of_it_beside_itself() -> None:
    judge = backend_of(NETS["urgentpk"], "cpu")
    features = judge.encode(waves([3000, 4000]))
    own = [judge.opinions([f, f], [(0, 1)]).mean() for f in features]
    assert [told["mos_overall"] for told in judge.absolute(features)] == pytest.approx(own, abs=1e-5)
    first, second = judge.opinions(features, [(0, 1)])[0]
    assert judge.judge(features, [(0, 1)])[0, 3] == pytest.approx(first - second, abs=1e-6)


def test_utmos_judges_no_pairs() -> None:
    judge = backend_of(NETS["utmos"], "cpu")
    assert not judge.compares
    with pytest.raises(UsageError, match="does not judge pairs"):
        judge.judge([1.0, 2.0], [(0, 1)])


@pytest.mark.parametrize("name", NETS)
def test_the_callers_autocast_is_not_heard(name: str) -> None:
    judge, clips = backend_of(NETS[name], "cpu"), waves([4000, 3000])

    def work() -> list[Any]:
        features = judge.encode(clips)
        pairs = judge.judge(features, [(0, 1)]).tolist() if judge.compares else []
        return [judge.absolute(features), pairs]

    plain = work()
    with torch.autocast("cpu", torch.bfloat16):
        assert work() == plain


@pytest.mark.parametrize("name", NETS)
def test_no_gradient_is_kept(name: str) -> None:
    judge = backend_of(NETS[name], "cpu")
    features = judge.encode(waves([4000]))
    tensors = [x for x in features if isinstance(x, torch.Tensor)]
    tensors += [x for f in features if hasattr(f, "sides") for x in f.sides]
    assert all(not x.requires_grad for x in tensors) and not NETS[name].training
    judge.absolute(features)
    assert all(p.grad is None for p in NETS[name].parameters())
