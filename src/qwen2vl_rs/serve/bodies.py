"""Bodies of requests: how large, how fast, and how much of them at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from starlette.requests import Request

from .api_errors import Refusal, too_large
from .limits import MIB, Limits
from .pace import Pace

_DRAINED = 4  # times the largest body is read before the connection is cut


def peer_of(request: Request) -> str:
    """The address that asks."""
    return request.client.host if request.client else ""


class _Body:
    """One that is held.

    Args:
        peer: who sends it.
        pace: of what comes.

    Attributes:
        content: what has come.
        timer: of the wait for more; None where all has come.
        cut: why no more of it is read.
    """

    def __init__(self, peer: str, pace: Pace) -> None:
        self.peer, self.pace = peer, pace
        self.content = bytearray()
        self.timer: asyncio.Timeout | None = None
        self.cut: Refusal | None = None

    def end(self, why: Refusal, now: float) -> None:
        """Read no more of it; what has come is forgotten."""
        self.cut = why
        self.content = bytearray()
        if self.timer is not None:
            with contextlib.suppress(RuntimeError):  # its time is up at this moment
                self.timer.reschedule(now)


class Bodies:
    """Reads bodies of requests, as long as all that are held at once stay within the limits.

    Where they do not, one that is still on its way gives way: of the address that holds most, the
    slowest.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: set[_Body] = set()
        self._coming: set[_Body] = set()

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytearray]:
        """The whole body of a request, counted as held while the context lasts.

        Raises:
            Refusal: it is too large (413), too slow (408), or too much is held already (429).
        """
        if request.headers.get("expect") and self._says_too_large(request):
            raise self._too_large()  # it waits for our word before it sends
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
        """Cut off what has not come yet: the server stops."""
        for body in self._coming:
            stopping = Refusal(503, "stopping", "the server is stopping", retry_after=10)
            body.end(stopping, asyncio.get_running_loop().time())

    async def _read(self, request: Request, body: _Body) -> None:
        most, seen = self._limits.body_bytes, 0
        async for chunk in _paced(request, body, self._limits):
            seen += len(chunk)
            if seen > _DRAINED * most:
                break
            if seen > most:  # read on: who still sends does not listen
                body.content.clear()
                continue
            body.content += chunk
            self._make_room()
            if body.cut is not None:
                raise body.cut
        if seen > most:
            raise self._too_large()

    def _make_room(self) -> None:
        """Cut bodies off until what is held is within the limit."""
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
            hint="send a smaller piece of the scene",
            param=None,
        )


async def _paced(request: Request, body: _Body, limits: Limits) -> AsyncIterator[bytes]:
    """The chunks of a body, as long as they come fast enough and it is not cut off."""
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
        slow = Refusal(408, "too_slow", "the body of the request came too slowly")
        raise body.cut or slow from error
