"""Build an adapter on a network with PEFT, fill it with weights, and remove it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file

from ..errors import ModelError
from ..system.oserrors import explain_read_errors
from ..system.scopes import ignore_warnings
from .adapter_files import ADAPTER, UNUSABLE, AdapterFiles, tensor_name
from .family import family_of
from .parts import part_of

quiet_peft = partial(ignore_warnings, FutureWarning, "`is_gradient_checkpointing`")


def build_adapter(network: Any, config: LoraConfig) -> PeftModel:
    """Put a new adapter on a network; trained weights are float32, also on 16-bit networks.

    Raises:
        ValueError: the config matches no layer.
    """
    with quiet_peft():
        model = get_peft_model(network, config)
    if not config.inference_mode:  # PEFT makes LoRA float32, but not the copies of whole modules
        for wrapper in _wrappers(model).values():
            wrapper.modules_to_save.float()
    return model


def lora_config(
    adapter: AdapterFiles, layers: Sequence[str], whole: Sequence[str], **more: Any
) -> LoraConfig:
    """Return PEFT's config of an adapter in files, with the names of what it changes."""
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        target_modules=list(layers),
        modules_to_save=list(whole) or None,
        task_type="CAUSAL_LM",
        **more,
    )


def read_weights(adapter: AdapterFiles) -> dict[str, torch.Tensor]:
    """Read an adapter's tensors, by plain name.

    Raises:
        ModelError: a value is NaN or infinite.
    """
    with explain_read_errors(adapter.folder / ADAPTER):
        weights = load_file(adapter.folder / ADAPTER)
    for weight in weights.values():
        if not torch.isfinite(weight).all():
            raise ModelError(
                f"the adapter in {adapter.folder} contains NaN or infinity",
                hint="use an older checkpoint, or train with a lower learning rate",
            )
    return {tensor_name(name): weight for name, weight in weights.items()}


@torch.no_grad()
def place_weights(model: PeftModel, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy tensors into an adapter; PEFT only warns of those that it does not find.

    Args:
        model: the network with an adapter.
        weights: see `read_weights`.
        where: the adapter's place, for messages.

    Raises:
        ModelError: the names differ, or a value overflows in the model's dtype.
    """
    places = adapter_tensors(model)
    if other := sorted(places.keys() ^ weights.keys()):
        raise ModelError(
            f"the adapter in {where} was not loaded correctly: {other[0]}",
            hint="this version of PEFT uses other layer names: install another",
        )
    for name, place in places.items():
        if place.shape != weights[name].shape:
            raise ModelError(
                f"the adapter in {where} does not fit: {name} has shape "
                f"{list(weights[name].shape)}, not {list(place.shape)}",
                hint=UNUSABLE,
            )
        place.copy_(weights[name])
        if not torch.isfinite(place).all():
            raise ModelError(
                f"the adapter in {where} overflows in {place.dtype}: {name}",
                hint="use a wider type: --set eval.bf16=true, or false for float32",
            )


def adapter_tensors(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return the tensors that an adapter adds to a network, by plain name."""
    return {
        tensor_name(name): weight
        for name, weight in model.named_parameters()
        if ".lora_" in name or ".modules_to_save." in name
    }


def remove_adapter(model: PeftModel) -> Any:
    """Return the network as it was before `build_adapter`.

    PEFT's ``unload`` leaves trained copies in the place of whole modules.
    """
    network = model.get_base_model()
    for name, wrapper in _wrappers(network).items():
        network.set_submodule(name, wrapper.original_module)
    return model.unload()


def adapts_vision(model: Any) -> bool:
    """Whether a network's image features depend on its adapter."""
    if not isinstance(model, PeftModel):
        return False
    family = family_of(model.config)
    return any(part_of(family, name) != "language model" for name in adapter_tensors(model))


@contextmanager
def as_answering(model: Any) -> Iterator[None]:
    """Let a model in training compute as one that `attach_adapter` returns.

    Whole modules are rounded to the dtype of the base model, and accelerate's automatic mixed
    precision, which it puts around ``forward``, is left out.
    """
    dtype = model.dtype
    exact = {
        weight: weight.data
        for wrapper in _wrappers(model).values()
        for weight in wrapper.modules_to_save.parameters()
    }
    patched = vars(model).pop("forward", None)
    try:
        for weight, values in exact.items():
            weight.data = values.to(dtype)
        yield
    finally:
        for weight, values in exact.items():
            weight.data = values
        if patched is not None:
            model.forward = patched


def _wrappers(model: Any) -> dict[str, ModulesToSaveWrapper]:
    found = model.named_modules()
    return {name: one for name, one in found if isinstance(one, ModulesToSaveWrapper)}
