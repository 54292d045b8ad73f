"""Render a map as an aerial image.

The ground is drawn supersampled in flat colours and downsampled; then texture and shadows are
added; objects are drawn on a second, transparent canvas and composited. Every feature of the map is
drawn, and the decoration contains nothing that could be mistaken for a feature. H, W: rows and
columns of the image (H = W).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from . import objects, palette, textures
from .canvas import Canvas
from .features import Feature
from .layout import Map
from .palette import PLAIN, TEXTURES, ImagingConditions
from .urban import COARSE

ImageInput = NDArray[np.uint8]
Plane = NDArray[np.float32]

_FACTOR = 2  # canvas pixels per image pixel


def draw(map_: Map, rng: Generator, side: int) -> ImageInput:
    """Render a map.

    Args:
        map_: the map.
        rng: random generator for imaging imaging, colours, trees and noise.
        side: side of the image, in pixels.

    Returns:
        RGB image of shape (side, side, 3); row 0 is north.
    """
    imaging = palette.draw_conditions(rng)
    trees = objects.trees(map_, rng, side)
    ground = _paint_ground(map_, rng, imaging, side)
    index = _index(map_, side)
    shadow = Canvas.new(map_, side, _FACTOR, "L")
    over = Canvas.new(map_, side, _FACTOR, "RGBA", (0, 0, 0, 0))
    objects.shadows(shadow, map_, trees, imaging)
    objects.tops(over, map_, rng, imaging)
    objects.crowns(over, trees, imaging, rng)

    light: Any = np.asarray(ground.reduced(), dtype=np.float32)
    light = light * _texture(map_, rng, imaging, side, index)
    dark = np.asarray(shadow.reduced(), dtype=np.float32) / 255 * imaging.shade
    # no feature is below a canopy, and trees in a forest cast no separate shadows
    woods = np.array([False, *(f.look == "forest" for f in map_.features)])
    dark = np.where(woods[index], 0, dark)[..., None]
    light = light * (1 - dark * np.array([1.0, 0.96, 0.86], np.float32))
    canvas = np.asarray(over.image.convert("RGBa").reduce(_FACTOR), dtype=np.float32)
    light = light * (1 - canvas[..., 3:] / 255) + canvas[..., :3]
    return _photograph(light, rng, imaging)


def _index(map_: Map, side: int) -> NDArray[Any]:
    """Return the number of the feature at each pixel, from 1; 0 for none; shape (H, W)."""
    canvas = Canvas.new(map_, side, 1, "I")
    for number, feature in enumerate(map_.features, start=1):
        if feature.layer in ("land", "water"):
            canvas.fill(feature.shape, number, 0)
        elif feature.layer == "road":
            canvas.line(shapely.get_coordinates(feature.shape), feature.width, number)
    return np.asarray(canvas.image)


def _paint_ground(map_: Map, rng: Generator, imaging: ImagingConditions, side: int) -> Canvas:
    """Draw land, water, roads, and flat objects on them."""
    base = _colour("none", imaging, 0.5)
    canvas = Canvas.new(map_, side, _FACTOR, "RGB", base)
    for feature in map_.features:
        colour = (
            _colour(feature.look, imaging, feature.tint) if feature.layer != "building" else base
        )
        if feature.layer == "land":
            canvas.fill(feature.shape, colour, base)
            objects.markings(canvas, feature, rng)
        elif feature.layer == "water":
            _paint_water(canvas, feature, colour, base)
    roads = [f for f in map_.features if f.layer == "road"]
    _paint_roads(canvas, roads, imaging)
    objects.cars(canvas, map_, rng)
    return canvas


def _colour(look: str, imaging: ImagingConditions, tint: float) -> tuple[int, ...]:
    return tuple(int(c) for c in palette.surface(look, imaging.season, tint))


def _paint_water(canvas: Canvas, feature: Feature, colour: tuple[int, ...], base: Any) -> None:
    """Draw the bank, shallow water and deep water."""
    resolution = canvas.map.resolution
    ring = shapely.get_coordinates(feature.whole.exterior)
    bank = (172, 160, 128) if feature.tint > 0.5 else (96, 104, 68)
    canvas.line(ring, max(2.4 * resolution, 2.5), bank)
    canvas.fill(
        feature.shape,
        tuple(int(c * 0.75 + g * 0.25) for c, g in zip(colour, (112, 118, 96), strict=True)),
        base,
    )
    deep = feature.whole.buffer(-max(2.0 * resolution, 2.0))
    for part in shapely.get_parts(deep):
        if not part.is_empty:
            canvas.fill(part, colour, base)


def _paint_roads(canvas: Canvas, roads: Iterable[Feature], imaging: ImagingConditions) -> None:
    """Draw all edges first, then all surfaces, so that roads merge at crossings."""
    resolution = canvas.map.resolution
    lines = [(r, shapely.get_coordinates(r.whole)) for r in roads]
    town = any(r.value == "residential" for r in roads)
    edge = (166, 163, 157) if town else (142, 136, 104)
    for road, points in lines:
        if road.look == "road":
            canvas.line(points, road.width + max(1.6, 0.9 * resolution), edge)
    for road, points in lines:
        canvas.line(points, road.width, _colour(road.look, imaging, road.tint))
    for road, points in lines:
        if road.look == "track" and resolution < 0.7 and road.value == "track":
            canvas.line(points, 0.8, (128, 126, 84))
        elif road.width > 7.2 and road.look == "road" and resolution < 0.65:
            length = road.whole.length
            at = np.arange(0, length, 9.0)
            for start in at.tolist():
                dash = shapely.line_interpolate_point(road.whole, [start, start + 4.5])
                canvas.line(shapely.get_coordinates(dash), 0.25, (220, 218, 206))


def _texture(
    map_: Map, rng: Generator, imaging: ImagingConditions, side: int, index: NDArray[Any]
) -> Plane:
    """Return the texture that multiplies the flat colours, shape (H, W, 3)."""
    resolution = map_.resolution
    grains = [TEXTURES["meadow"], *(TEXTURES.get(f.look, PLAIN) for f in map_.features)]

    def spread(values: Iterable[float]) -> Plane:
        return np.asarray(np.array(list(values), np.float32)[index])

    rough = textures.noise(rng, side, 1.2, resolution, 1.3)
    fine = textures.noise(rng, side, 0.5, resolution, 0.4)
    patches = spread(g.patches for g in grains)
    grain = 1 + patches * rough + spread(g.fine for g in grains) * fine
    out: Plane = np.repeat(grain[..., None], 3, axis=2)
    hue = textures.noise(rng, side, 2.5, resolution, 1.4) * np.minimum(patches, 0.1)
    out *= 1 + hue[..., None] * np.array([0.4, 0.05, -0.2], np.float32)
    angle = spread([0.3, *(f.angle for f in map_.features)])
    if any(g.rows for g in grains):
        out *= 1 + (_rows(map_, grains, side, angle, spread))[..., None]
    if any(g.dots for g in grains):
        out *= _dots(grains, resolution, side, angle, spread)
    if any(g.plots for g in grains):
        u, v = textures.frame(side, resolution, angle)
        # settlements with houses too small to be drawn look speckled
        amount = spread(g.plots for g in grains)[..., None] * (1 if resolution < COARSE else 4)
        wide = max(7.0, 1.4 * resolution)
        plot = textures.plots(u, v, wide, 1.6 * wide)
        other = textures.plots(v, u, wide * 1.7, wide * 1.3)
        tone = np.stack([plot, 0.8 * plot + 0.2 * other, 0.6 * plot + 0.4 * other], axis=2)
        out *= 1 + amount * (tone - 0.52)
    if any(g.crowns for g in grains):
        shade, tree = textures.crowns(rng, side, 6.5, resolution, imaging.sun)
        amount = spread(g.crowns for g in grains)[..., None]
        out *= np.maximum(1 + amount * shade[..., None] * 0.95, 0.25)
        strong = 0.5 if imaging.season == "autumn" else 0.22
        tone = (tree[..., None] - 0.5) * np.array([1.0, 0.5, 0.1], np.float32)
        out *= 1 + amount * strong * tone
    return np.asarray(out, dtype=np.float32)


def _rows(map_: Map, grains: list[Any], side: int, angle: Plane, spread: Any) -> Plane:
    """Return furrows in the direction of each field, with wheel tracks."""
    resolution = map_.resolution
    least = 2.6 * resolution
    tints = [0.5, *(f.tint for f in map_.features)]
    periods = [max(g.period * (0.8 + 0.5 * t), least) for g, t in zip(grains, tints, strict=True)]
    # furrows are invisible at coarse resolution; vine rows stay, to identify the vineyard
    fade = min(1.0, 1.6 / resolution)
    amount = [
        g.rows * (0.5 + (t * 7.3) % 1.0) * (1 if g.rows > 0.2 else fade)
        for g, t in zip(grains, tints, strict=True)
    ]
    waves = textures.rows(side, resolution, angle, spread(periods)) * spread(amount)
    tracks = [float(f.look == "field") for f in map_.features]
    if any(tracks) and resolution < 2:
        wide = textures.rows(side, resolution, angle, spread([1.0, *(18.0 for _ in tracks)]))
        waves = waves - 0.12 * spread([0.0, *tracks]) * (wide > 0.985)
    return np.asarray(waves, np.float32)


def _dots(grains: list[Any], resolution: float, side: int, angle: Plane, spread: Any) -> Plane:
    """Return orchard trees and gravestones; shape (H, W, 3)."""
    u, v = textures.frame(side, resolution, angle)
    period = spread(max(g.period, 3.6 * resolution) for g in grains)
    amount = spread(g.dots for g in grains)
    wave = np.cos(u * 2 * np.pi / period) * np.cos(v * 2 * np.pi / period)
    dot = np.clip(wave * 2.2 - 0.5, 0, 1)[..., None]
    tone = np.where(amount[..., None] > 0, np.array([1.0, 0.75, 0.9], np.float32), 1.0)
    return np.asarray(1 - amount[..., None] * dot * tone, np.float32)


def _photograph(light: Plane, rng: Generator, imaging: ImagingConditions) -> ImageInput:
    """Apply haze, lens blur and sensor noise; shape (H, W, 3)."""
    # one matrix: desaturation, then gain, then haze
    mix = np.eye(3) * (1 - imaging.pale) + imaging.pale / 3
    mix = (mix * imaging.gain * (1 - imaging.haze)).astype(np.float32)
    light = light @ mix + np.array([168, 178, 190], np.float32) * imaging.haze
    image = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(imaging.blur))
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    noise *= 0.6
    noise += 0.8 * noise[:, ::-1, :1]  # reuses the mirrored colour noise as grey noise
    noisy = np.asarray(image, np.float32) + imaging.noise * noise
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
