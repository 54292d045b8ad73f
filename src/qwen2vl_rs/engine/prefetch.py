"""Work on the next item while this one is used: images are decoded while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Ahead(Generic[S, T]):
    """Makes what is asked for, and in a thread what is said to come next.

    Args:
        make: from a key to its item; pure, for it may be called for an item nobody asks for.
    """

    def __init__(self, make: Callable[[S], T]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming: tuple[S, Future[T]] | None = None

    def get(self, key: S, then: S | None) -> T:
        """The item of ``key``; that of ``then`` is begun."""
        coming, self._coming = self._coming, None
        made = coming[1].result() if coming and coming[0] == key else self._make(key)
        if then is not None:
            self._coming = then, self._pool.submit(self._make, then)
        return made


def ahead(make: Callable[[S], T], keys: Sequence[S]) -> Iterator[T]:
    """Items of all keys in order, the next one begun before each is handed out."""
    source: Ahead[int, T] = Ahead(lambda place: make(keys[place]))
    for place in range(len(keys)):
        yield source.get(place, place + 1 if place + 1 < len(keys) else None)
