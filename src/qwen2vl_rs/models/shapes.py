"""Weights checked against their configuration before anything is allocated for them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from safetensors import safe_open
from transformers import CONFIG_MAPPING

from ..errors import ModelError
from .family import FAMILIES, family_of
from .folder import FETCH, ModelFiles, as_model_error, quantised_error

Shapes = dict[str, tuple[int, ...]]
_PLAIN = ("F64", "F32", "F16", "BF16")
# Published files and newer ones differ in what stands before a weight's own name.
_PREFIXES = tuple(dict.fromkeys(prefix for f in FAMILIES.values() for prefix in f.prefixes))


def plain_name(name: str) -> str:
    """A weight's name from the name of its part of the network on: the same in all layouts."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name


def check_depth(files: ModelFiles) -> None:
    """Compare the depths of a configuration with its files, before it makes lists that long.

    Raises:
        ModelError: a depth is no number, zero, or not that of the files.
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
                f"the weights in {files.folder} are not those of its config.json: they have "
                f"{len(numbers)} layers {prefix}.*, and {key} is {value}",
                hint=FETCH,
            )


def check_shapes(files: ModelFiles, config: Any) -> None:
    """Compare the weights in the files with those that the configuration asks for.

    Raises:
        ModelError: some are missing, or of another size.
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
                f"the weights in {files.folder} are not those of its config.json: {name} is of "
                f"{list(found[name])}, not {list(shape)}",
                hint=FETCH,
            )


def read_shapes(files: ModelFiles) -> Shapes:
    """Shape of each weight by its plain name, from the headers of the files.

    Raises:
        ModelError: a file is broken, a weight is there twice or quantised, or the index is wrong.
    """
    shapes: Shapes = {}
    for path in files.weights:
        broken = f"the weights in {files.folder} cannot be read: {path.name}"
        with as_model_error(broken, path), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                if (kind := part.get_dtype()) not in _PLAIN:
                    raise quantised_error(files.folder, files.config, f"{name} is of type {kind}")
                if plain_name(name) in shapes:
                    twice = f"{files.folder} holds {name} twice, in {path.name} and before"
                    raise ModelError(twice, hint=FETCH)
                shapes[plain_name(name)] = tuple(part.get_shape())
    return shapes


def linear_layers(config: Any) -> Shapes:
    """(outputs, inputs) of each linear layer, by its name in the network."""
    return _skeleton(config)[1]


def meta_network(config: Any) -> Any:
    """The network of a base without its weights: which layers there are, in a moment."""
    with torch.device("meta"):
        return family_of(config).network()(config)


def _skeleton(config: Any) -> tuple[Shapes, Shapes]:
    """Shapes of all weights and of the linear layers of a network that is never allocated."""
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
