"""Synthetic scenes: an aerial image with exact ground truth.

A scene is rendered from a vector map, which contains no features that are too small to be visible
or indistinguishable from their neighbours. A seed and a number determine the scene byte by byte,
independent of order and number of processes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray

from ..errors import ConfigError
from ..questions.elements import Element
from ..raster import reproject
from ..system.files import atomic_write
from . import render
from .layout import SETTINGS, WEIGHTS, Map, generate_map

#: Finest and coarsest supported resolution, in metres per pixel.
RESOLUTIONS = (0.15, 10.0)
#: Range of default resolutions: houses are at least eight pixels wide.
_USUAL = (0.45, 1.05)
_USUAL_EMPTY = (0.5, 2.0)  # settings without houses

#: Labels of the elements of scenes; all after the first five are land uses.
CLASSES = (
    *("residential building", "commercial building", "building", "road", "water area"),
    *("residential", "commercial", "industrial", "retail", "parking", "farmyard", "farmland"),
    *("meadow", "grass", "forest", "orchard", "vineyard", "scrub", "heath", "wetland", "park"),
    *("pitch", "playground", "cemetery", "allotments"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene, before rendering.

    Attributes:
        seed, number: identify the scene.
        map: the features with their tags.
        elements: the ground truth, see `elements.Element`.
        pixels_side: side of the square image, in pixels.
        crs: UTM zone, e.g. ``EPSG:32631``.
        left, top: easting and northing of the upper left corner, in metres.
    """

    seed: int
    number: int
    map: Map
    elements: tuple[Element, ...]
    pixels_side: int
    crs: str
    left: float
    top: float

    @property
    def resolution(self) -> float:
        """Metres per pixel."""
        return self.map.resolution

    @property
    def side(self) -> float:
        """Side of the square image, in metres."""
        return self.map.side

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine transform, see `raster.write_geotiff`."""
        return (self.resolution, 0.0, self.left, 0.0, -self.resolution, self.top)

    def draw(self) -> NDArray[np.uint8]:
        """Render the RGB image, of shape (side, side, 3); row 0 is north."""
        rng = np.random.default_rng([self.seed, self.number, 1])
        return render.draw(self.map, rng, self.pixels_side)


def make_scene(
    seed: int,
    number: int = 0,
    *,
    side: int = 256,
    resolution: float | None = None,
    setting: str | None = None,
) -> Scene:
    """Generate one scene without rendering it.

    Args:
        seed: seed of a series of scenes.
        number: number in the series, from 0.
        side: side of the square image, in pixels.
        resolution: metres per pixel, within `RESOLUTIONS`; None for a random typical one.
        setting: a key of `layout.SETTINGS`; None for a random one.

    Raises:
        ConfigError: the resolution or the setting is not supported.
    """
    if resolution is not None and not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise ConfigError(
            f"scenes with {resolution} m per pixel are not supported",
            hint=f"choose from {RESOLUTIONS[0]} to {RESOLUTIONS[1]}",
        )
    if setting is not None and setting not in SETTINGS:
        raise ConfigError(f"unknown setting {setting!r}", hint=f"choose from {', '.join(SETTINGS)}")
    rng = np.random.default_rng([seed, number, 0])
    setting = setting or str(rng.choice(list(WEIGHTS), p=list(WEIGHTS.values())))
    if resolution is None:
        empty = setting in ("wild", "fields", "shore")
        low, high = np.log(_USUAL_EMPTY if empty else _USUAL)
        resolution = round(float(np.exp(rng.uniform(low, high))), 2)
    crs, left, top = _somewhere(rng)
    map_ = generate_map(rng, side * resolution, resolution, setting)
    elements = tuple(Element(*f.kind, f.shape, f.width) for f in map_.features)
    return Scene(seed, number, map_, elements, side, crs, left, top)


def _somewhere(rng: Generator) -> tuple[str, float, float]:
    """Return a random UTM zone of Europe, and coordinates in it."""
    zone = int(rng.integers(30, 36))
    left, top = rng.uniform(3.2e5, 6.8e5), rng.uniform(4.3e6, 6.3e6)
    return f"EPSG:{32600 + zone}", round(float(left)), round(float(top))


def write_vectors(scene: Scene, path: Path) -> None:
    """Write the features of a scene as GeoJSON.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(geojson(scene))


def geojson(scene: Scene) -> str:
    """Return the features as GeoJSON, longitude and latitude to a tenth of a millimetre."""
    features = scene.map.features
    shapes = np.array([f.shape for f in features], dtype=object)
    points = shapely.get_coordinates(shapes) + np.array([scene.left, scene.top - scene.side])
    there = reproject(scene.crs, "EPSG:4326", points) if len(points) else points
    shapes = shapely.set_coordinates(shapes, np.round(there, 9))
    lines = [
        json.dumps({"type": "Feature", "properties": f.tags})[:-1]
        + f', "geometry": {shapely.to_geojson(shape)}}}'
        for f, shape in zip(features, shapes, strict=True)
    ]
    return '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]}\n"
