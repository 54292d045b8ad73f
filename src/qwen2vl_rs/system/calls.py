"""Public calls of the library: hints in terms of Python, and a note on interruptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from ..errors import ConfigError, Qwen2VLRSError

P = ParamSpec("P")
T = TypeVar("T")
_by_command: ContextVar[bool] = ContextVar("by_command", default=False)
_KEPT = "what is done is kept: the same call resumes"
_NAMES = {"test": "data", "train_questions": "train", "input": "path", "only": "samples"}
_COMMANDS = {"load": "download", "eval": "evaluate", "map": "map_scene", "serve": "load"}
_COMMAND = re.compile(r"qwen2vl-rs (\w+)((?: (?!--)[\w./'-]+)*)((?: --[\w-]+(?: [A-Z]\S*)?)*)")
_SET = re.compile(r"--set ([\w.]+)=(\S+)")
_OPTION = re.compile(r"--([a-z][\w-]*)(?:[ =]([A-Z]{2,}|[\w./|-]+(?=[);,]|$)))?")
_FLAGS = {"resume", "verify", "merge"}


def in_python(text: str) -> str:
    """A hint with commands and options replaced by calls and arguments.

    ``choose another folder: --output FOLDER`` → ``choose another folder: output=...``.
    """
    text = _COMMAND.sub(_call, text)
    text = _SET.sub(lambda found: f"settings={{{found[1]!r}: {found[2]!r}}}", text)
    return _OPTION.sub(_argument, text)


def _call(found: re.Match[str]) -> str:
    name = _COMMANDS.get(found[1], found[1])
    words = [f'"{word}"' for word in found[2].split()]
    words += re.findall(r"--\w[\w-]*(?: [A-Z]\S*)?", found[3])
    return f"rs.{name}({', '.join(words) or '...'})"


def _argument(found: re.Match[str]) -> str:
    name = found[1].replace("-", "_")
    name = _NAMES.get(name, name)
    if name in _FLAGS:
        return f"{name}=True"
    value = found[2] or ""
    return f"{name}=..." if not value or value.isupper() else f'{name}="{value}"'


@contextmanager
def commands() -> Iterator[None]:
    """Keep hints in terms of the command line, which calls the library."""
    token = _by_command.set(True)
    try:
        yield
    finally:
        _by_command.reset(token)


def public(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function one that users of the library call."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Qwen2VLRSError as error:
            if error.hint and not _by_command.get():
                error.rephrase(in_python(error.hint))
            raise
        except KeyboardInterrupt as error:
            if not _by_command.get():
                error.add_note(_KEPT)
            raise

    return call


def require_one_of(name: str, value: object, *allowed: object) -> None:
    """Check an argument that has few possible values.

    Raises:
        ConfigError: the value is not one of them.
    """
    if value not in allowed:
        listed = ", ".join(map(repr, allowed))
        raise ConfigError(f"{name}={value!r} is not possible", hint=f"use one of {listed}")
