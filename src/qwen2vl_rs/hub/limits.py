"""What a hub may send: not packed, no more than was asked for, and not too slowly.

The hubs' clients bound each read, not the whole: a byte a second keeps them waiting for ever, and
1.8 kB of ``gzip, gzip`` unpack to gigabytes. Both let a caller see a response before its body is
read; there it gets these limits.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .messages import HubMessages

LISTING = 32 << 20  # bytes
_ERROR = 1 << 20  # bytes, of what comes in a file's place
_LONGEST_PAUSE = 60.0  # seconds, where a hub asks for it; its client would sleep for days
_WINDOW = 60.0  # seconds in which ...
_RATE = 1024  # ... so many bytes a second must arrive


class Limits:
    """Limits for the responses of a hub.

    Args:
        told: gives the errors that are raised while a response is read.
    """

    def __init__(self, messages: HubMessages) -> None:
        self._messages, self._most = messages, LISTING

    def for_file(self, size: int) -> None:
        """What comes from now on is a file of so many bytes."""
        self._most = size + _ERROR

    def for_listing(self) -> None:
        """What comes from now on is a listing."""
        self._most = LISTING

    def on_requests(self, response: Any, *, stream: bool = False, **_: Any) -> None:
        """A hook for responses of `requests`.

        Raises:
            HubError: the response is compressed, or (while it is read) too long or too slow.
        """
        self._require_plain(response)
        if not hasattr(response.raw, "read1"):  # urllib3 before 2.1
            return
        read, pace = response.raw.read1, _Pace(self._messages, self._most)

        def read1(*args: Any, **named: Any) -> bytes:
            data: bytes = read(*args, **named)
            pace.came(len(data))
            return data

        response.raw.read1 = read1
        if not stream or response.is_redirect:  # here `requests` would read all there is
            response._content = b"".join(iter(lambda: read1(1 << 16), b""))
            response._content_consumed = True

    def on_httpx(self, response: Any) -> None:
        """A hook for responses of `httpx`; raises as `on_requests`, and where it is put off."""
        self._require_plain(response)
        self._require_soon(response)
        whole, pace = response.iter_raw, _Pace(self._messages, self._most)

        def iter_raw(chunk_size: int | None = None) -> Iterator[bytes]:
            for part in whole(chunk_size):
                pace.came(len(part))
                yield part

        response.iter_raw = iter_raw

    def _require_soon(self, response: Any) -> None:
        """`requests` bounds pauses itself."""
        asked = response.headers.get("Retry-After", "").strip()
        if not asked.isdecimal():
            response.headers.pop("Retry-After", None)
        limited = re.findall(r";t=([0-9]+)", response.headers.get("RateLimit", ""))
        longest = max((float(text) for text in (asked, *limited) if text.isdecimal()), default=0)
        if response.status_code in (408, 429) and longest > _LONGEST_PAUSE:
            response.close()
            raise self._messages.must_wait(min(longest, 1e6))

    def _require_plain(self, response: Any) -> None:
        encoding = str(response.headers.get("Content-Encoding") or "")
        if {name.strip().lower() for name in encoding.split(",")} - {"", "identity"}:
            response.close()
            raise self._messages.compressed(encoding[:100])


class HeadTimer:
    """Ends the wait for a response whose head never ends: hooks for `httpx`.

    Args:
        end: closes the connections.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end, self._timer = end, threading.Timer(_WINDOW, end)

    def start(self, _request: object) -> None:
        """A request leaves."""
        self.stop()
        self._timer = threading.Timer(_WINDOW, self._end)
        self._timer.daemon = True
        self._timer.start()

    def stop(self, _response: object = None) -> None:
        """The head is there, or nobody waits any more."""
        self._timer.cancel()


class _Pace:
    """Counts what arrives."""

    def __init__(self, messages: HubMessages, most: int) -> None:
        self._messages, self._most = messages, most
        self._all = self._lately = 0
        self._since = time.monotonic()

    def came(self, size: int) -> None:
        self._all += size
        self._lately += size
        if self._all > self._most:
            raise self._messages.too_long(self._most)
        now = time.monotonic()
        if now - self._since >= _WINDOW:
            if self._lately < _RATE * (now - self._since):
                raise self._messages.too_slow()
            self._since, self._lately = now, 0
