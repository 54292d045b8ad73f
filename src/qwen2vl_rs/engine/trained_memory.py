"""Memory of what is trained besides plain LoRA on the language model: vision tower, merger, DoRA.

The sizes are read off the network's layers. The factors are upper bounds from measurements of what
autograd keeps (`tests/engine/test_trained_memory.py`), in float32 and in 16 bits.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import torch

from ..models.family import family_of
from ..models.parts import Part, part_of

# values that a trained layer and what follows it keep, per input and output
_KEPT = 3.0
_KEPT_DORA = 4.0
_MORE_DORA = 1.5  # beyond plain LoRA, in the language model
_FLOAT = 4  # bytes


def vision_bytes_per_token(model: Any, checkpointing: bool = True) -> float:
    """Return what the trained vision tower and merger keep for each visual token, in bytes.

    0 where they are frozen: their features are then computed without keeping anything.

    Args:
        model: a base model with its adapter.
        checkpointing: whether all blocks of the tower but one keep only their input.
    """
    family, trained = family_of(model.config), _trained_parts(model)
    blocks: dict[Part, dict[str, list[tuple[int, int]]]] = {
        part: defaultdict(list) for part in ("vision tower", "merger")
    }
    for name, inputs, outputs in _layers(model):
        if block := re.match(family.vision_blocks, name):
            blocks[part_of(family, name)][block[1]].append((inputs, outputs))
    if not trained & blocks.keys():
        return 0.0
    factor = _KEPT_DORA if _dora_layers(model) else _KEPT
    size = model.dtype.itemsize
    rows = {"vision tower": family.patches_per_token(model.config), "merger": 1}
    # the pixels, and the features for all layers of the language model
    first = max((inputs for own in blocks["vision tower"].values() for inputs, _ in own), default=0)
    layers, width = family.feature_shape(model.config)
    found = float(rows["vision tower"] * first * _FLOAT + 2 * layers * width * size)
    for part, own in blocks.items():
        if part in trained:
            sizes = [factor * sum(map(sum, pairs)) for pairs in own.values()]
            kept = sum(sizes)
            if checkpointing and part == "vision tower":
                kept = max(sizes) + sum(
                    min(inputs for inputs, _ in pairs) for pairs in own.values()
                )
            found += rows[part] * kept * size
    return found


def dora_bytes_per_token(model: Any, checkpointing: bool = True) -> float:
    """Return what DoRA keeps for each token beyond LoRA, in bytes."""
    family = family_of(model.config)
    own = [m for n, m in _dora_layers(model).items() if part_of(family, n) == "language model"]
    values = _MORE_DORA * sum(m.in_features + m.out_features for m in own)
    if checkpointing:
        values /= model.config.get_text_config().num_hidden_layers
    return float(values * model.dtype.itemsize)


def fixed_bytes(model: Any) -> float:
    """Return what takes memory at any number of tokens, in bytes.

    DoRA computes B · A of a layer from an identity matrix, and the lengths of the rows. Weights of
    whole modules are float32; autocast keeps a 16-bit copy of them.
    """
    layers = _dora_layers(model).values()
    square = max((m.in_features * (m.in_features + 4 * m.out_features) for m in layers), default=0)
    copies = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.requires_grad and ".lora_" not in name
    )
    return float(_FLOAT * square + 2 * copies * (model.dtype.itemsize == 2))


def _trained_parts(model: Any) -> set[Part]:
    family = family_of(model.config)
    return {part_of(family, n) for n, weight in model.named_parameters() if weight.requires_grad}


def _dora_layers(model: Any) -> dict[str, Any]:
    """Return the layers with DoRA, by name."""
    found = model.named_modules()
    return {name: m for name, m in found if len(getattr(m, "lora_magnitude_vector", ())) > 0}


def _layers(model: Any) -> list[tuple[str, int, int]]:
    """Return name, inputs and outputs of each layer of the network, without those of adapters."""
    found = []
    for name, module in model.named_modules():
        if ".lora_" in name or ".original_module" in name or hasattr(module, "base_layer"):
            continue
        weight = None if isinstance(module, torch.nn.Embedding) else vars(module).get("_parameters")
        weight = (weight or {}).get("weight")
        if weight is not None and weight.ndim > 1:  # a convolution of patches is a linear layer
            found.append((name, weight[0].numel(), len(weight)))
    return found
