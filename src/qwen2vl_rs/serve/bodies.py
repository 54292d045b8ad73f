"""Request body limits: size, speed, and total memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from starlette.requests import Request

from .api_errors import Refusal, too_large
from .limits import MIB, Limits
from .pace import Pace

_DRAINED = 4  # times the maximum body is read and dropped before the connection is closed


def peer_of(request: Request) -> str:
    """Return the client's address."""
    return request.client.host if request.client else ""


class _Body:
    """A body in memory.

    Args:
        peer: the client's address.
        pace: the minimum speed.

    Attributes:
        content: the bytes so far.
        timer: for the next bytes; None for a complete body.
        cut: why reading has stopped.
    """

    def __init__(self, peer: str, pace: Pace) -> None:
        self.peer, self.pace = peer, pace
        self.content = bytearray()
        self.timer: asyncio.Timeout | None = None
        self.cut: Refusal | None = None

    def end(self, why: Refusal, now: float) -> None:
        """Stop reading it, and drop its bytes."""
        self.cut = why
        self.content = bytearray()
        if self.timer is not None:
            with contextlib.suppress(RuntimeError):  # the timer has just expired
                self.timer.reschedule(now)


class Bodies:
    """Reads request bodies within a limit on their total size.

    Above the limit an incomplete body is dropped: the slowest of the address that holds most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: set[_Body] = set()
        self._coming: set[_Body] = set()

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytearray]:
        """Read the whole body of a request, which counts as held for the duration of the context.

        Raises:
            Refusal: it is too large (413), too slow (408), or the limit is reached (429).
        """
        if request.headers.get("expect") and self._says_too_large(request):
            raise self._too_large()  # it waits for 100 Continue before it sends
        limits, clock = self._limits, asyncio.get_running_loop().time
        pace = Pace(clock(), limits.body_seconds, limits.body_rate)
        body = _Body(peer_of(request), pace)
        self._held.add(body)
        self._coming.add(body)
        try:
            await self._read(request, body)
            self._coming.remove(body)
            yield body.content
        finally:
            self._held.discard(body)
            self._coming.discard(body)

    def stop(self) -> None:
        """Abort incomplete bodies, as the server stops."""
        for body in self._coming:
            stopping = Refusal(503, "stopping", "the server is stopping", retry_after=10)
            body.end(stopping, asyncio.get_running_loop().time())

    async def _read(self, request: Request, body: _Body) -> None:
        most, seen = self._limits.body_bytes, 0
        async for chunk in _paced(request, body, self._limits):
            seen += len(chunk)
            if seen > _DRAINED * most:
                break
            if seen > most:  # read on: a client that still sends does not read the response
                body.content.clear()
                continue
            body.content += chunk
            self._make_room()
            if body.cut is not None:
                raise body.cut
        if seen > most:
            raise self._too_large()

    def _make_room(self) -> None:
        """Drop bodies until the rest is within the limit."""
        over = sum(len(one.content) for one in self._held) - self._limits.in_flight_bytes
        if over <= 0:
            return
        now = asyncio.get_running_loop().time()
        by_peer: Counter[str] = Counter()
        for one in self._held:
            by_peer[one.peer] += len(one.content)
        for one in sorted(self._coming, key=lambda b: (-by_peer[b.peer], b.pace.rate(now))):
            if one.content and over > 0:
                over -= len(one.content)
                one.end(
                    Refusal(429, "busy", "too many uploads at once", retry_after=5, closes=True),
                    now,
                )

    def _says_too_large(self, request: Request) -> bool:
        said = request.headers.get("content-length", "")
        return said.isdecimal() and int(said[:20]) > self._limits.body_bytes

    def _too_large(self) -> Refusal:
        return too_large(
            f"the request is too large: an image may have {self._limits.image_bytes // MIB} MiB",
            hint="send a smaller part of the scene",
            param=None,
        )


async def _paced(request: Request, body: _Body, limits: Limits) -> AsyncIterator[bytes]:
    """Yield the chunks of a body while it is fast enough and not dropped."""
    stream, clock = request.stream(), asyncio.get_running_loop().time
    try:
        while True:
            end = min(clock() + limits.idle_seconds, body.pace.deadline)
            async with asyncio.timeout_at(end) as body.timer:
                chunk = await anext(stream, None)
            body.timer = None
            if chunk is None:
                return
            body.pace.add(len(chunk), clock())
            yield chunk
    except TimeoutError as error:
        slow = Refusal(408, "too_slow", "the body of the request arrived too slowly")
        raise body.cut or slow from error
