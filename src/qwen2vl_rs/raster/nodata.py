"""Nodata mask: declared nodata, mask and alpha, or else the black collar of an image.

If a file declares a nodata value, a mask or an alpha band, only that is nodata: zeros are dark
water, night or shadow. Many scenes declare nothing, but have a collar of zeros outside the swath.
Such a collar is nodata, for any data type: pixels that are exactly 0 in all chosen bands, connected
to the edge of the image, and together at least `LEAST_COLLAR` of it. For images of 2,048 pixels and
more on a side the collar is found on a reduced preview, to bound the work; the zero pixels
themselves are then taken at full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NodataShadowWarning

from ..system.scopes import ignore_warnings

Mask = NDArray[np.bool_]

#: Minimum share of the image that a collar covers.
LEAST_COLLAR = 0.01
_SMALL = 1024  # minimum pixels on the longer side of the preview
Piece = tuple[float, float, float, float]  # column, row, width and height


def declared_mask(source: Any, bands: Sequence[int], **piece: Any) -> Mask | None:
    """Return which values are valid by nodata, mask or alpha, as (band, row, column).

    Args:
        source: an open image.
        bands: numbers of the chosen bands, from 1.
        piece: ``window`` and ``out_shape`` (of all bands) as for rasterio's ``read``.

    Returns:
        None if the file declares nothing.
    """
    flags = [source.mask_flag_enums[band - 1] for band in bands]
    masked = any(not {MaskFlags.all_valid, MaskFlags.alpha}.intersection(f) for f in flags)
    # Software often tags a near-infrared fourth band as alpha. A user who chooses it by number
    # means data: its zeros are not gaps.
    tagged = [n for n, tag in enumerate(source.colorinterp, 1) if tag == ColorInterp.alpha]
    alpha = [] if set(tagged).intersection(bands) else tagged
    if not masked and not alpha:
        return None
    valid: Mask | None = None
    if masked:
        with ignore_warnings(NodataShadowWarning) if alpha else nullcontext():
            valid = source.read_masks(list(bands), **piece) != 0
    for band in alpha:  # GDAL's masks omit alpha in floats, or before another band
        if "out_shape" in piece:
            piece = {**piece, "out_shape": piece["out_shape"][-2:]}
        seen = np.asarray(source.read(band, **piece) > 0)
        valid = np.broadcast_to(seen, (len(bands), *seen.shape)) if valid is None else valid & seen
    return valid


def zero_pixels(values: NDArray[Any]) -> Mask:
    """Return the pixels that are exactly 0 in all bands; (band, row, column) → (row, column)."""
    return np.asarray(~values.any(axis=0))


def preview_size(height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the preview of an image, both below 2,048."""
    step = max(1, max(width, height) // _SMALL)
    return height // step or 1, width // step or 1


def collar_preview(zeros: Mask, height: int, width: int) -> Mask | None:
    """Find the collar on the preview of an image.

    Args:
        zeros: zero pixels of the preview.
        height: height of the image itself, in pixels.
        width: width of the image itself, in pixels.

    Returns:
        Array of the shape of ``zeros``; None if there is no collar.
    """
    found = collar(zeros)
    if found is None or found.shape == (height, width):
        return found
    # a preview pixel covers several pixels: zeros next to the collar may belong to it
    wide = np.pad(found, 1)
    wide = wide[:-2] | wide[1:-1] | wide[2:]
    return np.asarray(wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:])


def collar_within(preview: Mask, zeros: Mask, height: int, width: int, piece: Piece) -> Mask:
    """Return the zero pixels of a window that belong to the collar.

    Args:
        preview: collar of the whole image, see `collar_preview`.
        zeros: zero pixels of the window, at any size.
        height: height of the image, in pixels.
        width: width of the image, in pixels.
        piece: the window.
    """
    left, top, across, down = piece
    rows = _places(top, down, zeros.shape[0], height, preview.shape[0])
    columns = _places(left, across, zeros.shape[1], width, preview.shape[1])
    return np.asarray(zeros & preview[np.ix_(rows, columns)])


def image_collar(zeros: Mask) -> Mask | None:
    """Return the collar of a whole image from its zero pixels; None if it has none."""
    height, width = zeros.shape
    rows, columns = preview_size(height, width)
    sample = np.ix_(
        _places(0, height, rows, height, height), _places(0, width, columns, width, width)
    )
    found = collar_preview(zeros[sample], height, width)
    every = (0, 0, width, height)
    return None if found is None else collar_within(found, zeros, height, width, every)


def _places(start: float, span: float, n: int, own: int, small: int) -> NDArray[np.intp]:
    """Map n pixels over a span of an axis of ``own`` pixels to indices in ``small`` pixels."""
    at = (start + (np.arange(n) + 0.5) * span / n) * small / own
    return np.clip(at, 0, small - 1).astype(np.intp)


def collar(zeros: Mask) -> Mask | None:
    """Return the zero pixels that form a collar, as defined above.

    Args:
        zeros: zero pixels of a whole image, see `zero_pixels`.

    Returns:
        Array (row, column); None if the image has no collar.
    """
    least = LEAST_COLLAR * zeros.size
    edges = zeros[0], zeros[-1], zeros[:, 0], zeros[:, -1]
    if np.count_nonzero(zeros) < least or not any(edge.any() for edge in edges):
        return None
    starts, ends = _runs(zeros)
    framing = _joined_to_edge(zeros, starts, ends)
    if int((ends - starts)[framing].sum()) < least:
        return None
    steps = np.zeros(zeros.size + 1, dtype=np.int8)
    np.add.at(steps, starts[framing], 1)
    np.add.at(steps, ends[framing], -1)
    return np.cumsum(steps[:-1], dtype=np.int8).reshape(zeros.shape).astype(bool)


def _runs(zeros: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return start and end (exclusive) of each run of zeros along the rows, row by row."""
    left = np.zeros_like(zeros)
    left[:, 1:] = zeros[:, :-1]
    starts = np.flatnonzero(zeros & ~left)
    right = np.zeros_like(zeros)
    right[:, :-1] = zeros[:, 1:]
    return starts, np.flatnonzero(zeros & ~right) + 1


def _joined_to_edge(zeros: Mask, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> Mask:
    """Return which runs are connected to the edge of the image.

    Connected components by pointer jumping: each run takes the smallest label among its
    neighbours, until nothing changes. The number of rounds is logarithmic in the number of runs.
    """
    rows, width = zeros.shape
    row = starts // width
    edge = (row == 0) | (row == rows - 1) | (starts % width == 0) | (ends % width == 0)
    both = zeros[:-1] & zeros[1:]
    both[:, 1:] &= ~both[:, :-1].copy()  # one pixel per contact of two runs
    upper = np.flatnonzero(both)
    a = np.searchsorted(starts, upper, side="right") - 1
    b = np.searchsorted(starts, upper + width, side="right") - 1
    number = np.arange(1, len(starts) + 1)
    number[edge] = 0  # one label for all runs at the edge
    number = np.concatenate([[0], number])
    a, b = a + 1, b + 1
    while True:
        least = np.minimum(number[a], number[b])
        new = number.copy()
        for end in (a, b):
            np.minimum.at(new, number[end], least)
            np.minimum.at(new, end, least)
        while not np.array_equal(shorter := new[new], new):
            new = shorter
        if np.array_equal(new, number):
            return np.asarray(number[1:] == 0)
        number = new
