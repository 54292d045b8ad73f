"""Read adapter files, and check them against each other and the base model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]  # the only parser of patterns
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors import safe_open

from ..errors import ModelError
from ..system.files import CHECKSUMS, verify_checksums
from .folder import model_errors, read_object
from .shapes import Shapes, plain_name

ADAPTER = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
UNUSABLE = "use an older checkpoint, or train again"
_LONGEST, _REPEATS = 1000, 4  # maximum length and number of repeats of a pattern
# settings that do not change the answers of a standard LoRA adapter, or are checked separately
_FREE = {
    *("auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode"),
    *("init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout"),
    *("parent_library", "peft_type", "peft_version", "r", "revision", "target_modules"),
    "task_type",
}


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """Settings and tensor shapes of a checkpoint's adapter.

    Attributes:
        folder: the checkpoint.
        r: rank.
        alpha: the update of a weight is alpha / r · B · A.
        settings: content of ``adapter_config.json``.
        shapes: shape of each tensor by its plain name, which ends in ``lora_A`` or ``lora_B``.
    """

    folder: Path
    r: int
    alpha: float
    settings: dict[str, Any]
    shapes: Shapes


def read_adapter(folder: Path) -> AdapterFiles:
    """Read settings and tensor shapes of an adapter, but no weights.

    Raises:
        ModelError: a file is missing or broken, or the adapter is not a standard LoRA.
    """
    if (folder / CHECKSUMS).exists() and (problem := verify_checksums(folder)):
        raise ModelError(f"{folder} is damaged: {problem}", hint="use an older checkpoint")
    settings = read_object(folder / SETTINGS)
    if not settings:
        raise ModelError(f"{folder} has no {SETTINGS}", hint=UNUSABLE)
    if odd := list(_odd(settings)):
        raise ModelError(
            f"the adapter in {folder} is not a standard LoRA ({', '.join(odd)})", hint=UNUSABLE
        )
    r, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(r, int) or isinstance(r, bool) or r < 1:
        raise ModelError(f"{folder / SETTINGS}: r is {r!r}", hint=UNUSABLE)
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise ModelError(f"{folder / SETTINGS}: lora_alpha is {alpha!r}", hint=UNUSABLE)
    _check_patterns(folder, settings)
    shapes: Shapes = {}
    path = folder / ADAPTER
    with (
        model_errors(f"the adapter in {folder} cannot be read", path, hint=UNUSABLE),
        safe_open(path, framework="pt") as file,
    ):
        for name in file.keys():  # noqa: SIM118
            shapes[tensor_name(name)] = tuple(file.get_slice(name).get_shape())
    return AdapterFiles(folder, r, float(alpha), settings, shapes)


def adapted_layers(adapter: AdapterFiles, layers: Shapes) -> list[str]:
    """Return the layers of a base model that an adapter changes, and check its files.

    Args:
        adapter: see `read_adapter`.
        layers: (outputs, inputs) of each linear layer of the base model, by module name.

    Raises:
        ModelError: settings and weights disagree on layers or sizes.
    """
    names = [name for name in layers if check_target_module_exists(_config(adapter), name)]
    wanted = {
        f"{plain_name(name)}.lora_{half}": shape
        for name in names
        for half, shape in (
            ("A", (adapter.r, layers[name][1])),
            ("B", (layers[name][0], adapter.r)),
        )
    }
    where = f"the adapter in {adapter.folder}"
    if unused := sorted(adapter.shapes.keys() - wanted.keys()):
        raise ModelError(
            f"{where} has {len(unused)} weights that match no layer of its {SETTINGS} and the "
            f"base model, e.g. {unused[0]}",
            hint=UNUSABLE,
        )
    if absent := sorted(wanted.keys() - adapter.shapes.keys()):
        raise ModelError(
            f"{where} lacks {len(absent)} weights required by its {SETTINGS}, e.g. {absent[0]}",
            hint=UNUSABLE,
        )
    if not wanted:
        raise ModelError(f"{where} adapts no layer", hint=UNUSABLE)
    for name, shape in wanted.items():
        if adapter.shapes[name] != shape:
            found = list(adapter.shapes[name])
            raise ModelError(
                f"{where} does not fit: {name} has shape {found}, not {list(shape)}",
                hint=UNUSABLE,
            )
    return names


def tensor_name(name: str) -> str:
    """Return the plain name of an adapter tensor, such as ``layers.0.mlp.up_proj.lora_A``."""
    return plain_name(name).removesuffix(".weight").removesuffix(".default")


def _odd(settings: dict[str, Any]) -> Iterator[str]:
    """Yield settings that make an adapter something else than W + alpha / r · B · A."""
    if settings.get("peft_type") != "LORA":
        yield f"peft_type {settings.get('peft_type')}"
    if not isinstance(settings.get("init_lora_weights", True), bool):
        yield "init_lora_weights"  # some values change the base model when the adapter is attached
    plain = LoraConfig().to_dict()
    for name, value in settings.items():
        usual = plain.get(name)
        if name not in _FREE and value != usual and (value or usual):
            yield name


def _check_patterns(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse regular expressions with catastrophic backtracking."""
    found = [settings.get("target_modules"), settings.get("exclude_modules")]
    found = [one for one in found if isinstance(one, str)]
    more = settings.get("layers_pattern") or ()
    for pattern in (*found, *([more] if isinstance(more, str) else more)):
        try:
            repeats = list(_repeats(_parser.parse(pattern)))
            sound = len(pattern) <= _LONGEST and len(repeats) <= _REPEATS and all(repeats)
        except (re.error, TypeError, OverflowError, RecursionError):  # not a pattern, or a huge one
            sound = False
        if not sound:
            raise ModelError(
                f"{folder / SETTINGS}: the pattern {str(pattern)[:80]!r} is refused: it is "
                "invalid, or may never finish (nested repeats)",
                hint='name the layers in a list, e.g. ["q_proj", "v_proj"]',
            )


_ONE_LETTER = {_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN}
_REPEATED = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}


def _repeats(parsed: Any) -> Iterator[bool]:
    """Yield for each repeat in a parsed pattern whether it repeats a single character."""
    for what, value in parsed:
        if what in _REPEATED:
            _, most, body = value
            if most > 1:
                yield len(body) == 1 and body[0][0] in _ONE_LETTER
            else:
                yield from _repeats(body)
        elif isinstance(value, tuple):
            for part in value:
                for one in part if isinstance(part, list) else [part]:
                    if isinstance(one, _parser.SubPattern):
                        yield from _repeats(one)


def _config(adapter: AdapterFiles) -> LoraConfig:
    """Return the layer settings as a `LoraConfig`, for PEFT's matching."""
    keys = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    with model_errors(f"{adapter.folder / SETTINGS} cannot be used", hint=UNUSABLE):
        return LoraConfig(r=adapter.r, **{key: adapter.settings.get(key) for key in keys})
