"""Settings that belong to a whole process: changed while they are needed, and put back."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager


class Shared(ContextDecorator):
    """A change that holds while any thread needs it: the first makes it, the last undoes it.

    Each for itself, two at once would put back what the other has set.

    Args:
        change: gives a context manager that makes the change, and undoes it.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change, self._lock, self._users = change, threading.Lock(), 0

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


_filters = Shared(warnings.catch_warnings)


@contextmanager
def ignoring(category: type[Warning], message: str = "") -> Iterator[None]:
    """Nothing is warned of by a category, where it begins like ``message`` (a pattern)."""
    with _filters:
        warnings.filterwarnings("ignore", message, category)
        yield


@Shared
@contextmanager
def own_environment() -> Iterator[None]:
    """Environment variables that are set in here are gone afterwards, or as they were."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
