"""Attention over a layout: every token sees its ancestors and itself, whatever computes it.

Two ways, which give the same numbers up to rounding:

``branches``
    The tree is cut into blocks of neighbours; each is multiplied with its root and with the few
    other tokens that it may see. What no token may see is hardly computed, where a dense mask
    would compute all T² pairs (a tree of 100 questions needs a tenth of them). Works on every
    device, forward and backward.
``flex``
    PyTorch's FlexAttention with a block mask: one compiled kernel. CUDA only, for on a CPU it has
    no backward pass.

What a layout means for either is worked out on the host, in whichever thread, and moved to the
device with the tokens; see `inputs`.

Both are known to transformers as implementations of attention, so that plain calls of a base
(``generate``, padded batches) work as with its own ``sdpa``, which then does the work.

Shapes: T tokens, P tokens of a root, B blocks of like size, b tokens of the largest of them, c
tokens that it may see besides the root; H query heads, K key heads, G = H / K heads that share a
key, d values a head; N blocks of `MASK_BLOCK` tokens that FlexAttention cuts T into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.backends import cuda
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..system.scopes import SharedChange
from .tree import Ints, Layout

Kind = Literal["branches", "flex"]
_PREFIX = "qwen2vl_rs_"  # of the names under which transformers knows the kinds
MASK_BLOCK = 128  # of FlexAttention's sparse masks; its own default
_BLOCK = 32  # most tokens of a subtree that is not cut further
_ALIKE = 0.7  # blocks are padded to the largest of a group; smaller ones make a new group


# With torch's own choice of kernels, gradients of `branches` were wrong by more than their own
# size at one layout (bfloat16, torch 2.11, H100 and H200; docs/log.md). cuDNN's is suspected, which
# is reported to be wrong elsewhere (pytorch issues 193893, 196678); the others do the same work.
_without_cudnn = SharedChange((cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False))


class Group(NamedTuple):
    """Blocks of one tree, padded to the largest.

    Attributes:
        rows: (B, b) positions in the layout; padding repeats the last one.
        columns: (B, c) positions of what a block may see besides the root; padded likewise.
        bias: (B, 1, b, c) 0 where the row sees the column, else minus infinity.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    bias: torch.Tensor


class Branches(NamedTuple):
    """A layout as roots and groups of blocks.

    Attributes:
        trees: of every tree the start and stop of its root, and its groups.
        order: (T,) where each token's output stands in the outputs of all roots and groups.
    """

    trees: list[tuple[int, int, list[Group]]]
    order: torch.Tensor

    @_without_cudnn
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attention of all tokens, query (1, H, T, d), key and value (1, K, T, d): (1, H, T, d)."""
        parts = []
        for start, stop, groups in self.trees:
            root = slice(start, stop)
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, root],
                    key[:, :, root],
                    value[:, :, root],
                    is_causal=True,
                    scale=scale,
                    enable_gqa=True,
                )
            )
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
    """Attention of a group's tokens to their root and their own columns: (1, H, B·b, d)."""
    (heads, _, d), (keys, p, _) = query.shape, root[0].shape
    (n, b), c = group.rows.shape, group.columns.shape[1]
    shared = heads // keys
    q = query.view(keys, shared, -1, d)[:, :, group.rows].transpose(1, 2)  # (K, B, G, b, d)
    k, v = (x[:, group.columns].flatten(0, 1) for x in (key, value))  # (K·B, c, d)
    with torch.autocast(query.device.type, enabled=False):
        # large scores lose their differences in bfloat16; float64 stays as it is
        wide = torch.promote_types(query.dtype, torch.float32)
        rows = (q.to(wide) * scale).reshape(keys, n * shared * b, d)
        to_root = (rows @ root[0].to(wide).transpose(1, 2)).view(keys, n, shared, b, p)
        to_own = rows.view(keys * n, shared * b, d) @ k.to(wide).transpose(1, 2)
        to_own = to_own.view(keys, n, shared, b, c) + group.bias
        weights = torch.cat([to_root, to_own], dim=-1).softmax(dim=-1).to(v.dtype)
    from_root = weights[..., :p].reshape(keys, n * shared * b, p) @ root[1]
    from_own = weights[..., p:].reshape(keys * n, shared * b, c) @ v
    out = from_root.view(keys, n, shared, b, d) + from_own.view(keys, n, shared, b, d)
    return out.transpose(1, 2).reshape(1, heads, n * b, d)


def branches(layout: Layout, dtype: torch.dtype) -> Branches:
    """Cut a layout into roots and groups of blocks of like size; the bias is of type ``dtype``."""
    order = np.zeros(layout.size, dtype=np.int64)
    trees: list[tuple[int, int, list[Group]]] = []
    done = 0
    for start, stop in layout.roots.tolist():
        order[start:stop] = done + np.arange(stop - start)
        done += stop - start
        groups = []
        end = layout.subtree_end
        for blocks in _alike(list(_blocks(end, stop, int(end[start]), ()))):
            rows, real = _padded([np.arange(lo, hi) for _, lo, hi in blocks])
            order[rows[real]] = done + np.flatnonzero(real)
            done += rows.size
            columns, there = _padded([np.array([*up, *range(lo, hi)]) for up, lo, hi in blocks])
            q, k = rows[:, :, None], columns[:, None, :]
            seen = (k <= q) & (q < layout.subtree_end[k]) & there[:, None, :]  # (B, b, c)
            bias = torch.from_numpy(np.where(seen, 0.0, -np.inf)[:, None])
            places = torch.from_numpy(rows), torch.from_numpy(columns)
            groups.append(Group(*places, bias.to(dtype)))
        trees.append((start, stop, groups))
    return Branches(trees, torch.from_numpy(order))


Block = tuple[tuple[int, ...], int, int]  # tokens above it below the root; its start and stop


def _blocks(end: Ints, start: int, stop: int, above: tuple[int, ...]) -> Iterator[Block]:
    """Cut a forest into blocks: small subtrees whole, of large ones the trunk and what it bears."""
    while start < stop:
        top = int(end[start])
        if top - start <= _BLOCK:
            yield above, start, top
        else:
            bare = start + 1
            while bare < top and end[bare] == top:  # such tokens see each other: a trunk
                bare += 1
            yield above, start, bare
            yield from _blocks(end, bare, top, (*above, *range(start, bare)))
        start = top


def _alike(blocks: list[Block]) -> list[list[Block]]:
    """Blocks in groups of like size."""
    found: list[list[Block]] = []
    largest = 0
    for block in sorted(blocks, key=lambda b: b[1] - b[2]):
        size = block[2] - block[1]
        if size < _ALIKE * largest or not found:
            found.append([])
            largest = size
        found[-1].append(block)
    return found


def _padded(lists: list[Ints]) -> tuple[Ints, NDArray[np.bool_]]:
    """Lists as rows of one array, padded with their last value, and which values are real."""
    sizes = np.array([len(one) for one in lists])[:, None]
    within = np.arange(sizes.max())
    places = np.minimum(within, sizes - 1) + np.cumsum(sizes)[:, None] - sizes
    return np.concatenate(lists)[places], within < sizes


class Blocks(NamedTuple):
    """A layout as FlexAttention's sparse mask.

    Attributes:
        end: (T,) see `tree.Layout`.
        partial: (1, 1, N) number of key blocks of which a query block sees a part,
        partial_at: (1, 1, N, N) and which they are, in front of the others.
        full: (1, 1, N) number of those that it sees whole,
        full_at: (1, 1, N, N) likewise.
    """

    end: torch.Tensor
    partial: torch.Tensor
    partial_at: torch.Tensor
    full: torch.Tensor
    full_at: torch.Tensor

    def mask(self) -> BlockMask:
        """The mask, on the device of the tensors."""
        end, blocks = self.end, self[1:]
        size = len(end)

        def rule(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return (k <= q) & (q < end[k])

        return BlockMask.from_kv_blocks(
            *blocks, BLOCK_SIZE=MASK_BLOCK, mask_mod=rule, seq_lengths=(size, size)
        )


def block_mask(layout: Layout) -> Blocks:
    """The sparse mask of a layout, block by block from where the subtrees end.

    An earlier block is seen by a later one when its longest-lived token lives that far, and whole
    when all its tokens outlive it; a block sees a part of itself. Evaluating the rule for all T²
    pairs, as ``create_block_mask`` does, takes 7 ms at 1,312 tokens and 57 ms at 2,944 (CPU).
    """
    size = layout.size
    starts = np.arange(0, size, MASK_BLOCK)
    longest, shortest = (f.reduceat(layout.subtree_end, starts) for f in (np.maximum, np.minimum))
    q, k = np.indices((len(starts), len(starts)))
    seen = (k == q) | ((k < q) & (longest[k] > starts[q]))
    stops = starts + MASK_BLOCK  # a last block that the layout does not fill is never whole
    whole = (k < q) & (shortest[k] >= stops[q]) & (stops[q] <= size)
    partial, full = (_ordered(some) for some in (seen & ~whole, whole))
    return Blocks(torch.from_numpy(layout.subtree_end), *partial, *full)


def _ordered(chosen: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of (N, N) choices the number in each row, and all columns with the chosen ones in front."""
    columns = np.argsort(~chosen, axis=1, kind="stable").astype(np.int32)
    numbers = chosen.sum(axis=1, dtype=np.int32)
    return torch.from_numpy(numbers)[None, None], torch.from_numpy(columns)[None, None]


Rule = Branches | Blocks


def rule_of(kind: Kind, layout: Layout, dtype: torch.dtype) -> Rule:
    """What a kind of attention has to know of a layout, on the host."""
    return block_mask(layout) if kind == "flex" else branches(layout, dtype)


def kind_of(model: Any) -> Kind:
    """The kind that a base was loaded with."""
    name = model.config.get_text_config()._attn_implementation
    return "flex" if name == _PREFIX + "flex" else "branches"


def in_force(rule: Rule) -> dict[str, Any]:
    """Arguments of a model's forward that put a rule, which is on its device, in force."""
    tree = rule.mask() if isinstance(rule, Blocks) else rule
    # a mask of four dimensions is handed through; its values are not looked at
    return {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool), "tree": tree}


def implementation(kind: Kind) -> dict[str, str]:
    """A kind's name for ``attn_implementation``; without a tree it is ``sdpa``."""
    name = _PREFIX + kind
    return {"": name, "text_config": name, "vision_config": name}


@_without_cudnn
def tree_attention(
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
    AttentionInterface.register(_PREFIX + _kind, tree_attention)
    AttentionMaskInterface.register(_PREFIX + _kind, sdpa_mask)
