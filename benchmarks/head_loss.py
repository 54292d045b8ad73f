"""The loss of the language head: by chunks of the vocabulary, compared with all logits at once.

Exactness is measured against float64, with targets of all probabilities; time is that of forward
and backward, memory the peak beyond what was allocated before (on a GPU).

    python benchmarks/head_loss.py                            small model, CPU
    python benchmarks/head_loss.py --model 2b                 requires a GPU
"""

from __future__ import annotations

from typing import Any

import torch
from common import arguments, peak_memory_gb, reset_peak_memory, show, timed
from torch.nn.functional import cross_entropy

from qwen2vl_rs.engine.head_loss import loss_of_head

SIZES = {"tiny": (64, 9_000), "small": (384, 151_936), "2b": (1536, 151_936)}  # H, V
Case = tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]


def make_case(model: str, rows: int, dtype: torch.dtype) -> Case:
    """Return a head, (L, H) hidden states of which half point at their target, and (L,) targets."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    width, words = SIZES[model]
    head = torch.nn.Linear(width, words, bias=False, device=device, dtype=dtype)
    head.requires_grad_(False).weight.normal_(0, width**-0.5)
    targets = torch.randint(0, words, (rows,), device=device)
    hidden = torch.randn(rows, width, device=device)
    towards = torch.linspace(0, 24, rows, device=device) * (torch.arange(rows, device=device) % 2)
    return head, (hidden + towards[:, None] * head.weight[targets]).requires_grad_(), targets


def by_chunks(case: Case, dtype: torch.dtype) -> torch.Tensor:
    """Return the (L,) losses as training computes them."""
    head, hidden, targets = case
    kind = hidden.device.type
    half = dtype is not torch.float32
    with torch.autocast(kind, dtype, enabled=half), loss_of_head(head, targets):
        found: torch.Tensor = head(hidden[None])[0]
    return found


def of_all_logits(case: Case, dtype: torch.dtype) -> torch.Tensor:
    """Return the (L,) losses from all logits, in float64 exactly."""
    head, hidden, targets = case
    logits = hidden.to(dtype) @ head.weight.to(dtype).T
    wide = torch.promote_types(dtype, torch.float32)
    return cross_entropy(logits.to(wide), targets, reduction="none")


def gradient(case: Case, losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and (L, H) gradient of the hidden states."""
    (found,) = torch.autograd.grad(losses.sum(), case[1])
    return losses.detach().double(), found.double()


def compare(model: str, rows: int, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Return errors, time and memory of both ways."""
    case = make_case(model, rows, dtype)
    kind = str(dtype).removeprefix("torch.")
    found: dict[str, Any] = {"loss tokens": rows, "precision": kind}
    losses, exact = gradient(case, of_all_logits(case, torch.float64))
    for name, way in (("chunks", by_chunks), ("all logits", of_all_logits)):
        some, other = gradient(case, way(case, dtype))
        found[f"{name}: loss error"] = float((some - losses).abs().max())
        found[f"{name}: gradient error"] = float((other - exact).norm() / exact.norm())
    del losses, exact, some, other
    for name, way in (("chunks", by_chunks), ("all logits", of_all_logits)):
        before = torch.cuda.memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
        reset_peak_memory()
        seconds = timed(lambda way=way: gradient(case, way(case, dtype)), repeats)
        found[f"{name}: ms"] = round(1e3 * seconds, 2)
        if torch.cuda.is_available():
            found[f"{name}: GB"] = round(peak_memory_gb() - before, 3)
    return found


def main() -> None:
    """Compare in float32 and bfloat16."""
    chosen = arguments(__doc__ or "").parse_args()
    rows = [
        compare(chosen.model, n, dtype, chosen.repeats)
        for dtype in (torch.float32, torch.bfloat16)
        for n in (241, 1024)
    ]
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
