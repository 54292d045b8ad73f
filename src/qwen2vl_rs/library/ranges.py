"""Limits of arguments, for the library and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import ConfigError

# Argument: lowest and highest value.
GENERATED_TILE = (64, 2048)  # pixels
MAP_TILE = (28, 4096)  # pixels
OVERLAP = (0, 0.95)
CONCURRENCY = (1, 256)  # requests at a time
MORE_THAN_0 = math.ulp(0.0)


def require_within(limits: Mapping[str, tuple[float | None, float, float]]) -> None:
    """Check numbers.

    Args:
        limits: by the argument's name: its value, None where it was not given; the lowest and the
            highest possible value.

    Raises:
        ConfigError: naming the first that is not a number within its limits.
    """
    for name, (value, low, high) in limits.items():
        if value is None:
            continue
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or not low <= value <= high:
            least = "above 0" if low == MORE_THAN_0 else f"from {low:g}"
            most = "" if high == math.inf else f" to {high:g}"
            raise ConfigError(
                f"{name}={value!r} is not possible", hint=f"use a number {least}{most}"
            )
