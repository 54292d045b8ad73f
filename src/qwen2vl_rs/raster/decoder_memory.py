"""Refuse decompression bombs: estimate a decoder's memory from the headers before opening a file.

A decoder unpacks at least one unit: a tile or strip of a TIFF, or a tile of a JPEG 2000 with all
components. A few bytes can declare a unit of gigabytes in an image of 64 × 64 pixels, or millions
of units, which OpenJPEG allocates while it reads the header. All tiles of a TIFF can refer to the
same bytes, which take very long to unpack; and its text tags are parsed first.

Sources: TIFF 6.0; BigTIFF; ITU-T T.800 (JPEG 2000), annex A and I.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ImageError
from ..system.named_files import reading

#: Maximum bytes of one unpacked unit; the limit is lower for units larger than twice their image.
MAX_UNIT = 2**30
_SMALL_UNIT = 64 * 2**20
#: Maximum bytes of the decoder's structures, and OpenJPEG's approximate bytes per component of a
#: tile and per code-block.
_MAX_STRUCTURE = 256 * 2**20
_TILE_COMPONENT, _CODE_BLOCK = 1200, 256
#: Maximum bytes of all stored units of an image, above twice its file size: identical tiles may be
#: stored once.
_SHARED = 16 * 2**20
_MAX_TEXT = 2**20  # bytes of a text tag of a TIFF: GDAL needs 30 times as much memory
_MOST = 1000  # directories of a TIFF, boxes of a JP2
_TILED = "rewrite it in small tiles: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE IN OUT.tif"


def check_units(path: str | os.PathLike[str], driver: str) -> None:
    """Refuse a file with units that are too large or too many.

    Broken files pass: the decoder reports them.

    Args:
        path: a regular file that is not empty.
        driver: GDAL's name of the format.

    Raises:
        ImageError: the file is a decompression bomb.
        OSError: it cannot be read.
    """
    judge = {"GTiff": _check_tiff, "JP2OpenJPEG": _check_jpeg2000}.get(driver)
    if judge is None:
        return
    with (
        reading(path),
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        try:
            judge(path, data)
        except (struct.error, IndexError, ZeroDivisionError, ValueError, OverflowError):
            return


def _refuse_unit(path: str | os.PathLike[str], unit: int, image: int) -> None:
    if unit > MAX_UNIT or unit > max(_SMALL_UNIT, 2 * image):
        raise ImageError(
            f"{path}: a tile or strip unpacks to {unit:,} bytes, which is too large for an image "
            f"of {image:,}: at most {MAX_UNIT:,}, and twice the image",
            hint=_TILED,
        )


# TIFF tags
_IMAGE = _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES = 256, 257, 258, 259, 277
_LAYOUT = _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _SUB = 278, 284, 322, 323, 330
_STORED = {279, 325}  # bytes of each strip or tile
_GDAL = {42112, 42113}  # texts, whatever their declared type
_ASCII = 2
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


def _check_tiff(path: str | os.PathLike[str], data: mmap.mmap) -> None:
    for tags in _directories(path, data):
        width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
        samples = tags.get(_SAMPLES, [1])[0]
        size = -(-max(tags.get(_BITS, [1])) // 8)
        together = 1 if tags.get(_PLANAR, [1])[0] == 2 else samples
        if _TILE_WIDTH in tags:
            pixels = tags[_TILE_WIDTH][0] * tags[_TILE_HEIGHT][0]
        else:
            pixels = width * min(height, tags.get(_ROWS, [height])[0])
            if tags.get(_COMPRESSION, [1])[0] == 1 and pixels * together * size <= len(data):
                continue  # read row by row
        _refuse_unit(path, pixels * together * size, width * height * samples * size)


def _refuse_stored(path: str | os.PathLike[str], stored: int, size: int) -> None:
    if stored > 2 * size + _SHARED:
        raise ImageError(
            f"{path}: its tiles or strips have {stored:,} bytes in a file of {size:,}: too large, "
            "most of them share the same bytes",
            hint=_TILED,
        )


def _refuse_text(path: str | os.PathLike[str], tag: int, length: int) -> None:
    if length > _MAX_TEXT:
        raise ImageError(
            f"{path}: the text in tag {tag} is too large: {length:,} bytes, at most {_MAX_TEXT:,}",
            hint="remove it: gdal_translate -co PROFILE=BASELINE IN OUT.tif",
        )


def _sum(data: mmap.mmap, code: str, number: int, at: int) -> int:
    """Sum numbers in a file, each capped at the file size; ignore those beyond its end."""
    kind = np.dtype(code)
    piece = data[at : at + number * kind.itemsize]  # a copy: `data` is closed
    found = np.frombuffer(piece, kind, len(piece) // kind.itemsize)
    return int(np.minimum(found.astype(np.uint64), len(data)).sum())


def _directories(
    path: str | os.PathLike[str], data: mmap.mmap
) -> Iterator[dict[int, tuple[int, ...]]]:
    """Yield the integer tags of each directory of a TIFF: images, masks and overviews.

    Raises:
        ImageError: its texts, or all its stored units together, are too large.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    ahead = list(struct.unpack_from(order + offset, data, 8 if big else 4))
    seen: set[int] = set()
    while ahead and len(seen) < _MOST:
        at = ahead.pop()
        if at == 0 or at in seen:
            continue
        seen.add(at)
        (entries,) = struct.unpack_from(order + count, data, at)
        at += struct.calcsize(order + count)
        step, room = (20, 8) if big else (12, 4)
        tags: dict[int, tuple[int, ...]] = {}
        for n in range(entries):
            place = at + n * step
            tag, kind, length = struct.unpack_from(order + entry, data, place)
            place += step - room
            if kind == _ASCII or tag in _GDAL:
                _refuse_text(path, tag, length)
            letter = _TYPES.get(kind)
            if tag not in {*_IMAGE, *_LAYOUT, *_STORED} or letter is None or length <= 0:
                continue
            if length * struct.calcsize(order + letter) > room:
                (place,) = struct.unpack_from(order + offset, data, place)
            if tag in _STORED:
                _refuse_stored(path, _sum(data, order + letter, length, place), len(data))
                continue
            if length > 2**17:
                continue
            found = struct.unpack_from(f"{order}{length}{letter}", data, place)
            tags.setdefault(tag, found)  # like libtiff: the first one wins
        ahead += struct.unpack_from(order + offset, data, at + entries * step)
        ahead += tags.get(_SUB, ())
        if _WIDTH in tags and _HEIGHT in tags:
            yield tags


# JPEG 2000: markers
_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


@dataclass(frozen=True, slots=True)
class _Size:
    """Size of a codestream: image, tile (pixels), number of tiles, components, bytes per value."""

    image: tuple[int, int]
    tile: tuple[int, int]
    tiles: int
    components: int
    value: int


def _check_jpeg2000(path: str | os.PathLike[str], data: mmap.mmap) -> None:
    start = _codestream(data)
    size, layers, costs = None, 1, 0
    for marker, at, end in _markers(data, start):
        if marker == _SIZ:
            size = _read_size(data, at)
            _refuse_structure(path, size.tiles * size.components * _TILE_COMPONENT, size)
        elif marker in (_COD, _COC) and size is not None:
            wide = 1 + (size.components > 256)
            if marker == _COD:
                layers = max(layers, struct.unpack_from(">H", data, at + 2)[0])
            skip = 5 if marker == _COD else wide + 1
            has_precincts = data[at + (0 if marker == _COD else wide)] & 1
            costs = max(costs, _cost(size, layers, data[at + skip : end], has_precincts))
            _refuse_structure(path, costs, size)
    if size is not None and size.tiles > 1:  # a single tile is decoded in windows
        unit, image = (w * h * size.components * size.value for w, h in (size.tile, size.image))
        _refuse_unit(path, unit, image)


def _refuse_structure(path: str | os.PathLike[str], cost: int, size: _Size) -> None:
    if cost > _MAX_STRUCTURE:
        raise ImageError(
            f"{path}: {size.tiles:,} tiles of {size.components:,} components, with blocks too "
            f"small for the image, need {cost:,} bytes before the first pixel: too large, at "
            f"most {_MAX_STRUCTURE:,}",
            hint=_TILED,
        )


def _codestream(data: mmap.mmap) -> int:
    """Return the offset of the codestream, in a JP2 file or a bare one."""
    if data[:2] == b"\xff\x4f":
        return 0
    at = 0
    for _ in range(_MOST):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,), head = struct.unpack_from(">Q", data, at + 8), 16
        if kind == b"jp2c":
            return at + head
        if length < head:
            break
        at += length
    raise IndexError("no codestream")


def _markers(data: mmap.mmap, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the markers of all headers, with start and end of their content."""
    at, part = at + 2, 0  # after SOC
    while True:
        (marker,) = struct.unpack_from(">H", data, at)
        if marker == _EOC:
            return
        if marker == _SOD:
            if part <= at:
                return  # the last part, of unknown length
            at = part
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == _SOT:
            part = at + struct.unpack_from(">I", data, at + 6)[0]
        yield marker, at + 4, at + 2 + length
        at += 2 + max(length, 2)


def _read_size(data: mmap.mmap, at: int) -> _Size:
    right, bottom, left, top, width, height, x, y, components = struct.unpack_from(
        ">8IH", data, at + 2
    )
    image = right - left, bottom - top
    bits = max((data[at + 36 + 3 * n] & 127) + 1 for n in range(components))
    size = _Size(image, (width, height), 0, components, 1 if bits <= 8 else 2 if bits <= 16 else 4)
    tiles = -(-(right - x) // width) * -(-(bottom - y) // height)
    return replace(size, tile=(min(width, image[0]), min(height, image[1])), tiles=tiles)


def _cost(size: _Size, layers: int, style: bytes, has_precincts: int) -> int:
    """Return the bytes that describe one tile: its code-blocks, and its packets in all layers."""
    levels, shifts = style[0], (style[1] & 15) + (style[2] & 15) + 4
    width, height = size.tile
    blocks = -(-(width * height) >> shifts)
    most = 1
    for level in range(min(levels, 32) + 1):
        exponents = style[5 + level] if has_precincts else 0xFF
        shift = min(levels, 32) - level
        across = -(-width >> (shift + (exponents & 15)))
        down = -(-height >> (shift + (exponents >> 4)))
        blocks += 4 * across * down
        most = max(most, across * down)
    return size.components * (blocks * _CODE_BLOCK + layers * (levels + 1) * most * 2)
