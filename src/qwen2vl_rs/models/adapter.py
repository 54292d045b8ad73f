"""Add a LoRA adapter (PEFT) to the language model for training."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import LoraLayer

from ..config import LoraSettings
from ..errors import ConfigError
from ..system.console import counted, say
from .family import family_of
from .loader import quiet_peft


def add_adapter(model: Any, lora: LoraSettings) -> PeftModel:
    """Add a new adapter to the language model and log the adapted layers.

    Raises:
        ConfigError: a target module is not among the linear layers of the decoder blocks.
    """
    check_targets(model, lora.target_modules)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=list(lora.target_modules),
        exclude_modules=family_of(model.config).vision_layers,  # it uses the same layer names
        task_type="CAUSAL_LM",
    )
    try:
        with quiet_peft():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(
            f"lora.target_modules: {str(error).splitlines()[0]}",
            hint="names of layers, such as q_proj, v_proj",
        ) from error
    found = Counter(
        name.rpartition(".")[2] for name, m in adapted.named_modules() if isinstance(m, LoraLayer)
    )
    kinds = ", ".join(f"{name} {n}" for name, n in found.items())
    layers = f"{counted(found.total(), 'layer')} of {counted(len(found), 'kind')}"
    say(f"LoRA r {lora.r} on {layers}: {kinds}")
    return adapted


def without_casts(model: Any, mixed: bool) -> AbstractContextManager[None]:
    """Skip PEFT's float32 copies of all inputs in 16-bit training on a GPU.

    Autocast rounds them to 16 bits anyway, with the same result, and the copies take a seventh of a
    step (docs/gpu.md). On a CPU they stay: otherwise dropout would round its scale.

    Args:
        model: a base model with its adapter.
        mixed: whether autocast is active.
    """
    active = mixed and model.device.type == "cuda"
    context: AbstractContextManager[None] = disable_input_dtype_casting(model, active)
    return context


def check_targets(model: Any, targets: Sequence[str]) -> None:
    """Refuse target modules that PEFT would ignore or that are outside the decoder blocks.

    Raises:
        ConfigError: names each of them, with the nearest existing name.
    """
    layers = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    family = family_of(model.config)
    blocks = [name for name in layers if family.is_block(name)]
    problems = []
    for target in targets:
        if any(_is_called(name, target) for name in blocks):
            continue
        if any(_is_called(n, target) for n in layers if re.fullmatch(family.vision_layers, n)):
            problems.append(f"{target} is in the vision tower, which is not trained")
        elif any(_is_called(name, target) for name, _ in model.named_modules()):
            problems.append(f"{target} is not a linear layer of a decoder block")
        else:
            problems.append(f"there is no layer {target}{_nearest(target, blocks)}")
    if problems:
        kinds = dict.fromkeys(name.rpartition(".")[2] for name in blocks)
        raise ConfigError(
            f"lora.target_modules: {'; '.join(problems)}",
            hint=f"layers that can be adapted: {', '.join(kinds)}",
        )
    if not targets:
        raise ConfigError("lora.target_modules is empty", hint="e.g. q_proj, v_proj")


def _is_called(name: str, target: str) -> bool:
    """Whether PEFT matches a module to a target."""
    return name == target or name.endswith(f".{target}")


def _nearest(target: str, layers: list[str]) -> str:
    """Return the existing name, of as many parts, that is most similar to a wrong one."""
    parts = target.count(".") + 1
    ends = dict.fromkeys(".".join(name.split(".")[-parts:]) for name in layers)
    names = {name.lower(): name for name in ends}
    near = difflib.get_close_matches(target.lower(), names, n=1, cutoff=0.5)
    return f", did you mean {names[near[0]]}?" if near else ""
