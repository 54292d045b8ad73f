"""Fill rural blocks: fields, woods, lakes, farms and villages."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..questions.elements import breadth
from . import urban
from .features import Setting, blob, boxes, direction, parts
from .urban import Site, place_rectangles

#: Natural ground: tag key and value, by look.
WILD = {
    "forest": ("landuse", "forest"), "scrub": ("natural", "scrub"), "heath": ("natural", "heath"),
    "meadow": ("landuse", "meadow"), "wetland": ("natural", "wetland"),
}  # fmt: skip
#: Uses of parcels, with shares.
PARCELS = {
    "field": ("landuse", "farmland", 0.68), "meadow": ("landuse", "meadow", 0.14),
    "forest": ("landuse", "forest", 0.08), "orchard": ("landuse", "orchard", 0.06),
    "vineyard": ("landuse", "vineyard", 0.04),
}  # fmt: skip


def fill(site: Site, region: Any, setting: Setting) -> None:
    """Fill the ground between main roads according to a setting."""
    if setting.grid:
        urban.fill_town(site, region, setting.theme, setting.grid)
    elif setting.theme == "park":
        _park(site, region)
    else:
        if setting.centre:
            region = _inhabit(site, region, setting)
        for piece in parts(region, 2):
            if setting.theme == "fields":
                _fields(site, piece)
            else:
                _wild(site, piece, setting.theme)


def _park(site: Site, region: Any) -> None:
    filler = site.pick({"green": 0.45, "play": 0.25, "lawn": 0.1, "graves": 0.08, "homes": 0.12})
    if filler == "graves":
        site.add("graves", "landuse", "cemetery", region, angle=float(site.rng.uniform(0, 3)))
    else:
        urban.FILLERS[filler](site, region)


def _wild(site: Site, region: Any, theme: str) -> None:
    """Fill a region with one kind of ground, patches of others, and perhaps a lake."""
    rng = site.rng
    shares = {"forest": 0.42, "scrub": 0.16, "heath": 0.12, "meadow": 0.18, "wetland": 0.12}
    if theme == "shore":
        shares = {"meadow": 0.4, "scrub": 0.25, "forest": 0.2, "wetland": 0.15}
    base = site.pick(shares)
    if theme == "shore" and rng.random() < 0.5 and site.resolution <= urban.COARSE:
        wanted = [(rng.uniform(9, 14), rng.uniform(8, 11), "hut")] * int(rng.integers(1, 4))
        for shape, angle, what in list(place_rectangles(site, region.buffer(-6), wanted)):
            site.put(what, shape, angle)
    rest = _lake(site, region, 0.35 if theme == "wild" else 0.1)
    # one patch per kind: adjacent patches of one kind would look like one
    others = {look: share for look, share in shares.items() if look != base}
    for _ in range(int(rng.integers(0, 4))):
        look = site.pick(others)
        patch = _patch(site, rest, rng.uniform(0.1, 0.3))
        if patch is not None:
            del others[look]
            site.add(look, *WILD[look], patch)
            rest = rest.difference(patch.buffer(max(1.0, site.resolution)))
    for piece in parts(rest, 2):
        site.add(base, *WILD[base], piece)


def _patch(site: Site, region: Any, size: float) -> Any:
    """Return a blob within a region, or None if it does not fit."""
    if region.is_empty:
        return None
    rng = site.rng
    x0, y0, x1, y1 = region.bounds
    spot = blob(rng, rng.uniform(x0, x1), rng.uniform(y0, y1), size * site.side)
    pieces = parts(spot.intersection(region.buffer(-2)), 2)
    if not pieces:
        return None
    largest = max(pieces, key=lambda piece: float(piece.area))
    return largest if largest.area > 0.3 * spot.area else None


def _lake(site: Site, region: Any, probability: float) -> Any:
    """Perhaps add a lake to a region; return the rest of the region."""
    rng = site.rng
    if rng.random() >= probability:
        return region
    size = max(rng.uniform(0.06, 0.24), 6 * site.resolution / site.side)
    lake = _patch(site, region.buffer(-4), size)
    if lake is None:
        return region
    site.add("water", "natural", "water", lake)
    return region.difference(lake.buffer(max(1.5, 1.5 * site.resolution)))


def _fields(site: Site, region: Any) -> None:
    """Fill a region with adjacent fields and visible boundaries, perhaps a copse or a pond."""
    rng = site.rng
    region = _lake(site, region, 0.18)
    found: dict[str, list[Any]] = {}
    if rng.random() < 0.3:
        copse = _patch(site, region, rng.uniform(0.08, 0.25))
        if copse is not None:
            found["forest"] = [copse]
            region = region.difference(copse)
    angle = direction(region) + rng.normal(0, 0.1)
    edge = max(0.8, 0.8 * site.resolution)
    for piece in _parcels(site, region, angle):
        look = site.pick({k: v[2] for k, v in PARCELS.items()})
        if look != "field":
            found.setdefault(look, []).append(piece)
            continue
        for field in parts(piece.buffer(-edge, join_style="mitre"), 2):
            if breadth(field) > max(9.0, 7 * site.resolution):
                turned = angle + np.pi / 2 * rng.integers(0, 2)
                site.add(look, *PARCELS[look][:2], field, angle=float(turned))
    for look, pieces in found.items():
        # fields differ by their furrows; other adjacent parcels of one kind are merged
        whole = shapely.union_all(shapely.buffer(pieces, 0.01)).buffer(-edge, join_style="mitre")
        for part in parts(whole, 2):
            if breadth(part) > max(9.0, 7 * site.resolution):
                site.add(look, *PARCELS[look][:2], part, angle=angle)


def _parcels(site: Site, region: BaseGeometry, angle: float) -> list[Any]:
    """Divide a region into strips, and these into parcels."""
    if region.is_empty:  # a lake or a copse covers all of it
        return []
    rng = site.rng
    scale = 1 + site.resolution / 5
    x0, y0, x1, y1 = region.bounds
    reach = np.hypot(x1 - x0, y1 - y0) / 2
    cells = []
    at = -reach
    while at < reach:
        wide = rng.uniform(45, 150) * scale
        along = -reach
        while along < reach:
            long = rng.uniform(90, 320) * scale
            cells.append((along + long / 2, at + wide / 2, long, wide))
            along += long
        at += wide
    u, v, long_, wide_ = np.array(cells).T
    c, s = np.cos(angle), np.sin(angle)
    x, y = (x0 + x1) / 2 + u * c - v * s, (y0 + y1) / 2 + u * s + v * c
    cut = shapely.intersection(boxes(x, y, long_, wide_, np.full(len(u), angle)), region)
    return [p for p in cut if not p.is_empty]


def _inhabit(site: Site, region: Any, setting: Setting) -> Any:
    """Add the farm, or this side of the village, by the road; return the rest of the region."""
    rng, mosaic = site.rng, site.side > 800
    if site.centre is None or mosaic:
        site.centre = _centre(site, region, mosaic)
    if setting.centre == "farm":
        return _farm(site, region)
    radius = rng.uniform(0.25, 0.7) * site.side if not mosaic else rng.uniform(120, 300)
    depth = rng.uniform(28, 45)
    lines = [r.shape for r in site.features if r.layer == "road" and r.value != "track"]
    near = shapely.union_all(shapely.buffer(lines, depth)) if lines else region
    homes = region.intersection(site.centre.buffer(radius)).intersection(near)
    for piece in parts(homes, 2):
        if piece.area > 500:
            urban.homes(site, piece, share=float(rng.uniform(0.25, 0.95)))
    return region.difference(homes.buffer(max(1.0, site.resolution)))


def _centre(site: Site, region: Any, mosaic: bool) -> Any:
    roads = [r.shape for r in site.features if r.layer == "road" and r.value != "track"]
    image = shapely.box(0, 0, site.side, site.side)
    seen = [p for line in roads for p in parts(line.intersection(image), 1)]
    if mosaic or not seen:
        return region.exterior.interpolate(site.rng.random(), normalized=True)
    return seen[0].interpolate(site.rng.uniform(0.2, 0.8), normalized=True)


def _farm(site: Site, region: Any) -> Any:
    """Add a farmyard by the road, with a house and barns; return the rest of the region."""
    rng = site.rng
    if any(f.value == "farmyard" for f in site.features) and site.side <= 800:
        return region
    tries = 16
    turn = rng.uniform(0, 2 * np.pi, tries)
    away = rng.uniform(22, 45, tries)
    x, y = site.centre.x + away * np.cos(turn), site.centre.y + away * np.sin(turn)
    sides = rng.uniform(34, 56, (2, tries))
    yards = boxes(x, y, sides[0], sides[1], turn)
    good = shapely.within(yards, region)
    if not good.any():
        return region
    yard = yards[int(np.argmax(good))].buffer(4).intersection(region)
    site.add("yard", "landuse", "farmyard", yard)
    wanted = [(rng.uniform(11, 15), rng.uniform(8, 10), "house")]
    wanted += [(rng.uniform(18, 30), rng.uniform(10, 14), "barn")] * int(rng.integers(1, 3))
    wanted += [(d := rng.uniform(6, 9), d, "silo")] * int(rng.integers(0, 3))
    for shape, angle, what in place_rectangles(site, yard.buffer(-1), wanted):
        site.put(what, shape, angle)
    return region.difference(yard.buffer(max(1.0, site.resolution)))
