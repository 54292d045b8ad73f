"""Public calls of the library: hints in terms of Python, and a note on interruptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from ..errors import ConfigError, Qwen2VLRSError
from .python_hints import in_python

P = ParamSpec("P")
T = TypeVar("T")
_by_command: ContextVar[bool] = ContextVar("by_command", default=False)
_KEPT = "what is done is kept: the same call resumes"


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
    parameters = inspect.signature(function).parameters.values()
    arguments = {one.name for one in parameters}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):  # settings of a run
        arguments |= {"model", "output"}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Qwen2VLRSError as error:
            if error.hint and not _by_command.get():
                error.rephrase(in_python(error.hint, arguments))
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
