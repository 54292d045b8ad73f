"""Tree attention (FlexAttention or SDPA): every token sees its ancestors and itself.

There are two implementations, which give the same numbers up to rounding:

``branches``
    The tree is cut into blocks of neighbouring tokens. Each block is multiplied with its root and
    with the few other tokens that it may see. A dense mask would compute all T² pairs; a tree of
    100 questions needs a tenth of them. Works on every device, forward and backward.
``flex``
    PyTorch's FlexAttention with a block mask: one compiled kernel. CUDA only, because it has no
    backward pass on a CPU.

The mask of a layout is computed on the host, in any thread, and moved to the device with the
tokens; see `inputs`.

Both are registered with transformers as attention implementations. Plain calls of a base model
(``generate``, padded batches) then use transformers' ``sdpa``.

Shapes: T tokens, P tokens of a root, B blocks of similar size, b tokens of the largest of them, c
tokens that it may see besides the root; H query heads, K key heads, G = H / K query heads per key
head, d values per head; N blocks of `MASK_BLOCK` tokens into which FlexAttention cuts T.
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
_PREFIX = "qwen2vl_rs_"  # of the implementations' names in transformers
MASK_BLOCK = 128  # block size of FlexAttention's sparse masks; its own default
_BLOCK = 32  # maximum tokens of a subtree that is not cut further
_ALIKE = 0.7  # blocks are padded to the largest of a group; smaller ones start a new group


# With torch's own choice of kernels, gradients of `branches` were wrong by more than their own
# size for one layout (bfloat16, torch 2.11, H100 and H200; docs/log.md). cuDNN's kernel is the
# suspect: it is reported to be wrong elsewhere (pytorch issues 193893, 196678).
_without_cudnn = SharedChange((cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False))


class Cut(NamedTuple):
    """A tree as its root and groups of blocks, each group padded to its largest block.

    Attributes:
        root: tokens of the root.
        size: tokens of the tree.
        rows: (sum of B·b,) tokens of all groups, counted from the end of the root; padding repeats
            the last one of a block.
        columns: (sum of B·c,) tokens that a block may see besides the root; likewise.
        biases: of each group (B, 1, b, c): 0 where the row sees the column, else minus infinity.
    """

    root: int
    size: int
    rows: torch.Tensor
    columns: torch.Tensor
    biases: list[torch.Tensor]


class Branches(NamedTuple):
    """A layout as roots and groups of blocks.

    Attributes:
        trees: the trees, in the order of the layout.
        order: (T,) index of each token's output in the concatenated outputs of roots and groups.
    """

    trees: list[Cut]
    order: torch.Tensor

    @_without_cudnn
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Return the attention of query (1, H, T, d) to key, value (1, K, T, d): (1, H, T, d).

        Trees and roots are split off: each slice would have a gradient of T tokens.
        """
        sizes = [tree.size for tree in self.trees]
        each = zip(*(x.split(sizes, dim=2) for x in (query, key, value)), strict=True)
        parts: list[torch.Tensor] = []
        for tree, states in zip(self.trees, each, strict=True):
            parts += _attend(tree, states, scale)
        return torch.cat(parts, dim=2)[:, :, self.order]


def _attend(tree: Cut, states: tuple[torch.Tensor, ...], scale: float) -> list[torch.Tensor]:
    """Return the attention within a tree: of its root, and of each group (1, H, B·b, d).

    Args:
        tree: the tree.
        states: query, key and value of its tokens.
        scale: of the scores.
    """
    both = [tree.root, tree.size - tree.root]
    (query, q), (key, k), (value, v) = (x.split(both, dim=2) for x in states)
    found = [
        scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=True
        )
    ]
    if tree.biases:
        rows = [n * b for n, _, b, _ in (x.shape for x in tree.biases)]
        columns = [n * c for n, _, _, c in (x.shape for x in tree.biases)]
        groups = zip(
            tree.biases,
            q[0][:, tree.rows].split(rows, dim=1),
            k[0][:, tree.columns].split(columns, dim=1),
            v[0][:, tree.columns].split(columns, dim=1),
            strict=True,
        )
        found += [_attend_group(*one, (key[0], value[0]), scale) for one in groups]
    return found


def _attend_group(
    bias: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    root: tuple[torch.Tensor, torch.Tensor],
    scale: float,
) -> torch.Tensor:
    """Return the attention of a group's tokens to root and own columns: (1, H, B·b, d).

    Args:
        bias: (B, 1, b, c), see `Cut`.
        query: (H, B·b, d).
        key: (K, B·c, d).
        value: (K, B·c, d).
        root: (K, P, d) keys and values of the root.
        scale: of the scores.
    """
    (heads, _, d), (keys, p, _) = query.shape, root[0].shape
    n, _, b, c = bias.shape
    shared = heads // keys
    q = query.view(keys, shared, n, b, d).transpose(1, 2)  # (K, B, G, b, d)
    v = value.reshape(keys * n, c, d)
    with torch.autocast(query.device.type, enabled=False):
        # bfloat16 cannot tell large scores apart; float64 stays as it is
        wide = torch.promote_types(query.dtype, torch.float32)
        rows = (q.to(wide) * scale).reshape(keys, n * shared * b, d)
        to_root = (rows @ root[0].to(wide).transpose(1, 2)).view(keys, n, shared, b, p)
        k = key.to(wide).reshape(keys * n, c, d)
        to_own = rows.view(keys * n, shared * b, d) @ k.transpose(1, 2)
        to_own = to_own.view(keys, n, shared, b, c) + bias
        weights = torch.cat([to_root, to_own], dim=-1).softmax(dim=-1).to(v.dtype)
    from_root = weights[..., :p].reshape(keys, n * shared * b, p) @ root[1]
    from_own = weights[..., p:].reshape(keys * n, shared * b, c) @ v
    out = from_root.view(keys, n, shared, b, d) + from_own.view(keys, n, shared, b, d)
    return out.transpose(1, 2).reshape(1, heads, n * b, d)


def branches(layout: Layout, dtype: torch.dtype) -> Branches:
    """Cut a layout into roots and groups of blocks of similar size; ``dtype`` is the bias's."""
    order = np.zeros(layout.size, dtype=np.int64)
    trees: list[Cut] = []
    done = 0
    end = layout.subtree_end
    for start, stop in layout.roots.tolist():
        order[start:stop] = done + np.arange(stop - start)
        done += stop - start
        places: tuple[list[Ints], list[Ints]] = ([], [])
        biases = []
        for blocks in _alike(list(_blocks(end, stop, int(end[start]), ()))):
            rows, real = _padded([np.arange(lo, hi) for _, lo, hi in blocks])
            order[rows[real]] = done + np.flatnonzero(real)
            done += rows.size
            columns, there = _padded([np.array([*up, *range(lo, hi)]) for up, lo, hi in blocks])
            q, k = rows[:, :, None], columns[:, None, :]
            seen = (k <= q) & (q < end[k]) & there[:, None, :]  # (B, b, c)
            biases.append(torch.from_numpy(np.where(seen, 0.0, -np.inf)[:, None]).to(dtype))
            for found, some in zip(places, (rows, columns), strict=True):
                found.append(some.ravel() - stop)
        none = np.zeros(0, dtype=np.int64)
        inside, seen_by = (torch.from_numpy(np.concatenate([none, *some])) for some in places)
        trees.append(Cut(stop - start, int(end[start]) - start, inside, seen_by, biases))
    return Branches(trees, torch.from_numpy(order))


Block = tuple[tuple[int, ...], int, int]  # its ancestors below the root; its start and stop


def _blocks(end: Ints, start: int, stop: int, above: tuple[int, ...]) -> Iterator[Block]:
    """Cut a forest into blocks: small subtrees whole, large ones into trunk and children."""
    while start < stop:
        top = int(end[start])
        if top - start <= _BLOCK:
            yield above, start, top
        else:
            bare = start + 1
            while bare < top and end[bare] == top:  # a trunk: tokens with the same subtree end
                bare += 1
            yield above, start, bare
            yield from _blocks(end, bare, top, (*above, *range(start, bare)))
        start = top


def _alike(blocks: list[Block]) -> list[list[Block]]:
    """Group blocks by size."""
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
    """Return lists as rows of an array, padded with their last value, and a mask of real values."""
    sizes = np.array([len(one) for one in lists])[:, None]
    within = np.arange(sizes.max())
    places = np.minimum(within, sizes - 1) + np.cumsum(sizes)[:, None] - sizes
    return np.concatenate(lists)[places], within < sizes


class Blocks(NamedTuple):
    """A layout as FlexAttention's sparse mask.

    Attributes:
        end: (T,) see `tree.Layout`.
        partial: (1, 1, N) number of key blocks that each query block sees in part.
        partial_at: (1, 1, N, N) indices of these blocks, followed by all others.
        full: (1, 1, N) number of key blocks that each query block sees completely.
        full_at: (1, 1, N, N) their indices, likewise.
    """

    end: torch.Tensor
    partial: torch.Tensor
    partial_at: torch.Tensor
    full: torch.Tensor
    full_at: torch.Tensor

    def mask(self) -> BlockMask:
        """Return the mask, on the device of the tensors."""
        end, blocks = self.end, self[1:]
        size = len(end)

        def rule(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return (k <= q) & (q < end[k])

        return BlockMask.from_kv_blocks(
            *blocks, BLOCK_SIZE=MASK_BLOCK, mask_mod=rule, seq_lengths=(size, size)
        )


def block_mask(layout: Layout) -> Blocks:
    """Return the sparse mask of a layout, computed block by block from the subtree ends.

    A block sees an earlier one if any subtree that begins there reaches it, all of it if every
    subtree there ends after it, and a part of itself. ``create_block_mask`` evaluates all T²
    pairs instead: 7 ms at 1,312 tokens and 57 ms at 2,944 (CPU).
    """
    size = layout.size
    starts = np.arange(0, size, MASK_BLOCK)
    longest, shortest = (f.reduceat(layout.subtree_end, starts) for f in (np.maximum, np.minimum))
    q, k = np.indices((len(starts), len(starts)))
    seen = (k == q) | ((k < q) & (longest[k] > starts[q]))
    stops = starts + MASK_BLOCK  # an incomplete last block is never seen completely
    whole = (k < q) & (shortest[k] >= stops[q]) & (stops[q] <= size)
    partial, full = (_ordered(some) for some in (seen & ~whole, whole))
    return Blocks(torch.from_numpy(layout.subtree_end), *partial, *full)


def _ordered(chosen: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each row's number of chosen columns, and all columns with the chosen ones first."""
    columns = np.argsort(~chosen, axis=1, kind="stable").astype(np.int32)
    numbers = chosen.sum(axis=1, dtype=np.int32)
    return torch.from_numpy(numbers)[None, None], torch.from_numpy(columns)[None, None]


AttentionRule = Branches | Blocks


def make_rule(kind: Kind, layout: Layout, dtype: torch.dtype) -> AttentionRule:
    """Return the attention rule of a layout for one implementation, on the host."""
    return block_mask(layout) if kind == "flex" else branches(layout, dtype)


def attention_kind(model: Any) -> Kind:
    """Return the implementation that a base model was loaded with."""
    name = model.config.get_text_config()._attn_implementation
    return "flex" if name == _PREFIX + "flex" else "branches"


def attention_args(rule: AttentionRule) -> dict[str, Any]:
    """Return the forward arguments that apply a rule, which is on the model's device."""
    tree = rule.mask() if isinstance(rule, Blocks) else rule
    # transformers passes a mask of four dimensions on unchanged; its values are not used
    return {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool), "tree": tree}


def implementation(kind: Kind) -> dict[str, str]:
    """Return the name for ``attn_implementation``; without a tree it acts as ``sdpa``."""
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
    """Attention with transformers' signature → (1, T, H, d); without ``tree``, ``sdpa``."""
    if isinstance(tree, Branches):
        return tree.attend(query, key, value, scaling).transpose(1, 2).contiguous(), None
    work = sdpa_attention_forward if tree is None else flex_attention_forward
    mask = attention_mask if tree is None else tree
    return work(module, query, key, value, mask, scaling=scaling, **more)[0], None


for _kind in get_args(Kind):
    AttentionInterface.register(_PREFIX + _kind, tree_attention)
    AttentionMaskInterface.register(_PREFIX + _kind, sdpa_mask)
