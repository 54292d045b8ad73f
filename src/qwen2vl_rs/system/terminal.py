"""Text from outside at the terminal: what would steer it, or forge a line of ours, is spelled out.

Servers, hubs, tables, rasters and file names bring texts that nobody here wrote. Whatever is
printed goes through `printable`, a line at a time, so that a line stays a line: a text that holds a
line break cannot begin one with ``hint:``.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable

# C0 and C1 (escape sequences begin there), line and paragraph separators, all that turns the
# direction of writing, marks that are drawn as nothing, and halves of characters. What joins
# letters and emoji (ZWJ, ZWNJ, tags, selectors) is no harm and stays.
_BEYOND_C0 = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
_STEERS = re.compile(f"[\x00-\x1f{_BEYOND_C0}]")
_BEYOND = re.compile(f"[{_BEYOND_C0}]")  # what JSON spells out by itself is C0


def printable(text: object) -> str:
    """A text as one line for people, in which a line break reads as a backslash and an n."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def printable_lines(lines: Iterable[object]) -> str:
    """Lines, of which each stays one."""
    return "\n".join(map(printable, lines))


def printable_json(text: str) -> str:
    """JSON of the same value, without characters that steer a terminal."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _BEYOND.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable_traceback(error: BaseException) -> str:
    """A traceback, whose messages may quote a file as well."""
    lines = []
    for part in traceback.format_exception(error):
        text = part.strip("\n")
        lines += text.split("\n") if text.startswith("  ") else [text]  # places, or what it says
    return printable_lines(lines)
