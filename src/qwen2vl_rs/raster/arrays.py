"""NumPy arrays and PIL images to 8-bit RGB pixels, with the same conversion as for files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import RasterToRGB
from ..errors import ImageError
from .image_errors import not_colours
from .opening import check_size
from .rgb import as_rgb

_NAME = "the image in memory"
_MOST_BANDS = 16
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}


def image_to_rgb(image: Any, rule: RasterToRGB) -> NDArray[np.uint8]:
    """Convert an image in memory to 8-bit RGB pixels, as `read_rgb` would from a file.

    Args:
        image: an array (row, column) or (row, column, band) of any real type, or a PIL image;
            a fourth band of 8-bit values is alpha, as in PNG.
        rule: choice of bands, and the contrast stretch of values that are not 8-bit.

    Returns:
        Array (row, column, channel) of shape (height, width, 3), channels red, green, blue.

    Raises:
        ImageError: it is not an image, too large or too small, or not RGB or grey.
    """
    values = _of_pil(image) if isinstance(image, Image.Image) else np.asarray(image)
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.dtype.kind not in "uif":
        raise ImageError(
            f"{_NAME}: an array of shape {values.shape} and type {values.dtype}",
            hint="pass numbers of shape (height, width) or (height, width, bands)",
        )
    height, width, count = values.shape
    if height <= _MOST_BANDS < count:
        raise ImageError(
            f"{_NAME}: shape {values.shape} looks like (bands, height, width)",
            hint="bands come last: array.transpose(1, 2, 0)",
        )
    check_size(_NAME, width, height)
    order, valid = _bands(count, rule), None
    planes = values.transpose(2, 0, 1)  # (row, column, band) → (band, row, column)
    if values.dtype == np.uint8 and count in (2, 4):  # alpha, as in PNG
        valid = np.broadcast_to(planes[-1] > 0, planes.shape)
    chosen = sorted(set(order))
    return as_rgb(
        planes[chosen],
        None if valid is None else valid[chosen],
        [chosen.index(band) for band in order],
        rule,
    )


def _of_pil(image: Image.Image) -> NDArray[Any]:
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode not in _EIGHT_BIT and not image.mode.startswith(("I", "F")):
        raise not_colours(_NAME, image.mode)
    return np.asarray(image)


def _bands(count: int, rule: RasterToRGB) -> tuple[int, int, int]:
    """Return the indices, from 0, of the red, green and blue bands."""
    if rule.bands is None:
        return (0, 1, 2) if count > 2 else (0, 0, 0)
    if max(rule.bands) > count:
        raise ImageError(
            f"{_NAME}: bands {rule.bands} are requested, the array has {count}",
            hint=f"set bands to numbers from 1 to {count}, or leave them unset",
        )
    red, green, blue = rule.bands
    return red - 1, green - 1, blue - 1
