"""Write docs/settings.md from the classes in config.py; ``--check`` only compares."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from qwen2vl_rs import foreign_settings
from qwen2vl_rs.config import Config, Section
from qwen2vl_rs.system.toml import to_toml

PAGE = Path(__file__).with_name("settings.md")

_HEAD = """\
# Settings

<!-- Written by `python docs/make_settings.py` from config.py; changes here are lost. -->

In a TOML file (`qwen2vl-rs train my.toml`) a key is in the table of its section; on the command
line the section is part of the name: `--set training.learning_rate=5e-5`. A run stores all settings
in its `config.toml`. Names are those of `TrainingArguments` and `LoraConfig` where they exist
there. For a name of another
program (`lr`, `load_in_4bit`, `eval_strategy`) the error message gives the name used here, or what
to do instead. The device is not a setting but an option: `--device cpu`, `--device cuda:1`; the
environment variable `CUDA_VISIBLE_DEVICES` limits the visible GPUs.
"""
_TRAINED = """\
## What is trained

| part of the model | how | settings |
| --- | --- | --- |
| language model | LoRA, rsLoRA or DoRA on the layers named | `lora.target_modules`, `lora.use_rslora`, `lora.use_dora` |
| vision tower | frozen; LoRA (of the same kind) on all linear layers; all its weights | `training.vision_tower`, `training.vision_learning_rate` |
| merger (between tower and language model) | likewise | `training.merger`, `training.merger_learning_rate` |

- rsLoRA scales by alpha / √r, LoRA by alpha / r: with the defaults (r 64, alpha 16) rsLoRA's updates
  are 8 times as large. Lower alpha or the learning rate when you switch.
- If tower or merger is trained, images are encoded in every step, not once for all epochs: steps
  take longer, and the estimate of memory before the first step is higher.
- Checkpoints load in plain PEFT, and `export --merge` merges each kind.
- To train on, `lora.adapter` (`--adapter`) names a run, a checkpoint or an adapter of another
  program in PEFT's format. The run takes over its rank, alpha, method and layers; the evaluation
  before training is still that of the base model.
- The language model is not trained fully. Use LoRA of a higher rank, on all layers (the default).
  LoRA+, LoRA initialisations that change the base model (PiSSA, OLoRA) and patterns of ranks are
  not supported.
"""
_SIGNS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_section(Config, ""), _TRAINED, *_elsewhere()])


def _elsewhere() -> Iterator[str]:
    """Yield the names of other programs, and what is not supported."""
    yield "## Names of other programs\n"
    yield "Each of them gives an error that names the setting here.\n"
    yield from _names("here", foreign_settings.SAME)
    yield "\n## Not supported, and what to use instead\n"
    yield from _names("instead", foreign_settings.INSTEAD)
    yield "\nNot needed: " + _listed(foreign_settings.NOT_NEEDED) + "."
    yield ""


def _names(column: str, table: Mapping[str, str]) -> Iterator[str]:
    yield f"| names elsewhere | {column} |\n| --- | --- |"
    for place, names in table.items():
        yield f"| {_listed(names)} | {_marked(place)} |"


def _listed(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())


def _marked(text: str) -> str:
    """Mark the settings and options in a text as code."""
    return re.sub(
        r"(?<![\w-])((?:training|lora|data|eval|view)\.\w+(?:=[\w.]+)?|(?<=option )--[a-z-]+)",
        r"`\1`",
        text,
    )


def _section(section: type[Section], name: str) -> Iterator[str]:
    """Yield a table of the section's own settings, then its subsections."""
    meanings = meaning(section)
    inner = []
    yield f"## [{name}]\n" if name else "## Top level\n"
    yield "| key | meaning | default | allowed |\n| --- | --- | --- | --- |"
    for key, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            inner.append((kind, f"{name}.{key}" if name else key))
            continue
        default = "" if field.default is None else f"`{_toml(field.default)}`"
        wanted = allowed(Annotated[(kind, *field.metadata)] if field.metadata else kind)
        cells = (f"`{key}`", meanings[key], default or "not set", wanted)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for kind, place in inner:
        yield from _section(kind, place)


def meaning(section: type[Section]) -> dict[str, str]:
    """Return the descriptions of the attributes from the docstring of a section."""
    doc = inspect.getdoc(section) or ""
    found = {}
    for entry in re.split(r"\n    (?=\w)", doc.partition("Attributes:")[2]):
        names, _, text = entry.strip().partition(": ")
        plain = " ".join(text.split()).replace("``", "`").replace("; None:", "; not set:")
        plain = plain.replace("None:", "Not set:")
        for name in names.split(", "):
            found[name] = plain[:1].upper() + plain[1:]
    return found


def _toml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return to_toml({"v": plain}).removeprefix("v = ").strip()


def allowed(kind: Any) -> str:
    """Return the allowed values of a setting as text."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        limits = [
            f"{sign} {getattr(one, name):,}"
            for one in parts[1:]
            for known, (name, sign) in _SIGNS.items()
            if isinstance(one, known)
        ]
        return ", ".join([allowed(parts[0]), *limits])
    if origin in (Union, UnionType):
        return " or ".join(allowed(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        listed = f"list of {allowed(parts[0])}"
        return listed if parts[-1] is Ellipsis else f"{len(parts)} of: {allowed(parts[0])}"
    return {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}[kind]


def main(args: Sequence[str]) -> int:
    """Write the page, or with ``--check`` compare it; return the exit code."""
    text = page()
    if "--check" not in args:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE} is out of date: python docs/make_settings.py", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
