"""What a step minimises: labels that are there, shares that add up, verdicts by Eq. 6, schedules that are read."""

import math

import pytest
import torch

pytest.importorskip("lightning")

from urgentmos.nets.losses import PairLabels
from urgentmos.nets.utmos import Utmos, UtmosConfig
from urgentmos.training.config import make_config
from urgentmos.training.start import start
from urgentmos.training.tasks import UrgentMosTask, UtmosTask, inverse, rate_at, right_verdicts

SIZES = {"width": 16, "layers": 1, "channels": 4, "heads": 2, "feedforward": 32, "bands": 20, "dropout": 0.0}
NET = {"dim": 16, "layers": 1, "heads": 2, "feedforward": 32, "preference_heads": 2, "dropout": 0.0}


def task(**more: object) -> UrgentMosTask:
    config = make_config({"model": "f1c1m5-dref", "size": "pocket", "encoder": SIZES, "net": NET} | more)
    return UrgentMosTask(config, start(config, ["mos_overall"], True).net)


def batch(mos: list[float], pairs: list[tuple[int, int, float, int]]) -> dict:
    torch.manual_seed(0)
    first, second, cmos, verdict = zip(*pairs, strict=True) if pairs else ((), (), (), ())
    return {
        "index": 0,
        "wave": torch.randn(len(mos), 4000),
        "n_samples": torch.full((len(mos),), 4000),
        "labels": {"mos_overall": torch.tensor(mos), "utmos": torch.full((len(mos),), math.nan)},
        "judge": torch.tensor(mos),
        "first": torch.tensor(first, dtype=torch.long),
        "second": torch.tensor(second, dtype=torch.long),
        "cmos": torch.tensor(cmos, dtype=torch.float32),
        "verdict": torch.tensor(verdict, dtype=torch.long),
        "states": None,
    }


def gradients(of: UrgentMosTask, item: dict) -> dict:
    of.zero_grad()
    of.losses(item)[0].backward()
    return {name: p.grad.clone() for name, p in of.named_parameters() if p.grad is not None}


def test_symmetric_pairs_are_the_same_pairs_written_twice() -> None:
    twice, once = task(symmetric=True), task(symmetric=False)
    a = twice.losses(batch([3.0, 1.0], [(0, 1, 2.0, -100)]))[0]
    b = once.losses(batch([3.0, 1.0], [(0, 1, 2.0, -100), (1, 0, -2.0, -100)]))[0]
    assert torch.allclose(a, b)


def test_a_batch_without_labels_is_a_step_of_size_zero() -> None:
    found = gradients(task(), batch([math.nan, math.nan], []))
    assert found and all(not grad.any() for grad in found.values())


def test_a_missing_label_changes_nothing() -> None:
    item = batch([3.0, math.nan, 2.0], [])
    kept = {**item, "wave": item["wave"][[0, 2]], "n_samples": item["n_samples"][:2]}
    kept["labels"] = {"mos_overall": torch.tensor([3.0, 2.0])}
    plain = {**SIZES, "batch_norm": False}  # which learns from clips without labels, too
    assert torch.allclose(task(encoder=plain).losses(item)[0], task(encoder=plain).losses(kept)[0], atol=1e-6)


def test_native_verdicts_have_a_cmos_only_if_asked_for() -> None:
    item = batch([math.nan] * 2, [(0, 1, math.nan, 0), (0, 1, math.nan, 1), (0, 1, math.nan, 2)])
    assert task().pair_labels(item).cmos.isnan().all()
    assert task(native_cmos=True).pair_labels(item).cmos.tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize(("cmos", "verdict"), [(0.5, 2), (-0.5, 2), (0.5001, 0), (-0.5001, 1), (0.0, 2)])
def test_derived_verdicts_follow_equation_6(cmos: float, verdict: int) -> None:
    assert task().pair_labels(batch([3.0, 3.0], [(0, 1, cmos, -100)])).verdict.tolist() == [verdict]


def test_accuracies_count_what_has_a_label_and_an_order() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.9, 0.0]])
    labels = PairLabels(torch.tensor([2.0, 0.0, math.nan, -0.1]), torch.tensor([0, 2, 1, -100]))
    assert right_verdicts(p, labels) == [(1, 1), (1, -1), (0, 0), (-1, 1)]


def test_rates_rise_stay_and_fall() -> None:
    constant = make_config({"warmup": 4, "steps": 10})
    assert [rate_at(k, constant) for k in (0, 3, 9)] == [0.25, 1.0, 1.0]
    linear = make_config({"schedule": "linear", "steps": 10})
    assert [rate_at(k, linear) for k in (0, 5, 10)] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(("metric", "value"), [("mos_overall", 2.5), ("utmos", 4.9)])
def test_the_inverse_of_an_activation_undoes_it(metric: str, value: float) -> None:
    bound = task().net.ampm.heads[metric].bound
    assert float(bound(torch.tensor(inverse(bound, value)))) == pytest.approx(value, abs=1e-4)


def test_utmos_is_tuned_on_opinions() -> None:
    sizes = UtmosConfig(
        layers=1, hidden=64, feed_forward=16, conv_width=8, position_kernel=8, embedding=4, lstm=8, projection=8
    )
    torch.manual_seed(0)
    tuned = UtmosTask(make_config({"steps": 1}), Utmos(sizes))
    item = batch([4.0, math.nan], [])
    loss = tuned.losses(item)[0]
    assert float(loss) == pytest.approx(float((tuned.net(item["wave"][:1]) - 4.0).square()), rel=1e-4)
    loss.backward()
    assert tuned.net.blstm.weight_ih_l0.grad.abs().sum() > 0
