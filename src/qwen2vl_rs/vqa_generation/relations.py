"""Relations of an OpenStreetMap file: their numbers and tags, without their shapes.

GDAL leaves out a relation whose outline it cannot close, because the file lacks members (as at the
edge of an extract) or the ways leave gaps, and says nothing. So what a file should hold is read
here, to be compared with what GDAL gave. The formats are those of the OpenStreetMap wiki ("PBF
Format", "OSM XML"); of a .pbf only the groups of relations are decoded.
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

#: Types of relations that GDAL makes into polygons.
AREAS = frozenset(["multipolygon", "boundary"])
_MOST_HEADER, _MOST_BLOB = 64 * 2**10, 64 * 2**20  # bytes; the format has 64 KiB and 32 MiB


def relations(path: Path) -> Iterator[Relation]:
    """Number and tags of each relation that is an area.

    Raises:
        ValueError: the file is neither OSM XML nor a PBF, or is packed in another way.
        OSError: it cannot be read.
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
    raise ValueError("packed by another method than zlib or LZMA")


def _block(data: memoryview) -> Iterator[Relation]:
    """The relations of a PrimitiveBlock."""
    texts: list[bytes] = []
    groups = []
    for field, value in _fields(data):
        if field == 1:
            texts = [bytes(text) for _, text in _fields(value)]
        elif field == 2:
            groups.append(value)
    for group in groups:
        for field, value in _fields(group):
            if field != 4:  # a group holds one kind of things
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
    """Numbers and values of the fields of a protobuf message."""
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
