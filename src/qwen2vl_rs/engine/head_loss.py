"""Cross-entropy of the language head, without a tensor of all logits.

The head is frozen, so the gradient of the hidden states is computed in the forward pass, some words
of the vocabulary at a time, with the running maximum and sum of FlashAttention (Dao et al., 2022)::

    loss = log sum(exp(logits)) - logits[target]
    gradient = softmax(logits) · weight - weight[target]

Logits and probabilities are rounded to the type in which the head computes, as without this module;
sums are float32. The target's share of the gradient is added in float32: a probability of almost 1,
rounded to 16 bits, would leave little of its difference to 1.

Shapes: L loss tokens, V words, C words of a chunk, H values of a hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Words at a time: few enough for the cache of a CPU, enough for few kernels on a GPU.
WORDS = {"cpu": 8192, "cuda": 32768}


@contextmanager
def loss_of_head(head: torch.nn.Linear, targets: torch.Tensor) -> Iterator[None]:
    """Let a model return losses in place of logits: (1, L) in nats instead of (1, L, V).

    Args:
        head: its language head; frozen, without a bias. The model returns its output unchanged.
        targets: (L,) ids of the tokens to predict.
    """

    def losses(hidden: torch.Tensor) -> torch.Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with torch.autocast(kind, enabled=False):
            inputs = hidden.squeeze(0).to(dtype or head.weight.dtype)
            found: torch.Tensor = _HeadLoss.apply(inputs, head.weight, targets)
        return found[None]

    head.forward = losses  # type: ignore[assignment,method-assign] # until it is deleted
    try:
        yield
    finally:
        del head.forward


class _HeadLoss(torch.autograd.Function):
    """(L, H) hidden states → (L,) losses."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)  # float64 stays as it is
        rows, wanted = len(hidden), ctx.needs_input_grad[0]
        largest = hidden.new_full((rows, 1), -torch.inf, dtype=wide)
        total, own = (hidden.new_zeros((rows, 1), dtype=wide) for _ in range(2))
        mean = hidden.new_zeros(hidden.shape if wanted else (0,), dtype=wide)
        words = WORDS[weight.device.type]
        for start in range(0, len(weight), words):
            part = weight[start : start + words].to(hidden.dtype)
            logits = (hidden @ part.T).to(wide)  # (L, C)
            place = targets[:, None] - start
            inside = (place >= 0) & (place < len(part))
            place = place.clamp_(0, len(part) - 1)
            own += logits.gather(1, place) * inside
            before, largest = largest, torch.maximum(largest, logits.amax(1, keepdim=True))
            logits = logits.sub_(largest).exp_()
            shrink = (before - largest).exp_()
            total.mul_(shrink).add_(logits.sum(1, keepdim=True))
            logits.scatter_(1, place, logits.gather(1, place) * ~inside)
            if wanted and hidden.dtype is wide:
                mean.mul_(shrink).addmm_(logits, part)
            elif wanted:
                mean.mul_(shrink).add_(logits.to(hidden.dtype) @ part)
        others = total - (own - largest).exp_()
        if wanted:
            ctx.save_for_backward((mean - others * weight[targets].to(hidden.dtype)).div_(total))
        ctx.dtype = hidden.dtype
        return (largest + total.log() - own).squeeze(1)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[:, None]).to(ctx.dtype), None, None
