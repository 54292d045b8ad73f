"""An adapter merged into its base, in the base's own files: plain transformers and vLLM load it.

The base's files are rewritten one at a time, so that a merge needs the memory of one of them, and
the names and layout stay those of the published model, whichever version of transformers reads it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..console import Progress
from ..errors import ModelError
from ..files import CHECKSUMS, HUB_MANIFEST, damage, read_json
from .loader import ADAPTER, read_card, require_base
from .usage import TEMPLATE

# Of a checkpoint, in place of the base's: the view's pixel bounds, and the template in force.
_OWN = ("preprocessor_config.json", TEMPLATE)
_NOT_THE_MODEL = ("README.md", HUB_MANIFEST, CHECKSUMS)
# Forms of LoRA in which the change of a weight is not scale · B · A.
_OTHER_FORMS = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save",
                "fan_in_fan_out", "use_qalora", "layer_replication")  # fmt: skip


def merge(checkpoint: Path, folder: Path, base: Path | None = None) -> None:
    """Write a base with a checkpoint's adapter merged into it.

    A changed weight is W + alpha / r · B · A, reckoned in float32 and rounded once to the type in
    which the base stores it (Hu et al., 2021, "LoRA", section 4.1).

    Args:
        checkpoint: the checkpoint.
        folder: an existing folder that receives the files.
        base: folder of the base; None for where it was when the checkpoint was trained.

    Raises:
        ModelError: the base is not there or is another one, the checkpoint is damaged, or its
            adapter is of a kind that cannot be merged.
    """
    card = read_card(checkpoint)
    base = base or Path(card.base)
    if not base.is_dir():
        raise ModelError(
            f"the base of {checkpoint} is no longer at {base}",
            hint="say where it is: --base FOLDER",
        )
    require_base(base, checkpoint, card)
    if (checkpoint / CHECKSUMS).exists() and (problem := damage(checkpoint)):
        raise ModelError(f"{checkpoint} is damaged: {problem}", hint="use an older checkpoint")
    pairs, scale = _read_adapter(checkpoint)
    shards = sorted(base.glob("*.safetensors"))
    for path in sorted(base.iterdir()):
        if path.is_file() and path not in shards and path.name not in _NOT_THE_MODEL:
            shutil.copyfile(path, folder / path.name)
    for name in _OWN:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
    with Progress("merging", len(shards), "files") as bar:
        for shard in shards:
            _merge_shard(shard, folder / shard.name, pairs, scale)
            bar.advance(1)
    if pairs:
        raise ModelError(
            f"{len(pairs)} adapted layers of {checkpoint} are not in the base, e.g. {min(pairs)}"
        )


def _merge_shard(
    source: Path, target: Path, pairs: dict[str, dict[str, torch.Tensor]], scale: float
) -> None:
    """Rewrite one file of weights; the pairs it has use for are taken out of ``pairs``."""
    weights = load_file(source)
    with safe_open(source, framework="pt") as file:
        head = file.metadata()
    for name, weight in weights.items():
        pair = None if "visual." in name else pairs.pop(_layer(name), None)
        if pair is None:
            continue
        if pair.keys() != {"A", "B"}:
            raise ModelError(f"the adapter has half a pair for {name}", hint="train again")
        change = scale * (pair["B"].float() @ pair["A"].float())
        if change.shape != weight.shape:
            raise ModelError(f"the adapter does not fit {name}: {tuple(change.shape)}")
        weights[name] = (weight.float() + change).to(weight.dtype)
    save_file(weights, target, metadata=head)


def _read_adapter(checkpoint: Path) -> tuple[dict[str, dict[str, torch.Tensor]], float]:
    """Per adapted layer its A (r, inputs) and B (outputs, r), and the factor alpha / r."""
    config: dict[str, Any] = read_json(checkpoint / "adapter_config.json") or {}
    odd = [name for name in _OTHER_FORMS if config.get(name)]
    if config.get("bias", "none") != "none":
        odd.append("bias")
    if config.get("peft_type") != "LORA" or odd:
        raise ModelError(
            f"the adapter in {checkpoint} is no plain LoRA ({', '.join(odd) or 'peft_type'})"
        )
    try:
        weights = load_file(checkpoint / ADAPTER)
    except Exception as error:  # safetensors has no common error class for broken files
        raise ModelError(
            f"the adapter in {checkpoint} cannot be read: {str(error).splitlines()[0]}",
            hint="use an older checkpoint, or train again",
        ) from error
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ModelError(f"the adapter in {checkpoint} holds values that are no numbers")
        layer, half = _layer(name).rsplit(".lora_", 1)
        pairs.setdefault(layer, {})[half] = weight
    return pairs, config["lora_alpha"] / config["r"]


def _layer(name: str) -> str:
    """What a weight is called in all layouts: from ``layers.`` on."""
    return "layers." + name.removesuffix(".weight").partition("layers.")[2]
