"""Merge an adapter into its base model; the result loads in transformers and vLLM.

The base model's files are rewritten one at a time: a merge needs the memory of one file, and names
and layout stay those of the published model, for any version of transformers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..config import InputConfig
from ..errors import ModelError
from ..system.console import Progress, counted, say, warn
from ..system.files import write_json
from ..system.named_files import copy_file
from ..system.oserrors import explain_read_errors, explain_write_errors
from .adapter_files import AdapterFiles, adapted_parts, read_adapter
from .adapter_weights import read_weights
from .family import Family, family_of
from .folder import (
    FETCH,
    GENERATION,
    PREPROCESSOR,
    PROCESSOR,
    ModelFiles,
    read_object,
    write_template,
)
from .loader import read_base
from .location import locate_checkpoint
from .parts import PARTS, part_of
from .prompt import load_prompt_format
from .shapes import plain_name, read_shapes


def merge(checkpoint: Path, folder: Path, base: Path | None = None) -> None:
    """Write a base model with a checkpoint's adapter merged into it.

    A merged weight is V = W + scale · B · A (Hu et al., 2021, "LoRA", section 4.1), in DoRA with
    each row brought to its learnt length (Liu et al., 2024, "DoRA", equation 5); a weight that was
    trained as a whole takes the place of the old one. All is computed in float32 and rounded once
    to the stored dtype. Only the model's files are copied (see `models.folder`). Image and decoding
    settings are those of the adapter's training and evaluation.

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
    changed = adapted_parts(adapter, config)
    tensors = read_weights(adapter)
    wanted = {f"{plain_name(name)}.weight" for name in changed.layers}
    wanted |= {plain_name(name) for name in changed.weights}
    if absent := sorted(wanted - read_shapes(files).keys()):
        raise ModelError(
            f"{counted(len(absent), 'adapted weight')} of {checkpoint} are not in the base model's "
            f"files, e.g. {absent[0]}",
            hint=FETCH,
        )
    for path in (*files.others, *([files.index] if files.index else [])):
        copy_file(path, folder / path.name)
    write_template(files, folder)
    _write_settings(files, folder, found.view, family_of(config))
    write_json(folder / GENERATION, _decoding(files, config))
    done: dict[str, bool] = {}
    with Progress("merging", len(files.weights), "files") as bar:
        for shard in files.weights:
            done |= _merge_shard(shard, folder / shard.name, tensors, adapter)
            bar.advance(1)
    _report(family_of(config), wanted, done)


def _report(family: Family, wanted: Iterable[str], done: Mapping[str, bool]) -> None:
    """Say how many weights were merged in each part of the model.

    Args:
        family: family of the base model.
        wanted: plain names of the weights that the adapter changes.
        done: for each merged weight whether any of its values is another one now.

    Raises:
        ModelError: other weights were merged than the adapter changes.
    """
    expected = Counter(part_of(family, name) for name in wanted)
    merged = Counter(part_of(family, name) for name in done)
    if expected != merged:
        counts = (f"{part}: {merged[part]:,} of {expected[part]:,}" for part in PARTS)
        raise ModelError(f"not all adapted weights were merged ({'; '.join(counts)})")
    said = (f"{part} {counted(merged[part], 'weight')}" for part in PARTS if merged[part])
    say(f"merged: {', '.join(said)}")
    if same := sum(not changed for changed in done.values()):
        warn(f"{same:,} of {counted(len(done), 'merged weight')} did not change: rounded, or 0")


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
    source: Path, target: Path, tensors: Mapping[str, torch.Tensor], adapter: AdapterFiles
) -> dict[str, bool]:
    """Rewrite one weights file; return the plain names of the merged weights, see `_report`."""
    with explain_read_errors(source):
        weights = load_file(source)
        with safe_open(source, framework="pt") as file:
            head = file.metadata()
    done = {}
    for name, weight in weights.items():
        plain = plain_name(name)
        new = tensors.get(plain)
        if new is None and f"{plain.removesuffix('.weight')}.lora_A" in tensors:
            new = _merged(weight, plain.removesuffix(".weight"), tensors, adapter)
        if new is not None:
            weights[name] = new.to(weight.dtype).contiguous()
            if not torch.isfinite(weights[name]).all():
                raise ModelError(f"{name} overflows in {weight.dtype} when it is merged")
            done[plain] = not torch.equal(weights[name], weight)
    with explain_write_errors(target):
        save_file(weights, target, metadata=head)
    return done


def _merged(
    weight: torch.Tensor, layer: str, tensors: Mapping[str, torch.Tensor], adapter: AdapterFiles
) -> torch.Tensor:
    """Return the weight (outputs, inputs) of a layer with its adapter, in float32."""
    up, down = tensors[f"{layer}.lora_B"].float(), tensors[f"{layer}.lora_A"].float()
    new = weight.float() + adapter.scale * (up @ down)
    length = tensors.get(f"{layer}.lora_magnitude_vector")
    if length is None:
        return new
    return length.float()[:, None] * (new / new.norm(dim=1, keepdim=True))
