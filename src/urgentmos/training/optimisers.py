"""Optimisers: AdamW for everything, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from urgentmos.errors import UsageError
from urgentmos.training.config import TrainConfig

SMALLEST = 16  # sides of a matrix from which Muon has something to make orthogonal


def build_optimiser(learned: Sequence[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """By `config.optimizer`, with its lr and weight_decay. UsageError if this torch has no Muon."""
    if config.optimizer == "muon":
        return MuonAndAdamW(learned, config.lr, config.weight_decay)
    return _adamw(learned, config.lr, config.weight_decay)


def _adamw(learned: Sequence[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.AdamW:
    fused = all(p.device.type in ("cpu", "cuda") for p in learned)  # the same steps in one go; many small nets wait for it
    return torch.optim.AdamW(learned, lr=lr, weight_decay=weight_decay, fused=fused)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) moves a matrix by its momentum made orthogonal; filters, biases and heads are AdamW's.

    Muon's steps are scaled to the size that AdamW's have (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2),
    so that one learning rate does for both. Both see the groups and the state of this one, which a schedule changes and a
    checkpoint keeps.
    """

    def __init__(self, learned: Sequence[nn.Parameter], lr: float, weight_decay: float) -> None:
        """UsageError if this torch has no Muon."""
        if not hasattr(torch.optim, "Muon"):
            raise UsageError(f"optimizer=muon needs torch 2.9 or later, and this is {torch.__version__}. Leave it out.")
        matrices = [p for p in learned if p.ndim == 2 and min(p.shape) >= SMALLEST]
        chosen = {id(p) for p in matrices}
        rest = [p for p in learned if id(p) not in chosen]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self.parts.append(muon)
        if rest:
            self.parts.append(_adamw(rest, lr, weight_decay))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both. The loss that `closure` computes, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
