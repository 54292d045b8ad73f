"""Draw objects on the ground: roofs, shadows, trees, cars, markings."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from . import palette
from .canvas import Canvas
from .features import Feature
from .layout import Map
from .palette import ImagingConditions

#: Trees per square metre, by look.
_TREES = {"gardens": 1 / 130, "park": 1 / 110, "yard": 1 / 300, "graves": 1 / 250,
          "meadow": 1 / 2500, "lawn": 1 / 1500, "paved": 1 / 400, "scrub": 1 / 600,
          "allotments": 1 / 250, "heath": 1 / 1500, "concrete": 1 / 1200}  # fmt: skip
_MOST_TREES = 500
#: Looks without trees.
_OPEN = {"water", "pitch", "court", "playground", "parking", "road", "track", "field", "vineyard"}


def trees(map_: Map, rng: Generator, side: int) -> NDArray[Any]:
    """Place single trees that hide no features: x, y, radius (metres), tint; shape (n, 4)."""
    if map_.resolution > 2.5:
        return np.zeros((0, 4))
    found = []
    for feature in map_.features:
        if density := _TREES.get(feature.look):
            number = rng.poisson(density * feature.shape.area)
            x0, y0, x1, y1 = feature.shape.bounds
            share = (x1 - x0) * (y1 - y0) / feature.shape.area
            number = min(int(number * share), 4 * _MOST_TREES)
            xy = rng.uniform((x0, y0), (x1, y1), (number, 2))
            found.append(xy[shapely.contains_xy(feature.shape, xy[:, 0], xy[:, 1])])
    if not found:
        return np.zeros((0, 4))
    xy = np.concatenate(found)
    xy = xy[rng.permutation(len(xy))[:_MOST_TREES]]
    radius = rng.uniform(1.3, 4.2, len(xy))
    clear = _clearance(map_, side)
    keep = np.ones(len(xy), bool)
    for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7),
                   (0.7, -0.7), (-0.7, -0.7)):  # fmt: skip
        px = np.clip((xy[:, 0] + dx * radius) / map_.resolution, 0, side - 1).astype(int)
        py = np.clip(side - (xy[:, 1] + dy * radius) / map_.resolution, 0, side - 1).astype(int)
        keep &= ~clear[py, px]
    return np.column_stack([xy, radius, rng.random(len(xy))])[keep]


def _clearance(map_: Map, side: int) -> NDArray[np.bool_]:
    """Return the mask of pixels that trees must not cover; shape (H, W)."""
    image = Image.new("1", (side, side))
    pen = ImageDraw.Draw(image)
    for feature in map_.features:
        if feature.layer == "building" or feature.look in _OPEN:
            line = feature.layer == "road"
            outline = feature.shape if line else feature.shape.exterior
            at = shapely.get_coordinates(outline) / map_.resolution
            at[:, 1] = side - at[:, 1]
            if line:
                wide = int(feature.width / map_.resolution) + 2
                pen.line(at.ravel().tolist(), fill=1, width=wide)
            else:
                pen.polygon(at.ravel().tolist(), fill=1, outline=1)
    return np.asarray(image)


def shadows(canvas: Canvas, map_: Map, trees: NDArray[Any], imaging: ImagingConditions) -> None:
    """Draw the shadows of buildings, forests and trees."""
    away = -imaging.sun * imaging.reach
    for feature in map_.features:
        height = 9.0 if feature.look == "forest" else feature.height
        if height:
            ring = shapely.get_coordinates(feature.whole.exterior)
            moved = ring + away * height
            canvas.ring(moved, 255)
            for k in range(len(ring) - 1):
                canvas.ring([ring[k], ring[k + 1], moved[k + 1], moved[k]], 255)
    for x, y, radius, _ in trees.tolist():
        dx, dy = away * radius * 1.7
        canvas.disc(x + dx, y + dy, radius, 255)
        canvas.disc(x + dx / 2, y + dy / 2, radius * 0.9, 255)


def crowns(canvas: Canvas, trees: NDArray[Any], imaging: ImagingConditions, rng: Generator) -> None:
    """Draw tree crowns, lit by the sun."""
    colours = np.array(palette.colours("crown", imaging.season), np.float64)
    for x, y, radius, tint in trees.tolist():
        colour = colours[int(tint * len(colours))] * (0.85 + 0.3 * ((tint * 17) % 1))
        for size, bright in ((1.0, 0.78), (0.75, 1.0), (0.42, 1.22)):
            dx, dy = imaging.sun * radius * (1 - size) * 0.55
            tone = np.clip(colour * bright, 0, 255).astype(int)
            canvas.disc(x + dx, y + dy, radius * size, (*tone.tolist(), 255))


def tops(canvas: Canvas, map_: Map, rng: Generator, imaging: ImagingConditions) -> None:
    """Draw the roofs."""
    for feature in map_.features:
        if feature.layer != "building":
            continue
        colour = palette.surface(feature.look, imaging.season, feature.tint)
        if feature.look == "tank":
            _tank(canvas, feature, colour, imaging)
        elif feature.look in ("gable", "barn"):
            _ridged(canvas, feature, colour, imaging)
        else:
            _flat(canvas, feature, colour, rng, imaging)


def _solid(colour: NDArray[Any], bright: float) -> tuple[int, ...]:
    return (*np.clip(colour * bright, 0, 255).astype(int).tolist(), 255)


def _long_first(feature: Feature) -> NDArray[Any]:
    """Return the corners of a rectangle, beginning with a long side; shape (4, 2)."""
    ring = shapely.get_coordinates(feature.whole.exterior)[:4]
    first, second = ring[1] - ring[0], ring[2] - ring[1]
    return ring if first @ first >= second @ second else np.roll(ring, -1, axis=0)


def _ridged(
    canvas: Canvas, feature: Feature, colour: NDArray[Any], imaging: ImagingConditions
) -> None:
    """Draw a gable roof; some are hipped."""
    a, b, c, d = _long_first(feature)
    hip = 0.28 if feature.look == "gable" and (feature.tint * 31) % 1 > 0.5 else 0.0
    start, end = (a + d) / 2, (b + c) / 2
    along = (end - start) * hip
    start, end = start + along, end - along
    faces = [([a, b, end, start], a - d), ([c, d, start, end], d - a)]
    if hip:
        faces += [([d, a, start], a - b), ([b, c, end], b - a)]
    for face, outward in faces:
        facing = float(outward @ imaging.sun / np.hypot(*outward))
        canvas.ring(face, _solid(colour, 0.95 + 0.24 * facing))
    if canvas.map.resolution < 0.6:
        canvas.line([start, end], 0.35, _solid(colour, 1.25))


def _flat(
    canvas: Canvas,
    feature: Feature,
    colour: NDArray[Any],
    rng: Generator,
    imaging: ImagingConditions,
) -> None:
    """Draw a flat roof with parapet, skylights and equipment."""
    corners = _long_first(feature)
    a, b, _, d = corners
    canvas.ring(corners, _solid(colour, 1.12))
    middle = corners.mean(axis=0)
    long, short = np.hypot(*(b - a)), np.hypot(*(d - a))
    rim = 1 - min(1.4 / short, 0.2)
    canvas.ring(middle + (corners - middle) * rim, _solid(colour, 0.96))
    if canvas.map.resolution > 1.3:
        return
    u, v = (b - a) / long, (d - a) / short
    if feature.tint % 0.2 > 0.1 and long > 22:  # skylights
        for at in np.arange(5, long - 4, 7.0):
            start = a + u * at + v * short * 0.18
            canvas.line([start, start + v * short * 0.64], 1.0, _solid(colour, 1.22))
    for _ in range(int(rng.integers(0, 4)) if long > 13 else 0):
        at = a + u * rng.uniform(0.15, 0.8) * long + v * rng.uniform(0.2, 0.7) * short
        box = np.array([at, at + u * 2.6, at + u * 2.6 + v * 2.0, at + v * 2.0])
        canvas.ring(box - imaging.sun * 0.9, _solid(colour, 0.62))
        canvas.ring(box, _solid(colour, 1.15))


def _tank(
    canvas: Canvas, feature: Feature, colour: NDArray[Any], imaging: ImagingConditions
) -> None:
    """Draw a round roof, brighter towards the sun."""
    centre = feature.whole.centroid
    radius = float(np.sqrt(feature.whole.area / np.pi))
    canvas.ring(shapely.get_coordinates(feature.whole.exterior), _solid(colour, 0.8))
    for size, bright in ((0.85, 0.95), (0.55, 1.08)):
        dx, dy = imaging.sun * radius * (1 - size) * 0.5
        canvas.disc(centre.x + dx, centre.y + dy, radius * size, _solid(colour, bright))


def markings(canvas: Canvas, feature: Feature, rng: Generator) -> None:
    """Draw the lines of pitches and the equipment of playgrounds."""
    resolution = canvas.map.resolution
    if feature.look in ("pitch", "court") and resolution < 1.6:
        _lines(canvas, feature)
    elif feature.look == "playground":
        x0, y0, x1, y1 = feature.shape.bounds
        for _ in range(7):
            x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
            if shapely.contains_xy(feature.shape, x, y):
                colour = [(190, 50, 44), (50, 90, 170), (230, 200, 60)][int(rng.integers(3))]
                canvas.disc(x, y, max(0.9, 0.6 * resolution), colour)


def _lines(canvas: Canvas, feature: Feature) -> None:
    corners = _long_first(feature)
    middle = corners.mean(axis=0)
    width = max(0.35, 0.45 * canvas.map.resolution)
    white = (226, 228, 220)
    field = middle + (corners - middle) * 0.88
    canvas.line([*field, field[0], field[1]], width, white)
    halves = (field[0] + field[1]) / 2, (field[2] + field[3]) / 2
    canvas.line(halves, width, white)
    if feature.look == "pitch":
        turn = np.linspace(0, 2 * np.pi, 20)
        radius = np.hypot(*(field[3] - field[0])) * 0.15
        circle = middle + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        canvas.line(circle, width, white)


def cars(canvas: Canvas, map_: Map, rng: Generator) -> None:
    """Draw cars on roads and in parking lots, if the resolution shows them."""
    if map_.resolution > 1.3:
        return
    for feature in map_.features:
        if feature.look == "parking":
            _parked(canvas, feature, rng)
        elif feature.look == "road" and feature.width < 15:
            for at in rng.uniform(0, feature.whole.length, rng.poisson(feature.whole.length / 70)):
                here, ahead = shapely.get_coordinates(
                    shapely.line_interpolate_point(feature.whole, [at, at + 1.0])
                )
                along = (ahead - here) / max(np.hypot(*(ahead - here)), 1e-9)
                across = np.array([along[1], -along[0]]) * rng.choice([-1, 1])
                _car(canvas, here + across * feature.width * 0.24, along, rng)


def _parked(canvas: Canvas, feature: Feature, rng: Generator) -> None:
    along = np.array([np.cos(feature.angle), np.sin(feature.angle)])
    across = np.array([-along[1], along[0]])
    ring = shapely.get_coordinates(feature.whole)  # all parts, if a road divides it
    u, v = ring @ along, ring @ across
    us = np.arange(u.min() + 2.5, u.max() - 2, 2.7)
    vs = np.arange(v.min() + 4, v.max() - 2, 5.6)
    vs = vs[np.arange(len(vs)) % 3 < 2]  # every third row is a lane
    grid = np.stack(np.meshgrid(us, vs), axis=-1).reshape(-1, 2)
    points = grid @ np.stack([along, across])
    inner = shapely.buffer(feature.whole, -2.6)
    inside = shapely.contains_xy(inner, points[:, 0], points[:, 1])
    full = rng.random(len(points)) < rng.uniform(0.25, 0.8)
    if canvas.map.resolution < 0.6:
        for point in points[inside]:
            edge = point + along * 1.35
            canvas.line([edge - across * 2.3, edge + across * 2.3], 0.15, (190, 190, 186))
    for point in points[inside & full]:
        _car(canvas, point, across, rng)


def _car(canvas: Canvas, at: NDArray[Any], along: NDArray[Any], rng: Generator) -> None:
    across = np.array([-along[1], along[0]])
    choice = palette.colours("car")
    colour = choice[int(rng.integers(len(choice)))]
    body = [at + along * a + across * b for a, b in
            ((-2.2, -0.9), (2.2, -0.9), (2.2, 0.9), (-2.2, 0.9))]  # fmt: skip
    canvas.ring([p + np.array([-0.3, 0.5]) for p in body], (52, 52, 54))
    canvas.ring(body, colour)
    if canvas.map.resolution < 0.45:
        glass = [at + along * a + across * b for a, b in
                 ((0.4, -0.7), (1.1, -0.7), (1.1, 0.7), (0.4, 0.7))]  # fmt: skip
        canvas.ring(glass, (40, 46, 54))
