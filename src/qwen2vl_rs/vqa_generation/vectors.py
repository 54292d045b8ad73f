"""Read vector files over a georeferenced image, and convert OpenStreetMap features to elements.

Any format of GDAL (GeoJSON, GeoPackage, Shapefile, ``.osm.pbf``, …) and any reference system is
supported. Features are converted to pixel coordinates, clipped to each tile, and measured in ground
metres: the ground size of a pixel is computed in the UTM zone of the tile, which corrects the
distortion of Web Mercator.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio import list_layers, read_info
from pyogrio.errors import DataLayerError, DataSourceError
from pyogrio.raw import read as read_raw

from ..errors import DataError
from ..questions.elements import (
    COVER_KEYS,
    KEYS,
    Element,
    Layer,
    breadth,
    classify,
    is_hidden,
    road_width,
)
from ..raster import reproject
from ..raster.scenes import Georeference, LargeImage
from ..system.console import warn
from ..system.oserrors import is_file, mode_of, read_failure, unreadable
from ..system.scopes import ignore_warnings
from .lifecycle import STATES, is_absent, is_former, is_prefixed
from .misplaced import crs_hint, diagnose_misplaced, image_bounds
from .relations import relations

NO_TAGS = "without a tag that RSVQA knows"
NO_SHAPE = "without a shape"
REPAIRED = "repaired (self-intersecting outline)"
TOO_SMALL = "smaller than a pixel"
UNSEEN = "invisible from above (tunnels, below ground, under a roof)"
ABSENT = "not existing (planned, under construction, demolished) or changed to something else"
INCOMPLETE = "of incomplete relations (members missing, or rings not closed)"
BAD_TAGS = "with tags that are neither HSTORE nor JSON"

#: Columns with several tags: GDAL's for .osm files, osm2pgsql's, and "tags" of GeoJSON.
_OTHERS = ("other_tags", "all_tags", "tags")
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|NULL)')
_LISTS = (list, np.ndarray)  # list values of JSON and of GDAL
_AREAS = "multipolygons"  # GDAL's layer of areas in .osm files
# UnicodeDecodeError: column or layer names that are not UTF-8
_GDAL = (DataSourceError, DataLayerError, UnicodeDecodeError)
_HINT_TAGS = (
    "the file needs OpenStreetMap tags as columns (building, highway, landuse, …), or in a "
    "column other_tags, all_tags or tags, as HSTORE or JSON"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of an image: upper left corner and size, in pixels."""

    column: int
    row: int
    width: int
    height: int


@dataclass
class Vectors:
    """The features of a file within an image.

    Attributes:
        shapes: geometries in pixel coordinates, x to the right, y down.
        kinds: layer, label and width in metres of each.
        reference: georeference of the image.
        counts: numbers of features left out or repaired, by reason.
    """

    shapes: NDArray[Any]
    kinds: list[tuple[Layer, str, float]]
    reference: Georeference
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._tree = shapely.STRtree(self.shapes)

    def cut(self, tile: Tile, *, least: float = 0.0) -> tuple[list[Element], tuple[float, float]]:
        """Return the elements of a tile, in coordinates of the tile.

        Args:
            tile: the tile.
            least: minimal width of polygons and length of lines, in pixels; smaller ones are left
                out and counted.

        Returns:
            Elements, and the ground size of a pixel (across, down) in metres.
        """
        x0, y0 = tile.column, tile.row
        x1, y1 = x0 + tile.width, y0 + tile.height
        frame = shapely.box(x0, y0, x1, y1)
        found = np.sort(self._tree.query(frame, predicate="intersects"))
        across, down = self.reference.pixel_size((x0 + x1) / 2, (y0 + y1) / 2)
        elements = []
        for k in found.tolist():
            layer, label, width = self.kinds[k]
            shape = self.shapes[k]
            if not shapely.contains_properly(frame, shape):
                shape = _only(shape.intersection(frame), 1 if layer == "road" else 2)
            if shape is None:  # touches the edge from outside
                continue
            if (shape.length if layer == "road" else breadth(shape)) < least:
                self.counts[TOO_SMALL] += 1
                continue
            placed = shapely.transform(
                shape, lambda p: np.column_stack([(p[:, 0] - x0) * across, (y1 - p[:, 1]) * down])
            )
            elements.append(Element(layer, label, placed, width))
        return elements, (across, down)


def read_vectors(
    path: str | os.PathLike[str], image: LargeImage, *, legacy: bool = False
) -> Vectors:
    """Read the features of a file within an image.

    Args:
        path: a local file, or a folder that is a vector data set.
        image: the image, of which georeference and size are used.
        legacy: interpret tags as in the published data.

    Raises:
        DataError: the file is missing, unreadable, empty, has no reference system or no tags, or
            does not overlap the image.
    """
    if mode_of(path) is None:
        raise DataError(f"no file {path}", hint="name a vector file: --vectors FILE")
    file = Path(os.path.abspath(path))  # never a name that GDAL would fetch
    # GDAL warns for each open ring; these are counted
    with ignore_warnings(RuntimeWarning, "Non closed ring"):
        return _read(path, file, image, legacy)


def _read(path: str | os.PathLike[str], file: Path, image: LargeImage, legacy: bool) -> Vectors:
    counts: Counter[str] = Counter()
    shapes: list[NDArray[Any]] = []
    kinds: list[tuple[Layer, str, float]] = []
    columns: list[str] = []
    total = 0
    layers: list[tuple[str, str]] = []
    try:
        for name, geometry in list_layers(file):
            if geometry is None or "Point" in geometry:
                continue
            info = read_info(file, layer=name)
            columns += [c for c in info["fields"].tolist() if c not in columns]
            total += abs(info["features"])  # -1: unknown
            if info["driver"] == "OSM" and name == _AREAS:
                counts[INCOMPLETE] += _incomplete(file, legacy)
            tagged = [c for c in info["fields"].tolist() if _is_known(c) or c in _OTHERS]
            if any(map(_is_tag, tagged)):
                if not (crs := info["crs"]):
                    raise DataError(
                        f"{path}: layer {name!r} has no coordinate reference system",
                        hint=crs_hint(file, name, image),
                    )
                layers.append((name, crs))
                wkb, tags = _read_layer(file, name, tagged, crs, image, counts)
                shape, kind = _elements(wkb, tags, crs, image.reference, legacy, counts)
                shapes.append(shape)
                kinds += kind
    except _GDAL as error:
        if is_file(file) and (refused := read_failure(file)):
            raise unreadable(path, refused) from error
        raise DataError(
            f"{path}: not a readable vector file: {error}",
            hint="supported are the formats of GDAL: GeoJSON, GeoPackage, Shapefile, .osm.pbf; "
            "check the file with ogrinfo",
        ) from error
    every = np.concatenate(shapes) if shapes else np.array([])
    found = Vectors(every, kinds, image.reference, counts)
    if not found.kinds:
        _refuse_empty(path, found, total, columns)
        why, hint = diagnose_misplaced(file, layers, image) or (
            "",
            "do both show the same place? compare gdalinfo IMAGE and ogrinfo -al -so VECTORS",
        )
        cause = f": {why}" if why else ""
        raise DataError(f"{path}: none of its features is in the image{cause}", hint=hint)
    return found


def _refuse_empty(
    path: str | os.PathLike[str], found: Vectors, total: int, columns: Sequence[str]
) -> None:
    """Raise an error if there are no usable features, for another reason than position."""
    if not total:
        raise DataError(f"{path}: contains no lines or polygons", hint="use another file")
    if not any(map(_is_tag, columns)):
        names = ", ".join(columns) or "none"
        raise DataError(f"{path}: contains no tags (its columns: {names})", hint=_HINT_TAGS)
    if any(found.counts[why] for why in (NO_TAGS, NO_SHAPE, UNSEEN, ABSENT, BAD_TAGS)):
        reasons = "; ".join(f"{n:,} {reason}" for reason, n in found.counts.items() if n)
        raise DataError(f"{path}: no usable feature in the image: {reasons}", hint=_HINT_TAGS)


def _read_layer(
    file: Path, layer: str, columns: list[str], crs: str, image: LargeImage, counts: Counter[str]
) -> tuple[NDArray[Any], list[dict[str, str]]]:
    """Read geometries (WKB) and tags of the features near the image."""
    bbox = image_bounds(image, crs)
    if bbox is None:
        return np.array([]), []
    meta, _, geometry, values = read_raw(file, layer=layer, columns=columns, bbox=bbox)
    names = meta["fields"].tolist()
    return geometry, list(_tags(names, [v.tolist() for v in values], len(geometry), counts))


def _is_tag(column: str) -> bool:
    """Whether a column contains tags that identify features."""
    return column in KEYS or column in _OTHERS or is_prefixed(column, KEYS)


def _is_known(key: str) -> bool:
    """Whether a key determines the kind, existence or visibility of a feature."""
    return key in KEYS or key in COVER_KEYS or key in STATES or is_prefixed(key, KEYS)


def _tags(
    names: Sequence[str], values: Sequence[list[Any]], n: int, counts: Counter[str]
) -> Iterator[dict[str, str]]:
    columns = list(zip(names, values, strict=True))
    others = [column for name, column in columns if name in _OTHERS]
    plain = [(name, column) for name, column in columns if _is_known(name)]
    for k in range(n):
        tags = {name: _text(column[k]) for name, column in plain if _is_there(column[k])}
        for column in others:
            if _is_there(column[k]):
                try:
                    several = _several(str(column[k]))
                    tags |= {key: v for key, v in several.items() if _is_known(key)}
                except ValueError:
                    counts[BAD_TAGS] += 1
        yield tags


def _several(text: str) -> dict[str, str]:
    """Parse the tags in one column: HSTORE ("key"=>"value", …), or a JSON object.

    Raises:
        ValueError: the text is neither.
    """
    text = text.strip()
    if text.startswith("{"):
        found = json.loads(text)
        return {key: _text(value) for key, value in found.items() if _is_there(value)}
    pairs = _HSTORE.findall(text)
    if text and not pairs:
        raise ValueError("neither HSTORE nor JSON")
    return {key: _text(value) for key, value in pairs if _is_there(value)}


def _is_there(value: Any) -> bool:
    """Whether a tag has a value; missing numbers are NaN."""
    if isinstance(value, _LISTS):
        return len(value) > 0
    return bool(value not in (None, "") and value == value)


def _text(value: Any) -> str:
    """Format a value as in OpenStreetMap: ``yes`` and ``no``, lists separated by ``;``."""
    if isinstance(value, _LISTS):
        return ";".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return {"true": "yes", "false": "no"}.get(str(value).lower(), str(value))


def _incomplete(file: Path, legacy: bool) -> int:
    """Count the relations of an OpenStreetMap file that GDAL does not convert to areas."""
    try:
        wanted = {
            number
            for number, tags in relations(file)
            if (kind := classify(tags, 2, legacy=legacy))
            and (legacy or not (is_absent(tags) or is_hidden(tags, kind[0])))
        }
    except (ValueError, OSError) as error:
        warn(f"{file}: incomplete relations, if any, are not counted: {error}")
        return 0
    if not wanted:
        return 0
    _, _, _, (made,) = read_raw(file, layer=_AREAS, columns=["osm_id"], read_geometry=False)
    return len(wanted - {int(number) for number in made.tolist() if number})


def _elements(
    wkb: NDArray[Any],
    tags: Sequence[Mapping[str, str]],
    crs: str,
    reference: Georeference,
    legacy: bool,
    counts: Counter[str],
) -> tuple[NDArray[Any], list[tuple[Layer, str, float]]]:
    """Convert features to shapes in pixel coordinates, and their kinds."""
    raw = shapely.from_wkb(wkb, on_invalid="ignore")
    dimensions = shapely.get_dimensions(raw).tolist()
    kinds: list[tuple[Layer, str, float]] = []
    taken = []
    for k, (dimension, tag) in enumerate(zip(dimensions, tags, strict=True)):
        kind = classify(tag, dimension, legacy=legacy)
        if kind is None:
            why = ABSENT if is_former(tag, KEYS) else NO_TAGS
            counts[NO_SHAPE if dimension < 1 else why] += 1
        elif not legacy and is_absent(tag):
            counts[ABSENT] += 1
        elif not legacy and is_hidden(tag, kind[0]):
            counts[UNSEEN] += 1
        else:
            kinds.append((*kind, road_width(tag) if kind[0] == "road" else 0.0))
            taken.append(k)
    shapes = shapely.force_2d(raw[taken])
    points = shapely.get_coordinates(shapes)
    placed = reference.to_pixels(reproject(crs, reference.crs, points))
    lost = ~np.isfinite(placed).all(axis=1)
    if lost.any():  # outside the domain of the image's reference system
        owner = np.repeat(np.arange(len(shapes)), shapely.get_num_coordinates(shapes))
        bad = np.unique(owner[lost])
        counts[NO_SHAPE] += len(bad)
        keep = np.setdiff1d(np.arange(len(shapes)), bad)
        placed = placed[~np.isin(owner, bad)]
        shapes, kinds = shapes[keep], [kinds[k] for k in keep.tolist()]
    shapes = shapely.set_coordinates(shapes, placed)
    crossed = ~shapely.is_valid(shapes)
    counts[REPAIRED] += int(crossed.sum())
    for k in np.flatnonzero(crossed).tolist():
        # merge overlapping parts; the other method would leave holes
        sound = shapely.make_valid(shapes[k], method="structure", keep_collapsed=False)
        shapes[k] = _only(sound, 1 if kinds[k][0] == "road" else 2)
    there = np.array([s is not None for s in shapes], dtype=bool)
    counts[NO_SHAPE] += int((~there).sum())
    return shapes[there], list(compress(kinds, there))


def _only(shape: Any, dimension: int) -> Any:
    """Return the parts of a shape with a dimension, or None if there are none."""
    if shape.geom_type != "GeometryCollection":
        return shape if not shape.is_empty and shapely.get_dimensions(shape) == dimension else None
    kept = [p for p in shape.geoms if shapely.get_dimensions(p) == dimension and not p.is_empty]
    return shapely.union_all(kept) if kept else None
