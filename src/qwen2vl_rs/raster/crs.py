"""Coordinate reference systems."""

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
    """Short name of a coordinate reference system, its WKT where it has no number."""
    code = crs.to_epsg(confidence_threshold=100)
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def utm_zone(longitude: float, latitude: float) -> str:
    """The UTM zone of a place on WGS 84, by its longitude and hemisphere."""
    zone = min(int((longitude + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def crs_title(crs: Any) -> str:
    """What a coordinate reference system is called, for messages."""
    _, _, behind = str(crs.to_wkt()).partition('"')
    return behind.partition('"')[0] or crs_name(crs)


def reproject(source: str, target: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates in another reference system; points and result of shape (n, 2): x, y.

    Longitude comes before latitude. What cannot be carried over becomes infinite.

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
            f"cannot go from {source[:60]} to {target[:60]}: {error}",
            hint="name a known system: gdal_translate -a_srs EPSG:…, ogr2ogr -a_srs EPSG:…",
        ) from error
    return np.column_stack([x, y])
