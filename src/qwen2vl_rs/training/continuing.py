"""Continue from an adapter: its settings become those of the run, its weights the first ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel

from ..config import Config, Way
from ..errors import ConfigError, ModelError, RunError
from ..models.adapter_files import ADAPTER, SETTINGS, Adapted, adapted_parts, read_adapter
from ..models.adapter_weights import place_weights, read_weights
from ..models.family import Family, family_of
from ..models.loader import METADATA, find_checkpoint, read_config, read_metadata, require_base
from ..models.parts import Part, blocks_of, part_of
from ..models.shapes import linear_layers, plain_name, weight_shapes
from ..run import Run
from ..system.console import say, warn
from ..system.files import is_there, sha256

_SETTINGS: dict[Part, str] = {"vision tower": "vision_tower", "merger": "merger"}


def with_adapter_settings(config: Config, resume: bool) -> Config:
    """Return the settings of a run that continues from ``lora.adapter``.

    Rank, alpha, method and layers are the adapter's. A run that is resumed has recorded them, and
    does not need the adapter any more.

    Raises:
        ConfigError: a given setting contradicts the adapter.
        ModelError: there is no adapter, it is for another base model, or cannot be continued.
    """
    if config.lora.adapter is None:
        return config
    place = os.path.abspath(config.lora.adapter)  # the run may be used elsewhere
    run = Run(Path(config.output))
    if resume and run.checkpoints() and (known := run.manifest().get("settings")):
        return _recorded(config, place, known)
    folder = adapter_folder(place)
    if is_there(folder / METADATA):
        metadata = read_metadata(folder)
        require_base(Path(config.model), folder, metadata)
        if metadata.view != config.view:
            warn(f"{folder} was trained with other input settings: compare view in its {METADATA}")
    else:
        warn(f"{folder} does not record its base model: only sizes of layers can be compared")
    adapter, base = read_adapter(folder), read_config(Path(config.model))
    changed = adapted_parts(adapter, base)
    if adapter.alpha != int(adapter.alpha):
        raise ModelError(f"{folder / SETTINGS}: lora_alpha is {adapter.alpha}, not a whole number")
    ways = {_SETTINGS[part]: _way(folder, part, changed, base) for part in _SETTINGS}
    lora = {
        "adapter": place,
        "r": adapter.r,
        "lora_alpha": int(adapter.alpha),
        "use_rslora": adapter.rslora,
        "use_dora": adapter.dora,
        "target_modules": _targets(folder, changed.layers, base),
    }
    _refuse_others(config, folder, lora, ways)
    say(f"continuing from the adapter in {folder}")
    return config.model_copy(
        update={
            "lora": config.lora.model_copy(update=lora),
            "training": config.training.model_copy(update=ways),
        }
    )


def _recorded(config: Config, place: str, known: Mapping[str, Any]) -> Config:
    """Return the settings of a resumed run with those that it took over from the adapter."""
    names = ("r", "lora_alpha", "use_rslora", "use_dora", "target_modules")
    lora = {name: known["lora"][name] for name in names} | {"adapter": place}
    lora["target_modules"] = tuple(lora["target_modules"])
    ways = {name: known["training"][name] for name in _SETTINGS.values()}
    _refuse_others(config, Path(place), lora, ways)
    return config.model_copy(
        update={
            "lora": config.lora.model_copy(update=lora),
            "training": config.training.model_copy(update=ways),
        }
    )


def adapter_folder(given: str) -> Path:
    """Return the folder with the files of an adapter: of a run, its checkpoint.

    Raises:
        ModelError: it holds no adapter.
    """
    folder = Path(given)
    found = find_checkpoint(folder) if folder.is_dir() else None
    if found is None or not is_there(found / ADAPTER):
        raise ModelError(
            f"lora.adapter: there is no adapter in {folder}",
            hint=f"give a run, one of its checkpoint-* folders, or a folder with {ADAPTER}",
        )
    return found


def load_first_weights(model: PeftModel, config: Config, run: Run) -> dict[str, str] | None:
    """Copy the weights of ``lora.adapter`` into a new adapter.

    Returns:
        The adapter's folder and checksum for the manifest; None if there is none.

    Raises:
        RunError: the adapter is not the one that the run was started with.
    """
    if config.lora.adapter is None:
        return None
    folder = adapter_folder(config.lora.adapter)
    digest = sha256(folder / ADAPTER)
    if run.manifest().get("adapter", {}).get("sha256", digest) != digest:
        raise RunError(
            f"{folder / ADAPTER} has changed since {run} was started from it",
            hint="restore it, or train in another folder: --output",
        )
    place_weights(model, read_weights(read_adapter(folder)), str(folder))
    return {"folder": str(folder.resolve()), "sha256": digest}


def _way(folder: Path, part: Part, changed: Adapted, base: Any) -> Way:
    """Return how an adapter trains the vision tower or merger.

    Raises:
        ModelError: it trains a part of it only.
    """
    family = family_of(base)
    layers = _of(family, part, linear_layers(base))
    blocks = [*(f"{block}." for block in blocks_of(family, part, weight_shapes(base)))]
    weights = [name for name in weight_shapes(base) if name.startswith(tuple(blocks))]
    adapted, whole = _of(family, part, changed.layers), _of(family, part, changed.weights)
    if not adapted and not whole:
        return "frozen"
    if set(adapted) == set(layers) and not whole:
        return "lora"
    if set(whole) == set(weights):
        return "full"
    raise ModelError(
        f"the adapter in {folder} trains {len(adapted)} of {len(layers)} linear layers and "
        f"{len(whole)} of {len(weights)} weights of the {part}: it can only be continued if it "
        "trains all or none",
        hint="merge it (qwen2vl-rs export --merge) and train a new adapter on the result",
    )


def _of(family: Family, part: Part, names: Iterable[str]) -> list[str]:
    return [name for name in names if part_of(family, name) == part]


def _targets(folder: Path, layers: Iterable[str], base: Any) -> tuple[str, ...]:
    """Return the target modules of the language model, in short if that is the same.

    Raises:
        ModelError: the adapter has layers outside the decoder blocks, or none in them.
    """
    family = family_of(base)
    own = _of(family, "language model", layers)
    if outside := [name for name in own if not family.is_block(name)]:
        raise ModelError(f"the adapter in {folder} adapts {outside[0]}, which cannot be continued")
    if not own:
        raise ModelError(f"the adapter in {folder} has no layer of the language model")
    kinds = tuple(dict.fromkeys(name.rpartition(".")[2] for name in own))
    every = [name for name in linear_layers(base) if family.is_block(name)]
    if {name for name in every if name.rpartition(".")[2] in kinds} == set(own):
        return kinds
    return tuple(map(plain_name, own))


def _refuse_others(
    config: Config, folder: Path, lora: Mapping[str, Any], ways: Mapping[str, Any]
) -> None:
    """Refuse settings that were given and contradict the adapter."""
    found = []
    for section, wanted in (("lora", lora), ("training", ways)):
        own = getattr(config, section)
        for name, value in wanted.items():
            given = getattr(own, name)
            if name not in own.model_fields_set or given == value or name == "adapter":
                continue
            if isinstance(value, tuple) and set(given) == set(value):
                continue
            found.append(f"{section}.{name} is {_text(given)}, the adapter's is {_text(value)}")
    if found:
        raise ConfigError(
            f"the adapter in {folder} cannot be continued with other settings: {'; '.join(found)}",
            hint="leave these settings out; or merge the adapter (qwen2vl-rs export --merge) and "
            "train a new one on the result",
        )


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value).lower()
