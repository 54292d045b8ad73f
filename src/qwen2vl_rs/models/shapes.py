"""Check weight shapes against the config, from file headers, before allocating memory."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from safetensors import safe_open
from transformers import CONFIG_MAPPING

from ..errors import ModelError
from .family import FAMILIES, family_of
from .folder import FETCH, ModelFiles, model_errors, quantised_error

Shapes = dict[str, tuple[int, ...]]
_PLAIN = ("F64", "F32", "F16", "BF16")
# prefixes of weight names differ between published and newer files
_PREFIXES = tuple(dict.fromkeys(prefix for f in FAMILIES.values() for prefix in f.prefixes))


def plain_name(name: str) -> str:
    """Return a weight's name without prefixes, the same in all file layouts."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name


def check_depth(files: ModelFiles) -> None:
    """Compare the depths in a config with its files, before lists of that length are made.

    Raises:
        ModelError: a depth is not a positive integer, or not that of the files.
    """
    shapes = read_shapes(files)
    wanted = FAMILIES[files.config["model_type"]].depths(files.config)
    for (prefix, key), value in wanted.items():
        numbers = {
            int(part)
            for name in shapes
            if name.startswith(f"{prefix}.")
            and (part := name.removeprefix(f"{prefix}.").split(".")[0]).isdigit()
        }
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{files.folder}/config.json: {key} is {value!r}", hint=FETCH)
        if numbers != set(range(min(value, len(numbers) + 1))):
            raise ModelError(
                f"the weights in {files.folder} do not match its config.json: they have "
                f"{len(numbers)} layers {prefix}.*, but {key} is {value}",
                hint=FETCH,
            )


def check_shapes(files: ModelFiles, config: Any) -> None:
    """Compare the weights in the files with those of the config.

    Raises:
        ModelError: weights are missing or have another shape.
    """
    found = read_shapes(files)
    wanted = {plain_name(name): shape for name, shape in _skeleton(config)[0].items()}
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight", None)
    if absent := sorted(wanted.keys() - found.keys()):
        raise ModelError(
            f"{files.folder} lacks {len(absent)} weights, e.g. {absent[0]}", hint=FETCH
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(
                f"the weights in {files.folder} do not match its config.json: {name} has shape "
                f"{list(found[name])}, not {list(shape)}",
                hint=FETCH,
            )


def read_shapes(files: ModelFiles) -> Shapes:
    """Read the shape of each weight, by plain name, from the file headers.

    Raises:
        ModelError: a file is broken, a weight is a duplicate or quantised, or the index is wrong.
    """
    shapes: Shapes = {}
    for path in files.weights:
        broken = f"the weights in {files.folder} cannot be read: {path.name}"
        with model_errors(broken, path), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                if (kind := part.get_dtype()) not in _PLAIN:
                    raise quantised_error(files.folder, files.config, f"{name} has type {kind}")
                if plain_name(name) in shapes:
                    duplicate = f"{name} in {files.folder}/{path.name} is a duplicate"
                    raise ModelError(duplicate, hint=FETCH)
                shapes[plain_name(name)] = tuple(part.get_shape())
    return shapes


def linear_layers(config: Any) -> Shapes:
    """Return (outputs, inputs) of each linear layer, by its name in the network."""
    return _skeleton(config)[1]


def weight_shapes(config: Any) -> Shapes:
    """Return the shape of each weight, by its name in the network."""
    return _skeleton(config)[0]


def meta_network(config: Any) -> Any:
    """Build the network of a config on the meta device, without weights."""
    with torch.device("meta"):
        return family_of(config).network()(config)


def _skeleton(config: Any) -> tuple[Shapes, Shapes]:
    """Return the shapes of all weights and of the linear layers, without allocating them."""
    return _built(config.model_type, config.to_json_string())


@lru_cache(maxsize=4)
def _built(family: str, text: str) -> tuple[Shapes, Shapes]:
    network = meta_network(CONFIG_MAPPING[family](**json.loads(text)))
    layers: Shapes = {
        name: (layer.out_features, layer.in_features)
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}, layers
