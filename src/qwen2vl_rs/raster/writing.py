"""Write GeoTIFFs and Cloud Optimized GeoTIFFs."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from ..errors import RunError
from ..system.files import atomic_write
from .opening import GDAL_OPTIONS

_OPTIONS = {**GDAL_OPTIONS, "GDAL_GEOREF_SOURCES": "INTERNAL"}  # to verify written files
_BLOCK = 512  # pixels on a side; the coarsest overview is one block
_TILED = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "interleave": "band"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One band of a map.

    Attributes:
        name: description of the band.
        tags: metadata of the band.
        values: (row, column) float32, NaN for nodata.
        smooth: whether values can be averaged in overviews; else overviews use nearest neighbour.
    """

    name: str
    tags: Mapping[str, str]
    values: NDArray[np.float32]
    smooth: bool


def write_geotiff(
    path: Path, pixels: NDArray[np.uint8], crs: str, transform: Sequence[float]
) -> None:
    """Write 8-bit RGB pixels as an uncompressed GeoTIFF, atomically.

    Args:
        path: the file.
        pixels: shape (height, width, 3).
        crs: coordinate reference system, ``EPSG:32631`` or WKT.
        transform: (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f.

    Raises:
        RunError: the file cannot be written.
    """
    values = np.moveaxis(pixels, 2, 0)  # (row, column, channel) → (band, row, column)
    with rasterio.Env(**_OPTIONS), MemoryFile() as memory:
        _fill(memory, values, crs, transform, photometric="RGB", interleave="pixel")
        data = memory.read()
        _verify(path, data, values, [])
    with atomic_write(path, "wb") as out:
        out.write(data)


def write_cog(path: Path, layers: Sequence[Layer], crs: str, transform: Sequence[float]) -> None:
    """Write a Cloud Optimized GeoTIFF with NaN as nodata, atomically.

    GDAL resamples the overviews of all bands of a file in the same way. So the averaged bands and
    the other bands are written, with overviews, to two files in memory; a VRT combines their bands
    and is copied.

    Args:
        path: the file.
        layers: the bands, all of one shape.
        crs: see `write_geotiff`.
        transform: see `write_geotiff`.

    Raises:
        RunError: the file cannot be written.
    """
    with rasterio.Env(**_OPTIONS), contextlib.ExitStack() as stack:
        places: dict[int, tuple[str, int]] = {}
        # not Resampling.mode: it turns NaN into 0
        for smooth, way in ((True, Resampling.average), (False, Resampling.nearest)):
            mine = [k for k, layer in enumerate(layers) if layer.smooth == smooth]
            if not mine:
                continue
            memory = stack.enter_context(MemoryFile(ext=".tif"))
            values = np.stack([layers[k].values for k in mine])  # (band, row, column)
            _fill(memory, values, crs, transform, nodata=np.nan, **_TILED)
            _reduce(memory, values.shape[1:], way)
            places |= {k: (memory.name, n) for n, k in enumerate(mine, start=1)}
        sheet = _side_by_side(layers, places, crs, transform)
        virtual = stack.enter_context(MemoryFile(sheet, ext=".vrt"))
        whole = stack.enter_context(MemoryFile(ext=".tif"))
        try:
            rasterio.shutil.copy(
                virtual.name,
                whole.name,
                driver="COG",
                compress="deflate",
                blocksize=_BLOCK,
                overviews="FORCE_USE_EXISTING",
            )
        except (RasterioError, CPLE_BaseError) as error:
            raise RunError(f"cannot write {path}: {error}") from error
        data = bytes(whole.getbuffer())
        _verify(path, data, np.stack([one.values for one in layers]), layers)
    with atomic_write(path, "wb") as out:
        out.write(data)


def _verify(path: Path, data: bytes, values: NDArray[Any], layers: Sequence[Layer]) -> None:
    """Read a file in memory back before it is written: GDAL does not report all failures.

    Raises:
        RunError: something is missing.
    """
    try:
        with MemoryFile(data) as memory, memory.open() as file:
            names: list[str | None] = [layer.name for layer in layers] or [None] * file.count
            whole = bool(file.crs) and list(file.descriptions) == names
            whole &= np.array_equal(file.read(), values, equal_nan=values.dtype.kind == "f")
    except (RasterioError, CPLE_BaseError) as error:
        raise RunError(f"cannot write {path}: {error}") from error
    if not whole:
        raise RunError(f"cannot write {path}: a part is missing", hint="is there enough memory?")


def _fill(
    memory: MemoryFile, values: NDArray[Any], crs: str, transform: Sequence[float], **how: Any
) -> None:
    """Write (band, row, column) values as a GeoTIFF in memory."""
    count, height, width = values.shape
    with memory.open(
        driver="GTiff",
        width=width,
        height=height,
        count=count,
        dtype=values.dtype,
        crs=crs,
        transform=rasterio.Affine(*transform),
        **how,
    ) as file:
        file.write(values)


def _reduce(memory: MemoryFile, shape: tuple[int, ...], way: Resampling) -> None:
    """Add overviews, each of half the size, down to one block."""
    factors: list[int] = []
    while max(shape) > _BLOCK * 2 ** len(factors):
        factors.append(2 ** (len(factors) + 1))
    if factors:
        with rasterio.open(memory.name, "r+") as file:
            file.build_overviews(factors, way)


def _side_by_side(
    layers: Sequence[Layer],
    places: Mapping[int, tuple[str, int]],
    crs: str,
    transform: Sequence[float],
) -> bytes:
    """Return a VRT that combines bands of other files, with their descriptions and tags."""
    height, width = layers[0].values.shape
    a, b, c, d, e, f = (repr(float(number)) for number in transform)
    system = rasterio.crs.CRS.from_user_input(crs)
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    ET.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = system.to_wkt()
    ET.SubElement(root, "GeoTransform").text = f"{c}, {a}, {b}, {f}, {d}, {e}"
    for number, layer in enumerate(layers):
        band = ET.SubElement(root, "VRTRasterBand", dataType="Float32", band=str(number + 1))
        if layer.tags:
            facts = ET.SubElement(band, "Metadata")
            for key, value in layer.tags.items():
                ET.SubElement(facts, "MDI", key=key).text = value
        ET.SubElement(band, "Description").text = layer.name
        ET.SubElement(band, "NoDataValue").text = "nan"
        source = ET.SubElement(band, "SimpleSource")
        name, which = places[number]
        ET.SubElement(source, "SourceFilename").text = name
        ET.SubElement(source, "SourceBand").text = str(which)
    return ET.tostring(root)
