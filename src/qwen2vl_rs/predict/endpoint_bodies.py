"""Bounded decompression of response bodies."""

from __future__ import annotations

import zlib

_MOST_LAYERS = 2  # `gzip, gzip` is valid; more is not useful
_EITHER = zlib.MAX_WBITS | 32  # gzip or zlib, by its first bytes


def decoded(data: bytes, encoding: str, most: int) -> bytes:
    """Undo a ``Content-Encoding``.

    Args:
        data: the body as received.
        encoding: the header's value; may be empty.
        most: maximum bytes to return, plus one that shows that there are more.

    Raises:
        ValueError: the encoding is unknown or was not requested, has more than two layers, or the
            data are damaged.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    packed = [name for name in names if name not in ("", "identity")]
    if len(packed) > _MOST_LAYERS:
        raise ValueError(f"a reply that is compressed {len(packed)} times")
    for name in reversed(packed):
        if name not in ("gzip", "x-gzip", "deflate"):
            raise ValueError("a reply in an encoding that was not requested")
        try:
            data = _inflated(data, most)
        except zlib.error as error:
            raise ValueError("a reply that cannot be decompressed") from error
    return data


def _inflated(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj(_EITHER).decompress(data, most + 1)
    except zlib.error:  # some servers send deflate without a header
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most + 1)
