"""What a pack becomes before it enters a model: made on the host in any thread, moved at once.

Shapes: T tokens of a pack, K tokens whose logits are wanted, L loss tokens; V visual tokens of an
image, F features of each, H values of a feature; N patches of all images, D values of a patch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from accelerate.utils import recursively_apply

from ..question_tree.attention import Rule, kind_of, rule_of
from ..question_tree.tree import Ints
from .packing import Pack


class Inputs(NamedTuple):
    """A pack as tensors.

    Attributes:
        ids: (1, T) token ids.
        positions: (A, 1, T) rotary positions on A axes.
        keep: (K,) tokens whose logits are wanted.
        targets: (L,) ids of the loss tokens, where ``keep`` are their predictors.
        rule: who sees whom.
        features: (V, F, H) of each image; none where the images are still to be encoded,
        patches: (N, D) of all images then,
        grids: (images, 3) and their rows and columns of patches.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    keep: torch.Tensor
    targets: torch.Tensor
    rule: Rule
    features: tuple[torch.Tensor, ...]
    patches: torch.Tensor | None
    grids: torch.Tensor


def make_inputs(pack: Pack, model: Any, keep: Ints | None = None) -> Inputs:
    """The tensors of a pack, on the host, pinned where a GPU is to fetch them.

    Args:
        pack: the pack; its images all with features, or all with patches.
        model: where they go: a base, with or without adapter.
        keep: (K,) tokens whose logits are wanted; None: the predictors of the loss tokens.
    """
    layout = pack.layout
    features = tuple(i.features for i in pack.images if i.features is not None)
    patches = None
    if not features:
        patches = torch.cat([i.patches for i in pack.images if i.patches is not None])
    inputs = Inputs(
        ids=torch.from_numpy(layout.ids)[None],
        positions=torch.from_numpy(layout.positions)[:, None],
        keep=torch.from_numpy(layout.predictors if keep is None else keep),
        targets=torch.from_numpy(layout.targets),
        rule=rule_of(kind_of(model), layout, model.dtype),
        features=features,
        patches=patches,
        grids=torch.tensor([i.grid for i in pack.images]),
    )
    return recursively_apply(_pinned, inputs) if model.device.type == "cuda" else inputs


def _pinned(x: torch.Tensor) -> torch.Tensor:
    """In memory that the device can fetch by itself; features may be on the device already."""
    return x if x.is_cuda else x.pin_memory()
