"""Read ids and tags of the area relations in an OpenStreetMap file, to find those GDAL drops.

GDAL silently drops a relation if its outline is not closed, because the file lacks members (as at
the edge of an extract) or the ways have gaps. This module lists the relations of a file, for
comparison with the output of GDAL. The formats are those of the OpenStreetMap wiki ("PBF Format",
"OSM XML"); in a .pbf file only the relation groups are decoded.
"""

from __future__ import annotations

import lzma
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..system.named_files import open_named

Relation = tuple[int, dict[str, str]]

#: Types of relations that GDAL converts to polygons.
AREAS = frozenset(["multipolygon", "boundary"])
_MOST_HEADER, _MOST_BLOB = 64 * 2**10, 64 * 2**20  # bytes; the format has 64 KiB and 32 MiB


def relations(path: Path) -> Iterator[Relation]:
    """Yield id and tags of each area relation.

    Raises:
        ValueError: the file is neither OSM XML nor PBF, or has an unknown compression.
        OSError: the file cannot be read.
    """
    with open_named(path, "rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.seek(0)
        found = _from_xml(file) if head.startswith(b"<") else _from_pbf(file)
        for number, tags in found:
            if tags.get("type") in AREAS:
                yield number, tags


def _from_xml(file: IO[bytes]) -> Iterator[Relation]:
    try:
        events = ET.iterparse(file, events=("start", "end"))
        _, root = next(events)
        for event, element in events:
            if event == "end" and element.tag in ("node", "way", "relation"):
                if element.tag == "relation":
                    tags = {t.get("k", ""): t.get("v", "") for t in element.iter("tag")}
                    yield int(element.get("id", "0")), tags
                root.clear()
    except (ET.ParseError, StopIteration) as error:
        raise ValueError(str(error)) from error


def _from_pbf(file: IO[bytes]) -> Iterator[Relation]:
    while head := file.read(4):
        (size,) = struct.unpack(">I", head)
        if size > _MOST_HEADER:
            raise ValueError("not a PBF")
        header = dict(_fields(memoryview(file.read(size))))
        size = header.get(3, 0)
        if not isinstance(size, int) or size > _MOST_BLOB:
            raise ValueError("not a PBF")
        blob = file.read(size)
        if bytes(header.get(1, b"")) == b"OSMData":
            yield from _block(memoryview(_unpacked(blob)))


def _unpacked(blob: bytes) -> bytes:
    parts = dict(_fields(memoryview(blob)))
    if 1 in parts:
        return bytes(parts[1])
    if 3 in parts:
        return zlib.decompress(parts[3])
    if 4 in parts:
        return lzma.decompress(parts[4])
    raise ValueError("compressed with another method than zlib or LZMA")


def _block(data: memoryview) -> Iterator[Relation]:
    """Yield the relations of a PrimitiveBlock."""
    texts: list[bytes] = []
    groups = []
    for field, value in _fields(data):
        if field == 1:
            texts = [bytes(text) for _, text in _fields(value)]
        elif field == 2:
            groups.append(value)
    for group in groups:
        for field, value in _fields(group):
            if field != 4:  # a group contains one kind of elements
                break
            parts = dict(_fields(value))
            keys, values = (list(_numbers(parts.get(n, b""))) for n in (2, 3))
            yield (
                int(parts.get(1, 0)),
                {
                    texts[k].decode("utf-8", "replace"): texts[v].decode("utf-8", "replace")
                    for k, v in zip(keys, values, strict=True)
                },
            )


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield numbers and values of the fields of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if size < 0 or at + size > len(data):
            raise ValueError("not a PBF, or damaged")
        yield field, data[at : at + size]
        at += size


def _numbers(data: bytes | memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        number, at = _varint(data, at)
        yield number


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("not a PBF, or damaged")
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
