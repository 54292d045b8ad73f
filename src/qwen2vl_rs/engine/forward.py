"""The forward pass of a model over a pack.

Shapes: K positions whose logits are kept, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from transformers import DynamicCache

from ..models.family import family_of
from ..question_tree.attention import attention_args
from .inputs import Inputs
from .vision import encode


def forward(model: Any, inputs: Inputs, cache: DynamicCache | None = None) -> torch.Tensor:
    """Run a pack through the model.

    Args:
        model: a base model, with or without adapter.
        inputs: the pack.
        cache: receives the keys and values of all tokens.

    Returns:
        (K, V) logits.
    """
    inner = getattr(model, "module", model)  # behind DDP
    inputs = send_to_device(inputs, inner.device, non_blocking=True)
    family = family_of(inner.config)
    features: Sequence[torch.Tensor] = inputs.features
    if inputs.patches is not None:
        features = encode(inner, inputs.patches, inputs.grids)
    out = model(
        input_ids=inputs.ids,
        position_ids=inputs.positions,
        logits_to_keep=inputs.logits_to_keep,
        **family.image_inputs(features),
        **family.cache_inputs(cache),
        use_cache=cache is not None,
        **attention_args(inputs.attention),
    )
    # [0] would be slower: its backward allocates a zero gradient for every logit
    logits: torch.Tensor = out.logits.squeeze(0)
    return logits
