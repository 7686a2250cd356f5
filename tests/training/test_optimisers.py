"""Who moves which parameters, by how much, and that a state that was saved goes on."""

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")

from urgentmos.errors import UsageError
from urgentmos.training.config import make_config
from urgentmos.training.optimisers import MuonAndAdamW, build_optimiser


def parts(seed: int = 0) -> list[nn.Parameter]:
    """A wide matrix, a tall one, a head, filters and a bias, with gradients that have much in common."""
    torch.manual_seed(seed)
    made = [nn.Parameter(torch.randn(shape)) for shape in ((16, 48), (64, 16), (1, 32), (8, 4, 3), (32,))]
    for p in made:
        p.grad = 1 + torch.randn_like(p)
    return made


def moved(optimiser: torch.optim.Optimizer, learned: list[nn.Parameter]) -> list[torch.Tensor]:
    before = [p.detach().clone() for p in learned]
    optimiser.step()
    return [p.detach() - old for p, old in zip(learned, before, strict=True)]


def test_matrices_move_alike_in_all_directions_and_the_rest_as_under_adamw() -> None:
    learned, plain = parts(), parts()
    mixed = moved(MuonAndAdamW(learned, 1e-2, 0.0), learned)
    usual = moved(torch.optim.AdamW(plain, 1e-2, weight_decay=0.0), plain)
    for ours, theirs in zip(mixed[:2], usual[:2], strict=True):
        singular = torch.linalg.svdvals(ours)
        assert singular.max() / singular.min() < 3 < torch.linalg.cond(theirs) / 2
        # of the size of AdamW's steps: 0.2 to 0.4 of the learning rate is what AdamW's have in training
        assert 0.1e-2 < ours.square().mean().sqrt() < 0.4e-2
    for ours, theirs in zip(mixed[2:], usual[2:], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_schedule_reaches_both() -> None:
    learned = parts()
    optimiser = MuonAndAdamW(learned, 1e-2, 0.0)
    torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.0)
    assert all(not step.any() for step in moved(optimiser, learned))


def test_what_was_saved_goes_on() -> None:
    whole, first = parts(), parts()
    a = MuonAndAdamW(whole, 1e-2, 0.1)
    b = MuonAndAdamW(first, 1e-2, 0.1)
    moved(a, whole), moved(a, whole)
    moved(b, first)
    second = [nn.Parameter(p.detach().clone()) for p in first]
    for p, old in zip(second, first, strict=True):
        p.grad = old.grad.clone() if old.grad is not None else None
    again = MuonAndAdamW(second, 9.0, 0.9)
    again.load_state_dict(b.state_dict())
    moved(again, second)
    assert all(torch.equal(p, q) for p, q in zip(whole, second, strict=True))


@pytest.mark.parametrize("kept", [slice(0, 2), slice(2, 5)], ids=["matrices alone", "none"])
def test_nets_of_one_kind_of_parameters_learn_too(kept: slice) -> None:
    learned = parts()[kept]
    assert all(step.any() for step in moved(MuonAndAdamW(learned, 1e-2, 0.0), learned))


def test_an_older_torch_is_told(monkeypatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UsageError, match=r"torch 2\.9"):
        build_optimiser(parts(), make_config({"optimizer": "muon"}))
