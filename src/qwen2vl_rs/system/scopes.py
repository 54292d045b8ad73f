"""Settings that belong to a whole process: changed while they are needed, and put back."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager, nullcontext
from functools import partial
from typing import Any

UNCHANGED = object()  # a value that is whatever it is, and that afterwards

#: How a setting is read, how it is written, and what it has to be, or `UNCHANGED`.
Setting = tuple[Callable[[], Any], Callable[[Any], Any], Any]


def attribute(owner: object, name: str, value: Any) -> Setting:
    """The setting that is an attribute, as of a module."""
    return partial(getattr, owner, name), partial(setattr, owner, name), value


@contextmanager
def temporarily(*settings: Setting) -> Iterator[None]:
    """Settings are in here what they have to be, and afterwards what they were."""
    before = [read() for read, _, _ in settings]
    try:
        for _, write, value in settings:
            if value is not UNCHANGED:
                write(value)
        yield
    finally:
        for (_, write, _), value in zip(settings, before, strict=True):
            write(value)


def preserve_signals(
    names: Iterable[str], handler: Any = UNCHANGED
) -> AbstractContextManager[None]:
    """Signals are handled as they were afterwards; in other threads than the main one, always."""
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()  # where Python changes none
    numbers = [
        getattr(signal, name) for name in names if hasattr(signal, name)
    ]  # Windows lacks some
    return temporarily(
        *(
            (partial(signal.getsignal, number), partial(signal.signal, number), handler)
            for number in numbers
            if signal.getsignal(number) is not None  # else it is not one of Python's
        )
    )


class SharedChange(ContextDecorator):
    """A change that holds while any thread needs it: the first makes it, the last undoes it.

    Each for itself, two at once would put back what the other has set.

    Args:
        settings: see `temporarily`.
        change: gives a context manager that makes another change.
    """

    def __init__(
        self, *settings: Setting, change: Callable[[], AbstractContextManager[Any]] | None = None
    ) -> None:
        self._change = change or partial(temporarily, *settings)
        self._lock, self._users = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._made = self._change()
                self._made.__enter__()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._made.__exit__(None, None, None)


_filters = SharedChange(change=warnings.catch_warnings)


@contextmanager
def ignore_warnings(category: type[Warning], message: str = "") -> Iterator[None]:
    """Nothing is warned of by a category, where it begins like ``message`` (a pattern)."""
    with _filters:
        warnings.filterwarnings("ignore", message, category)
        yield


def _set_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


#: Environment variables that are set in here are gone afterwards, or as they were.
preserve_environment = SharedChange((os.environ.copy, _set_environment, UNCHANGED))
