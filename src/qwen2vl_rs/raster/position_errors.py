"""Errors of missing or invalid georeferencing, with a hint for each cause."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..system.named_files import read_bytes
from .crs import reproject, utm_zone

#: Suffixes of world files.
_WORLD = [
    ".tfw",
    ".tifw",
    ".tiffw",
    ".wld",
    ".jgw",
    ".jpgw",
    ".pgw",
    ".pngw",
    ".j2w",
    ".jp2w",
    ".bpw",
    ".bmpw",
]
#: Centre coordinates in RPC files (text, RPB, XML).
_LONGITUDE, _LATITUDE = (
    re.compile(rf"(?i)\b{name}_?off(?:set)?\b[^\d+-]*([+-]?\d+(?:\.\d+)?)")
    for name in ("long", "lat")
)
_RPC_FILES = ("_rpc.txt", "_RPC.TXT", ".rpb", ".RPB", "_rpc.xml", "_RPC.XML")


def no_position(path: str | os.PathLike[str], source: Any, *, placed: bool) -> ImageError:
    """Return the error for an image without georeferencing, from what it has instead.

    Args:
        path: the image.
        source: the open image.
        placed: whether it has a transform and lacks only a reference system.
    """
    where = f"{path}: not georeferenced: it has "
    if source.gcps[0] and not placed:
        return ImageError(
            f"{where}ground control points only ({len(source.gcps[0])})",
            hint=f"warp it: gdalwarp -t_srs {_zone_of(source)} -r bilinear IN OUT.tif",
        )
    if source.rpcs and not placed:
        return ImageError(
            f"{where}rational polynomial coefficients (RPC) only",
            hint=_orthorectify(utm_zone(source.rpcs.long_off, source.rpcs.lat_off)),
        )
    missing = ["no coordinate reference system"] if source.crs is None else []
    missing += [] if placed else ["no position"]
    what = " and ".join(missing)
    if beside := _beside(Path(path)):
        return ImageError(
            f"{where}{what}; the file {beside.name} beside it is not read",
            hint=_take_in(beside, with_system=source.crs is None),
        )
    system = " -a_srs EPSG:…" if source.crs is None else ""
    corners = "" if placed else " -a_ullr LEFT TOP RIGHT BOTTOM"
    return ImageError(f"{where}{what}", hint=f"set it: gdal_translate{system}{corners} IN OUT.tif")


def _zone_of(source: Any) -> str:
    """Return the UTM zone of an image's ground control points."""
    points, crs = source.gcps
    if crs is None:
        return "EPSG:…"
    places = np.array([[point.x, point.y] for point in points], dtype=float)
    try:
        longitude, latitude = reproject(crs.to_wkt(), "EPSG:4326", places).mean(axis=0).tolist()
    except ImageError:
        return "EPSG:…"
    known = abs(longitude) <= 180 and abs(latitude) <= 90  # false for NaN
    return utm_zone(longitude, latitude) if known else "EPSG:…"


def _orthorectify(system: str) -> str:
    return f"orthorectify it: gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs {system} IN OUT.tif"


def _beside(path: Path) -> Path | None:
    """Return a sidecar that georeferences an image; None if there is none."""
    names = [f"{path.name}.aux.xml"]
    for end in _WORLD:
        names += [f"{path.stem}{end}", f"{path.stem}{end.upper()}"]
    names += [f"{path.stem}{end}" for end in _RPC_FILES]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _take_in(beside: Path, *, with_system: bool) -> str:
    if beside.name.endswith(_RPC_FILES):
        text = read_bytes(beside).decode("utf-8", "replace")
        found = _LONGITUDE.search(text), _LATITUDE.search(text)
        places = [float(one[1]) for one in found if one]
        return _orthorectify(utm_zone(places[0], places[1]) if len(places) == 2 else "EPSG:…")
    add_system = with_system and not beside.name.endswith(".aux.xml")
    system = " -a_srs EPSG:…" if add_system else ""
    return f"write it into the file: gdal_translate{system} IN OUT.tif"


def flat_position(path: str | os.PathLike[str]) -> ImageError:
    """Return the error for a transform that is singular or not finite."""
    return ImageError(
        f"{path}: not georeferenced: its pixels have no size on the ground (its transform is "
        "singular)",
        hint="set its corners: gdal_translate -a_ullr LEFT TOP RIGHT BOTTOM IN OUT.tif",
    )


def not_of_the_earth(path: str | os.PathLike[str], name: str) -> ImageError:
    """Return the error for a local, geocentric or vertical reference system."""
    return ImageError(
        f"{path}: its coordinate reference system {name!r} is neither projected nor geographic, so "
        "its position on Earth is unknown",
        hint="set the actual system of its coordinates: gdal_translate -a_srs EPSG:… IN OUT.tif; "
        "or use control points (-gcp) and gdalwarp",
    )


def out_of_bounds(path: str | os.PathLike[str], name: str, x: float, y: float) -> ImageError:
    """Return the error for coordinates outside the reference system."""
    return ImageError(
        f"{path}: its centre, {x:,.6g} {y:,.6g}, does not exist in its coordinate reference "
        f"system {name[:60]}",
        hint="check gdalinfo IN; if the system is wrong: gdal_translate -a_srs EPSG:… IN OUT.tif",
    )
