"""Map elements that RSVQA asks about (buildings, roads, water, land use) from OpenStreetMap tags.

The rules are those of RSVQA (Lobry et al., TGRS 2020: the layers of imposm3's example mapping).
Coordinates are ground metres from the lower left corner of the image: right and up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shapely.geometry.base import BaseGeometry

Layer = Literal["building", "road", "water", "land"]

LAYERS: tuple[Layer, ...] = ("building", "road", "water", "land")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RESIDENTIAL = _words("yes house apartments detached residential")
_COMMERCIAL = _words("commercial industrial retail supermarket kiosk")
#: ``warehouse`` was meant to be commercial, but was misspelt, and so is not in RSVQA.
_COMMERCIAL_MEANT = _COMMERCIAL | {"warehouse"}
_ROADS = _words(
    """motorway motorway_link trunk trunk_link primary primary_link secondary secondary_link
    tertiary tertiary_link road path track service footway bridleway cycleway steps pedestrian
    living_street unclassified residential raceway"""
)
_WATER = {
    "natural": _words("water"),
    "waterway": _words("riverbank"),
    "landuse": _words("basin reservoir"),
    "leisure": _words("swimming_pool"),
    "amenity": _words("swimming_pool"),
}
_LAND = {
    "landuse": _words(
        """park forest residential retail commercial industrial railway cemetery grass farmyard
        farm farmland orchard vineyard wood meadow village_green recreation_ground allotments
        quarry"""
    ),
    "leisure": _words(
        """park garden playground golf_course sports_centre pitch stadium common
        nature_reserve"""
    ),
    "amenity": _words(
        """university school college library fuel parking cinema theatre place_of_worship
        hospital"""
    ),
    "natural": _words("wood land scrub wetland heath"),
    "tourism": _words("zoo"),
    "place": _words("island"),
    "man_made": _words("pier"),
    "military": _words("barracks"),
    "highway": _words("pedestrian footway"),
    "aeroway": _words("runway taxiway"),
    "barrier": _words("hedge"),
}
#: All tag keys that determine the layer and label.
KEYS = tuple(dict.fromkeys(("building", "highway", "area", "width", *_WATER, *_LAND)))
#: Tag keys that determine whether it is visible from above.
COVER_KEYS = ("tunnel", "covered", "location", "indoor", "layer", "level", "parking")
_NO = _words("no none false f n 0")
_UNSEEN_PLACES = _words("underground underwater indoor")
_BELOW = re.compile(r"-\d+(\.\d+)?(\s*(;|,|-|to)\s*-\d+(\.\d+)?)*")  # -1; -2.0; -1;-2; -3--1

#: Land classes whose noun ends in ``area``.
_AREAS = _words("residential grass industrial commercial retail construction religious")
_AREAS_LR = _words("residential grass")

#: Width in metres of roads without a ``width`` tag.
_WIDTHS = {
    "motorway": 22.0, "trunk": 16.0, "primary": 10.0, "secondary": 8.0, "tertiary": 7.0,
    "track": 3.0, "path": 1.5, "footway": 2.0, "cycleway": 2.5, "steps": 2.0, "bridleway": 2.0,
    "service": 4.0, "pedestrian": 5.0,
}  # fmt: skip
_WIDTH = 6.0


@dataclass(frozen=True, slots=True)
class Element:
    """One object in an image.

    Attributes:
        layer: one of RSVQA's four layers.
        label: ``residential building``, ``commercial building`` or ``building`` (neither),
            ``road``, ``water area``; for land use, the tag value, see `noun`.
        shape: polygon or line, clipped to the image, in metres (see above).
        width: width of a road in metres.
    """

    layer: Layer
    label: str
    shape: BaseGeometry
    width: float = 0.0


def classify(
    tags: Mapping[str, str], dimension: int, *, legacy: bool = False
) -> tuple[Layer, str] | None:
    """Return layer and label of a feature, from its tags.

    Args:
        tags: OpenStreetMap keys and values.
        dimension: 1 for lines, 2 for polygons.
        legacy: treat ``warehouse`` as not commercial, as in the published data.

    Returns:
        None if RSVQA has no such feature.
    """
    if dimension == 1:
        road = tags.get("highway") in _ROADS and tags.get("area") != "yes"
        return ("road", "road") if road else None
    if dimension != 2:
        return None
    if building := tags.get("building"):
        return None if building == "no" else ("building", _building(building, legacy))
    for key, values in _WATER.items():
        if tags.get(key) in values:
            return "water", "water area"
    for key, values in _LAND.items():
        if (value := tags.get(key)) in values:
            return "land", str(value)
    return None


def is_hidden(tags: Mapping[str, str], layer: Layer) -> bool:
    """Whether a feature is hidden from above: below ground, or under a roof.

    A negative ``layer`` means below ground only for buildings and car parks. For roads it means
    that something crosses above them; for land and water it means nothing.

    Args:
        tags: OpenStreetMap keys and values.
        layer: the layer from `classify`.
    """
    parking = tags.get("amenity") == "parking"
    if tags.get("tunnel", "no").lower() not in _NO or tags.get("indoor", "no").lower() not in _NO:
        return True
    if tags.get("location") in _UNSEEN_PLACES or _BELOW.fullmatch(tags.get("level", "").strip()):
        return True
    below = _BELOW.fullmatch(tags.get("layer", "").strip())
    if below and (layer == "building" or parking):
        return True
    if layer == "building":
        return False
    if parking and tags.get("parking") == "underground":
        return True
    covered = tags.get("covered", "no").lower() not in _NO
    return covered and tags.get("amenity") != "fuel"  # a petrol station is visible as its roof


def _building(value: str, legacy: bool) -> str:
    if value in _RESIDENTIAL:
        return "residential building"
    commercial = _COMMERCIAL if legacy else _COMMERCIAL_MEANT
    return "commercial building" if value in commercial else "building"


def noun(value: str, *, bare: bool = False) -> str:
    """Return the noun of a land use: ``grass`` → ``grass area``, ``golf_course`` → ``golf course``.

    Args:
        value: the tag value.
        bare: append ``area`` only to residential and grass, as RSVQA-LR does.
    """
    areas = _AREAS_LR if bare else _AREAS
    return value.replace("_", " ") + (" area" if value in areas else "")


def road_width(tags: Mapping[str, str]) -> float:
    """Return the width of a road in metres, from its ``width`` tag or else by road class."""
    try:
        width = float(tags.get("width", "").removesuffix("m"))
    except ValueError:
        width = 0.0
    if 0 < width < 100:
        return width
    return _WIDTHS.get(tags["highway"].removesuffix("_link"), _WIDTH)


def breadth(shape: BaseGeometry) -> float:
    """Return the short side of the rectangle with the polygon's area and perimeter, in metres."""
    half, area = shape.length / 2, shape.area
    return float(half - math.sqrt(max(half**2 - 4 * area, 0.0))) / 2
