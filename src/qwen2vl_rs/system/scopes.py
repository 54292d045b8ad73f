"""Temporary changes of process-wide settings: signals, warnings, environment, attributes."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager, nullcontext
from functools import partial
from typing import Any

KEEP = object()  # marker: keep the current value, and restore it afterwards

#: Getter, setter and temporary value (or `KEEP`) of a setting.
Setting = tuple[Callable[[], Any], Callable[[Any], Any], Any]


def attribute(owner: object, name: str, value: Any) -> Setting:
    """Return the setting for an attribute, e.g. of a module."""
    return partial(getattr, owner, name), partial(setattr, owner, name), value


@contextmanager
def temporarily(*settings: Setting) -> Iterator[None]:
    """Change settings inside the block and restore them afterwards."""
    before = [read() for read, _, _ in settings]
    try:
        for _, write, value in settings:
            if value is not KEEP:
                write(value)
        yield
    finally:
        for (_, write, _), value in zip(settings, before, strict=True):
            write(value)


def preserve_signals(names: Iterable[str], handler: Any = KEEP) -> AbstractContextManager[None]:
    """Set a handler, if given, for signals and restore theirs; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()  # Python sets handlers in the main thread only
    # Windows lacks some
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return temporarily(
        *(
            (partial(signal.getsignal, number), partial(signal.signal, number), handler)
            for number in numbers
            if signal.getsignal(number) is not None  # None: not installed from Python
        )
    )


class SharedChange(ContextDecorator):
    """A change shared by threads: the first to enter makes it, the last to leave undoes it.

    Two separate changes at the same time would restore each other's values.

    Args:
        settings: see `temporarily`.
        change: returns a context manager that makes the change instead.
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
    """Ignore warnings of a category that match ``message`` (a pattern) at the start."""
    with _filters:
        warnings.filterwarnings("ignore", message, category)
        yield


def _set_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


#: Restore all environment variables afterwards.
preserve_environment = SharedChange((os.environ.copy, _set_environment, KEEP))
