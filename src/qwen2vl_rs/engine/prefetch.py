"""Prefetching: prepare the next item in a thread while the current one is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Prefetcher(Generic[S, T]):
    """Makes items on request, and the announced next one in a thread.

    Args:
        make: from a key to its item; without side effects, as an item may never be requested.
    """

    def __init__(self, make: Callable[[S], T]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming: tuple[S, Future[T]] | None = None

    def get(self, key: S, then: S | None) -> T:
        """Return the item of ``key`` and start that of ``then``."""
        coming, self._coming = self._coming, None
        made = coming[1].result() if coming and coming[0] == key else self._make(key)
        if then is not None:
            self._coming = then, self._pool.submit(self._make, then)
        return made


def prefetch(make: Callable[[S], T], keys: Sequence[S]) -> Iterator[T]:
    """Yield the items of all keys in order; the next one is started before each is yielded."""
    source: Prefetcher[int, T] = Prefetcher(lambda place: make(keys[place]))
    for place in range(len(keys)):
        yield source.get(place, place + 1 if place + 1 < len(keys) else None)
