"""A response's body as it was before it was packed: read up to a bound, whatever it unpacks to."""

from __future__ import annotations

import zlib

_MOST_LAYERS = 2  # `gzip, gzip` is legal, and nobody's need
_EITHER = zlib.MAX_WBITS | 32  # gzip or zlib, by its first bytes


def decoded(data: bytes, encoding: str, most: int) -> bytes:
    """Undo a ``Content-Encoding``.

    Args:
        data: the body as it was sent.
        encoding: the header's value; empty for none.
        most: bytes to unpack at most, plus one that tells that there are more.

    Raises:
        ValueError: it is packed in a way that was not asked for and is not known here, more
            often than twice, or is damaged.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    packed = [name for name in names if name not in ("", "identity")]
    if len(packed) > _MOST_LAYERS:
        raise ValueError(f"a reply that is packed {len(packed)} times")
    for name in reversed(packed):
        if name not in ("gzip", "x-gzip", "deflate"):
            raise ValueError("a reply in an encoding that was not asked for")
        try:
            data = _inflated(data, most)
        except zlib.error as error:
            raise ValueError("a reply that cannot be unpacked") from error
    return data


def _inflated(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj(_EITHER).decompress(data, most + 1)
    except zlib.error:  # some servers' deflate has no header
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most + 1)
