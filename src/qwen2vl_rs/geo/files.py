"""The files of a map that other programs open: a Cloud Optimized GeoTIFF and a GeoPackage."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError

from ..data.raster import write_cog
from ..disk import room_hint
from ..errors import RunError
from .values import Band, band
from .windows import Grid

MAP, WINDOWS = "map.tif", "windows.gpkg"
_LAYER = "windows"
#: As GDAL makes it (GeoPackage 1.2, extension "schema"): QGIS shows what it says over the columns.
_ALIASES = """
CREATE TABLE gpkg_data_columns (
  table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT,
  mime_type TEXT, constraint_name TEXT,
  CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name),
  CONSTRAINT gdc_tn UNIQUE (table_name, name)
)
"""
_SCHEMA = "http://www.geopackage.org/spec120/#extension_schema"


def rehearse(folder: Path, grid: Grid, questions: Sequence[str]) -> None:
    """Write both files without an answer and remove them again.

    What the reference system, the questions or the file system make impossible shows before the
    first window is asked about, and not after the last.

    Raises:
        RunError: one of them cannot be written.
    """
    for name in (MAP, WINDOWS):
        if (folder / name).exists() and not (folder / name).is_file():
            raise RunError(
                f"cannot write {folder / name}: it is not a regular file",
                hint="move it away, or choose another folder: --output",
            )
    bands = [band(question, [None], (1, 1)) for question in questions]
    place = folder / ".trial"
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir()
        write_map(place / MAP, grid, bands)
        write_windows(place / WINDOWS, grid, bands, [])
    except OSError as error:
        raise _unwritten(folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def write_map(path: Path, grid: Grid, bands: Sequence[Band]) -> None:
    """Write the values of all questions, one band each, one pixel for each window.

    The band's description is its question; its tags say what the values are (``kind``, ``of``,
    ``classes``). NaN is nodata. Overviews are averages of probabilities; of numbers and classes
    they show every second window, so that no value is there that no window has.

    Raises:
        RunError: the file cannot be written.
    """
    reference = grid.map_reference()
    write_cog(path, [one.layer for one in bands], reference.crs, reference.transform)


def column_of(number: int) -> str:
    """Name of the column with the values of a question, whose number counts from 0."""
    return f"q{number + 1}"


def write_windows(
    path: Path, grid: Grid, bands: Sequence[Band], lines: Sequence[dict[str, Any]]
) -> None:
    """Write the windows that were asked about as polygons, with answers and confidences.

    For each question three columns: ``q1`` is the value as in the map, ``q1_answer`` and
    ``q1_confidence``. Which question it is stands in the metadata of the layer, and as alias of the
    columns.

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
    facts, aliases = {}, {}
    for i, one in enumerate(bands):
        name, layer = column_of(i), one.layer
        replies = [line["replies"][i] for line in asked]
        columns[name] = one.values.ravel()[index].astype(np.float64)
        columns[f"{name}_answer"] = np.array([r["text"] for r in replies], dtype=object)
        columns[f"{name}_confidence"] = np.array(
            [r["confidence"] for r in replies], dtype=np.float64
        )
        facts[name] = one.question
        facts |= {f"{name}_{key}": value for key, value in layer.tags.items()}
        aliases[name] = one.question
        aliases |= {f"{name}_{end}": f"{one.question} | {end}" for end in ("answer", "confidence")}
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
            layer=_LAYER,
            layer_metadata=facts,
        )
        _name_columns(temporary, aliases)
        temporary.replace(path)
    except (
        DataSourceError, DataLayerError, FeatureError, CRSError, sqlite3.Error, OSError,
    ) as error:  # fmt: skip
        raise _unwritten(path, error) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        temporary.unlink(missing_ok=True)


def _name_columns(path: Path, aliases: dict[str, str]) -> None:
    """Say in a GeoPackage what its columns hold; pyogrio cannot."""
    rows = [(_LAYER, column, text, text) for column, text in aliases.items()]
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute(_ALIASES)
        file.execute(
            "INSERT INTO gpkg_extensions VALUES ('gpkg_data_columns', NULL, 'gpkg_schema', ?, "
            "'read-write')",
            [_SCHEMA],
        )
        file.executemany(
            "INSERT INTO gpkg_data_columns (table_name, column_name, name, title) "
            "VALUES (?, ?, ?, ?)",
            rows,
        )


def _unwritten(path: Path, error: Exception) -> RunError:
    """The error of a file that could not be written; the hint fits what went wrong."""
    said = str(error)
    if "disk is full" in said or "No space" in said or "quota" in said:
        hint = f"{room_hint(path)}, then run the same command again"
    elif "lock" in said:
        hint = "the file system has no locks: choose a folder on a local disk: --output"
    elif isinstance(error, PermissionError) or "readonly" in said or "unable to open" in said:
        hint = "choose a folder you may write to: --output"
    else:
        hint = "try another folder: --output; the answers so far stay in windows.jsonl"
    return RunError(f"cannot write {path}: {said}", hint=hint)
