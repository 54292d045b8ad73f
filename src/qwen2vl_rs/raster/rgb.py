"""Read an image file as 8-bit RGB pixels: choice of bands, palette, nodata, contrast stretch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

from ..config import RasterToRGB
from ..errors import ImageError
from .image_errors import AGAIN, not_colours
from .nodata import declared_mask, image_collar, zero_pixels
from .opening import open_image
from .orientation import turn_of
from .to_bytes import eight_bit, expand_palette, stretch

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
#: Other colour spaces: of bands, and of files that GDAL converts to RGB without colour profile.
_NOT_RGB_BANDS = {
    *(ColorInterp.cyan, ColorInterp.magenta, ColorInterp.yellow, ColorInterp.black),
    *(ColorInterp.hue, ColorInterp.saturation, ColorInterp.lightness),
    *(ColorInterp.Y, ColorInterp.Cb, ColorInterp.Cr),
}
_NOT_RGB_FILES = {"CMYK", "YCCK", "CIELAB"}


def read_rgb(path: str | os.PathLike[str], rule: RasterToRGB) -> NDArray[np.uint8]:
    """Read an image file as 8-bit RGB pixels; the steps are listed in the package docstring.

    Args:
        path: a local file.
        rule: choice of bands, and the contrast stretch of values that are not 8-bit.

    Returns:
        Array (row, column, channel) of shape (height, width, 3), channels red, green, blue.

    Raises:
        ImageError: the file is missing, unreadable, not an image, damaged, truncated, too large or
            too small, or has too few bands or another colour space.
    """
    with open_image(path) as source:
        turn = turn_of(source)
        bands = choose_bands(source, path, rule)
        distinct = sorted(set(bands))
        values: NDArray[Any] = source.read(distinct)  # (band, row, column)
        valid = declared_mask(source, distinct)
        if source.colorinterp[distinct[0] - 1] == ColorInterp.palette:
            try:
                colors = source.colormap(distinct[0])
            except ValueError as error:
                raise ImageError(f"{path}: its palette is missing", hint=AGAIN) from error
            return turn.apply(expand_palette(values[0], valid, colors))
        bits = int(source.tags(distinct[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    order = [distinct.index(band) for band in bands]
    return turn.apply(as_rgb(values, valid, order, rule, bits))


def as_rgb(
    values: NDArray[Any],
    valid: NDArray[np.bool_] | None,
    order: Sequence[int],
    rule: RasterToRGB,
    bits: int = 8,
) -> NDArray[np.uint8]:
    """Convert values (band, row, column) to 8-bit RGB (row, column, channel).

    Args:
        values: array of any real type.
        valid: mask of the same shape; None if the file declares no nodata.
        order: indices of the red, green and blue bands, from 0.
        rule: contrast stretch of values that are not 8-bit.
        bits: bits per stored value, if fewer than 8.
    """
    if valid is None and (hidden := image_collar(zero_pixels(values))) is not None:
        valid = np.broadcast_to(~hidden, values.shape)
    if values.dtype == np.uint8:
        planes = eight_bit(values, valid, bits)
    else:
        planes = stretch(values, valid, rule)
    return np.ascontiguousarray(np.stack([planes[band] for band in order], axis=-1))


def choose_bands(
    source: Any, path: str | os.PathLike[str], rule: RasterToRGB
) -> tuple[int, int, int]:
    """Return the numbers, from 1, of the red, green and blue bands."""
    tagged = list(source.colorinterp)
    structure = source.tags(ns="IMAGE_STRUCTURE")
    if structure.get("SOURCE_COLOR_SPACE") in _NOT_RGB_FILES:
        strange = structure["SOURCE_COLOR_SPACE"]
    elif _NOT_RGB_BANDS.intersection(tagged):
        strange = ", ".join(tag.name for tag in tagged)
    elif structure.get("MINISWHITE") == "YES" and ColorInterp.palette not in tagged:
        strange = "white-is-zero"
    else:
        strange = ""
    if strange:
        raise not_colours(path, strange)
    if rule.bands is not None:
        if max(rule.bands) > source.count:
            raise ImageError(
                f"{path}: bands {rule.bands} are requested, the file has {source.count}",
                hint=f"set bands to numbers from 1 to {source.count}, or leave them unset",
            )
        return rule.bands
    if all(tag in tagged for tag in _RGB):
        red, green, blue = (tagged.index(tag) + 1 for tag in _RGB)
        return red, green, blue
    shown = [n for n, tag in enumerate(tagged, start=1) if tag != ColorInterp.alpha] or [1]
    return (shown[0], shown[1], shown[2]) if len(shown) > 2 else (shown[0],) * 3


def read_resampled(
    source: Any,
    bands: Sequence[int],
    piece: tuple[float, float, float, float],
    shape: tuple[int, int],
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read a window (column, row, width, height) of an open image, resized to (rows, columns).

    Returns:
        Values and valid mask (see `declared_mask`), (band, row, column).
    """
    window = Window(*piece)
    smaller = shape[0] < piece[3]
    way = Resampling.average if smaller else Resampling.bilinear
    out = (len(bands), *shape)
    values = source.read(list(bands), window=window, out_shape=out, resampling=way)
    return values, declared_mask(source, list(bands), window=window, out_shape=out)
