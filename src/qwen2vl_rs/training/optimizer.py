"""Optimizer groups with learning rates of their own; a check that all that is trained learns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from ..config import TrainingSettings
from ..errors import RunError
from ..models.family import Family
from ..models.parts import PARTS, Part, part_of
from ..system.console import counted, warn

_NAMED = 3  # tensors named in a message


def learning_rates(settings: TrainingSettings) -> dict[Part, float]:
    """Return the peak learning rate of each part of the model."""
    usual = settings.learning_rate
    return {
        "language model": usual,
        "vision tower": settings.vision_learning_rate or usual,
        "merger": settings.merger_learning_rate or usual,
    }


def parameter_groups(
    model: Any, family: Family, settings: TrainingSettings, decaying: Collection[str]
) -> list[dict[str, Any]]:
    """Return the optimizer's groups, the language model's first.

    Biases and norms get no weight decay, as is usual.

    Args:
        model: a base model with its adapter.
        family: its family.
        settings: learning rates and weight decay.
        decaying: names of the parameters to which transformers applies weight decay.
    """
    rates = learning_rates(settings)
    groups: dict[tuple[Part, bool], list[torch.nn.Parameter]] = {
        (part, decays): [] for part in PARTS for decays in (True, False)
    }
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            whole = ".lora_" not in name
            decays = name in decaying and not (whole and weight.ndim < 2)
            groups[part_of(family, name), decays].append(weight)
    return [
        {
            "params": weights,
            "lr": rates[part],
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (part, decays), weights in groups.items()
        if weights
    ]


def check_gradients(model: Any, step: int) -> None:
    """Check after a backward pass that every trained tensor gets a gradient.

    B is 0 at first, and A's gradient with it. The warmup delays the first change of B by a step, so
    that zeros are looked for in the third step; float16 may have skipped the steps before.

    Args:
        model: the model in training.
        step: number of optimizer steps so far.

    Raises:
        RunError: a trained tensor does not take part in the computation.
    """
    if step not in (0, 2):
        return
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    idle = [name for name, weight in trained.items() if weight.grad is None]
    if idle:
        raise RunError(
            f"{counted(len(idle), 'trained tensor')} of {len(trained):,} cannot learn: they "
            f"take no part in the computation, e.g. {', '.join(idle[:_NAMED])}",
            hint="train fewer layers: lora.target_modules, training.vision_tower, training.merger",
        )
    if step == 2:
        zero = [
            name for name in trained if not _any(trained[name].grad) and _may_learn(name, trained)
        ]
        if zero:
            warn(
                f"{counted(len(zero), 'trained tensor')} of {len(trained):,} got no gradient in "
                f"step 3, e.g. {', '.join(zero[:_NAMED])}"
            )


def _any(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())


def _may_learn(name: str, trained: Mapping[str, torch.Tensor]) -> bool:
    """Whether a tensor can have a gradient by now: A has none as long as its B is 0."""
    partner = trained.get(name.replace(".lora_A.", ".lora_B."))
    return ".lora_A." not in name or _any(partner)
