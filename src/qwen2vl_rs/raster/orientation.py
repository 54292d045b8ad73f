"""Flip or rotate images to north up, from the geotransform.

Some images are stored with south up, mirrored, or with rows and columns swapped, as their transform
says. Used as stored, left and right would be wrong. Images with a rotated or sheared transform, and
images without georeferencing, stay as stored.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Transform = tuple[float, float, float, float, float, float]

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # GDAL's value if there is no transform
#: GeoTIFF tags (OGC 19-008r4, B.6): the matrix, and the pixel size.
_MATRIX, _SCALE = 34264, 33550


@dataclass(frozen=True, slots=True)
class Turn:
    """How to turn an image north up: swap the axes first, then reverse them.

    Attributes:
        width, height: size of the turned image, in pixels.
        swapped: whether rows and columns are swapped.
        rows, columns: whether their order is reversed.
    """

    width: int
    height: int
    swapped: bool = False
    rows: bool = False
    columns: bool = False

    def __bool__(self) -> bool:
        return self.swapped or self.rows or self.columns

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn stored pixels (row, column, …)."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.rows else 1, :: -1 if self.columns else 1])

    def stored(self, piece: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Convert a window (column, row, width, height) of the turned image to the stored one."""
        left, top, across, down = piece
        if self.columns:
            left, across = _mirrored(left, across, self.width)
        if self.rows:
            top, down = _mirrored(top, down, self.height)
        return (top, left, down, across) if self.swapped else (left, top, across, down)

    def transform(self, stored: Transform) -> Transform:
        """Return the transform of the turned image."""
        a, b, c, d, e, f = stored
        if self.swapped:
            a, b, d, e = b, a, e, d
        if self.columns:
            a, c = -a, c + a * self.width
        if self.rows:
            e, f = -e, f + e * self.height
        return a, b, c, d, e, f


def _mirrored(start: float, span: float, size: int) -> tuple[float, float]:
    """Return a span counted from the other end; nearly whole pixels are rounded."""
    whole = float(round(span))
    start = max(0.0, size - start - (whole if abs(span - whole) < 0.05 else span))
    return start, min(span, size - start)


def turn_of(source: Any) -> Turn:
    """Return how to turn an open image; unchanged unless its transform is along the axes."""
    width, height = int(source.width), int(source.height)
    transform = tuple(source.transform)[:6]
    a, b, _, d, e, _ = transform
    if source.crs is None or transform == IDENTITY or not np.isfinite(transform).all():
        return Turn(width, height)
    if b == d == 0 and a and e:
        return Turn(width, height, rows=e > 0, columns=a < 0)
    if a == e == 0 and b and d:
        return Turn(height, width, swapped=True, rows=d > 0, columns=b < 0)
    return Turn(width, height)


def may_be_turned(path: str | os.PathLike[str], driver: str) -> bool:
    """Whether an image may need turning, from its header alone.

    Reading the transform takes longer than the pixels of a tile, and nearly all images are north
    up: a TIFF with only a tie point and a pixel size.
    """
    if driver != "GTiff":
        return driver == "JP2OpenJPEG"  # the other formats have no georeferencing
    try:
        with open(path, "rb") as file:
            return _says_matrix(file)
    except (OSError, ValueError, struct.error):
        return False  # damaged: GDAL reports it


def _says_matrix(file: IO[bytes]) -> bool:
    """Whether the first directory of a TIFF has a matrix or a negative pixel width."""

    def read(form: str) -> tuple[Any, ...]:
        return struct.unpack(order + form, file.read(struct.calcsize(order + form)))

    order = "<" if file.read(2) == b"II" else ">"
    (version,) = read("H")
    offset, count, entry = ("4xQ", "Q", "HHQQ") if version == 43 else ("I", "H", "HHII")
    file.seek(*read(offset))
    (entries,) = read(count)
    for _ in range(min(entries, 4096)):
        tag, _, _, where = read(entry)
        if tag == _MATRIX:
            return True
        if tag == _SCALE:
            file.seek(where)
            (across,) = read("d")
            return bool(across < 0)
    return False
