"""Escape control characters in untrusted text before it is printed.

Servers, hubs, tables, rasters and file names contain untrusted text. All output passes `printable`
line by line, so that such a text can neither control the terminal nor forge a line (``hint: …``).
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable

# C0 and C1 controls (escape sequences), line and paragraph separators, bidirectional controls,
# invisible marks, and surrogates. Joiners of letters and emoji (ZWJ, ZWNJ, tags, selectors) are
# harmless and stay.
_BEYOND_C0 = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
_STEERS = re.compile(f"[\x00-\x1f{_BEYOND_C0}]")
_BEYOND = re.compile(f"[{_BEYOND_C0}]")  # JSON itself escapes C0


def printable(text: object) -> str:
    r"""Return a text as one line; control characters are escaped, a line break as ``\n``."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def printable_lines(lines: Iterable[object]) -> str:
    """Join lines, each escaped by `printable`."""
    return "\n".join(map(printable, lines))


def printable_json(text: str) -> str:
    """Return equivalent JSON without characters that control a terminal."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _BEYOND.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable_traceback(error: BaseException) -> str:
    """Return a traceback, escaped: its messages may quote files."""
    lines = []
    for part in traceback.format_exception(error):
        text = part.strip("\n")
        lines += text.split("\n") if text.startswith("  ") else [text]  # frames, or the message
    return printable_lines(lines)
