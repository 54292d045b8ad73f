"""Load base models and checkpoints: safetensors only, no remote code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pydantic import BaseModel, ValidationError
from transformers import AutoConfig
from transformers.utils import logging as hf_logging

from ..adapter_settings import method_name
from ..config import InputConfig
from ..errors import ModelError, RunError
from ..hardware.devices import choose_device
from ..hardware.precision import choose_precision
from ..hardware.randomness import preserve_random_state
from ..question_tree.attention import Kind, implementation
from ..run import Run
from ..system.console import warn_once
from ..system.files import HUB_MANIFEST, atomic_write, read_json, write_json
from ..system.oserrors import explain_write_errors, is_file, is_folder
from ..system.scopes import SharedChange, attribute
from .adapter_files import ADAPTER, SETTINGS, UNUSABLE, adapted_parts, read_adapter
from .adapter_weights import (
    build_adapter,
    lora_config,
    place_weights,
    read_weights,
    remove_adapter,
)
from .family import FAMILIES, family_of
from .fingerprint import fingerprint, same_base
from .finite import require_finite_weights
from .folder import (
    FETCH,
    ModelFiles,
    is_base,
    link_files,
    model_errors,
    model_files,
    refuse_pointers,
)
from .images import ImageReader, load_image_reader
from .prompt import PromptFormat, load_prompt_format
from .qwen_vl_usage import checkpoint_readme
from .shapes import check_depth, check_shapes

METADATA = "qwen2vl_rs.json"  # base model and input settings of a checkpoint


# transformers reports errors only, without bars; its switch for bars also affects the hub client
quiet_libraries = SharedChange(
    (hf_logging.get_verbosity, hf_logging.set_verbosity, hf_logging.ERROR),
    attribute(hf_logging, "_tqdm_active", False),
)


@dataclass(frozen=True, slots=True)
class Base:
    """A loaded base model with its prompt format and image reader.

    Attributes:
        folder: its folder.
        model: the network, without an adapter.
        prompts: the chat format as token ids.
        images: the image reader.
        fingerprint: see `fingerprint.fingerprint`.
    """

    folder: Path
    model: Any
    prompts: PromptFormat
    images: ImageReader
    fingerprint: str


class CheckpointMetadata(BaseModel):
    """Metadata of a checkpoint: its base model and training inputs.

    Attributes:
        base: folder of the base model.
        fingerprint: fingerprint of the base model.
        view: input settings.
        metres_per_pixel: typical resolution of the training images, if they are georeferenced.
        side: typical side of the training images in pixels; None in old checkpoints.
    """

    base: str
    fingerprint: str
    view: InputConfig
    metres_per_pixel: float | None = None
    side: int | None = None


def read_config(folder: Path) -> Any:
    """Read and check the config of a base model.

    Raises:
        ModelError: see `read_base`.
    """
    return read_base(folder)[1]


@quiet_libraries
def read_base(folder: Path) -> tuple[ModelFiles, Any]:
    """Find the files of a base model and check its config against them.

    Raises:
        ModelError: no such folder, no model in it, unsupported architecture, remote code,
            quantised weights, or weights that do not match the config.
    """
    files = model_files(folder)
    family = files.config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ModelError(
            f"{folder} is a {family} model; supported are {', '.join(FAMILIES)}",
            hint="fetch Qwen2-VL-2B-Instruct: qwen2vl-rs load",
        )
    check_depth(files)
    with model_errors(f"{folder}/config.json cannot be used", *files.others):
        with link_files(files.others) as place:
            config = AutoConfig.from_pretrained(place, local_files_only=True)
        config.name_or_path = str(folder)  # not the folder of links
        check_shapes(files, config)
        if wrong := family_of(config).config_problem(config):
            raise ModelError(f"{folder}/config.json: {wrong}", hint=FETCH)
    return files, config


@quiet_libraries
def load_base(
    folder: Path,
    view: InputConfig,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    attention: Kind = "branches",
) -> Base:
    """Load a base model on a device.

    Raises:
        ModelError: see `read_base`; also for weights that are missing, broken or not finite.
    """
    files, config = read_base(folder)
    if files.left_out:
        names = ", ".join(files.left_out)
        text = f"{folder} contains files that are not part of the model and are not used: {names}"
        warn_once(text, text)
    device = device or choose_device()
    network = family_of(config).network()
    problem = f"the weights in {folder} cannot be read"
    with model_errors(problem, *files.all), link_files(files.all) as place:
        model, info = network.from_pretrained(
            place,
            config=config,
            dtype=dtype or choose_precision(device).weights,
            attn_implementation=implementation(attention),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    if absent := sorted(info["missing_keys"]):
        raise ModelError(f"{folder} lacks {len(absent)} weights, e.g. {absent[0]}", hint=FETCH)
    model = model.to(device).eval().requires_grad_(False)
    model.config.name_or_path = model.name_or_path = str(folder)
    require_finite_weights(model, files)
    return Base(
        folder=folder,
        model=model,
        prompts=load_prompt_format(files, config, view.instruction),
        images=load_image_reader(files, config, view),
        fingerprint=fingerprint(folder),
    )


def find_base(checkpoint: Path, metadata: CheckpointMetadata, given: Path | None) -> Path:
    """Return the folder of a checkpoint's base model.

    Args:
        checkpoint: the checkpoint.
        metadata: its metadata.
        given: a folder given by the user; None: the folder at training time.

    Raises:
        ModelError: the folder does not exist.
    """
    folder = given or Path(metadata.base)
    if is_folder(folder):
        return folder
    hint = "say where it is: --base FOLDER"
    if given is None and not folder.is_absolute():  # an export contains the hub name
        hint = f"{hint}; or fetch it: qwen2vl-rs load {shlex.quote(metadata.base)}"
    raise ModelError(f"the base model of {checkpoint} is not at {folder}", hint=hint)


def require_base(folder: Path, checkpoint: Path, metadata: CheckpointMetadata) -> None:
    """Check that a folder contains the base model of a checkpoint.

    Args:
        folder: folder of the base model.
        checkpoint: the checkpoint.
        metadata: its metadata.

    Raises:
        ModelError: it contains another model, a changed one, or none.
    """
    read_config(folder)
    if same_base(folder, metadata.fingerprint):
        return
    own = Path(metadata.base)
    if own.is_absolute() and own.resolve() == folder.resolve():
        raise ModelError(
            f"the base model in {folder} has changed since {checkpoint} was trained on it",
            hint="restore its files, or give an intact copy: --base FOLDER",
        )
    hint = f"give a folder with its base model ({metadata.base}): --base FOLDER"
    if _holds(own, metadata.fingerprint):
        hint = f"give its base model: --base {shlex.quote(metadata.base)}"
    raise ModelError(
        f"{checkpoint} was trained on another base model ({metadata.base}), not on {folder}",
        hint=hint,
    )


def _holds(folder: Path, known: str) -> bool:
    """Whether a folder exists and its base model matches a fingerprint."""
    try:
        return folder.is_dir() and same_base(folder, known)
    except (ModelError, OSError):
        return False


@quiet_libraries
def attach_adapter(base: Base, checkpoint: Path) -> PeftModel:
    """Attach a checkpoint's adapter to a base model; `remove_adapter` removes it again.

    Raises:
        ModelError: the checkpoint was trained on another base model, or is unreadable.
    """
    metadata = read_metadata(checkpoint)
    path = checkpoint / ADAPTER
    if not is_file(path):
        raise ModelError(f"{checkpoint} has no {ADAPTER}", hint="use an older checkpoint")
    adapter = read_adapter(checkpoint)
    require_base(base.folder, checkpoint, metadata)
    changed = adapted_parts(adapter, base.model.config)
    with model_errors(f"the adapter in {checkpoint} cannot be read", path, hint=UNUSABLE):
        weights = read_weights(adapter)
    plain = lora_config(adapter, changed.layers, changed.whole, inference_mode=True)
    with preserve_random_state:
        model = build_adapter(base.model, plain)
    try:
        place_weights(model, weights, str(checkpoint))
    except BaseException:
        remove_adapter(model)
        raise
    return model.eval()


def write_metadata(
    checkpoint: Path, base: Base, view: InputConfig, ground: tuple[float | None, int | None]
) -> None:
    """Write the metadata of a checkpoint; ``ground`` is its `typical_resolution`."""
    metadata = CheckpointMetadata(
        base=str(base.folder.resolve()),
        fingerprint=base.fingerprint,
        view=view,
        metres_per_pixel=ground[0],
        side=ground[1],
    )
    write_json(checkpoint / METADATA, metadata.model_dump(mode="json"))
    # PEFT writes the base model's path as given, and an empty model card
    name = (read_json(base.folder / HUB_MANIFEST, damaged=None) or {}).get("repo_id")
    adapter = read_json(checkpoint / SETTINGS) or {}
    adapter["base_model_name_or_path"] = name or metadata.base
    write_json(checkpoint / SETTINGS, adapter)
    with explain_write_errors(checkpoint):
        base.prompts.tokenizer.save_pretrained(checkpoint)
    with atomic_write(checkpoint / "README.md") as file:
        method = method_name(adapter.get("use_rslora", False), adapter.get("use_dora", False))
        file.write(checkpoint_readme(view, name, method))


def read_metadata(checkpoint: Path) -> CheckpointMetadata:
    """Read the metadata of a checkpoint.

    Raises:
        ModelError: the folder is not a checkpoint of this tool, or has Git LFS pointers only.
        RunError: the file exists and cannot be read.
    """
    names = (METADATA, SETTINGS, ADAPTER)
    refuse_pointers(checkpoint, [checkpoint / name for name in names])
    try:
        return CheckpointMetadata.model_validate(read_json(checkpoint / METADATA, damaged=None))
    except ValidationError as error:
        raise ModelError(
            f"{checkpoint} is not a checkpoint of this tool ({METADATA} is missing or damaged)",
            hint="give a run folder or one of its checkpoint-* folders",
        ) from error


def find_checkpoint(folder: Path, which: str | None = None) -> Path | None:
    """Return the checkpoint of a folder: itself, or one of a run; None for a base model.

    Args:
        folder: the folder.
        which: a checkpoint of a run, see `Run.choose_checkpoint`.

    Raises:
        ModelError: the folder contains both a whole model and a checkpoint.
        RunError: the run has no such checkpoint.
    """
    whole = is_base(folder)
    if whole and (folder / METADATA).is_file():
        raise ModelError(
            f"{folder} contains both a whole model and an adapter",
            hint=f"move {ADAPTER}, {SETTINGS} and {METADATA} into another folder",
        )
    single = (folder / METADATA).is_file() or (not whole and (folder / SETTINGS).is_file())
    if single or not Run(folder).checkpoints():
        if which is not None:
            raise RunError(
                f"{folder} holds no checkpoints to choose from",
                hint="--checkpoint goes with the folder of a run",
            )
        return folder if single else None
    chosen = Run(folder).choose_checkpoint(which)
    Run(folder).warn_unfinished()
    return chosen
