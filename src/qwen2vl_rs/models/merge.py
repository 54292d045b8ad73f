"""Merge a LoRA adapter into its base model; the result loads in transformers and vLLM.

The base model's files are rewritten one at a time: a merge needs the memory of one file, and names
and layout stay those of the published model, for any version of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..config import InputConfig
from ..errors import ModelError
from ..system.console import Progress
from ..system.files import write_json
from ..system.named_files import copy_file
from ..system.oserrors import explain_read_errors, explain_write_errors
from .adapter_files import ADAPTER, AdapterFiles, adapted_layers, read_adapter, tensor_name
from .family import Family, family_of
from .folder import GENERATION, PREPROCESSOR, PROCESSOR, ModelFiles, read_object, write_template
from .loader import read_base
from .location import locate_checkpoint
from .prompt import load_prompt_format
from .shapes import linear_layers, plain_name


def merge(checkpoint: Path, folder: Path, base: Path | None = None) -> None:
    """Write a base model with a checkpoint's adapter merged into it.

    A merged weight is W + alpha / r · B · A, computed in float32 and rounded once to the stored
    dtype (Hu et al., 2021, "LoRA", section 4.1). Only the model's files are copied (see
    `models.folder`). Image and decoding settings are those of the adapter's training and
    evaluation.

    Args:
        checkpoint: the checkpoint.
        folder: an existing folder for the result.
        base: folder of the base model; None: the folder at training time.

    Raises:
        ModelError: the base model is missing or another one, the checkpoint is damaged, or its
            adapter cannot be merged.
    """
    found = locate_checkpoint(checkpoint, base)
    files, config = read_base(found.base)
    found.require_matching_base()
    adapter = read_adapter(checkpoint)
    names = adapted_layers(adapter, linear_layers(config))
    pairs = _read_pairs(adapter)
    for path in (*files.others, *([files.index] if files.index else [])):
        copy_file(path, folder / path.name)
    write_template(files, folder)
    _write_settings(files, folder, found.view, family_of(config))
    write_json(folder / GENERATION, _decoding(files, config))
    changed = {plain_name(name) for name in names}
    with Progress("merging", len(files.weights), "files") as bar:
        for shard in files.weights:
            changed -= _merge_shard(shard, folder / shard.name, pairs, adapter)
            bar.advance(1)
    if changed:
        raise ModelError(
            f"{len(changed)} adapted layers of {checkpoint} are not in the base model, e.g. "
            f"{min(changed)}"
        )


def _write_settings(files: ModelFiles, folder: Path, view: InputConfig, family: Family) -> None:
    """Write image settings with the pixel bounds of training to all files that contain them."""
    settings = files.image_settings or {}
    images = family.with_pixel_bounds(settings, view.min_pixels, view.max_pixels)
    write_json(folder / PREPROCESSOR, images)
    processor = read_object(folder / PROCESSOR)
    if "image_processor" in processor:
        write_json(folder / PROCESSOR, {**processor, "image_processor": images})


def _decoding(files: ModelFiles, config: Any) -> dict[str, Any]:
    """Return a new generation config: greedy decoding, as in the evaluation.

    Other settings of the base model (penalties, minimum length, suppressed words, beams) were not
    active in the evaluation. transformers reads ``do_sample``, vLLM the temperature.
    """
    kept = read_object(files.folder / GENERATION)
    found: dict[str, Any] = {}
    for name in ("bos_token_id", "pad_token_id"):
        given = (one.get(name) for one in (kept, files.config))
        number = next((n for n in given if isinstance(n, int) and not isinstance(n, bool)), None)
        found |= {} if number is None else {name: number}
    stops = sorted(load_prompt_format(files, config, "").stop_ids)
    found = {"eos_token_id": stops, "pad_token_id": stops[0], **found}
    greedy = {"do_sample": False, "temperature": 0.0, "repetition_penalty": 1.0}
    return {**found, **greedy, "transformers_version": transformers.__version__}


def _merge_shard(
    source: Path, target: Path, pairs: dict[str, torch.Tensor], adapter: AdapterFiles
) -> set[str]:
    """Rewrite one weights file; return the plain names of the merged layers."""
    with explain_read_errors(source):
        weights = load_file(source)
        with safe_open(source, framework="pt") as file:
            head = file.metadata()
    changed = set()
    for name, weight in weights.items():
        layer = plain_name(name).removesuffix(".weight")
        if f"{layer}.lora_A" not in pairs or not name.endswith(".weight"):
            continue
        up, down = pairs[f"{layer}.lora_B"].float(), pairs[f"{layer}.lora_A"].float()
        change = adapter.alpha / adapter.r * (up @ down)
        weights[name] = (weight.float() + change).to(weight.dtype)
        changed.add(layer)
    with explain_write_errors(target):
        save_file(weights, target, metadata=head)
    return changed


def _read_pairs(adapter: AdapterFiles) -> dict[str, torch.Tensor]:
    """Read the tensors A (r, inputs) and B (outputs, r) of each adapted layer, by plain name."""
    with explain_read_errors(adapter.folder / ADAPTER):
        weights = load_file(adapter.folder / ADAPTER)
    for weight in weights.values():
        if not torch.isfinite(weight).all():
            raise ModelError(f"the adapter in {adapter.folder} contains NaN or infinity")
    return {tensor_name(name): weight for name, weight in weights.items()}
