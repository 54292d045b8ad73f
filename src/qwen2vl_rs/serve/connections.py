"""Connection limits: deadlines of clients, and which connection is closed when all are in use.

They apply before a request is parsed, and so before authentication:

- a request head must arrive within some seconds and bytes; idle connections have a deadline, too;
- a client that keeps sending after its response, or does not read it, is disconnected;
- if all connections are in use, a new one replaces one that is not waiting for a response: of the
  peer with most connections, if that is more than its share, the one that does least.

Bodies are paced where they are read (`bodies`); slow ones are replaced first.
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

# activity of a connection, in the order in which they are replaced
_HEAD, _SENDS_ON, _TAKES_NOTHING, _WAITS, _SLOW, _WORKS = range(6)


class Connections:
    """All connections of a server.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[Connection, None] = {}  # in order of age

    def enter(self, new: Connection) -> bool:
        """Add a connection, possibly in place of another; return False if there is no room."""
        if len(self._open) >= self.limits.connections and not self._make_room(new.peer):
            return False
        self._open[new] = None
        return True

    def leave(self, old: Connection) -> None:
        """Remove a closed connection."""
        self._open.pop(old, None)

    def _make_room(self, peer: str) -> bool:
        """Close the least active connection, for one of a peer."""
        held = Counter(one.peer for one in self._open)
        doing = {one: one.doing() for one in self._open}

        def rank(one: Connection) -> tuple[int, int]:
            over = max(0, held[one.peer] - self.limits.connections_of_a_peer)
            return -over, doing[one]

        most = self.limits.connections_of_a_peer
        spare = [one for one in self._open if doing[one] != _WORKS]
        if not spare and held[peer] < most:  # the newest has waited least
            spare = [one for one in reversed(self._open) if held[one.peer] > most]
            spare = spare[:1]
        if not spare:
            return False
        least = min(map(rank, spare))
        # Random among equals: in a flood each new one stays for a while, regardless of age.
        victim = random.choice([one for one in spare if rank(one) == least])
        self.leave(victim)
        victim.transport.abort()
        return True


class Connection(H11Protocol):
    """A connection, with deadlines for its client."""

    everybody: Connections  # set by `protocol`

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.peer = ""
        self._limits = self.everybody.limits
        self._state = _WORKS
        self._deadline: asyncio.TimerHandle | None = None
        self._pace = self._new_pace()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handle a new connection."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        if not self.everybody.enter(self):
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""
        self.everybody.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._pace = self._new_pace()
        self._pace.add(len(data), time.monotonic())
        self._watch()

    def on_response_complete(self) -> None:
        """Handle the end of a response."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Handle a client that does not read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Handle a client that reads again."""
        super().resume_writing()
        self._watch()

    def doing(self) -> int:
        """The current activity."""
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
        """Set the deadline of the current activity, if it has changed."""
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
            self.transport.abort()  # unread data are dropped


def protocol(limits: Limits) -> type[Connection]:
    """Return the protocol class of one server."""
    return type("Connection", (Connection,), {"everybody": Connections(limits)})
