"""The files of a map that other programs open: a Cloud Optimized GeoTIFF and a GeoPackage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from ..data.raster import write_cog
from ..errors import RunError
from .values import Band
from .windows import Grid

_HINT = "free some disk space, or choose a folder you may write to: --output"


def write_map(path: Path, grid: Grid, bands: Sequence[Band]) -> None:
    """Write the values of all questions, one band each, one pixel for each window.

    The band's description is its question; its tags say what the values are (``kind``, ``of``,
    ``classes``). NaN is nodata.

    Raises:
        RunError: the file cannot be written.
    """
    reference = grid.map_reference()
    tags = [
        {
            "kind": one.kind,
            **({"of": one.of} if one.of else {}),
            **({"classes": "|".join(one.classes)} if one.classes else {}),
        }
        for one in bands
    ]
    values = np.stack([one.values for one in bands])  # (band, row, column)
    names = [one.question for one in bands]
    write_cog(path, values, names, tags, reference.crs, reference.transform)


def write_windows(
    path: Path, grid: Grid, bands: Sequence[Band], lines: Sequence[dict[str, Any]]
) -> None:
    """Write the windows that were asked about as polygons, with answers and confidences.

    For each question three columns: the value as in the map under the question itself, and
    ``QUESTION | answer``, ``QUESTION | confidence``.

    Raises:
        RunError: the file cannot be written.
    """
    asked = [line for line in lines if "replies" in line]
    shapes = [
        shapely.Polygon(grid.reference.to_map(np.array(grid.corners(line["window"]))))
        for line in asked
    ]
    columns: dict[str, Any] = {
        "row": np.array([line["window"] // grid.columns for line in asked], dtype=np.int32),
        "column": np.array([line["window"] % grid.columns for line in asked], dtype=np.int32),
        "data": np.array([line["data"] for line in asked], dtype=np.float64),
    }
    index = np.array([line["window"] for line in asked], dtype=np.intp)
    for i, one in enumerate(bands):
        replies = [line["replies"][i] for line in asked]
        columns[one.question] = one.values.ravel()[index].astype(np.float64)
        columns[f"{one.question} | answer"] = np.array([r["text"] for r in replies], dtype=object)
        columns[f"{one.question} | confidence"] = np.array(
            [r["confidence"] for r in replies], dtype=np.float64
        )
    temporary = path.with_name(f".{path.name}.tmp.gpkg")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00Z"})  # same bytes
    try:
        temporary.unlink(missing_ok=True)
        pyogrio.raw.write(
            temporary,
            np.array(shapely.to_wkb(shapes), dtype=object),
            list(columns.values()),
            list(columns),
            geometry_type="Polygon",
            crs=grid.reference.crs,
            driver="GPKG",
            layer="windows",
        )
        temporary.replace(path)
    except (DataSourceError, DataLayerError, FeatureError, OSError) as error:
        raise RunError(f"cannot write {path}: {error}", hint=_HINT) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        temporary.unlink(missing_ok=True)
