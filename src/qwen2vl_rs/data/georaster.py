"""Georeferenced images of any size, read in pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ImageRule
from ..errors import ImageError
from .pixels import eight_bit, stretch
from .raster import choose_bands, crs_name, open_image, valid_values


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where an image lies.

    Attributes:
        crs: coordinate reference system, ``EPSG:32631`` or WKT.
        transform: (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]

    def moved(self, column: float, row: float) -> Georeference:
        """That of a piece whose upper left corner lies at a column and a row of this image."""
        a, b, c, d, e, f = self.transform
        there = (a, b, c + a * column + b * row, d, e, f + d * column + e * row)
        return Georeference(self.crs, there)


class LargeImage:
    """A georeferenced image read in pieces, see `open_scene`.

    Attributes:
        width, height: in pixels.
        reference: where it lies.
    """

    def __init__(
        self, source: Any, path: str | os.PathLike[str], rule: ImageRule, reference: Georeference
    ) -> None:
        self.width, self.height, self.reference = int(source.width), int(source.height), reference
        self._source, self._rule = source, rule
        self._bands = choose_bands(source, path, rule)
        if source.colorinterp[self._bands[0] - 1].name == "palette":
            raise ImageError(
                f"{path}: its pixels are numbers in a palette",
                hint="expand them: gdal_translate -expand rgb IN OUT.tif",
            )
        tags = source.tags(self._bands[0], ns="IMAGE_STRUCTURE")
        self._bits = int(tags.get("NBITS", 8))
        if source.dtypes[0] != "uint8" and rule.value_range is None:
            # equal values have to look equal in all pieces
            step = max(1, max(self.width, self.height) // 1024)
            shape = (3, self.height // step or 1, self.width // step or 1)
            values = source.read(self._bands, out_shape=shape).astype(np.float64)
            valid = valid_values(source, list(self._bands), out_shape=shape)
            good = values[np.isfinite(values) & (True if valid is None else valid)]
            low, high = np.percentile(good, rule.stretch) if good.size else (0.0, 1.0)
            limits = (float(low), float(high) if high > low else float(low) + 1.0)
            self._rule = rule.model_copy(update={"value_range": limits})

    def read(
        self, column: int, row: int, width: int, height: int
    ) -> tuple[NDArray[np.uint8], float]:
        """Pixels of a piece, as `read_rgb` gives them, and the share that holds data.

        Returns:
            Array (height, width, 3), and a number 0..1.
        """
        window = ((row, row + height), (column, column + width))
        values = self._source.read(self._bands, window=window)  # (band, row, column)
        valid = valid_values(self._source, list(self._bands), window=window)
        if values.dtype == np.uint8:
            planes = eight_bit(values, valid, self._bits)
            filled = values.any(axis=0)
        else:
            planes = stretch(values, valid, self._rule)
            filled = np.isfinite(values).all(axis=0)
        if valid is not None:
            filled = filled & valid.any(axis=0)
        rgb = np.ascontiguousarray(np.moveaxis(planes, 0, 2))  # → (row, column, channel)
        return rgb, float(filled.mean())


@contextmanager
def open_scene(path: str | os.PathLike[str], rule: ImageRule) -> Iterator[LargeImage]:
    """Open a georeferenced image of any size, to be read in pieces.

    The steps are those of `raster`, but for the size limits, and that values that
    are not 8-bit are stretched by percentiles of the whole image.

    Raises:
        ImageError: as `read_rgb`, or the image does not say where it lies.
    """
    with open_image(path, GDAL_GEOREF_SOURCES="INTERNAL") as source:
        a, b, c, d, e, f = tuple(source.transform)[:6]
        if source.crs is None or (a, b, d, e) == (1, 0, 0, 1) or a * e == b * d:
            missing = "no coordinate reference system" if source.crs is None else "no position"
            raise ImageError(
                f"{path}: not georeferenced: it has {missing}",
                hint="give it both: gdal_translate -a_srs EPSG:32631 -a_ullr LEFT TOP RIGHT BOTTOM "
                "IN OUT.tif",
            )
        yield LargeImage(source, path, rule, Georeference(crs_name(source.crs), (a, b, c, d, e, f)))
