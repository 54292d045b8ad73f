"""What RSVQA's questions are about: buildings, roads, water areas and land uses.

OpenStreetMap tags become elements by the rules under which RSVQA was made (Lobry et al., TGRS
2020: the layers of imposm3's example mapping). Every element lies in the frame of its image:
metres to the right of the left edge and metres above the bottom edge, true metres on the ground.
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
#: Every tag key that decides what a thing is.
KEYS = tuple(dict.fromkeys(("building", "highway", "area", "width", *_WATER, *_LAND)))
#: Keys that decide whether it can be seen from above.
COVER_KEYS = ("tunnel", "covered", "location", "indoor", "layer", "level", "parking")
_NO = _words("no none false f n 0")
_UNSEEN_PLACES = _words("underground underwater indoor")
_BELOW = re.compile(r"-\d+(\.\d+)?(\s*(;|,|-|to)\s*-\d+(\.\d+)?)*")  # -1; -2.0; -1;-2; -3--1

#: Land classes whose noun ends in ``area``.
_AREAS = _words("residential grass industrial commercial retail construction religious")
_AREAS_LR = _words("residential grass")

#: Metres across for roads that carry no ``width``.
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
        layer: which of RSVQA's four layers it belongs to.
        label: ``residential building``, ``commercial building`` or ``building`` (neither),
            ``road``, ``water area``; of land uses the value of the tag, see `noun`.
        shape: polygon or line, clipped to the image, in metres (see above).
        width: metres across, of roads.
    """

    layer: Layer
    label: str
    shape: BaseGeometry
    width: float = 0.0


def classify(
    tags: Mapping[str, str], dimension: int, *, legacy: bool = False
) -> tuple[Layer, str] | None:
    """Layer and label of a feature by its tags.

    Args:
        tags: OpenStreetMap's keys and values.
        dimension: 1 for lines, 2 for polygons.
        legacy: as in the published data, ``warehouse`` is not commercial.

    Returns:
        None where RSVQA does not know such a feature.
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


def unseen(tags: Mapping[str, str], layer: Layer) -> bool:
    """Whether a feature cannot be seen from above: below ground, or under a roof.

    Of roads a negative ``layer`` says only that something crosses above them, and of land and water
    nothing at all; of buildings and car parks it means that they lie below ground.

    Args:
        tags: OpenStreetMap's keys and values.
        layer: which `classify` gave.
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
    return covered and tags.get("amenity") != "fuel"  # its roof is what one sees of it


def _building(value: str, legacy: bool) -> str:
    if value in _RESIDENTIAL:
        return "residential building"
    commercial = _COMMERCIAL if legacy else _COMMERCIAL_MEANT
    return "commercial building" if value in commercial else "building"


def noun(value: str, *, bare: bool = False) -> str:
    """The noun of a land-use value: ``grass`` → ``grass area``, ``golf_course`` → ``golf course``.

    Args:
        value: of the tag.
        bare: as in RSVQA-LR, only residential and grass areas are called areas.
    """
    areas = _AREAS_LR if bare else _AREAS
    return value.replace("_", " ") + (" area" if value in areas else "")


def road_width(tags: Mapping[str, str]) -> float:
    """Metres across, by the tag ``width`` or what is usual for the class of road."""
    try:
        width = float(tags.get("width", "").removesuffix("m"))
    except ValueError:
        width = 0.0
    if 0 < width < 100:
        return width
    return _WIDTHS.get(tags["highway"].removesuffix("_link"), _WIDTH)


def breadth(shape: BaseGeometry) -> float:
    """How narrow a polygon is: the short side of the rectangle with its area and perimeter."""
    half, area = shape.length / 2, shape.area
    return float(half - math.sqrt(max(half**2 - 4 * area, 0.0))) / 2
