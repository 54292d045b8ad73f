"""The optimizer Muon: momentum steps are orthogonalised, for weight matrices.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the
step length of Liu et al., "Muon is Scalable for LLM Training" (2025), so that AdamW's learning
rates can be used. Computes in float32: torch's own Muon casts to bfloat16, which takes five times
as long on processors without bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

#: Coefficients of the Newton-Schulz iteration to the nearest orthogonal matrix (Jordan et al.).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Muon, for matrices only.

    Args:
        weights: matrices (out, in).
        lr: learning rate, on the scale of AdamW.
        momentum: weight of previous gradients.
        weight_decay: decay per step, relative to ``lr``.
    """

    def __init__(
        self, weights: Iterable[torch.Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        kept = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(weights, kept)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update all weights."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["past"] = torch.zeros_like(weight)
                state["past"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(state["past"], group["momentum"])
                length = 0.2 * max(weight.shape) ** 0.5  # the usual step of AdamW
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(ahead), alpha=-group["lr"] * length)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return approximately the nearest matrix with all singular values 1, of the same shape."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x
