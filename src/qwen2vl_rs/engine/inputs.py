"""Collate a pack into (pinned) tensors on the host, in any thread.

Shapes: T tokens of a pack, K tokens whose logits are kept, L loss tokens; V visual tokens of an
image, F features of each, H values of a feature; N patches of all images, D values of a patch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from accelerate.utils import recursively_apply

from ..question_tree.attention import AttentionRule, attention_kind, make_rule
from ..question_tree.tree import Ints
from .packing import Pack


class Inputs(NamedTuple):
    """A pack as tensors.

    Attributes:
        ids: (1, T) token ids.
        positions: (A, 1, T) rotary positions on A axes.
        logits_to_keep: (K,) tokens whose logits are computed.
        targets: (L,) ids of the loss tokens, where ``logits_to_keep`` are their predictors.
        attention: the attention rule, in the form of the model's implementation.
        features: (V, F, H) per image; empty if the model has yet to encode the images.
        patches: (N, D) of all images in that case, else None.
        grids: (images, 3) time, rows and columns of patches.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    logits_to_keep: torch.Tensor
    targets: torch.Tensor
    attention: AttentionRule
    features: tuple[torch.Tensor, ...]
    patches: torch.Tensor | None
    grids: torch.Tensor


def make_inputs(pack: Pack, model: Any, keep: Ints | None = None) -> Inputs:
    """Return the tensors of a pack on the host, pinned if the model is on a GPU.

    Args:
        pack: its images have either all features or all patches.
        model: the base model, with or without adapter, that takes them.
        keep: (K,) tokens whose logits are computed; None: the predictors of the loss tokens.
    """
    layout = pack.layout
    features = tuple(i.features for i in pack.images if i.features is not None)
    patches = None
    if not features:
        patches = torch.cat([i.patches for i in pack.images if i.patches is not None])
    inputs = Inputs(
        ids=torch.from_numpy(layout.ids)[None],
        positions=torch.from_numpy(layout.positions)[:, None],
        logits_to_keep=torch.from_numpy(layout.predictors if keep is None else keep),
        targets=torch.from_numpy(layout.targets),
        attention=make_rule(attention_kind(model), layout, model.dtype),
        features=features,
        patches=patches,
        grids=torch.tensor([i.grid for i in pack.images]),
    )
    return recursively_apply(_pinned, inputs) if model.device.type == "cuda" else inputs


def _pinned(x: torch.Tensor) -> torch.Tensor:
    """Pin a tensor, unless it is on the GPU already (features may be)."""
    return x if x.is_cuda else x.pin_memory()
