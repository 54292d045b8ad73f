"""Write docs/library.md from the docstrings of the library; ``--check`` only compares."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import qwen2vl_rs as rs
from qwen2vl_rs.library import checks, imagery, machine, model, results, runs

PAGE = Path(__file__).with_name("library.md")

_HEAD = """\
# Python API

<!-- Written by `python docs/make_library.py` from the docstrings; changes here are lost. -->

`import qwen2vl_rs as rs` gives access to everything that the commands do. Results are displayed as
tables in a notebook, and have `to_dict()` and `to_pandas()` (pandas: `pip install -e
'.[train,notebook]'`). Progress and warnings go through Python's `logging` (logger `qwen2vl_rs`).
Errors are `rs.Qwen2VLRSError`, with a hint. A test runs the examples.
"""
_ORDER = (
    "load", "Model", "datasets.RSVQA", "datasets.read", "datasets.Dataset", "evaluate", "score",
    "compare", "check", "inspect", "train", "settings", "doctor", "report", "generate", "map_scene",
    "download", "fetch_dataset", "export",
    "Qwen2VLRSError",
)  # fmt: skip

_RESULTS = (
    model.Answers, model.QuestionAnswer,
    results.Evaluation, results.ProtocolScore, results.Accuracy, results.PairedComparison,
    checks.DataCheck, checks.Inspection, runs.Training, runs.Report, imagery.GeneratedDataset, imagery.SceneMap,
    runs.Training, runs.Report, machine.MachineReport, imagery.GeneratedDataset, imagery.SceneMap,
)  # fmt: skip


def names(module: ModuleType = rs, prefix: str = "") -> Iterator[str]:
    """Yield every public name."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from names(value, f"{name}.")
        else:
            yield prefix + name


def page() -> str:
    """Return the page."""
    assert sorted(_ORDER) == sorted(names()), "a public name is missing in _ORDER"
    parts = [part for name in _ORDER for part in _section(name)]
    for value in _RESULTS:
        parts += [f"## {value.__name__}\n", *_members(value.__name__, value)]
    return "\n".join([_HEAD, *parts])


def _section(name: str) -> Iterator[str]:
    value: Any = rs
    for part in name.split("."):
        value = getattr(value, part)
    yield f"## rs.{name}\n"
    yield from _members(f"rs.{name}", value)


def _members(name: str, value: Any) -> Iterator[str]:
    """Yield the docstring of a class or function, and those of a class's members."""
    yield from _entry(name, value)
    if not inspect.isclass(value) or issubclass(value, Exception):
        return
    own = {k: v for k, v in vars(value).items() if not k.startswith("_") and inspect.getdoc(v)}
    own = {k: v for k, v in own.items() if not inspect.ismemberdescriptor(v)}
    short = name.rpartition(".")[2]
    for key, one in own.items():
        if ">>>" not in (inspect.getdoc(one) or ""):
            call = "()" if inspect.isfunction(one) else ""
            yield f"- `{short}.{key}{call}`: {(inspect.getdoc(one) or '').splitlines()[0]}"
    for key, one in own.items():
        if ">>>" in (inspect.getdoc(one) or ""):
            yield f"\n### {short}.{key}\n"
            yield from _entry(key, one)
    yield ""


def _entry(name: str, value: Any) -> Iterator[str]:
    parameters = inspect.signature(value).parameters.values()
    if (parameters and not inspect.isclass(value)) or name.endswith("RSVQA"):
        shown = ", ".join(_shown(p) for p in parameters if p.name != "self")
        yield f"```python\n{name}({_starred(shown, parameters)})\n```\n"
    yield _markdown(inspect.getdoc(value) or "") + "\n"


def _shown(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    empty = parameter.default is parameter.empty
    return parameter.name if empty else f"{parameter.name}={parameter.default!r}"


def _starred(shown: str, parameters: Any) -> str:
    """Insert the star before the first keyword-only parameter."""
    first = next((p for p in parameters if p.kind is p.KEYWORD_ONLY), None)
    return (
        shown if first is None else re.sub(rf"\b{first.name}\b", f"*, {first.name}", shown, count=1)
    )


def _markdown(text: str) -> str:
    """Return a Google-style docstring as Markdown."""
    lines: list[str] = []
    part = ""
    for line in text.splitlines():
        if found := re.fullmatch(r"(Args|Attributes|Returns|Raises|Examples):", line):
            part = found[1]
            title = {"Args": "Arguments"}.get(part, part)
            lines += [f"{title}:", ""] if part != "Examples" else ["```pycon"]
        elif not part or not line.strip():
            lines.append(line)
        elif part == "Examples":
            lines.append(line[4:])
        elif found := re.fullmatch(r"    (\w[\w, *]*): (.*)", line):
            lines.append(f"- `{found[1]}`: {found[2]}")
        else:
            lines.append(f"  {line.strip()}" if part != "Returns" else line.strip())
    if part == "Examples":
        lines.append("```")
    return "\n".join(lines).replace("``", "`") if part != "Examples" else _ticks(lines)


def _ticks(lines: list[str]) -> str:
    return "\n".join(line if line.startswith("```") else line.replace("``", "`") for line in lines)


def main() -> int | str:
    """Write the page, or with ``--check`` compare it; return 0 or the error message."""
    made = page().rstrip() + "\n"
    if "--check" in sys.argv:
        same = PAGE.is_file() and PAGE.read_text("utf-8") == made
        return 0 if same else f"{PAGE} is not up to date: python docs/make_library.py"
    PAGE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
