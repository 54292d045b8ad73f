"""Minimum speed of a request body, measured in every interval of time."""

from __future__ import annotations

import math


class Pace:
    """The speed of one body.

    Every interval of ``seconds`` needs ``seconds * rate`` bytes. A fast start does not make up for
    slow intervals later.

    Args:
        now: start time, in seconds of any clock.
        seconds: length of an interval.
        rate: minimum bytes per second.
    """

    def __init__(self, now: float, seconds: float, rate: float) -> None:
        self._seconds, self._enough = seconds, seconds * rate
        self._begun, self._stretch, self._in_stretch = now, now, 0
        self._last, self._faded = now, 0.0  # recent bytes, weighted by age

    def add(self, size: int, now: float) -> None:
        """Count received bytes."""
        self._faded = self._faded * math.exp((self._last - now) / self._seconds) + size
        self._last = now
        self._in_stretch += size
        if self._in_stretch >= self._enough:
            self._stretch, self._in_stretch = now, 0

    @property
    def deadline(self) -> float:
        """Return when the body is late, if no more bytes arrive."""
        return self._stretch + self._seconds

    def rate(self, now: float) -> float:
        """Return the recent bytes per second."""
        age = max(now - self._begun, 1e-3)
        faded = self._faded * math.exp((self._last - now) / self._seconds)
        return faded / (self._seconds * -math.expm1(-age / self._seconds))
