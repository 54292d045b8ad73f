"""Choose the attention implementation: FlexAttention where a check on the device passes.

Shapes: see `attention`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from accelerate.utils import send_to_device

from ..errors import ConfigError
from .attention import Kind, attention_args, make_rule, tree_attention
from .tree import Layout, Node, Tree, flatten, merge_prefixes


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention heads of a language model: H query heads, K key heads, d values each."""

    query: int
    key: int
    width: int

    @classmethod
    def of(cls, config: Any) -> Heads:
        """Return the heads in a base model's configuration."""
        text = config.get_text_config()
        query = text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // query
        return cls(query, text.num_key_value_heads, width)


def choose_attention(
    device: torch.device,
    dtype: torch.dtype,
    heads: Heads,
    wanted: Kind | None = None,
    section: str = "training",
) -> tuple[Kind, str]:
    """Return the implementation for training and evaluation on a device, and the reason.

    Args:
        device: the model's device.
        dtype: the model's dtype.
        heads: of its language model.
        wanted: set by the user; None: the faster one that is correct.
        section: the section of the settings that holds ``attention``.

    Raises:
        ConfigError: ``flex`` is wanted on a CPU.
    """
    if device.type != "cuda":
        why = "FlexAttention has no backward pass on a CPU"
        if wanted == "flex":
            raise ConfigError(
                f"{section}.attention = flex: {why}", hint="leave it unset, or use a CUDA device"
            )
        return "branches", why
    if wanted is not None:
        return wanted, f"as set by {section}.attention"
    if problem := flex_problem(device, dtype, heads):
        return "branches", f"FlexAttention fails on this device: {problem}"
    return "flex", "compiled, and checked on this device"


def flex_problem(device: torch.device, dtype: torch.dtype, heads: Heads) -> str | None:
    """Return why FlexAttention cannot be used: it must run and agree with ``branches``.

    It checks several layouts: a kernel that keeps the first mask is right about the first.
    """
    try:
        worst = [_disagreement(device, dtype, heads, layout) for layout in _layouts()]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no compiler, no Triton, an unsupported device
        return (str(error).splitlines() or [type(error).__name__])[0]
    # tensor cores round float32 to a 10-bit fraction, as long as float16's; bfloat16 has 7 bits
    bound = 5e-2 if dtype is torch.bfloat16 else 1e-2
    return None if all(one < bound for one in worst) else "its results differ"  # NaN fails too


def _layouts() -> Iterator[Layout]:
    """Yield a layout shorter than a mask block (it may use another kernel) and two longer ones."""
    root, zeros = np.arange(90), np.zeros((3, 90), dtype=np.int64)
    for trees, questions in ((1, 2), (2, 40), (2, 97)):
        nodes = [Node([1, 2, n], (Node([3, 4]),)) for n in range(questions)]
        yield flatten([Tree(root, zeros, merge_prefixes(nodes))] * trees)


def _disagreement(device: torch.device, dtype: torch.dtype, heads: Heads, layout: Layout) -> float:
    """Return the largest relative difference of output and gradients between the two."""
    generator = torch.Generator(device).manual_seed(0)
    states = [
        torch.randn(1, n, layout.size, heads.width, device=device, dtype=dtype, generator=generator)
        for n in (heads.query, heads.key, heads.key)
    ]
    module = torch.nn.Module().train()
    results = []
    for kind in get_args(Kind):
        rule = send_to_device(make_rule(kind, layout, dtype), device)
        tree = attention_args(rule)["tree"]
        inputs = [x.clone().requires_grad_() for x in states]
        scale = heads.width**-0.5
        query, key, value = inputs
        out, _ = tree_attention(module, query, key, value, None, scaling=scale, tree=tree)
        out.float().square().sum().backward()
        results.append(
            [out.detach().float(), *(x.grad.float() for x in inputs if x.grad is not None)]
        )
    gaps = [(a - b).abs().max() / b.abs().max() for a, b in zip(*results, strict=True)]
    return float(torch.stack(gaps).max())  # Python's max would ignore NaN
