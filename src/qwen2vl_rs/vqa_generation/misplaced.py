"""Diagnose vectors outside their image: wrong reference system or swapped axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pyogrio import read_info
from pyogrio.errors import DataLayerError, DataSourceError

from ..errors import ImageError
from ..raster import reproject
from ..raster.scenes import LargeImage

_DEGREES = "EPSG:4326"
_ASSIGN = "ogr2ogr -a_srs {} OUT.gpkg IN"
_SWAP = 'swap them: ogr2ogr -s_srs {0} -t_srs {0} -ct "+proj=axisswap +order=2,1" OUT.gpkg IN'

Bounds = tuple[float, float, float, float]  # minimal x and y, maximal x and y


def image_bounds(image: LargeImage, crs: str) -> Bounds | None:
    """Return the bounds of an image in a reference system; None if it cannot be projected."""
    at = np.linspace(0, 1, 21)
    x, y = at * image.width, at * image.height
    sides = ((x, 0 * x), (x, 0 * x + image.height), (0 * y, y), (0 * y + image.width, y))
    edge = np.concatenate([np.column_stack(side) for side in sides])
    points = reproject(image.reference.crs, crs, image.reference.to_map(edge))
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    (left, bottom), (right, top) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, bottom, right, top


def crs_hint(file: Path, layer: str, image: LargeImage) -> str:
    """Return a hint for a layer without a reference system."""
    bounds = _bounds(file, layer)
    fit = bounds and _fit(bounds, None, image)
    if fit:
        return fit[1]
    if bounds is None or _may_be_degrees(bounds):
        return f"assign it: {_ASSIGN.format(_DEGREES)}"
    return f"its coordinates {_text(bounds)} are not degrees; assign their system: " + (
        _ASSIGN.format("EPSG:…")
    )


def diagnose_misplaced(
    file: Path, layers: Sequence[tuple[str, str]], image: LargeImage
) -> tuple[str, str] | None:
    """Find the cause why no layer (name, reference system) overlaps an image.

    Returns:
        Problem and hint; None if there is no obvious cause.
    """
    for layer, crs in layers:
        bounds = _bounds(file, layer)
        if bounds is None:
            continue
        if found := _fit(bounds, crs, image):
            return found
        if _in_degrees(crs) and not _may_be_degrees(bounds):
            return (
                f"its coordinates {_text(bounds)} are not degrees, unlike its reference system",
                f"assign their system: {_ASSIGN.format('EPSG:…')}",
            )
    return None


def _fit(bounds: Bounds, crs: str | None, image: LargeImage) -> tuple[str, str] | None:
    """Find a reading of the coordinates that overlaps the image; return problem and hint."""
    swapped = (bounds[1], bounds[0], bounds[3], bounds[2])
    for system in dict.fromkeys((crs or _DEGREES, image.reference.crs, _DEGREES)):
        try:
            there = image_bounds(image, system)
        except ImageError:
            continue
        if there is None:
            continue
        if _meet(bounds, there) and system != crs:
            return (
                f"its coordinates {_text(bounds)} would be in it in {system[:60]}",
                f"if that is their system, assign it: {_ASSIGN.format(_named(system))}",
            )
        if _meet(swapped, there):
            first = "latitude before longitude" if _in_degrees(system) else "y before x"
            return f"its axes are swapped: {first}", _SWAP.format(_named(system))
    return None


def _named(system: str) -> str:
    return system if len(system) < 40 else "IMAGE_CRS.wkt"


def _bounds(file: Path, layer: str) -> Bounds | None:
    try:
        found = read_info(file, layer=layer, force_total_bounds=True)["total_bounds"]
    except (DataSourceError, DataLayerError):
        return None
    if found is None or not np.isfinite(found).all():
        return None
    left, bottom, right, top = (float(v) for v in found)
    return left, bottom, right, top


def _meet(a: Bounds, b: Bounds) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _may_be_degrees(bounds: Bounds) -> bool:
    return max(abs(bounds[0]), abs(bounds[2])) <= 360 and max(abs(bounds[1]), abs(bounds[3])) <= 360


def _in_degrees(crs: str) -> bool:
    return crs in (_DEGREES, "OGC:CRS84", "EPSG:4979", "EPSG:4269", "EPSG:4258")


def _text(bounds: Bounds) -> str:
    return f"({bounds[0]:.6g} {bounds[1]:.6g} to {bounds[2]:.6g} {bounds[3]:.6g})"
