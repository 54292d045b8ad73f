"""Add an adapter (PEFT) to a model for training: LoRA, rsLoRA or DoRA, and whole modules."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import LoraLayer

from ..config import LoraSettings, Way
from ..errors import ConfigError
from ..system.console import counted, say
from .adapter_weights import adapter_tensors, build_adapter
from .family import family_of
from .parts import PARTS, Part, blocks_of, part_of


def add_adapter(
    model: Any, lora: LoraSettings, vision_tower: Way = "frozen", merger: Way = "frozen"
) -> PeftModel:
    """Add a new adapter to a model and log what it adapts.

    Args:
        model: the base model; changed in place.
        lora: the adapter, and the layers of the language model that get it.
        vision_tower: how the vision tower is trained.
        merger: how the layers between vision tower and language model are trained.

    Raises:
        ConfigError: a target module is not among the linear layers of the decoder blocks.
    """
    check_targets(model, lora.target_modules)
    ways: dict[Part, Way] = {"vision tower": vision_tower, "merger": merger}
    parts = _vision_parts(model)
    whole = [*chain(*(parts[part].blocks for part in parts if ways[part] == "full"))]
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        target_modules=[
            *lora.target_modules,
            *chain(*(parts[part].layers for part in parts if ways[part] == "lora")),
        ],
        exclude_modules=_left_out(model, parts, ways),
        modules_to_save=whole or None,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = build_adapter(model, config)
    except ValueError as error:
        raise ConfigError(
            f"lora.target_modules: {str(error).splitlines()[0]}",
            hint="names of layers, such as q_proj, v_proj",
        ) from error
    _describe(adapted, lora)
    return adapted


@dataclass(frozen=True, slots=True)
class _VisionPart:
    """Names of the linear layers of the vision tower or merger, and of all its modules."""

    layers: list[str]
    blocks: list[str]


def _vision_parts(model: Any) -> dict[Part, _VisionPart]:
    family = family_of(model.config)
    weights = [name for name, _ in model.named_parameters()]
    linear = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    return {
        part: _VisionPart(
            [name for name in linear if part_of(family, name) == part],
            blocks_of(family, part, weights),
        )
        for part in PARTS[1:]
    }


def _left_out(
    model: Any, parts: Mapping[Part, _VisionPart], ways: Mapping[Part, Way]
) -> str | list[str] | None:
    """Return which layers get no LoRA although they may share a target's name."""
    if "lora" not in ways.values():
        return family_of(model.config).vision_layers
    return [*chain(*(parts[part].layers for part in parts if ways[part] != "lora"))] or None


def _describe(adapted: PeftModel, lora: LoraSettings) -> None:
    """Log which layers got LoRA, and which parts of the model are trained as a whole."""
    family = family_of(adapted.config)
    found: dict[Part, Counter[str]] = {part: Counter() for part in PARTS}
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            found[part_of(family, name)][name.rpartition(".")[2]] += 1
    for part, counts in found.items():
        if counts:
            kinds = ", ".join(f"{name} {n}" for name, n in counts.items())
            layers = f"{counted(counts.total(), 'layer')} of {counted(len(counts), 'kind')}"
            where = "" if part == "language model" else f" of the {part}"
            say(f"{lora.method} r {lora.r} on {layers}{where}: {kinds}")
    whole = dict.fromkeys(PARTS, 0)
    for name, weight in adapter_tensors(adapted).items():
        if ".lora_" not in name:
            whole[part_of(family, name)] += weight.numel()
    for part, size in whole.items():
        if size:
            say(f"{part}: all {size / 1e6:.2f} M weights are trained")


def recompute_activations(model: Any) -> None:
    """Compute activations again in the backward pass instead of storing them.

    For the reentrant kind, transformers makes the outputs of all embeddings require gradients, also
    of the vision tower's first layer: a frozen tower would then keep its activations.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()


def without_casts(model: Any, mixed: bool) -> AbstractContextManager[None]:
    """Skip PEFT's float32 copies of all inputs in 16-bit training on a GPU.

    Autocast rounds them to 16 bits anyway, with the same result, and the copies take a seventh of a
    step (docs/gpu.md). On a CPU they stay: otherwise dropout would round its scale. With DoRA they
    stay, too: it would compute the lengths of the rows in 16 bits, and inference does in float32.

    Args:
        model: a base model with its adapter.
        mixed: whether autocast is active.
    """
    dora = any(config.use_dora for config in model.peft_config.values())
    active = mixed and model.device.type == "cuda" and not dora
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
            problems.append(
                f"{target} is in the vision tower (see training.vision_tower, training.merger)"
            )
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
