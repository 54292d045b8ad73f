"""Attention over a layout: every token sees its ancestors and itself, whatever computes it.

Two ways, which give the same numbers up to rounding:

``branches``
    Each branch against its root and against itself: two matrix products and one softmax. What no
    token may see is not computed, where a dense mask would compute all T² pairs (a tree of 100
    questions has a tenth of them). Works on every device, forward and backward.
``flex``
    PyTorch's FlexAttention with a block mask: one compiled kernel. CUDA only, for on a CPU it has
    no backward pass.

Both are known to transformers as implementations of attention, so that plain calls of a base
(``generate``, padded batches) work as with its own ``sdpa``, which then does the work.

Shapes: T tokens, P tokens of a root, B branches of like size, b tokens of the largest of them;
H query heads, K key heads, G = H / K queries that share a key, d values a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .tree import Ints, Layout

Kind = Literal["branches", "flex"]
_PREFIX = "qwen2vl_rs_"  # of the names under which transformers knows the kinds
_ALIKE = 0.75  # branches are padded to the largest of a group; smaller ones make a new group


@dataclass(frozen=True, slots=True)
class Group:
    """Branches of one tree, padded to the largest.

    Attributes:
        index: (B, b) positions in the layout; padding repeats the last one.
        bias: (B, 1, b, b) 0 where the row may see the column, else minus infinity.
    """

    index: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class Branches:
    """A layout as roots and groups of branches.

    Attributes:
        trees: of every tree the start and stop of its root, and its groups.
        order: (T,) where each token's output stands in the outputs of all roots and groups.
    """

    trees: list[tuple[int, int, list[Group]]]
    order: torch.Tensor

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attention of all tokens: query (1, H, T, d), key and value (1, K, T, d) → (1, H, T, d)."""
        parts = []
        for start, stop, groups in self.trees:
            root = slice(start, stop)
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, root], key[:, :, root], value[:, :, root],
                    is_causal=True, scale=scale, enable_gqa=True,
                )
            )  # fmt: skip
            known = key[0, :, root], value[0, :, root]  # (K, P, d)
            parts += [_attend(g, query[0], key[0], value[0], known, scale) for g in groups]
        return torch.cat(parts, dim=2)[:, :, self.order]


def _attend(
    group: Group,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    root: tuple[torch.Tensor, torch.Tensor],
    scale: float,
) -> torch.Tensor:
    """Attention of a group's tokens to their root and their own branch → (1, H, B·b, d)."""
    (heads, _, d), (keys, p, _) = query.shape, root[0].shape
    n, b = group.index.shape
    shared = heads // keys
    q = query.view(keys, shared, -1, d)[:, :, group.index].transpose(1, 2)  # (K, B, G, b, d)
    k, v = (x[:, group.index].flatten(0, 1) for x in (key, value))  # (K·B, b, d)
    rows = (q * scale).reshape(keys, n * shared * b, d)
    to_root = (rows @ root[0].transpose(1, 2)).view(keys, n, shared, b, p)
    to_own = (rows.view(keys * n, shared * b, d) @ k.transpose(1, 2)).view(keys, n, shared, b, b)
    scores = torch.cat([to_root, to_own + group.bias], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    from_root = weights[..., :p].reshape(keys, n * shared * b, p) @ root[1]
    from_own = weights[..., p:].reshape(keys * n, shared * b, b) @ v
    out = from_root.view(keys, n, shared, b, d) + from_own.view(keys, n, shared, b, d)
    return out.transpose(1, 2).reshape(1, heads, n * b, d)


def branches(layout: Layout, device: torch.device, dtype: torch.dtype) -> Branches:
    """Cut a layout into roots and groups of branches of like size."""
    order = np.zeros(layout.size, dtype=np.int64)
    trees: list[tuple[int, int, list[Group]]] = []
    done = 0
    for start, stop in layout.roots:
        order[start:stop] = done + np.arange(stop - start)
        done += stop - start
        groups = []
        for starts in _alike(layout, start, stop):
            sizes = layout.end[starts] - starts
            within = np.arange(sizes.max())
            index = starts[:, None] + np.minimum(within, sizes[:, None] - 1)  # (B, b)
            real = within < sizes[:, None]
            order[index[real]] = done + np.flatnonzero(real)
            done += index.size
            groups.append(_group(layout, index, real, device, dtype))
        trees.append((int(start), int(stop), groups))
    return Branches(trees, torch.from_numpy(order).to(device))


def _group(
    layout: Layout, index: Ints, real: Any, device: torch.device, dtype: torch.dtype
) -> Group:
    rows, columns = index[:, :, None], index[:, None, :]
    seen = (columns <= rows) & (rows < layout.end[columns]) & real[:, None, :]  # (B, b, b)
    bias = np.where(seen, 0.0, -np.inf)[:, None]
    return Group(torch.from_numpy(index).to(device), torch.from_numpy(bias).to(device, dtype))


def _alike(layout: Layout, start: int, stop: int) -> list[Ints]:
    """Starts of the branches below a root, those of like size together."""
    starts, at = [], stop
    while at < layout.end[start]:
        starts.append(at)
        at = int(layout.end[at])
    found: list[list[int]] = []
    largest = 0
    for branch in sorted(starts, key=lambda s: -layout.end[s] + s):
        size = layout.end[branch] - branch
        if size < _ALIKE * largest or not found:
            found.append([])
            largest = size
        found[-1].append(branch)
    return [np.array(sorted(group)) for group in found]


def block_mask(layout: Layout, device: torch.device) -> BlockMask:
    """The attention rule for FlexAttention."""
    end = torch.from_numpy(layout.end).to(device)

    def rule(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (k <= q) & (q < end[k])

    return create_block_mask(rule, None, None, layout.size, layout.size, device=str(device))


def prepared(model: Any, layout: Layout) -> dict[str, Any]:
    """Arguments of a model's forward that put a layout's attention rule in force."""
    config = model.config.get_text_config()
    if config._attn_implementation == _PREFIX + "flex":
        rule: Any = block_mask(layout, model.device)
    else:
        rule = branches(layout, model.device, model.dtype)
    # a mask of four dimensions is handed through; its values are not looked at
    return {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool), "tree": rule}


def implementation(kind: Kind) -> dict[str, str]:
    """The name of a kind for transformers' ``attn_implementation``; the eye keeps ``sdpa``."""
    return {"": "sdpa", "text_config": _PREFIX + kind, "vision_config": "sdpa"}


def _tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    tree: Branches | BlockMask | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it → (1, T, H, d); without ``tree``, its own ``sdpa``."""
    if isinstance(tree, Branches):
        return tree.attend(query, key, value, scaling).transpose(1, 2).contiguous(), None
    work = sdpa_attention_forward if tree is None else flex_attention_forward
    mask = attention_mask if tree is None else tree
    return work(module, query, key, value, mask, scaling=scaling, **more)[0], None


for _kind in get_args(Kind):
    AttentionInterface.register(_PREFIX + _kind, _tree_attention)
    AttentionMaskInterface.register(_PREFIX + _kind, sdpa_mask)
