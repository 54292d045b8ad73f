"""How long a server asks to wait: ``Retry-After`` and its relatives."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime


def retry_after(value: str) -> float | None:
    """Return the seconds of a ``Retry-After`` header, from 0; None if it is missing or invalid.

    Args:
        value: seconds or an HTTP date; may be empty.
    """
    text = value.strip()
    try:
        if text.replace(".", "", 1).isdecimal():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):  # OverflowError: a year of many digits
        return None
