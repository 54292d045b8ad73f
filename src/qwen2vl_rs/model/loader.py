"""Bases and checkpoints: found, checked, loaded. Safetensors only, never remote code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from safetensors import safe_open
from transformers import (
    AutoConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.utils import logging as hf_logging

from ..config import ViewConfig
from ..console import set_quiet
from ..errors import ModelError, RunError
from ..files import CHECKSUMS, HUB_MANIFEST, atomic_write, damage, read_json, sha256, write_json
from ..run import checkpoints, newest_checkpoint
from .attention import Kind, implementation
from .finite import require_finite_weights
from .images import ImageReader, load_image_reader
from .precision import choose_precision
from .prompt import PromptFormat, load_prompt_format
from .usage import checkpoint_readme

FAMILIES = {
    "qwen2_vl": Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}
_SMALL_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
ADAPTER = "adapter_model.safetensors"
CARD = "qwen2vl_rs.json"  # what a checkpoint was trained on and with which view

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class Base:
    """A base model with all that turns files and questions into its input.

    Attributes:
        folder: where it was read from.
        model: the network, without any adapter.
        prompts: the chat format as token ids.
        images: the image reader.
        fingerprint: of configuration and weights.
    """

    folder: Path
    model: Any
    prompts: PromptFormat
    images: ImageReader
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """What stands beside an adapter: its base and what it was trained with.

    Attributes:
        base: folder of the base.
        fingerprint: of the base.
        view: how images and questions were shown.
        ground: usual metres per pixel of the training images, where they say so.
        side: usual pixels on a side of the training images; None in old checkpoints.
    """

    base: str
    fingerprint: str
    view: ViewConfig
    ground: float | None = None
    side: int | None = None


def processes() -> PartialState:
    """The processes that ``torchrun`` or ``accelerate launch`` started together, or this one.

    All but the first are silent.
    """
    # the others wait while one process encodes all images, or asks the last questions
    team = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(hours=12))
    if not team.is_main_process:
        set_quiet(True, also_warnings=True)
    return team


def choose_device() -> torch.device:
    """The CUDA device of this process, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def read_config(folder: Path) -> Any:
    """Read and check the configuration of a base.

    Raises:
        ModelError: no such folder, no model in it, another architecture, or remote code.
    """
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "does not exist"
        raise ModelError(f"{folder} is no model: it {what}", hint="fetch one: qwen2vl-rs load")
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family = raw["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}/config.json is unreadable or names no model_type") from error
    if not isinstance(family, str) or family not in FAMILIES:
        raise ModelError(
            f"{folder} is a {family} model; this works with {', '.join(FAMILIES)}",
            hint="fetch Qwen2-VL-2B-Instruct: qwen2vl-rs load",
        )
    if "auto_map" in raw:
        raise ModelError(f"{folder} wants to run code of its own (auto_map), which is refused")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no safetensors weights (pickled weights are not read)",
            hint="fetch the model again: qwen2vl-rs load",
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a wrong value makes the config class raise
        raise ModelError(
            f"{folder}/config.json cannot be used: {str(error).splitlines()[0]}",
            hint="fetch the model again: qwen2vl-rs load --verify",
        ) from error
    _check_shapes(folder, config)
    return config


def _check_shapes(folder: Path, config: Any) -> None:
    """Refuse weights of another size before a network of the wrong size is built.

    Raises:
        ModelError: the embeddings in the files are not those of the configuration.
    """
    text = config.get_text_config()
    expected = [text.vocab_size, text.hidden_size]
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                names = [n for n in file.keys() if n.endswith("embed_tokens.weight")]  # noqa: SIM118
                shapes = [file.get_slice(n).get_shape() for n in names]
        except Exception as error:  # safetensors has no common error class for broken files
            raise ModelError(
                f"the weights in {folder} cannot be read: {path.name}: {error}",
                hint="fetch the model again: qwen2vl-rs load --verify",
            ) from error
        if any(shape != expected for shape in shapes):
            raise ModelError(
                f"the weights in {folder} are not those of its config.json: embeddings of "
                f"{shapes[0]}, not {expected}",
                hint="fetch the model again: qwen2vl-rs load --verify",
            )
        if shapes:
            return
    raise ModelError(
        f"{folder} lacks the weights embed_tokens.weight",
        hint="fetch the model again: qwen2vl-rs load --verify",
    )


def load_base(
    folder: Path,
    view: ViewConfig,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    attention: Kind = "branches",
) -> Base:
    """Load a base, ready for use on a device.

    Raises:
        ModelError: see `read_config`; also for weights that are missing, broken or no numbers.
    """
    config = read_config(folder)
    device = device or choose_device()
    try:
        model, info = FAMILIES[config.model_type].from_pretrained(
            folder,
            config=config,
            dtype=dtype or choose_precision(device).weights,
            attn_implementation=implementation(attention),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors and transformers raise many kinds for a broken file
        raise ModelError(
            f"the weights in {folder} cannot be read: {str(error).splitlines()[0]}",
            hint="fetch the model again: qwen2vl-rs load --verify",
        ) from error
    if absent := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder} lacks {len(absent)} weights, e.g. {absent[0]}",
            hint="fetch the model again: qwen2vl-rs load --verify",
        )
    model = model.to(device)
    require_finite_weights(model, folder)
    return Base(
        folder=folder,
        model=model.eval().requires_grad_(False),
        prompts=load_prompt_format(folder, config, view.instruction),
        images=load_image_reader(folder, view),
        fingerprint=fingerprint(folder),
    )


def fingerprint(folder: Path) -> str:
    """Digest that tells bases apart in a moment.

    It covers all small files that decide an answer, and names, headers and samples of the
    weights.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name in _SMALL_FILES:
        if (folder / name).is_file():
            digest.update(f"{name}:{sha256(folder / name)}".encode())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for part in range(64):
                file.seek(size * part // 64)
                digest.update(file.read(4096))
    return digest.hexdigest()


def require_base(folder: Path, checkpoint: Path, card: CheckpointCard) -> None:
    """Make sure that a folder holds the base a checkpoint was trained on.

    Raises:
        ModelError: it holds another one, or none.
    """
    read_config(folder)
    if fingerprint(folder) != card.fingerprint:
        raise ModelError(
            f"{checkpoint} was trained on another base ({card.base}), not on {folder}",
            hint=f"name its base: --model {card.base}",
        )


def attach_adapter(base: Base, checkpoint: Path) -> PeftModel:
    """Put a checkpoint's adapter on a base; ``unload()`` gives the base back.

    Raises:
        ModelError: the checkpoint was trained on another base, or is unreadable.
    """
    card = read_card(checkpoint)
    if not (checkpoint / ADAPTER).is_file():
        raise ModelError(f"{checkpoint} has no {ADAPTER}", hint="use an older checkpoint")
    if (checkpoint / CHECKSUMS).exists() and (problem := damage(checkpoint)):
        raise ModelError(f"{checkpoint} is damaged: {problem}", hint="use an older checkpoint")
    require_base(base.folder, checkpoint, card)
    try:
        with quiet_peft():
            model = PeftModel.from_pretrained(base.model, checkpoint, local_files_only=True)
    except Exception as error:  # peft passes on whatever safetensors raises for a broken file
        raise ModelError(
            f"the adapter in {checkpoint} cannot be read: {str(error).splitlines()[0]}",
            hint="use an older checkpoint, or train again",
        ) from error
    for name, weight in model.named_parameters():
        if "lora_" in name and not torch.isfinite(weight).all():
            raise ModelError(
                f"the adapter in {checkpoint} holds values that are no numbers",
                hint="use an older checkpoint, or train with a lower learning rate",
            )
    return model.eval()


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide the warning that PEFT's use of an old transformers name draws."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def write_card(
    checkpoint: Path, base: Base, view: ViewConfig, ground: tuple[float | None, int | None]
) -> None:
    """Write down which base, view and images a checkpoint belongs to; see `CheckpointCard`."""
    value = {
        "base": str(base.folder.resolve()),
        "fingerprint": base.fingerprint,
        "view": view.model_dump(mode="json"),
        "metres_per_pixel": ground[0],
        "side": ground[1],
    }
    write_json(checkpoint / CARD, value)
    # PEFT writes the base as it was named on the command line, and an empty model card
    name = (read_json(base.folder / HUB_MANIFEST) or {}).get("repo_id")
    adapter = read_json(checkpoint / "adapter_config.json") or {}
    adapter["base_model_name_or_path"] = name or value["base"]
    write_json(checkpoint / "adapter_config.json", adapter)
    _save_tokenizer(base.prompts.tokenizer, checkpoint)
    with atomic_write(checkpoint / "README.md") as file:
        file.write(checkpoint_readme(view, name))


def _save_tokenizer(tokenizer: Any, checkpoint: Path) -> None:
    try:
        tokenizer.save_pretrained(checkpoint)
    except OSError:
        raise
    except Exception as error:  # tokenizers says so where the disk is full
        raise RunError(
            f"cannot write {checkpoint}: {str(error).splitlines()[0]}",
            hint="free some disk space, then go on: --resume",
        ) from error


def read_card(checkpoint: Path) -> CheckpointCard:
    """Read what stands beside an adapter.

    Raises:
        ModelError: the folder is no checkpoint of ours.
        RunError: the file is there and cannot be read.
    """
    value = read_json(checkpoint / CARD, damaged=None)
    try:
        view = ViewConfig.model_validate(value["view"])
        return CheckpointCard(
            str(value["base"]),
            str(value["fingerprint"]),
            view,
            value.get("metres_per_pixel"),
            value.get("side"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{checkpoint} is no checkpoint of this tool ({CARD} is missing or damaged)",
            hint="give a run folder or one of its checkpoint-* folders",
        ) from error


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint meant by a folder: itself, or the newest of a run; None for a base."""
    if (folder / CARD).is_file() or (folder / "adapter_config.json").is_file():
        return folder
    return newest_checkpoint(folder) if checkpoints(folder) else None
