"""Whose turn it is where only so many can go at a time: those who wait, by their addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

from .api_errors import Refusal


class Turns:
    """Some places, and a bounded number of requests that wait for one.

    Addresses take turns, so that many requests of one do not delay the others'. Where too many
    wait, the newest of the address that has most of them is refused.

    Args:
        places: how many go at a time.
        waiting: how many may wait.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._free, self._most = places, waiting
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def of(self, peer: str) -> AsyncIterator[None]:
        """A place, waited for.

        Raises:
            Refusal: too many wait already.
        """
        await self._take(peer)
        try:
            yield
        finally:
            self._free += 1
            self._call()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def _take(self, peer: str) -> None:
        if self._free:
            self._free -= 1
            return
        if len(self) >= self._most:
            self._refuse_for(peer)
        called = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, deque()).append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled() and called.exception() is None:
                self._free += 1  # called in the moment in which it gave up
                self._call()
            self._forget(peer, called)
            raise

    def _call(self) -> None:
        """The first request of the address whose turn it is, for every place that is free."""
        while self._free and self._waiting:
            peer, calls = self._waiting.popitem(last=False)
            called = calls.popleft()
            if calls:
                self._waiting[peer] = calls  # behind all others
            if not called.done():
                self._free -= 1
                called.set_result(None)

    def _refuse_for(self, peer: str) -> None:
        """Make room for one more of an address, at the cost of one that has more of them."""
        busy = Refusal(429, "busy", "too many images are waiting", retry_after=5)
        most = max(self._waiting, key=lambda one: len(self._waiting[one]))
        if len(self._waiting[most]) <= len(self._waiting.get(peer, ())) + 1:
            raise busy
        called = self._waiting[most][-1]
        self._forget(most, called)
        if not called.done():
            called.set_exception(busy)

    def _forget(self, peer: str, called: asyncio.Future[None]) -> None:
        calls = self._waiting.get(peer, deque())
        if called in calls:
            calls.remove(called)
        if not calls:
            self._waiting.pop(peer, None)
