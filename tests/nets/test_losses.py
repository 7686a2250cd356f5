"""Masked losses: what is missing changes nothing, what is there counts as Eqs. 4 to 6 say; and the release's numbers."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.nets.losses import (
    A_WINS,
    B_WINS,
    NO_VERDICT,
    RELEASED,
    TIE,
    LossConfig,
    PairLabels,
    average_over_metrics,
    masked_cross_entropy,
    masked_mse,
    mirrored,
    symmetric_pairs,
    urgentmos_losses,
    verdict_of,
    without_pairs,
)
from urgentmos.nets.ncpm import Comparison

NAN = math.nan
PAPER = LossConfig()
CATEGORIES = {"naturalness": ("mos_overall", "utmos"), "spectral": ("mcd",)}


def t(*values):
    return torch.tensor(values, dtype=torch.float32)


def derived_labels(cmos, config=PAPER):
    """As training derives them: verdicts by Eq. 6."""
    return PairLabels(cmos, verdict_of(cmos, config))


def native_labels(verdict):
    """As training takes listeners' verdicts: without a CMOS."""
    return PairLabels(torch.full(verdict.shape, NAN), verdict)


# --- Eq. 6 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmos", "paper", "released"),
    [(-0.51, B_WINS, B_WINS), (-0.5, TIE, A_WINS), (0.0, TIE, TIE), (0.5, TIE, A_WINS), (0.51, A_WINS, A_WINS)],
)
def test_the_tie_threshold(cmos, paper, released):
    assert verdict_of(t(cmos)).item() == paper
    assert verdict_of(t(cmos), RELEASED).item() == released


def test_a_missing_cmos_is_no_verdict():
    assert verdict_of(t(NAN, 1.0)).tolist() == [NO_VERDICT, A_WINS]


@given(st.lists(st.floats(-4, 4, width=32) | st.just(NAN), min_size=1, max_size=6))
def test_mirroring_twice_is_nothing_and_mirroring_is_swapping(values):
    labels = derived_labels(t(*values))
    other = mirrored(labels)
    assert torch.equal(other.verdict, verdict_of(-labels.cmos))
    twice = mirrored(other)
    assert torch.equal(twice.verdict, labels.verdict)
    assert torch.equal(twice.cmos.nan_to_num(9), labels.cmos.nan_to_num(9))


def test_symmetric_pairs_are_both_orders():
    first, second, both = symmetric_pairs(torch.tensor([0, 2]), torch.tensor([1, 3]), derived_labels(t(2.0, 0.1)))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (2, 3), (1, 0), (3, 2)]
    assert both.verdict.tolist() == [A_WINS, TIE, B_WINS, TIE]
    torch.testing.assert_close(both.cmos, t(2.0, 0.1, -2.0, -0.1))


def test_native_verdicts_teach_the_verdict_only():
    comparison = Comparison(t(3.0).requires_grad_(), torch.zeros(1, 3).requires_grad_())
    losses = urgentmos_losses({"mos_overall": t(1.0)}, {}, CATEGORIES, comparison, native_labels(torch.tensor([B_WINS])))
    assert losses.regression == 0
    assert losses.verdict.item() == pytest.approx(math.log(3))


# --- Eqs. 4 and 5 ----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32), st.booleans()), min_size=1, max_size=8))
def test_the_masked_loss_is_the_mean_over_what_is_there(rows):
    predicted = torch.tensor([row[0] for row in rows], requires_grad=True)
    label = t(*[row[1] if row[2] else NAN for row in rows])
    loss = masked_mse(predicted, label)
    loss.backward()
    there = [(p - y) ** 2 for p, y, has in rows if has]
    assert loss.item() == pytest.approx(np.mean(there) if there else 0.0, abs=1e-4, rel=1e-4)
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[label.isnan()] == 0).all()


def test_metrics_without_a_label_do_not_count():
    predicted = {"mos_overall": t(3.0, 3.0), "utmos": t(2.0, 2.0), "mcd": t(5.0, 5.0)}
    labels = {"mos_overall": t(1.0, NAN), "utmos": t(NAN, NAN), "mcd": t(4.0, 6.0)}
    losses = urgentmos_losses(predicted, labels, CATEGORIES).metrics
    assert {name: loss.item() for name, loss in losses.items()} == {"mos_overall": 4.0, "mcd": 1.0}
    assert average_over_metrics(losses, CATEGORIES).item() == 2.5


def test_averages_by_metric_and_by_category_differ_and_weights_count():
    losses = {"mos_overall": t(1.0)[0], "utmos": t(3.0)[0], "mcd": t(8.0)[0]}
    assert average_over_metrics(losses, CATEGORIES).item() == 4.0
    assert average_over_metrics(losses, CATEGORIES, RELEASED).item() == 5.0
    heavy = LossConfig(metric_weights={"mcd": 0.5})
    assert average_over_metrics(losses, CATEGORIES, heavy).item() == pytest.approx(8 / 3)
    assert average_over_metrics({}, CATEGORIES) is None


def test_cross_entropy_looks_only_at_the_verdicts_that_are_there():
    logits = torch.tensor([[2.0, 0.0, 1.0], [NAN, NAN, NAN]])
    some = masked_cross_entropy(logits, torch.tensor([TIE, NO_VERDICT]))
    torch.testing.assert_close(some, -logits[0].log_softmax(0)[TIE])


def test_a_batch_without_any_label_is_a_step_of_size_zero():
    weight = torch.ones(2, requires_grad=True)
    comparison = Comparison(weight * 2, weight[:, None] * torch.ones(2, 3))
    nothing = PairLabels(t(NAN, NAN), torch.tensor([NO_VERDICT] * 2))
    losses = urgentmos_losses({"mos_overall": weight * 3}, {"mos_overall": t(NAN, NAN)}, CATEGORIES, comparison, nothing)
    losses.total.backward()
    assert losses.total.item() == 0.0 and losses.metrics == {}
    assert (weight.grad == 0).all()


def test_processes_add_up_to_the_mean_over_all_labels():
    """Two processes with 3 and 1 labels: the mean of their losses is the mean over the 4 labels."""
    predicted = {"mos_overall": t(0.0, 0.0, 0.0)}
    here = urgentmos_losses(predicted, {"mos_overall": t(1.0, 2.0, 3.0)}, CATEGORIES, mean_counts=[2.0, 0.0, 0.0])
    there = urgentmos_losses(predicted, {"mos_overall": t(4.0, NAN, NAN)}, CATEGORIES, mean_counts=[2.0, 0.0, 0.0])
    assert (here.absolute + there.absolute).item() / 2 == pytest.approx((1 + 4 + 9 + 16) / 4)


def test_processes_add_up_to_the_mean_over_all_pairs():
    """Two processes with 2 and 1 labelled pairs: the mean of their losses is that of one process with all 3."""
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    cmos, verdict, predicted = t(1.0, 2.0, -1.0), torch.tensor([A_WINS, TIE, B_WINS]), {"utmos": t(0.0)}

    def of(rows, mean_counts=None):
        pairs = PairLabels(t(0.5, 0.0, 2.0)[rows], verdict[rows])
        return urgentmos_losses(predicted, {}, CATEGORIES, Comparison(cmos[rows], logits[rows]), pairs, mean_counts=mean_counts)

    here, there, whole = of([0, 1], [1.5, 1.5]), of([2], [1.5, 1.5]), of([0, 1, 2])
    assert (here.regression + there.regression).item() / 2 == pytest.approx(whole.regression.item())
    assert (here.verdict + there.verdict).item() / 2 == pytest.approx(whole.verdict.item())


def test_the_parts_add_up():
    comparison = Comparison(t(1.0, -1.0), torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    pairs = derived_labels(t(0.9, NAN))
    config = LossConfig(absolute=0.3, comparative=0.7, regression=0.4, verdict=0.6)
    losses = urgentmos_losses({"utmos": t(2.0)}, {"utmos": t(4.0)}, CATEGORIES, comparison, pairs, config)
    assert losses.absolute.item() == 4.0
    assert losses.regression.item() == pytest.approx(0.01, rel=1e-5)
    expected = 0.3 * 4.0 + 0.7 * (0.4 * losses.regression + 0.6 * losses.verdict)
    torch.testing.assert_close(losses.total, expected)
    alone = urgentmos_losses({"utmos": t(2.0)}, {"utmos": t(4.0)}, CATEGORIES, config=without_pairs(config))
    assert alone.total.item() == 4.0


# --- the release -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(shared):
    """The released model's outputs on the batch of losses.json, in the released way: padded, unmasked group norm."""
    from urgentmos.models.folder import load_any
    from urgentmos.nets.layers import layer_sum, valid_mask

    folder = shared / "parity" / "urgentmos_f1c1m5"
    if not folder.is_dir():
        pytest.skip("no reference vectors")
    net = load_any(folder / "model.pt").net
    batch = json.loads((folder / "meta.json").read_text())["loss_batch"]
    inputs = np.load(folder / "inputs.npz")
    waves = [torch.from_numpy(inputs[f"audio/{name}"]) for name in batch["audios"]]
    n = torch.tensor([len(wave) for wave in waves])
    wave = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    encoder = net.encoders[0]
    states = encoder.model(wave, attention_mask=valid_mask(n, wave.shape[1]), output_hidden_states=True).hidden_states
    encoded = net.encode_frames([(layer_sum(states, encoder.weights), encoder.n_frames(n))])
    rows = torch.tensor([row for row, _ in batch["absolute"]])
    labels = {m: t(*[NAN if values[m] is None else values[m] for _, values in batch["absolute"]]) for m in net.metrics}
    return folder, net, encoded, rows, labels, batch["comparative"]


@pytest.mark.parametrize(
    ("file", "case", "symmetric"),
    [
        ("losses.json", "train_mixed_symmetric", True),
        ("losses.json", "train_mixed_nosymmetric", False),
        ("losses_clean.json", "train_symmetric", True),
        ("losses_clean.json", "eval", False),
    ],
)
def test_the_released_losses(released, file, case, symmetric):
    folder, net, encoded, rows, labels, mixed_pairs = released
    document = json.loads((folder / file).read_text())
    pairs = document.get("comparative") or mixed_pairs
    first, second = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    cmos = t(*[pair[2]["mos_overall"] for pair in pairs])
    if symmetric:  # the release swaps first and labels then, so that at +-0.5 "A wins" in both orders
        first, second, cmos = torch.cat([first, second]), torch.cat([second, first]), torch.cat([cmos, -cmos])
    losses = urgentmos_losses(
        {metric: value[rows] for metric, value in net.absolute(encoded).items()},
        labels,
        net.ampm.metrics,
        net.compare(encoded.pick(first), encoded.pick(second)),
        derived_labels(cmos, RELEASED),
        RELEASED,
    )
    expected = document[case]
    found = {
        "loss": losses.total,
        "absolute_score_loss_total": losses.absolute,
        "comparative_score_loss_total": losses.comparative,
        "comparative_score_mos_overall_loss_regression": losses.regression,
        "comparative_score_mos_overall_loss_classification": losses.verdict,
        **{f"absolute_score_loss_{metric}": loss for metric, loss in losses.metrics.items()},
    }
    for name, loss in found.items():
        assert loss.item() == pytest.approx(expected[name], rel=1e-4), name
    if file == "losses_clean.json" or symmetric:
        net.zero_grad()
        losses.total.backward(retain_graph=True)
        squares = [float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None]
        assert math.sqrt(sum(squares)) == pytest.approx(expected["total_grad_norm"], rel=1e-3)
