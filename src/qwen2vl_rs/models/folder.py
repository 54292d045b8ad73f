"""Find the files of a model folder that are used: weights, tokenizer, chat template, settings.

A folder may contain more than the model: weights of an older download beside the index, an adapter,
two chat templates, image settings in two files. The files that transformers would use are loaded,
checked, hashed, merged and copied; all others are ignored.

The precedence is that of transformers 5.23: weights in
``modeling_utils._get_resolved_checkpoint_files``, templates in
``ProcessorMixin.get_processor_dict`` and then ``PreTrainedTokenizerBase.from_pretrained``, image
settings in ``ImageProcessingMixin.get_image_processor_dict``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, Qwen2VLRSError
from ..system.files import HUB_MANIFEST, read_json, write_json
from ..system.named_files import read_text, write_text
from ..system.oserrors import FORBIDDEN, explain_read_errors, unreadable, writing_hint
from .family import FAMILIES

CONFIG = "config.json"
GENERATION = "generation_config.json"
PROCESSOR = "processor_config.json"
PREPROCESSOR = "preprocessor_config.json"
TEMPLATE = "chat_template.jinja"
TEMPLATE_JSON = "chat_template.json"
TEMPLATES = "additional_chat_templates"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FETCH = "fetch the model again: qwen2vl-rs load --verify"

_SMALL = {".json", ".txt", ".jinja"}
_LONGEST_POINTER = 1024  # bytes

_TOKENIZER = (
    *("tokenizer.json", TOKENIZER_CONFIG, "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
)
_OTHERS = (CONFIG, GENERATION, PROCESSOR, PREPROCESSOR, "video_preprocessor_config.json")
_QUANTISED = ("quantization_config", "compression_config")
_QUANTISED_FILES = ("hf_quant_config.json", "quant_config.json", "quantize_config.json")
_ENDINGS = {
    *("fp8", "awq", "gptq", "int4", "int8", "4bit", "8bit", "bnb", "nvfp4", "w4a16", "w8a8"),
    "unsloth",
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a base model that are used.

    Attributes:
        folder: their folder.
        config: content of ``config.json``.
        weights: weights files, sorted by name.
        index: index of the weights files; None for a single file.
        others: all other files, sorted by name.
        template: the chat template; None if there is none.
        image_settings: settings of the image processor; None if there are none.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    index: Path | None
    others: tuple[Path, ...]
    template: str | None
    image_settings: dict[str, Any] | None

    @property
    def all(self) -> tuple[Path, ...]:
        """All files."""
        return (*self.others, *([self.index] if self.index else []), *self.weights)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of weights and adapters in the folder that are not part of the model."""
        lying = (*self.folder.glob("*.safetensors"), *self.folder.glob("adapter_config.json"))
        return tuple(sorted(path.name for path in lying if path not in self.weights))

    @property
    def tokenizer(self) -> tuple[Path, ...]:
        """The files of the tokenizer, without chat templates."""
        names = _tokenizer_names(self.folder)
        return tuple(path for path in self.others if path.name in names)


def model_files(folder: Path) -> ModelFiles:
    """Find the files of a base model.

    Raises:
        ModelError: there is no model; a file is missing or unreadable; the model is quantised,
            has pickled weights, or requires remote code.
    """
    if not (folder / CONFIG).is_file():
        what = "has no config.json" if folder.is_dir() else "does not exist"
        raise ModelError(f"{folder} is not a model: it {what}", hint="fetch one: qwen2vl-rs load")
    small = (p for p in (*folder.iterdir(), *(folder / TEMPLATES).glob("*")) if p.suffix in _SMALL)
    refuse_pointers(folder, small)
    config = read_object(folder / CONFIG)
    for name in (CONFIG, TOKENIZER_CONFIG, PROCESSOR, PREPROCESSOR):
        if "auto_map" in read_object(folder / name):
            raise ModelError(
                f"{folder} requires remote code (auto_map in {name}), which is refused",
                hint="use a model that transformers supports: qwen2vl-rs load",
            )
    _refuse_quantised(folder, config)
    if config.get("transformers_weights"):
        raise ModelError(
            f"{folder}/config.json names a weights file (transformers_weights), which other "
            "programs do not support",
            hint="remove that line, and rename the file to model.safetensors",
        )
    weights, index = _weights(folder)
    refuse_pointers(folder, weights)
    template, source = _template(folder)
    names = [*_tokenizer_names(folder), *_OTHERS, *source]
    others = {folder / name for name in names if (folder / name).is_file()}
    settings = _image_settings(folder)
    return ModelFiles(folder, config, weights, index, tuple(sorted(others)), template, settings)


def refuse_pointers(folder: Path, paths: Iterable[Path]) -> None:
    """Refuse Git LFS pointers in place of model files.

    Raises:
        ModelError: names them; they come from cloning without ``git-lfs``.
    """
    found = sorted(path.relative_to(folder).as_posix() for path in paths if _is_pointer(path))
    if found:
        are = "is a Git LFS pointer" if len(found) == 1 else "are Git LFS pointers"
        name = _name_on_hub(folder)
        fetch = f"; or fetch the model: qwen2vl-rs load {name}" if name else ""
        raise ModelError(
            f"{', '.join(found)} in {folder} {are}, without the content",
            hint=f"fetch it: git -C {shlex.quote(str(folder))} lfs pull{fetch}",
        )


def _is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer (less than 1,024 bytes, by its specification)."""
    try:
        if not path.is_file() or path.stat().st_size >= _LONGEST_POINTER:
            return False
        return path.read_bytes().startswith(b"version https://git-lfs")
    except OSError:  # reported when the file is read
        return False


def _name_on_hub(folder: Path) -> str:
    """Return the hub name of a model, from its manifest or folder name; empty if unknown."""
    known = read_json(folder / HUB_MANIFEST, damaged=None)
    name = str(known.get("repo_id", "")) if isinstance(known, dict) else ""
    if not name and (own := folder.resolve().name).startswith("Qwen"):
        name = f"Qwen/{own}"
    return name


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty if there is no file.

    Raises:
        ModelError: the file is not a JSON object.
        RunError: the file exists and cannot be read.
    """
    try:
        value = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is unreadable: {first_line(error)}", hint=FETCH) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is unreadable: it is not a JSON object", hint=FETCH)
    return value


@contextlib.contextmanager
def link_files(files: tuple[Path, ...]) -> Iterator[Path]:
    """Make a temporary folder with links to some files, for loaders that use all they find.

    For example, transformers would attach an adapter that is beside the weights.

    Raises:
        ModelError: no links can be made in the temporary folder.
    """
    with contextlib.ExitStack() as stack:
        try:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="model-"))
            for path in files:
                os.symlink(path.resolve(), Path(name) / path.name)
        except OSError as error:
            hint = writing_hint(Path(tempfile.gettempdir()), error)
            if error.errno in FORBIDDEN:
                hint = "set another one in the environment variable TMPDIR"
            raise ModelError(
                f"cannot make links in a temporary folder: {first_line(error)}", hint=hint
            ) from error
        yield Path(name)


def write_template(files: ModelFiles, folder: Path) -> None:
    """Write the chat template to every file from which a program may read it.

    Tokenizers read ``chat_template.jinja`` or their settings, processors read other files first.
    """
    if files.template is None:
        return
    write_text(folder / TEMPLATE, files.template)
    for name in (TEMPLATE_JSON, TOKENIZER_CONFIG, PROCESSOR):
        settings = read_object(folder / name)
        if settings.get("chat_template", files.template) != files.template:
            write_json(folder / name, {**settings, "chat_template": files.template})


def is_whole_file(path: Path) -> bool:
    """Whether a safetensors file has tensors and the length that its header declares."""
    from safetensors import SafetensorError, safe_open  # not in the minimal installation

    try:
        with safe_open(path, framework="np") as file:
            return bool(file.keys())
    except SafetensorError:
        return False


def is_base(folder: Path) -> bool:
    """Whether a folder looks like a whole model, whatever else it contains."""
    return (folder / CONFIG).is_file() and any((folder / n).is_file() for n in (WEIGHTS, INDEX))


def _tokenizer_names(folder: Path) -> set[str]:
    """Return the standard tokenizer files, and those for specific versions of transformers."""
    more = read_object(folder / TOKENIZER_CONFIG).get("fast_tokenizer_files") or ()
    return {*_TOKENIZER, *(n for n in more if isinstance(n, str) and n == Path(n).name)}


def _refuse_quantised(folder: Path, config: dict[str, Any]) -> None:
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    found = [part[name] for part in parts for name in _QUANTISED if part.get(name)]
    method = next((one.get("quant_method") for one in found if isinstance(one, dict)), None)
    beside = [name for name in _QUANTISED_FILES if (folder / name).exists()]
    if found or beside:
        how = str(method) if method else beside[0] if beside else _QUANTISED[0]
        raise quantised_error(folder, config, how)


def quantised_error(folder: Path, config: dict[str, Any], how: str) -> ModelError:
    """Return the error for a quantised base model."""
    name = _name_on_hub(folder)
    while "-" in name and name.rpartition("-")[2].lower() in _ENDINGS:
        name = name.rpartition("-")[0]
    family = FAMILIES.get(str(config.get("model_type"))) or next(iter(FAMILIES.values()))
    name = name or family.smallest
    return ModelError(
        f"{folder} is a quantised model ({how}): only unquantised weights are supported",
        hint=f"use the original model: qwen2vl-rs load {name}",
    )


def _weights(folder: Path) -> tuple[tuple[Path, ...], Path | None]:
    """Return the weights files and their index; a single file wins, as in transformers."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,), None
    index = folder / INDEX
    if not index.is_file():
        strays = sorted(path.name for path in folder.glob("*.safetensors"))
        what = f"{strays[0]} has no {INDEX}" if strays else "pickled ones are not supported"
        raise ModelError(f"{folder} has no safetensors weights ({what})", hint=FETCH)
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index} is unreadable: it has no weight_map", hint=FETCH)
    names = set(places.values())
    if odd := [n for n in names if not isinstance(n, str) or n != Path(n).name]:
        raise ModelError(f"{index} names a file outside its folder: {odd[0]}", hint=FETCH)
    if absent := sorted(name for name in names if not (folder / name).is_file()):
        raise ModelError(f"{folder} lacks the weights files {', '.join(absent)}", hint=FETCH)
    return tuple(folder / name for name in sorted(names)), index


def _template(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the chat template that transformers' processor would use, and its file.

    A processor without a template uses that of its tokenizer, as in vLLM.
    """
    more = sorted(p.relative_to(folder).as_posix() for p in (folder / TEMPLATES).glob("*.jinja"))
    named = read_object(folder / PROCESSOR).get("chat_template")
    if named is not None:
        return _default(folder / PROCESSOR, named), (PROCESSOR,)
    if (folder / TEMPLATE_JSON).is_file():
        if more:
            raise ModelError(
                f"{folder} has both {TEMPLATE_JSON} and {TEMPLATES}/, which transformers refuses",
                hint=f"remove {TEMPLATE_JSON} if {TEMPLATE} exists, else {TEMPLATES}/",
            )
        named = read_object(folder / TEMPLATE_JSON).get("chat_template")
        return _default(folder / TEMPLATE_JSON, named), (TEMPLATE_JSON,)
    if (folder / TEMPLATE).is_file():
        try:
            return read_text(folder / TEMPLATE), (TEMPLATE,)
        except OSError as error:
            raise unreadable(folder / TEMPLATE, error) from error
        except ValueError as error:
            raise ModelError(f"{folder / TEMPLATE} is unreadable: {error}", hint=FETCH) from error
    named = read_object(folder / TOKENIZER_CONFIG).get("chat_template")
    return (None if named is None else _default(folder / TOKENIZER_CONFIG, named)), ()


def _default(path: Path, value: Any) -> str:
    """Return the default template of a file with one template, or several by name."""
    if isinstance(value, list):
        value = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    if not isinstance(value, str):
        raise ModelError(f"{path} has no chat template named default", hint=FETCH)
    return value


def _image_settings(folder: Path) -> dict[str, Any] | None:
    """Return the image processor's settings: those in ``processor_config.json`` win."""
    inner = read_object(folder / PROCESSOR).get("image_processor")
    if inner is None and (folder / PREPROCESSOR).is_file():
        return read_object(folder / PREPROCESSOR)
    if inner is not None and not isinstance(inner, dict):
        raise ModelError(f"{folder / PROCESSOR}: image_processor is not a JSON object", hint=FETCH)
    return inner


@contextlib.contextmanager
def model_errors(problem: str, *paths: Path, hint: str = FETCH) -> Iterator[None]:
    """Turn any exception of a library inside the block into a `ModelError`.

    Args:
        problem: start of the message, before the library's own.
        paths: files that the library reads.
        hint: how to fix it.

    Raises:
        ModelError: the library failed.
        RunError: one of the files cannot be read.
    """
    try:
        with explain_read_errors(*paths) if paths else contextlib.nullcontext():
            yield
    except Qwen2VLRSError:
        raise
    except Exception as error:
        raise ModelError(f"{problem}: {first_line(error)}", hint=hint) from error


def first_line(error: Exception) -> str:
    """Return the message of a library's error in one line of limited length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
