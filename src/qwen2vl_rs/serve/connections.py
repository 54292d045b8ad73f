"""Connections around requests: how long they may wait, and whose goes when all are taken.

All of this comes before anything of a request is looked at, and so before the token:

- a head has to be there in some seconds and bytes, a connection without request may wait so long;
- who has been answered and sends on, or does not take the answer, is cut off;
- where all connections are taken, a new one takes the place of one that is not being answered: of
  the peer that has most of them, if that is more than its share, and there of who does least.

Bodies are paced where they are read (`intake`); what comes too slowly goes first when others wait.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits
from .pace import Pace

# what a connection does, the least first: this is the order in which they go
_HEAD, _SENDS_ON, _TAKES_NOTHING, _WAITS, _SLOW, _WORKS = range(6)


class Connections:
    """All connections of a server.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[Connection, None] = {}  # the oldest first

    def enter(self, new: Connection) -> bool:
        """Take a connection in, another may have to go for it; False where there is no room."""
        if len(self._open) >= self.limits.connections and not self._make_room(new.peer):
            return False
        self._open[new] = None
        return True

    def leave(self, old: Connection) -> None:
        """A connection is closed."""
        self._open.pop(old, None)

    def _make_room(self, peer: str) -> bool:
        """Close the connection that is missed least, for one of a peer."""
        held = Counter(one.peer for one in self._open)
        doing = {one: one.doing() for one in self._open}

        def rank(one: Connection) -> tuple[int, int]:
            over = max(0, held[one.peer] - self.limits.connections_of_a_peer)
            return -over, doing[one]

        most = self.limits.connections_of_a_peer
        spare = [one for one in self._open if doing[one] != _WORKS]
        if not spare and held[peer] < most:  # what came last has waited least
            spare = [one for one in reversed(self._open) if held[one.peer] > most]
            spare = spare[:1]
        if not spare:
            return False
        least = min(map(rank, spare))
        # Of equals any: in a flood of new ones each stays for a while, whoever is the oldest.
        victim = random.choice([one for one in spare if rank(one) == least])
        self.leave(victim)
        victim.transport.abort()
        return True


class Connection(H11Protocol):
    """One of them, with deadlines for what a client has to do."""

    everybody: Connections  # set by `protocol`

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.peer = ""
        self._limits = self.everybody.limits
        self._state = _WORKS
        self._deadline: asyncio.TimerHandle | None = None
        self._pace = self._new_pace()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        if not self.everybody.enter(self):
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.everybody.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It sent something."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._pace = self._new_pace()
        self._pace.add(len(data), time.monotonic())
        self._watch()

    def on_response_complete(self) -> None:
        """It was answered."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """It does not take what it is sent."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._watch()

    def doing(self) -> int:
        """What it does now."""
        if self.flow is not None and self.flow.write_paused:
            return _TAKES_NOTHING
        if self.cycle is None or self.cycle.response_complete:
            if self.conn.their_state is h11.SEND_BODY:
                return _SENDS_ON
            begun = self.cycle is None or bool(self.conn.trailing_data[0])
            return _HEAD if begun else _WAITS
        if not self.cycle.more_body:
            return _WORKS
        slow = self._pace.rate(time.monotonic()) < self._limits.body_rate
        return _SLOW if slow else _WORKS

    def _new_pace(self) -> Pace:
        return Pace(time.monotonic(), self._limits.body_seconds, self._limits.body_rate)

    def _watch(self) -> None:
        """Set the deadline of what it does, where that is something else than before."""
        state = self.doing()
        if state == self._state or self.transport.is_closing():
            return
        self._state = state
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        limits = self._limits
        seconds = {
            _HEAD: limits.head_seconds,
            _SENDS_ON: limits.head_seconds,
            _TAKES_NOTHING: limits.wait_seconds,
            _WAITS: limits.wait_seconds,
        }.get(state)
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()  # what it did not take is of no use any more


def protocol(limits: Limits) -> type[Connection]:
    """The protocol of one server."""
    return type("Connection", (Connection,), {"everybody": Connections(limits)})
