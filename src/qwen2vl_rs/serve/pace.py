"""How fast something comes: enough of it in every stretch of time, or it is late."""

from __future__ import annotations

import math


class Pace:
    """Bytes of one body as they come.

    In every stretch of ``seconds`` there have to be ``seconds * rate`` of them: what came at once
    before buys no time.

    Args:
        now: when it began, in seconds of any clock.
        seconds: of a stretch.
        rate: bytes a second that it has to have.
    """

    def __init__(self, now: float, seconds: float, rate: float) -> None:
        self._seconds, self._enough = seconds, seconds * rate
        self._begun, self._stretch, self._in_stretch = now, now, 0
        self._last, self._faded = now, 0.0  # bytes, the older the less they count

    def add(self, size: int, now: float) -> None:
        """So many bytes came."""
        self._faded = self._faded * math.exp((self._last - now) / self._seconds) + size
        self._last = now
        self._in_stretch += size
        if self._in_stretch >= self._enough:
            self._stretch, self._in_stretch = now, 0

    @property
    def deadline(self) -> float:
        """When it is late, if no more comes."""
        return self._stretch + self._seconds

    def rate(self, now: float) -> float:
        """Bytes a second of late; of the first byte on, whatever its age."""
        age = max(now - self._begun, 1e-3)
        faded = self._faded * math.exp((self._last - now) / self._seconds)
        return faded / (self._seconds * -math.expm1(-age / self._seconds))
