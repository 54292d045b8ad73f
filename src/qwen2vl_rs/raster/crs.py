"""Coordinate reference systems: names, UTM zones, reprojection."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as warp

from ..errors import ImageError
from .opening import GDAL_OPTIONS


def crs_name(crs: Any) -> str:
    """Return the EPSG code of a coordinate reference system, or its WKT if it has none."""
    code = crs.to_epsg(confidence_threshold=100)
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def utm_zone(longitude: float, latitude: float) -> str:
    """Return the UTM zone (WGS 84) of a position, from its longitude and hemisphere."""
    zone = min(int((longitude + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def crs_title(crs: Any) -> str:
    """Return the name of a coordinate reference system, for messages."""
    _, _, behind = str(crs.to_wkt()).partition('"')
    return behind.partition('"')[0] or crs_name(crs)


def reproject(source: str, target: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transform coordinates to another reference system; shape (n, 2): x, y.

    Longitude comes before latitude. Points that cannot be transformed become infinite.

    Raises:
        ImageError: one of the systems is unknown.
    """
    if source == target:
        return points
    try:
        with rasterio.Env(**GDAL_OPTIONS):
            x, y = warp(source, target, points[:, 0], points[:, 1])
    except (CRSError, RasterioError, CPLE_BaseError) as error:
        raise ImageError(
            f"cannot transform {source[:60]} to {target[:60]}: {error}",
            hint="assign a known system: gdal_translate -a_srs EPSG:…, ogr2ogr -a_srs EPSG:…",
        ) from error
    return np.column_stack([x, y])
