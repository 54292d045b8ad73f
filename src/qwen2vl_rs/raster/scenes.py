"""Georeferenced scenes of any size, read in windows."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import RasterToRGB
from ..errors import ImageError
from .crs import crs_name, crs_title, reproject, utm_zone
from .nodata import Piece, collar_preview, collar_within, declared_mask, preview_size, zero_pixels
from .opening import image_size, open_image
from .orientation import IDENTITY, Transform, turn_of
from .position_errors import flat_position, no_position, not_of_the_earth, out_of_bounds
from .rgb import choose_bands, read_resampled
from .to_bytes import eight_bit, is_measured, stretch


@dataclass(frozen=True, slots=True)
class Georeference:
    """Georeference of an image.

    Attributes:
        crs: coordinate reference system, ``EPSG:32631`` or WKT.
        transform: (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f.
    """

    crs: str
    transform: Transform

    def shifted(self, column: float, row: float) -> Georeference:
        """Return the georeference of a window with its upper left corner at a column and row."""
        a, b, c, d, e, f = self.transform
        there = (a, b, c + a * column + b * row, d, e, f + d * column + e * row)
        return Georeference(self.crs, there)

    def to_map(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Convert columns and rows to coordinates; both of shape (n, 2)."""
        a, b, c, d, e, f = self.transform
        x, y = pixels[:, 0], pixels[:, 1]
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    def to_pixels(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Convert coordinates to columns and rows; both of shape (n, 2)."""
        a, b, c, d, e, f = self.transform
        x, y = points[:, 0] - c, points[:, 1] - f
        area = a * e - b * d
        return np.column_stack([(e * x - b * y) / area, (a * y - d * x) / area])

    def lonlat(self, column: float, row: float) -> tuple[float, float]:
        """Return longitude and latitude of a pixel, in degrees."""
        at = self.to_map(np.array([[column, row]], dtype=float))
        ((longitude, latitude),) = reproject(self.crs, "EPSG:4326", at).tolist()
        return longitude, latitude

    def pixel_size(self, column: float, row: float) -> tuple[float, float]:
        """Return the ground size (across, down) of a pixel in metres.

        Measured in the UTM zone of the pixel.
        """
        longitude, north = self.lonlat(column, row)
        utm = utm_zone(longitude, north)
        pixels = np.array([[column, row], [column + 8, row], [column, row + 8]], dtype=float)
        origin, right, below = reproject(self.crs, utm, self.to_map(pixels))
        return float(np.hypot(*(right - origin)) / 8), float(np.hypot(*(below - origin)) / 8)


class LargeImage:
    """A georeferenced image read in windows, see `open_scene`.

    Windows refer to the image turned north up, see `raster.orientation`.

    Attributes:
        width, height: size in pixels.
        reference: georeference.
    """

    def __init__(
        self, source: Any, path: str | os.PathLike[str], rule: RasterToRGB, reference: Georeference
    ) -> None:
        self._turn = turn_of(source)
        self.width, self.height = self._turn.width, self._turn.height
        transform = self._turn.transform(reference.transform)
        self.reference = Georeference(reference.crs, transform)
        self._source, self._rule = source, rule
        self._bands = choose_bands(source, path, rule)
        if source.colorinterp[self._bands[0] - 1].name == "palette":
            raise ImageError(
                f"{path}: its pixels are palette indices",
                hint="expand them: gdal_translate -expand rgb IN OUT.tif",
            )
        tags = source.tags(self._bands[0], ns="IMAGE_STRUCTURE")
        self._bits = int(tags.get("NBITS", 8))

    @cached_property
    def _in_small(self) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Preview of the whole scene, and its declared valid mask; (band, row, column)."""
        shape = (3, *preview_size(*self._source.shape))
        values = self._source.read(self._bands, out_shape=shape)
        return values, declared_mask(self._source, self._bands, out_shape=shape)

    @cached_property
    def _frame(self) -> NDArray[np.bool_] | None:
        """Collar of the scene on its preview, (row, column)."""
        values, valid = self._in_small
        return collar_preview(zero_pixels(values), *self._source.shape) if valid is None else None

    @cached_property
    def _look(self) -> RasterToRGB:
        """Conversion with the limits of the whole scene: equal values look equal in all windows."""
        if self._source.dtypes[0] == "uint8" or self._rule.value_range is not None:
            return self._rule
        values, valid = self._in_small
        counts = is_measured(values)
        if valid is not None:
            counts &= valid
        if self._frame is not None:
            counts &= ~(self._frame & zero_pixels(values))
        good = values[counts].astype(np.float64)
        low, high = np.percentile(good, self._rule.stretch) if good.size else (0.0, 1.0)
        limits = (float(low), float(high) if high > low else float(low) + 1.0)
        return self._rule.model_copy(update={"value_range": limits})

    def read(
        self, column: int, row: int, width: int, height: int
    ) -> tuple[NDArray[np.uint8], float]:
        """Read a window as `read_rgb` would; return its pixels and its share of valid pixels.

        Returns:
            Array (height, width, 3), and the share 0..1.
        """
        left, top, across, down = map(int, self._turn.stored((column, row, width, height)))
        window = ((top, top + down), (left, left + across))
        values = self._source.read(self._bands, window=window)  # (band, row, column)
        valid = declared_mask(self._source, self._bands, window=window)
        return self._colours(values, valid, (left, top, across, down))

    def read_resized(
        self, column: float, row: float, width: float, height: float, side: int
    ) -> tuple[NDArray[np.uint8], float]:
        """Read a window resized to ``side`` × ``side`` pixels; outside the image it is black.

        Overviews of the file are used if it has them.

        Returns:
            Array (side, side, 3), and the share of valid pixels of its part inside the image.
        """
        left, top = max(0.0, column), max(0.0, row)
        right = min(float(self.width), column + width)
        bottom = min(float(self.height), row + height)
        x0, x1 = (round((x - column) / width * side) for x in (left, right))
        y0, y1 = (round((y - row) / height * side) for y in (top, bottom))
        rgb = np.zeros((side, side, 3), dtype=np.uint8)
        if x1 <= x0 or y1 <= y0:
            return rgb, 0.0
        piece = self._turn.stored((left, top, right - left, bottom - top))
        size = (x1 - x0, y1 - y0) if self._turn.swapped else (y1 - y0, x1 - x0)
        shown = read_resampled(self._source, self._bands, piece, size)
        inside, share = self._colours(*shown, piece)
        rgb[y0:y1, x0:x1] = inside
        return rgb, share

    def _colours(
        self, values: NDArray[Any], valid: NDArray[np.bool_] | None, piece: Piece
    ) -> tuple[NDArray[np.uint8], float]:
        """Convert stored values and their mask (band, row, column) to RGB and the share of valid.

        ``piece`` refers to the image as stored.
        """
        filled = is_measured(values).all(axis=0)
        if valid is not None:
            filled &= valid.any(axis=0)
        elif self._frame is not None:
            height, width = self._source.shape
            hidden = collar_within(self._frame, zero_pixels(values), height, width, piece)
            filled &= ~hidden
            valid = np.broadcast_to(~hidden, values.shape)
        if values.dtype == np.uint8:
            planes = eight_bit(values, valid, self._bits)
        else:
            planes = stretch(values, valid, self._look)
        rgb = np.ascontiguousarray(np.moveaxis(planes, 0, 2))  # → (row, column, channel)
        return self._turn.apply(rgb), float(filled.mean())


@contextmanager
def open_scene(path: str | os.PathLike[str], rule: RasterToRGB) -> Iterator[LargeImage]:
    """Open a georeferenced image of any size, to be read in windows.

    The steps are those of `raster`, without the size limits. Values that are not 8-bit are
    stretched by percentiles of the whole image, all bands together; if these are equal, 255 is one
    unit above them.

    Raises:
        ImageError: see `read_rgb`; or the image is not georeferenced.
    """
    with open_image(path, GDAL_GEOREF_SOURCES="INTERNAL") as source:
        yield LargeImage(source, path, rule, _reference(source, path))


def _reference(source: Any, path: str | os.PathLike[str]) -> Georeference:
    """Return the georeference of an open image, or raise an error that says what is missing."""
    transform = tuple(source.transform)[:6]
    placed = transform != IDENTITY
    if source.crs is None or not placed:
        raise no_position(path, source, placed=placed)
    a, b, _, d, e, _ = transform
    if not np.isfinite(transform).all() or a * e == b * d:
        raise flat_position(path)
    name = crs_name(source.crs)
    if not (source.crs.is_projected or source.crs.is_geographic):
        raise not_of_the_earth(path, crs_title(source.crs))
    reference = Georeference(name, transform)
    middle = np.array([[source.width / 2, source.height / 2]])
    x, y = reference.to_map(middle)[0].tolist()
    try:
        longitude, latitude = reference.lonlat(source.width / 2, source.height / 2)
    except ImageError as error:
        raise out_of_bounds(path, name, x, y) from error
    if not (math.isfinite(longitude) and abs(latitude) <= 90):
        raise out_of_bounds(path, name, x, y)
    return reference


def typical_resolution(paths: Sequence[str]) -> tuple[float | None, int]:
    """Return the median resolution (metres per pixel) and side (pixels) of a set of images.

    A sample of the images is read. The resolution is that of the georeferenced ones; None if there
    are none.

    Args:
        paths: image files, at least one.
    """
    sizes, sides = [], []
    for path in paths[:: max(1, len(paths) // 32)]:
        sides.append(sum(image_size(path)) / 2)
        with contextlib.suppress(ImageError), open_scene(path, RasterToRGB()) as scene:
            sizes.append(sum(scene.reference.pixel_size(scene.width / 2, scene.height / 2)) / 2)
    return float(np.median(sizes)) if sizes else None, round(float(np.median(sides)))
