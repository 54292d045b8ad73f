"""Fair queue: a limited number of places, shared evenly among client addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

from .api_errors import Refusal


class Turns:
    """A limited number of places, and a bounded queue for them.

    Addresses take turns, so that many requests of one do not delay the others'. When the queue is
    full, the newest request of the address with most of them is refused.

    Args:
        places: number of places.
        waiting: maximum length of the queue.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._free, self._most = places, waiting
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def of(self, peer: str) -> AsyncIterator[None]:
        """Wait for a place and hold it for the duration of the context.

        Raises:
            Refusal: the queue is full.
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
                self._free += 1  # it got the place while it gave up
                self._call()
            self._forget(peer, called)
            raise

    def _call(self) -> None:
        """Give every free place to the first request of the next address."""
        while self._free and self._waiting:
            peer, calls = self._waiting.popitem(last=False)
            called = calls.popleft()
            if calls:
                self._waiting[peer] = calls  # to the end of the line
            if not called.done():
                self._free -= 1
                called.set_result(None)

    def _refuse_for(self, peer: str) -> None:
        """Make room for a request of an address by refusing one of an address with more."""
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
