"""Limits for hub responses: uncompressed, bounded size, minimum speed.

The hubs' clients limit each read, not the whole response: one byte per second keeps them waiting
forever, and 1.8 kB of ``gzip, gzip`` unpack to gigabytes. Both clients have hooks that see a
response before its body is read; these apply the limits.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .messages import HubMessages

PLAIN = {"Accept-Encoding": "identity"}  # compressed responses cannot be resumed or bounded
LISTING = 32 << 20  # bytes
_ERROR = 1 << 20  # bytes of an error response in place of a file
LONGEST_PAUSE = 60.0  # seconds of ``Retry-After``; the client itself would sleep for days
_WINDOW = 60.0  # seconds over which the speed is measured
_RATE = 1024  # minimum bytes per second


class Limits:
    """Limits for the responses of a hub.

    Args:
        messages: creates the errors.
    """

    def __init__(self, messages: HubMessages) -> None:
        self._messages, self._most = messages, LISTING

    def for_file(self, size: int) -> None:
        """Expect a file of ``size`` bytes from now on."""
        self._most = size + _ERROR

    def for_listing(self) -> None:
        """Expect a listing from now on."""
        self._most = LISTING

    def on_requests(self, response: Any, *, stream: bool = False, **_: Any) -> None:
        """Response hook for `requests`.

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
        if not stream or response.is_redirect:  # `requests` would read the whole body
            response._content = b"".join(iter(lambda: read1(1 << 16), b""))
            response._content_consumed = True

    def on_httpx(self, response: Any) -> None:
        """Response hook for `httpx`; raises like `on_requests`, and for long ``Retry-After``."""
        self._require_plain(response)
        self._require_soon(response)
        whole, pace = response.iter_raw, _Pace(self._messages, self._most)

        def iter_raw(chunk_size: int | None = None) -> Iterator[bytes]:
            for part in whole(chunk_size):
                pace.came(len(part))
                yield part

        response.iter_raw = iter_raw

    def _require_soon(self, response: Any) -> None:
        """Refuse long pauses; `requests` itself limits them."""
        pause = response.headers.get("Retry-After", "").strip()
        if not pause.isdecimal():
            response.headers.pop("Retry-After", None)
        limited = re.findall(r";t=([0-9]+)", response.headers.get("RateLimit", ""))
        longest = max((float(text) for text in (pause, *limited) if text.isdecimal()), default=0)
        if response.status_code in (408, 429) and longest > LONGEST_PAUSE:
            response.close()
            raise self._messages.must_wait(min(longest, 1e6))

    def _require_plain(self, response: Any) -> None:
        encoding = str(response.headers.get("Content-Encoding") or "")
        if {name.strip().lower() for name in encoding.split(",")} - {"", "identity"}:
            response.close()
            raise self._messages.compressed(encoding[:100])


class Watched:
    """A file that reports its length and refuses to exceed the expected size."""

    def __init__(
        self, file: Any, moved: Callable[[int], None], size: int, messages: HubMessages
    ) -> None:
        self._file, self._moved, self._size, self._messages = file, moved, size, messages

    def write(self, data: bytes) -> int:
        """Write some bytes.

        Raises:
            HubError: they are more than expected.
        """
        if self._file.tell() + len(data) > self._size:
            raise self._messages.too_long(self._size)
        written: int = self._file.write(data)
        self._moved(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class HeadTimer:
    """Closes the connection if a response head does not arrive in time: hooks for `httpx`.

    Args:
        end: closes the connections.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end, self._timer = end, threading.Timer(_WINDOW, end)

    def start(self, _request: object) -> None:
        """Start the timer with a request."""
        self.stop()
        self._timer = threading.Timer(_WINDOW, self._end)
        self._timer.daemon = True
        self._timer.start()

    def stop(self, _response: object = None) -> None:
        """Stop the timer."""
        self._timer.cancel()


class _Pace:
    """Checks size and speed of a response."""

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
