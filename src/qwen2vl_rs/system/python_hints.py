"""Hints that name commands and options, in terms of the library's calls and arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

# Command: its call, the argument of its first word, and what its options are there. A command
# with other words or options remains one of the shell.
_CALLS = {
    "load": ("rs.download", "", {"verify": "verify", "hub": "hub"}),
    "fetch": ("rs.fetch_dataset", "", {"split": "splits", "only": "only", "endpoint": "endpoint"}),
    "train": ("rs.train", "", {"resume": "resume", "output": "output", "model": "model"}),
    "eval": ("rs.evaluate", "rs.load", {}),
    "check": ("rs.check", "", {}),
    "report": ("rs.report", "", {"after": "after"}),
}
_NAMES = {"test": "data", "train_questions": "train", "only": "samples"}
_FLAGS = {"resume", "verify", "merge"}
_COMMAND = re.compile(r"qwen2vl-rs (\w+)((?: [^\s;,)]+)*)")
_SET = re.compile(r"--set ([a-z_]+)\.(\w+)=([^\s;,)]+)")
_OPTION = re.compile(
    r"(?<![\w-])--([a-z][\w-]*)(?:[ =]([A-Z]{2,}\b|[\w./|-][\w.,/|-]*(?=[);,]| --|$)))?"
)
_LAUNCHERS = ("torchrun", "accelerate", "--mixed_precision")


def in_python(text: str, arguments: Collection[str]) -> str:
    """A hint with calls and arguments in place of commands and options, where there are any.

    ``choose another folder: --output FOLDER`` → ``choose another folder: output=...``.

    Args:
        text: the hint.
        arguments: those of the function that was called; an option that is none remains.
    """
    if any(word in text for word in _LAUNCHERS):
        return text
    pieces, start = [], 0
    for command in _COMMAND.finditer(text):
        pieces += [_options(text[start : command.start()], arguments), _call(command)]
        start = command.end()
    return "".join([*pieces, _options(text[start:], arguments)])


def _call(found: re.Match[str]) -> str:
    call, wrapped, options = _CALLS.get(found[1], ("", "", {}))
    given: list[str] = []
    words = iter(shlex.split(found[2]))
    for word in words:
        name = options.get(word.removeprefix("--"))
        if word.startswith("--") and name:
            given.append(f"{name}=True" if name in _FLAGS else f"{name}={_value(next(words, ''))}")
        elif given or word.startswith("--"):  # prose, or what the call does not have
            return found[0]
        else:
            given.append(f"{wrapped}({_value(word)})" if wrapped else _value(word))
    return f"{call}({', '.join(given) or '...'})" if call else found[0]


def _options(text: str, arguments: Collection[str]) -> str:
    def setting(found: re.Match[str]) -> str:
        section, name, value = found.groups()
        if "settings" not in arguments:
            return found[0]
        key = f'"{section}.{name}"' if "data" in arguments else f'"{name}"'
        of = "settings" if "data" in arguments else section
        return f"{of}={{{key}: {_literal(value)}}}"

    def option(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        name = name if name in arguments else _NAMES.get(name, name)
        if name not in arguments:
            return found[0]
        return f"{name}=True" if name in _FLAGS else f"{name}={_value(found[2] or '')}"

    return _OPTION.sub(option, _SET.sub(setting, text))


def _value(text: str) -> str:
    """A value as Python writes it; a placeholder such as FOLDER as ``...``."""
    return _literal(text) if text and not re.fullmatch(r"[A-Z]{2,}", text) else "..."


def _literal(text: str) -> str:
    if text in ("true", "false"):
        return text.capitalize()
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return text
    if re.fullmatch(r"[\d.]+(,[\d.]+)+", text):
        return f"({text.replace(',', ', ')})"
    return f'"{text}"'
