"""Which values of an image count: what its file declares, and the collar where it does not.

What a file declares (a nodata value, a mask, an alpha band) is believed, and then nothing else is
no data: zeros are dark water, night or shadow. Many scenes declare nothing and yet are framed by
zeros, where the satellite saw nothing. Such a collar is taken for no data, whatever the type of
the values: pixels that are exactly 0 in all shown bands, joined side by side with the edge of the
image, and together at least `LEAST_COLLAR` of it. Images of 2,048 pixels and more on a side are
looked at in small, so that the work does not grow with them; which pixels are empty is then asked
of each.
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

#: Share of an image that zeros at its edge cover at least where they are a collar.
LEAST_COLLAR = 0.01
_SMALL = 1024  # pixels on the longer side of an image in small, at least
Piece = tuple[float, float, float, float]  # column, row, width and height


def declared_mask(source: Any, bands: Sequence[int], **piece: Any) -> Mask | None:
    """Which values count by nodata, mask or alpha, as (band, row, column).

    Args:
        source: an open image.
        bands: numbers of the bands shown, from 1.
        piece: ``window`` and ``out_shape`` (of all bands) as for rasterio's ``read``.

    Returns:
        None where the file declares nothing.
    """
    flags = [source.mask_flag_enums[band - 1] for band in bands]
    masked = any(not {MaskFlags.all_valid, MaskFlags.alpha}.intersection(f) for f in flags)
    # A fourth band is often tagged alpha by the writing software and is near infrared in truth.
    # Who asks for it by number means data: zeros in it are no holes.
    tagged = [n for n, tag in enumerate(source.colorinterp, 1) if tag == ColorInterp.alpha]
    alpha = [] if set(tagged).intersection(bands) else tagged
    if not masked and not alpha:
        return None
    valid: Mask | None = None
    if masked:
        with ignore_warnings(NodataShadowWarning) if alpha else nullcontext():
            valid = source.read_masks(list(bands), **piece) != 0
    for band in alpha:  # GDAL's own masks leave out alpha in floats, or before another band
        if "out_shape" in piece:
            piece = {**piece, "out_shape": piece["out_shape"][-2:]}
        seen = np.asarray(source.read(band, **piece) > 0)
        valid = np.broadcast_to(seen, (len(bands), *seen.shape)) if valid is None else valid & seen
    return valid


def zero_pixels(values: NDArray[Any]) -> Mask:
    """Pixels that are exactly 0 in all bands; (band, row, column) → (row, column)."""
    return np.asarray(~values.any(axis=0))


def preview_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of an image in small; all of them below 2,048."""
    step = max(1, max(width, height) // _SMALL)
    return height // step or 1, width // step or 1


def collar_preview(zeros: Mask, height: int, width: int) -> Mask | None:
    """Where the collar of an image lies, in small.

    Args:
        zeros: its empty pixels in small.
        height: of the image itself, in pixels.
        width: of the image itself, in pixels.

    Returns:
        Shape as ``zeros``; None where it has no collar.
    """
    found = collar(zeros)
    if found is None or found.shape == (height, width):
        return found
    # a pixel in small stands for several: empty ones beside the collar may belong to it
    wide = np.pad(found, 1)
    wide = wide[:-2] | wide[1:-1] | wide[2:]
    return np.asarray(wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:])


def collar_within(preview: Mask, zeros: Mask, height: int, width: int, piece: Piece) -> Mask:
    """Which empty pixels of a piece of an image belong to its collar.

    Args:
        preview: collar of the whole image, reduced in size; see `collar_preview`.
        zeros: empty pixels of the piece, at whatever size it was read.
        height: of the image, in pixels.
        width: of the image, in pixels.
        piece: which piece of the image.
    """
    left, top, across, down = piece
    rows = _places(top, down, zeros.shape[0], height, preview.shape[0])
    columns = _places(left, across, zeros.shape[1], width, preview.shape[1])
    return np.asarray(zeros & preview[np.ix_(rows, columns)])


def image_collar(zeros: Mask) -> Mask | None:
    """The collar of an image by all its empty pixels, see `collar`."""
    height, width = zeros.shape
    rows, columns = preview_size(height, width)
    sample = np.ix_(
        _places(0, height, rows, height, height), _places(0, width, columns, width, width)
    )
    found = collar_preview(zeros[sample], height, width)
    every = (0, 0, width, height)
    return None if found is None else collar_within(found, zeros, height, width, every)


def _places(start: float, span: float, n: int, own: int, small: int) -> NDArray[np.intp]:
    """Where n pixels over a stretch of an image, ``own`` pixels long, lie in ``small`` of them."""
    at = (start + (np.arange(n) + 0.5) * span / n) * small / own
    return np.clip(at, 0, small - 1).astype(np.intp)


def collar(zeros: Mask) -> Mask | None:
    """The part of some empty pixels that frames the image, by the rule at the head.

    Args:
        zeros: as `zero_pixels` gives them, of a whole image.

    Returns:
        Shape (row, column); None where the image has no collar.
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
    """First pixel and the one behind the last of each run along a row, row by row."""
    left = np.zeros_like(zeros)
    left[:, 1:] = zeros[:, :-1]
    starts = np.flatnonzero(zeros & ~left)
    right = np.zeros_like(zeros)
    right[:, :-1] = zeros[:, 1:]
    return starts, np.flatnonzero(zeros & ~right) + 1


def _joined_to_edge(zeros: Mask, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> Mask:
    """Which runs are joined to the edge of the image through others.

    Runs take the least number among those they touch, over and over, with shortcuts (pointer
    jumping): the rounds grow with the logarithm of the number of runs, whatever their shape.
    """
    rows, width = zeros.shape
    row = starts // width
    edge = (row == 0) | (row == rows - 1) | (starts % width == 0) | (ends % width == 0)
    both = zeros[:-1] & zeros[1:]
    both[:, 1:] &= ~both[:, :-1].copy()  # one pixel of each stretch where two runs touch
    upper = np.flatnonzero(both)
    a = np.searchsorted(starts, upper, side="right") - 1
    b = np.searchsorted(starts, upper + width, side="right") - 1
    number = np.arange(1, len(starts) + 1)
    number[edge] = 0  # all of the edge is one
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
