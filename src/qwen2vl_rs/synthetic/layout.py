"""Generate vector maps of synthetic scenes: roads, water, and the blocks between them.

Coordinates are in metres, x to the right and y up from the lower left corner of the image. Rivers
and roads come first and divide the ground into blocks; each block is filled according to the
setting (`rural`, `urban`). Finally everything is clipped to the image, and features too small to be
visible at the image resolution are removed: the map contains only what is visible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import shapely
from numpy.random import Generator
from shapely import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from ..questions.elements import breadth
from . import rural, urban
from .features import Feature, Setting, curve, parts

MARGIN = 40.0
"""Margin around the image in metres, so that edges cut objects as in real tiles."""

SETTINGS = {
    s.name: s
    for s in (
        Setting("wild", "wild", tracks=0.5),
        Setting("fields", "fields", roads=(0, 2), tracks=0.5, river=0.2),
        Setting("farm", "fields", roads=(1, 2), tracks=0.3, river=0.15, centre="farm"),
        Setting("village", "fields", roads=(1, 2), river=0.15, centre="village"),
        Setting("suburb", "suburb", roads=(0, 1), river=0.1, grid=(75.0, 130.0)),
        Setting("city", "city", roads=(0, 1), river=0.12, grid=(70.0, 110.0)),
        Setting("industry", "industry", roads=(0, 1), river=0.12, grid=(110.0, 200.0)),
        Setting("park", "park", roads=(1, 2), river=0.15),
        Setting("shore", "shore", roads=(0, 1), tracks=0.3, coast=0.6),
    )
}
#: Probabilities of the settings, if none is given.
WEIGHTS = {
    "wild": 0.15, "fields": 0.13, "farm": 0.14, "village": 0.18, "suburb": 0.14, "city": 0.06,
    "industry": 0.09, "park": 0.06, "shore": 0.05,
}  # fmt: skip
#: Scenes with a longer side, in metres, are mosaics: each block between main roads gets its own
#: setting, denser towards the centre.
_MOSAIC = 800.0


@dataclass(frozen=True, slots=True)
class Map:
    """Vector map of an image.

    Attributes:
        side: side of the square image, in metres.
        resolution: resolution of the image, in metres per pixel.
        setting: name of the setting.
        features: features in drawing order: land, water, roads, buildings.
    """

    side: float
    resolution: float
    setting: str
    features: tuple[Feature, ...] = field(repr=False)


def generate_map(rng: Generator, side: float, resolution: float, setting: str) -> Map:
    """Generate a map.

    Args:
        rng: random generator.
        side: side of the square image, in metres.
        resolution: metres per pixel.
        setting: a key of `SETTINGS`.
    """
    chosen = SETTINGS[setting]
    window = shapely.box(-MARGIN, -MARGIN, side + MARGIN, side + MARGIN)
    water = _large_water(rng, chosen, side, resolution)
    roads = _main_roads(rng, chosen, side, resolution, water)
    site = urban.Site(rng, side, resolution, [*water, *roads])
    shore = shapely.unary_union([w.shape for w in water]).buffer(3 * resolution)
    for region in site.between(window.difference(shore), roads):
        place = SETTINGS[_place(rng, chosen, region, side)] if side > _MOSAIC else chosen
        rural.fill(site, region, place)
    return Map(side, resolution, setting, tuple(_seen(site.features, side, resolution)))


def _place(rng: Generator, chosen: Setting, region: BaseGeometry, side: float) -> str:
    """Choose the setting of a mosaic block, by its distance from the centre."""
    centre = region.centroid
    near = 1.3 - np.hypot(centre.x - side / 2, centre.y - side / 2) / (0.5 * side)
    busy = {"wild": 0.0, "fields": 0.15, "farm": 0.25, "shore": 0.2, "park": 0.6}
    level = busy.get(chosen.name, 0.8) * near + rng.normal(0, 0.15)
    if level > 0.75:
        return str(rng.choice([chosen.name, "suburb", "city", "industry", "park"]))
    if level > 0.45:
        return str(rng.choice(["suburb", "village", "industry", "park", "fields"]))
    if level > 0.1:
        return str(rng.choice(["fields", "fields", "farm", "village", "wild"]))
    return "wild"


def _large_water(rng: Generator, setting: Setting, side: float, resolution: float) -> list[Feature]:
    """Generate a coast, or a river from edge to edge, or nothing."""
    if rng.random() < setting.coast:
        return [_coast(rng, side)]
    if rng.random() >= setting.river:
        return []
    width = max(rng.uniform(0.05, 0.13) * side, 5 * resolution)
    line = curve(rng, side, MARGIN + width, bend=0.25)
    steps = np.linspace(0, 1, 24)
    points = shapely.get_coordinates(shapely.line_interpolate_point(line, steps, normalized=True))
    sway = width * (1 + 0.25 * np.sin(steps * rng.uniform(6, 14) + rng.uniform(0, 6))) / 2
    ahead = np.gradient(points, axis=0)
    normal = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    left, right = points + normal * sway[:, None], points - normal * sway[:, None]
    bank = Polygon(np.concatenate([left, right[::-1]])).buffer(0)
    bank = max(parts(bank, 2), key=lambda part: float(part.area))
    return [Feature("water", "waterway", "riverbank", bank, tint=rng.random())]


def _coast(rng: Generator, side: float) -> Feature:
    """Generate open water on one side of a wavy line."""
    x = np.linspace(-2 * MARGIN - 50, side + 2 * MARGIN + 50, 40)
    waves = sum(
        rng.uniform(0.01, 0.06) * side * np.sin(x / side * f + rng.uniform(0, 6))
        for f in (2.5, 6.0, 13.0)
    )
    y = rng.uniform(0.3, 0.6) * side + waves
    line = np.stack([x, y], axis=1)
    far = np.array([[x[-1], -3 * side], [x[0], -3 * side]])
    water = Polygon(np.concatenate([line, far]))
    turned = shapely.affinity.rotate(water, rng.uniform(0, 360), origin=(side / 2, side / 2))
    frame = shapely.box(-2 * MARGIN, -2 * MARGIN, side + 2 * MARGIN, side + 2 * MARGIN)
    return Feature("water", "natural", "water", turned.intersection(frame), tint=rng.random())


def _main_roads(
    rng: Generator, setting: Setting, side: float, resolution: float, water: list[Feature]
) -> list[Feature]:
    """Generate roads across the image, with bridges over rivers, but not into the sea."""
    number = int(rng.integers(setting.roads[0], setting.roads[1] + 1))
    if side > _MOSAIC:
        number = 4 + int(rng.integers(0, 4))
    roads: list[Feature] = []
    straight = setting.theme in ("city", "industry")
    for _ in range(number):
        line = curve(rng, side, MARGIN, bend=0.03 if straight else 0.15)
        if _runs_along(line, roads, 25.0 + 10 * resolution):
            continue
        kind = str(rng.choice(["primary", "secondary", "tertiary", "unclassified"]))
        roads.append(urban.road(rng, kind, line, resolution))
    if rng.random() < setting.tracks:
        line = curve(rng, side, MARGIN, bend=0.3)
        if not _runs_along(line, roads, 15.0 + 8 * resolution):
            roads.append(urban.road(rng, "track", line, resolution))
    sea = [w.shape for w in water if w.value == "water"]
    if not sea:
        return roads
    dry = [(r, r.shape.difference(sea[0].buffer(12 + r.width))) for r in roads]
    return [
        replace(r, shape=piece, whole=None)
        for r, rest in dry
        for piece in parts(rest, 1)
        if piece.length > 0.2 * side
    ]


def _runs_along(line: LineString, roads: Iterable[Feature], gap: float) -> bool:
    """Whether a new road would run beside another for long, and look like the same road."""
    return any(line.intersection(r.shape.buffer(gap)).length > 5 * gap for r in roads)


def _seen(features: Iterable[Feature], side: float, resolution: float) -> Iterable[Feature]:
    """Clip the features to the image, and keep those large enough to be visible."""
    image = shapely.box(0.0, 0.0, side, side)
    order = {"land": 0, "water": 1, "road": 2, "building": 3}
    for feature in sorted(features, key=lambda f: order[f.layer]):
        line = feature.layer == "road"
        # fast path: most features need no clipping
        inside = shapely.box(*feature.shape.bounds).within(image)
        cut = feature.shape if inside else feature.shape.intersection(image)
        for piece in parts(cut, 1 if line else 2):
            if _is_visible(piece, feature, resolution):
                yield replace(feature, shape=piece, whole=feature.whole or feature.shape)


def _is_visible(piece: Any, feature: Feature, resolution: float) -> bool:
    if feature.layer == "road":
        return bool(piece.length > max(12 * resolution, 2 * feature.width))
    least = {"building": 3.0, "water": 3.0, "land": 4.0}[feature.layer]  # pixels
    return breadth(piece) >= least * resolution
