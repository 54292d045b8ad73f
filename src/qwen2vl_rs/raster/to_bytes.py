"""Contrast stretch and palette expansion to uint8, on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import RasterToRGB

#: Floats of this magnitude and above are undeclared fill values, such as −3.4e38. The limit is far
#: lower, to catch averages of fill values and data.
FILL = 1e30


def expand_palette(
    index: NDArray[Any],
    valid: NDArray[np.bool_] | None,
    colors: dict[int, tuple[int, int, int, int]],
) -> NDArray[np.uint8]:
    """Convert palette indices to colours: (row, column) → (row, column, channel).

    Fully transparent colours, and indices that are not in the palette, are black.
    """
    table = np.zeros((int(np.iinfo(index.dtype).max) + 1, 3), dtype=np.uint8)
    for entry, (red, green, blue, alpha) in colors.items():
        if alpha and entry < len(table):
            table[entry] = red, green, blue
    rgb: NDArray[np.uint8] = table[index]
    if valid is not None:
        rgb[~valid[0]] = 0
    return rgb


def eight_bit(
    values: NDArray[np.uint8], valid: NDArray[np.bool_] | None, bits: int
) -> NDArray[np.uint8]:
    """Return 8-bit values, black where no band is valid; all (band, row, column)."""
    if bits < 8:
        values = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
    if valid is not None:
        values = np.where(valid.any(axis=0), values, np.uint8(0))
    return values


def is_measured(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values are data: finite and below `FILL` in magnitude."""
    if values.dtype.kind != "f":
        return np.ones(values.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(values) < FILL)


def stretch(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, rule: RasterToRGB
) -> NDArray[np.uint8]:
    """Stretch values of any real type to 0..255, per band; all (band, row, column)."""
    planes = np.zeros(values.shape, dtype=np.uint8)
    # float32 represents 16-bit values exactly; wider types are computed in float64
    work = np.result_type(values.dtype, np.float32)
    for number, plane in enumerate(values):
        band = plane.astype(work)
        good = is_measured(band)
        if valid is not None:
            good &= valid[number]
        inside = band[good]
        if not inside.size:
            continue
        low, high = rule.value_range or (float(v) for v in np.percentile(inside, rule.stretch))
        # ranges near the limits of the type overflow; the result is clipped anyway
        with np.errstate(all="ignore"):
            if high > low:
                inside = np.nan_to_num((inside - low) * (255 / (high - low)))
            else:
                inside = np.where(inside > high, 255, 0)
            planes[number][good] = np.rint(np.clip(inside, 0, 255))
    return planes
