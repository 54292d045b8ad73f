"""Fill urban blocks: streets, houses, city blocks, industry, parks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from shapely import LineString
from shapely.geometry.base import BaseGeometry

from .features import Feature, blob, boxes, direction, parts

#: Minimal and maximal width of roads in metres, by class.
ROADS = {
    "motorway": (20.0, 24.0), "primary": (9.0, 12.0), "secondary": (7.5, 9.0),
    "tertiary": (6.5, 8.0), "unclassified": (5.0, 6.5), "residential": (5.5, 7.5),
    "service": (3.5, 5.0), "track": (2.5, 3.5), "footway": (2.0, 3.0),
}  # fmt: skip
#: Building values and their shares.
HOUSES = {"house": 0.55, "detached": 0.25, "yes": 0.2}
FLATS = {"apartments": 0.5, "commercial": 0.15, "retail": 0.15, "office": 0.12, "hotel": 0.08}
HALLS = {"industrial": 0.35, "commercial": 0.25, "retail": 0.15, "supermarket": 0.1,
         "warehouse": 0.15}  # fmt: skip
#: Objects placed in blocks: look, tag and height in metres.
_PACKED = {
    "lot": ("parking", "amenity", "parking", 0.0),
    "play": ("playground", "leisure", "playground", 0.0),
    "pitch": ("pitch", "leisure", "pitch", 0.0),
    "court": ("court", "leisure", "pitch", 0.0),
    "club": ("flat", "building", "school", 6.0),
    "hut": ("gable", "building", "yes", 5.0),
    "house": ("gable", "building", "house", 6.0),
    "barn": ("barn", "building", "barn", 7.0),
    "silo": ("tank", "building", "silo", 9.0),
    "tank": ("tank", "building", "storage_tank", 6.0),
    "hall": ("flat", "building", "", 8.0),
    "shop": ("flat", "building", "", 6.0),
}
#: Houses narrower than three pixels are invisible: coarser images show only the settlement.
COARSE = 3.5


class Site:
    """A map under construction.

    Attributes:
        rng: random generator.
        side: side of the image, in metres.
        resolution: metres per pixel.
        gap: minimal distance of buildings in metres, so that they are distinguishable.
        features: features so far.
        centre: centre of the village, once it is chosen.
    """

    def __init__(
        self, rng: Generator, side: float, resolution: float, features: Iterable[Feature]
    ) -> None:
        self.rng, self.side, self.resolution = rng, side, resolution
        self.gap = max(2.5, 2.2 * resolution)
        self.features = list(features)
        self.centre: Any = None

    def add(self, look: str, key: str, value: str, shape: Any, **more: Any) -> None:
        """Add a feature to the map."""
        self.features.append(
            Feature(look, key, value, shape, tint=float(self.rng.random()), **more)
        )

    def put(self, what: str, shape: Any, angle: float, value: str = "") -> None:
        """Add one of `_PACKED` in a rectangle; round objects are placed inside it."""
        look, key, usual, height = _PACKED[what]
        if look == "tank":
            radius = float(np.sqrt(shape.area)) / 2
            shape = blob(self.rng, shape.centroid.x, shape.centroid.y, radius, round_=True)
            angle = 0.0
        self.add(look, key, value or usual, shape, angle=angle, height=height)

    def between(self, ground: BaseGeometry, roads: Sequence[Feature]) -> list[Any]:
        """Return the pieces into which roads, with their verges, divide the ground."""
        verge = max(1.0, 0.6 * self.resolution)
        shown = [r for r in roads if r.layer == "road"]
        if shown:
            widths = [shown_width(r.width, self.resolution) / 2 + verge for r in shown]
            lines = shapely.buffer([r.shape for r in shown], widths, quad_segs=3)
            ground = ground.difference(shapely.union_all(lines))
        return [p for p in parts(ground, 2) if p.area > 60 + 30 * self.resolution**2]

    def pick(self, shares: dict[str, float]) -> str:
        """Draw a random key, weighted by its share."""
        names, weights = list(shares), np.fromiter(shares.values(), float)
        return names[int(np.searchsorted(np.cumsum(weights) / weights.sum(), self.rng.random()))]


def shown_width(width: float, resolution: float) -> float:
    """Return the drawn width of a road in metres: at least a pixel and a half."""
    return max(width, 1.5 * resolution)


def road(rng: Generator, kind: str, line: LineString, resolution: float) -> Feature:
    """Create a road of a class (value of ``highway``)."""
    width = shown_width(rng.uniform(*ROADS[kind]), resolution)
    look = "track" if kind in ("track", "footway") else "road"
    return Feature(look, "highway", kind, line, width=round(width, 1), tint=float(rng.random()))


def streets(site: Site, region: BaseGeometry, spacing: tuple[float, float], kind: str) -> None:
    """Add a grid of streets to a region, straight in cities, bent in suburbs."""
    rng, side = site.rng, site.side
    bend = 0.0 if kind != "suburb" else float(rng.uniform(0, 9))
    angle, phase = rng.uniform(0, np.pi / 2), rng.uniform(0, 6, 2)
    x0, y0, x1, y1 = region.bounds
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    reach = np.hypot(x1 - x0, y1 - y0) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inner = region.buffer(1.5)  # so that streets meet the roads around
    for axis in (0, 1):
        step = rng.uniform(*spacing) * (1.5 if axis else 0.8)
        first = -reach + rng.uniform(0, step)
        for at in np.arange(first, reach, step):
            along = np.linspace(-reach, reach, 2 if not bend else 20)
            offset = at + bend * np.sin(along / 45 + phase[axis]) + rng.normal(0, step * 0.04)
            points = np.stack([along, offset] if axis else [offset, along], axis=1)
            line = LineString(points @ turn + middle).intersection(inner)
            for piece in parts(line, 1):
                if piece.length > max(35.0, 0.25 * side) and not _beside(site, piece):
                    site.features.append(road(rng, "residential", piece, site.resolution))


def _beside(site: Site, line: LineString) -> bool:
    """Whether the visible part of a street runs beside another road, and looks like the same."""
    roads = np.array([f.shape for f in site.features if f.layer == "road"], dtype=object)
    seen = line.intersection(shapely.box(0, 0, site.side, site.side))
    gap = 9.0 + 2 * site.resolution
    near = roads[shapely.dwithin(seen, roads, gap)] if len(roads) else roads
    return any(seen.intersection(other.buffer(gap)).length > 0.35 * seen.length for other in near)


def fill_town(site: Site, region: BaseGeometry, theme: str, spacing: tuple[float, float]) -> None:
    """Fill a region with streets and blocks of a town."""
    before = len(site.features)
    apart = max(1.0, site.resolution / 2)  # only main streets at coarse resolution
    streets(site, region, (spacing[0] * apart, spacing[1] * apart), theme)
    uses = {
        "suburb": {"homes": 0.74, "green": 0.1, "play": 0.05, "forest": 0.04, "shops": 0.04,
                   "allotments": 0.03},
        "city": {"flats": 0.72, "shops": 0.12, "green": 0.1, "parking": 0.06},
        "industry": {"halls": 0.7, "shops": 0.12, "parking": 0.07, "lawn": 0.08, "forest": 0.03},
    }[theme]  # fmt: skip
    for block in site.between(region, site.features[before:]):
        FILLERS[site.pick(uses)](site, block)


def homes(site: Site, block: Any, share: float | None = None) -> None:
    """Add gardens with houses along the edge of a block."""
    site.add("gardens", "landuse", "residential", block)
    if site.resolution > COARSE:
        return
    rng = site.rng
    share = rng.uniform(0.55, 1.0) if share is None else share
    for shape, angle in _along_edge(site, block, (8.0, 11.0), (9.0, 16.0), share, 6.0):
        value = site.pick(HOUSES)
        site.add("gable", "building", value, shape, angle=angle, height=rng.uniform(5, 8))


def flats(site: Site, block: Any) -> None:
    """Add large houses around the yards of a city block."""
    rng = site.rng
    site.add("paved", "landuse", str(rng.choice(["residential", "commercial"])), block)
    depth = (12.0, 17.0) if block.area > 2000 else (9.0, 12.0)
    length = (14.0, 34.0)
    if site.resolution > COARSE:
        depth, length = (25.0, 45.0), (40.0, 90.0)
    for shape, angle in _along_edge(site, block, depth, length, 0.93, 2.5):
        value = site.pick(FLATS)
        look = "gable" if value == "apartments" and rng.random() < 0.45 else "flat"
        site.add(look, "building", value, shape, angle=angle, height=rng.uniform(9, 18))


def halls(site: Site, block: Any) -> None:
    """Add industry: halls, tanks and a parking lot on concrete."""
    rng = site.rng
    site.add("concrete", "landuse", "industrial", block)
    wide = max(1.0, site.resolution / 1.5)
    wanted = [
        (rng.uniform(26, 70) * wide, rng.uniform(20, 40) * wide, "hall")
        for _ in range(int(rng.integers(1, 5)))
    ]
    wanted += [(rng.uniform(26, 50), rng.uniform(18, 32), "lot")] * int(rng.random() < 0.6)
    if rng.random() < 0.35:
        wanted += [(d := rng.uniform(9, 16), d, "tank")] * int(rng.integers(1, 6))
    for shape, angle, what in place_rectangles(site, block.buffer(-3), wanted):
        site.put(what, shape, angle, site.pick(HALLS) if what == "hall" else "")


def shops(site: Site, block: Any) -> None:
    """Add shops beside a large parking lot."""
    rng = site.rng
    site.add("concrete", "landuse", "retail", block)
    wanted = [(rng.uniform(30, 55), rng.uniform(20, 34), "shop")]
    wanted += [(rng.uniform(30, 60), rng.uniform(24, 40), "lot")]
    wanted += [(rng.uniform(12, 20), rng.uniform(10, 14), "shop")] * int(rng.integers(0, 3))
    for shape, angle, what in place_rectangles(site, block.buffer(-3), wanted):
        value = str(rng.choice(["retail", "supermarket", "commercial"])) if what == "shop" else ""
        site.put(what, shape, angle, value)


def parking(site: Site, block: Any) -> None:
    """Add a block-sized parking lot."""
    site.add("parking", "amenity", "parking", block.buffer(-1), angle=direction(block))


def lawn(site: Site, block: Any) -> None:
    """Add mown grass."""
    site.add("lawn", "landuse", "grass", block, angle=direction(block))


def forest(site: Site, block: Any) -> None:
    """Add a forest."""
    site.add("forest", "landuse", "forest", block)


def allotments(site: Site, block: Any) -> None:
    """Add allotment gardens in rows."""
    site.add("allotments", "landuse", "allotments", block, angle=direction(block))


def green(site: Site, block: Any) -> None:
    """Add a park with a pond and playgrounds."""
    rng = site.rng
    site.add("park", "leisure", "park", block)
    wanted = [(rng.uniform(14, 40), 0.0, "pond")] * int(rng.random() < 0.45)
    wanted += [(rng.uniform(12, 22), rng.uniform(10, 16), "play")] * int(rng.random() < 0.4)
    wanted += [(rng.uniform(10, 16), rng.uniform(9, 12), "hut")] * int(rng.random() < 0.2)
    wanted = [(a, b or a, what) for a, b, what in wanted]
    for shape, angle, what in place_rectangles(site, block.buffer(-2), wanted):
        if what == "pond":
            round_ = bool(rng.random() < 0.4)
            pond = blob(
                rng, shape.centroid.x, shape.centroid.y, np.sqrt(shape.area) * 0.42, round_=round_
            )
            site.add("water", "natural", "water", pond.intersection(shape))
        else:
            site.put(what, shape, angle)


def play(site: Site, block: Any) -> None:
    """Add pitches on a lawn, with a school or club house."""
    rng = site.rng
    lawn(site, block)
    wanted = [(rng.uniform(60, 95), rng.uniform(40, 58), "pitch")]
    wanted += [(rng.uniform(24, 30), rng.uniform(13, 16), "court")] * int(rng.integers(0, 4))
    wanted += [(rng.uniform(24, 44), rng.uniform(12, 18), "club")] * int(rng.random() < 0.6)
    wanted += [(rng.uniform(12, 22), rng.uniform(10, 16), "play")] * int(rng.random() < 0.3)
    for shape, angle, what in place_rectangles(site, block.buffer(-2), wanted):
        site.put(what, shape, angle)


#: Functions that fill a block, by use.
_ALL = (homes, flats, halls, shops, green, play, lawn, forest, allotments, parking)
FILLERS: dict[str, Callable[[Site, Any], None]] = {one.__name__: one for one in _ALL}


def _along_edge(
    site: Site,
    block: Any,
    depth: tuple[float, float],
    length: tuple[float, float],
    share: float,
    setback: float,
) -> Iterator[tuple[Any, float]]:
    """Yield non-touching rectangles in rows along the inner edge of a block."""
    rng = site.rng
    found: list[tuple[NDArray[Any], ...]] = []
    for piece in parts(block.buffer(-(setback + depth[1] / 2)), 2):
        ring = piece.exterior
        number = int(ring.length / (length[0] + site.gap)) + 1
        a, b = _sides(rng, number, length, depth)
        ends = np.cumsum(a + site.gap + rng.uniform(0.3, 3.0, number))
        fits = ends < ring.length
        if not fits.any():
            continue
        a, b, ends = a[fits], b[fits], ends[fits]
        at = ends - a / 2 + rng.uniform(0, ring.length)
        here = shapely.get_coordinates(shapely.line_interpolate_point(ring, at % ring.length))
        behind, ahead = (
            shapely.get_coordinates(shapely.line_interpolate_point(ring, (at + d) % ring.length))
            for d in (-a / 3, a / 3)
        )
        angle = np.arctan2(*(ahead - behind).T[::-1])
        kept = rng.random(len(at)) < share
        found.append((*here[kept].T, a[kept], b[kept], angle[kept]))
    if found:
        x, y, a, b, angles = (np.concatenate(column) for column in zip(*found, strict=True))
        shapes = boxes(x, y, a, b, angles)
        inside = shapely.within(shapes, block.buffer(-1))
        for k in _apart(shapes, inside, site.gap):
            yield shapes[k], float(angles[k])


def _sides(
    rng: Generator, number: int, length: tuple[float, float], depth: tuple[float, float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw sides of buildings, with areas away from the limits of small, medium and large."""
    a, b = rng.uniform(*length, number), rng.uniform(*depth, number)
    for limit in (100.0, 500.0):
        area = a * b
        near = np.abs(area / limit - 1) < 0.15
        a = np.where(near, np.where(area < limit, 0.8, 1.2) * limit / b, a)
    return np.maximum(a, b * 0.8), b


def _apart(shapes: NDArray[Any], allowed: NDArray[np.bool_], gap: float) -> list[int]:
    """Return the indices of shapes with a gap to all previously chosen ones."""
    tree = shapely.STRtree(shapes)
    first, second = tree.query(shapes, predicate="dwithin", distance=gap)
    near: dict[int, list[int]] = {}
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        if j < i:
            near.setdefault(i, []).append(j)
    chosen: set[int] = set()
    for i in np.flatnonzero(allowed).tolist():
        if not chosen.intersection(near.get(i, ())):
            chosen.add(i)
    return sorted(chosen)


def place_rectangles(
    site: Site, block: Any, wanted: Sequence[tuple[float, float, str]]
) -> Iterator[tuple[Any, float, str]]:
    """Yield random non-touching rectangles in a block, aligned with it."""
    rng = site.rng
    if block.is_empty:
        return
    angle = direction(block)
    x0, y0, x1, y1 = block.bounds
    placed: list[Any] = []
    for a, b, what in wanted:
        tries = 24
        sides = np.full((2, tries), [[a], [b]]) * rng.uniform(0.9, 1.1, (1, tries))
        x, y = rng.uniform(x0, x1, tries), rng.uniform(y0, y1, tries)
        turned = angle + np.pi / 2 * rng.integers(0, 2, tries)
        shapes = boxes(x, y, sides[0], sides[1], turned)
        good = shapely.within(shapes, block)
        for other in placed:
            good &= ~shapely.dwithin(shapes, other, site.gap + 1.0)
        if good.any():
            k = int(np.argmax(good))
            placed.append(shapes[k])
            yield shapes[k], float(turned[k]), what
