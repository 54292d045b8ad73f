"""Write a map's files for other programs: a Cloud Optimized GeoTIFF and a GeoPackage."""

from __future__ import annotations

import contextlib
import errno
import io
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from ..errors import RunError
from ..raster import write_cog
from ..system.disk import room_hint
from ..system.files import atomic_write, discard
from ..system.scopes import SharedChange, ignore_warnings
from .values import Band, band
from .windows import Grid

MAP, WINDOWS = "map.tif", "windows.gpkg"
_LAYER = "windows"
#: As GDAL creates it (GeoPackage 1.2, extension "schema"): QGIS shows the aliases of columns.
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
    """Dry run: write both files without answers and remove them again.

    An unsupported reference system, question or file system is thus reported before the first
    window is processed.

    Raises:
        RunError: one of them is not writable.
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
        discard(place)


def write_map(path: Path, grid: Grid, bands: Sequence[Band]) -> None:
    """Write the values of all questions: one band per question, one pixel per window.

    A band's description is its question; its tags describe the values (``kind``, ``of``,
    ``classes``). NaN is nodata. Overviews average probabilities; of numbers and classes they take
    every second window, so that they contain no new values.

    Raises:
        RunError: the file is not writable.
    """
    reference = grid.map_reference()
    write_cog(path, [one.layer for one in bands], reference.crs, reference.transform)


def column_of(number: int) -> str:
    """Return the name of the column with the values of question ``number``, counted from 0."""
    return f"q{number + 1}"


def write_windows(
    path: Path, grid: Grid, bands: Sequence[Band], lines: Sequence[dict[str, Any]]
) -> None:
    """Write the windows as polygons, with answers and confidences.

    Each question has three columns: ``q1`` with the value as in the map, ``q1_answer`` and
    ``q1_confidence``. The metadata of the layer and the aliases of the columns contain the
    question.

    Raises:
        RunError: the file is not writable.
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
    made = io.BytesIO()  # GDAL does not report all write errors of a disk, so we write the bytes
    try:
        with _same_date:
            pyogrio.raw.write(
                made,
                np.array(shapely.to_wkb(shapes), dtype=object),
                list(columns.values()),
                list(columns),
                geometry_type="Polygon",
                crs=grid.reference.crs,
                driver="GPKG",
                layer=_LAYER,
                layer_metadata=facts,
            )
        data = _with_names(made.getvalue(), aliases)
        with atomic_write(path, "wb") as file:
            file.write(data)
            file.flush()
            _verify(Path(file.name).read_bytes(), len(asked), list(columns), facts, aliases)
    except (DataSourceError, DataLayerError, sqlite3.Error, OSError) as error:
        raise _unwritten(path, error) from error


def _set_date(date: str | None) -> None:
    pyogrio.set_gdal_config_options({_DATE: date})


_DATE = "OGR_CURRENT_DATE"
# GDAL writes one date into all files, so that equal windows give equal bytes
_same_date = SharedChange(
    (partial(pyogrio.get_gdal_config_option, _DATE), _set_date, "2000-01-01T00:00:00Z")
)


def _with_names(data: bytes, aliases: dict[str, str]) -> bytes:
    """Return a GeoPackage with column aliases, which pyogrio cannot write."""
    rows = [(_LAYER, column, text, text) for column, text in aliases.items()]
    with _opened(data) as file:
        with file:
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
        return file.serialize()


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:")) as file:
        file.deserialize(data)
        yield file


def _verify(
    data: bytes, features: int, columns: list[str], facts: dict[str, str], aliases: dict[str, str]
) -> None:
    """Check the content of a GeoPackage, as GDAL and SQLite read it.

    Raises:
        OSError: something is missing or damaged.
    """
    with ignore_warnings(Warning):  # about a dataset without a file name
        layers = pyogrio.list_layers(data)[:, 0].tolist()
        found = pyogrio.read_info(data, layer=_LAYER)
    index = f"rtree_{_LAYER}_geom"
    with _opened(data) as file:

        def count(table: str, where: str = "1") -> int:
            rows = file.execute(f'SELECT count(*) FROM "{table}" WHERE {where}')
            return int(rows.fetchone()[0])

        sound = {
            "the structure": file.execute("PRAGMA quick_check").fetchall() == [("ok",)],
            "a layer": layers == [_LAYER],
            "a window": {found["features"], count(_LAYER)} == {features},
            "a column": list(found["fields"]) == columns,
            "the reference system": bool(found["crs"]),
            "the metadata": (found["layer_metadata"] or {}).keys() == facts.keys(),
            "the spatial index": count(index) == features
            and count("sqlite_master", f"type = 'trigger' AND name LIKE '{index}%'") > 0
            and count("gpkg_extensions", "extension_name = 'gpkg_rtree_index'") == 1,
            "the names of the columns": count("gpkg_data_columns") == len(aliases)
            and count("gpkg_extensions", "extension_name = 'gpkg_schema'") == 1,
        }
    if missing := [name for name, there in sound.items() if not there]:
        raise OSError(errno.EIO, f"it was written without {' and '.join(missing)}")


def _unwritten(path: Path, error: Exception) -> RunError:
    """Return the error for a file that could not be written, with a hint for its cause."""
    said = error.strerror or "" if isinstance(error, OSError) else ""
    said = said or str(error).rpartition(" failed: ")[2]  # GDAL prepends the SQL statement
    if "disk is full" in said or "No space" in said or "quota" in said:
        hint = f"{room_hint(path)}, then run the same command again"
    elif "lock" in said:
        hint = "the file system has no locks: choose a folder on a local disk: --output"
    elif isinstance(error, PermissionError) or "readonly" in said or "unable to open" in said:
        hint = "choose a writable folder: --output"
    else:
        hint = "try another folder: --output; the answers so far are kept in windows.jsonl"
    return RunError(f"cannot write {path}: {said}", hint=hint)
