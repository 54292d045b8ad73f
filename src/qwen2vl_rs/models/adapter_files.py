"""Read adapter files, and check them against each other and the base model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]  # the only parser of patterns
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors import safe_open

from ..errors import ModelError
from ..system.files import CHECKSUMS, verify_checksums
from .family import Family, family_of
from .folder import model_errors, read_object
from .parts import part_of
from .shapes import Shapes, linear_layers, plain_name, weight_shapes

ADAPTER = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
UNUSABLE = "use an older checkpoint, or train again"
_LONGEST, _REPEATS = 1000, 4  # maximum length and number of repeats of a pattern
# settings that do not change the answers of a standard LoRA adapter, or are checked separately
_FREE = {
    *("auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode"),
    *("init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout"),
    *("parent_library", "peft_type", "peft_version", "r", "revision", "target_modules"),
    *("task_type", "use_rslora", "use_dora", "modules_to_save"),
}
_COPY = ".modules_to_save.default"  # in PEFT's name of a weight that is trained as a whole


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """Settings and tensor shapes of a checkpoint's adapter.

    Attributes:
        folder: the checkpoint.
        r: rank.
        alpha: see ``scale``.
        rslora: whether the scale is alpha / √r.
        dora: whether the length of each row of an adapted weight is given.
        settings: content of ``adapter_config.json``.
        shapes: shape of each tensor by its plain name, see `tensor_name`.
    """

    folder: Path
    r: int
    alpha: float
    rslora: bool
    dora: bool
    settings: dict[str, Any]
    shapes: Shapes

    @property
    def scale(self) -> float:
        """The update of a weight is scale · B · A."""
        return self.alpha / (math.sqrt(self.r) if self.rslora else self.r)


@dataclass(frozen=True, slots=True)
class Adapted:
    """What an adapter changes in a base model.

    Attributes:
        layers: names of the linear layers with LoRA.
        whole: names of the modules whose own weights are replaced.
        weights: names of their weights.
    """

    layers: list[str]
    whole: list[str]
    weights: list[str]


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
    forms = {name: settings.get(name, False) for name in ("use_rslora", "use_dora")}
    if wrong := [name for name, value in forms.items() if not isinstance(value, bool)]:
        raise ModelError(
            f"{folder / SETTINGS}: {wrong[0]} is {forms[wrong[0]]!r}, not true or false",
            hint=UNUSABLE,
        )
    _check_patterns(folder, settings)
    shapes: Shapes = {}
    path = folder / ADAPTER
    with (
        model_errors(f"the adapter in {folder} cannot be read", path, hint=UNUSABLE),
        safe_open(path, framework="pt") as file,
    ):
        for name in file.keys():  # noqa: SIM118
            plain = tensor_name(name)
            if plain in shapes:
                raise ModelError(f"{path}: {name} is a duplicate", hint=UNUSABLE)
            shapes[plain] = tuple(file.get_slice(name).get_shape())
    return AdapterFiles(
        folder, r, float(alpha), forms["use_rslora"], forms["use_dora"], settings, shapes
    )


def adapted_parts(adapter: AdapterFiles, config: Any) -> Adapted:
    """Return what an adapter changes in a base model, and check its files.

    Args:
        adapter: see `read_adapter`.
        config: config of the base model.

    Raises:
        ModelError: settings and weights disagree on layers or sizes.
    """
    layers, weights = linear_layers(config), weight_shapes(config)
    whole = _whole_modules(adapter, family_of(config), weights)
    replaced = [name for name in weights if _is_below(name, whole)]
    matched = (name for name in layers if check_target_module_exists(_config(adapter), name))
    names = [name for name in matched if not _is_below(name, whole)]
    wanted = {plain_name(name): weights[name] for name in replaced}
    for name in names:
        wanted |= _lora_shapes(adapter, plain_name(name), *layers[name])
    _require_equal(adapter, wanted)
    return Adapted(names, whole, replaced)


def _lora_shapes(adapter: AdapterFiles, layer: str, outputs: int, inputs: int) -> Shapes:
    """Return the shapes of the tensors that adapt a layer."""
    length: Shapes = {f"{layer}.lora_magnitude_vector": (outputs,)} if adapter.dora else {}
    return {
        f"{layer}.lora_A": (adapter.r, inputs),
        f"{layer}.lora_B": (outputs, adapter.r),
    } | length


def _require_equal(adapter: AdapterFiles, wanted: Shapes) -> None:
    """Check that the file has these tensors and no others."""
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


def _whole_modules(adapter: AdapterFiles, family: Family, weights: Iterable[str]) -> list[str]:
    """Return the modules that are trained as a whole, by PEFT's rule for ``modules_to_save``.

    Raises:
        ModelError: it names a module outside the vision tower and the merger, or none.
    """
    ends = adapter.settings.get("modules_to_save") or []
    where = f"{adapter.folder / SETTINGS}: modules_to_save"
    if not isinstance(ends, list) or not all(isinstance(one, str) and one for one in ends):
        raise ModelError(f"{where} is not a list of names", hint=UNUSABLE)
    parts = (name.split(".") for name in weights)
    modules = dict.fromkeys(".".join(p[:n]) for p in parts for n in range(1, len(p)))
    if len(ends) > len(modules):
        raise ModelError(f"{where} names {len(ends):,} modules", hint=UNUSABLE)
    found = [name for name in modules if name.endswith(tuple(ends))]
    if idle := [end for end in ends if not any(name.endswith(end) for name in found)]:
        raise ModelError(
            f"{where} names {idle[0][:80]!r}, which is not in the model", hint=UNUSABLE
        )
    text = [name for name in found if part_of(family, name) == "language model"]
    if text:
        raise ModelError(
            f"{where} names {text[0]}: only modules of the vision tower and the merger can be "
            "trained as a whole",
            hint="train with LoRA on the language model: lora.target_modules",
        )
    if nested := [name for name in found if _is_below(name, found)]:
        raise ModelError(f"{where} names {nested[0]} twice", hint=UNUSABLE)
    return found


def _is_below(name: str, modules: Iterable[str]) -> bool:
    """Whether a weight or module is inside one of the modules."""
    return any(name.startswith(f"{module}.") for module in modules)


def tensor_name(name: str) -> str:
    """Return the plain name of an adapter's tensor, in its file or in PEFT's model.

    Such as ``layers.0.mlp.up_proj.lora_A``; a weight of a module that is trained as a whole keeps
    the name that it has in the base model.
    """
    plain = plain_name(name).replace(_COPY, "")
    if ".lora_" not in plain:
        return plain
    return plain.removesuffix(".weight").removesuffix(".default")


def _odd(settings: dict[str, Any]) -> Iterator[str]:
    """Yield settings that make an adapter something else than LoRA, rsLoRA or DoRA."""
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
