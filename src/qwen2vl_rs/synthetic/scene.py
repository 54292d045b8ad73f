"""Scenes that do not exist: a picture from the air, and exactly what is in it.

A scene is drawn from a map of vectors; what would be too small to be seen, or could not be told
from its neighbour, is not on the map. A seed and a number give the same scene, byte by byte, in
any order and on any number of processes.
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

#: Finest and coarsest resolution that is drawn, metres per pixel.
RESOLUTIONS = (0.15, 10.0)
#: Resolutions chosen from where none is asked for: houses are then at least eight pixels wide.
_USUAL = (0.45, 1.05)
_USUAL_EMPTY = (0.5, 2.0)  # where there are no houses to be seen

#: Labels of the elements of scenes; land uses behind the first five.
CLASSES = (
    "residential building",
    "commercial building",
    "building",
    "road",
    "water area",
    "residential",
    "commercial",
    "industrial",
    "retail",
    "parking",
    "farmyard",
    "farmland",
    "meadow",
    "grass",
    "forest",
    "orchard",
    "vineyard",
    "scrub",
    "heath",
    "wetland",
    "park",
    "pitch",
    "playground",
    "cemetery",
    "allotments",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a scene shows, not yet drawn.

    Attributes:
        seed, number: which scene it is.
        map: the features with their tags.
        elements: what is in it, see `elements.Element`.
        pixels_side: side of the square picture, in pixels.
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
        """Of the square image, in metres."""
        return self.map.side

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """As `raster.write_geotiff` takes it."""
        return (self.resolution, 0.0, self.left, 0.0, -self.resolution, self.top)

    def draw(self) -> NDArray[np.uint8]:
        """The picture: shape (side, side, 3), red, green, blue; row 0 is the north."""
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
    """Lay out one scene without drawing it.

    Args:
        seed: of a series of scenes.
        number: in the series, from 0.
        side: of the square picture, in pixels.
        resolution: metres per pixel, within `RESOLUTIONS`; None draws a usual one.
        setting: a key of `layout.SETTINGS`; None draws one.

    Raises:
        ConfigError: a resolution or a setting that there is not.
    """
    if resolution is not None and not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise ConfigError(
            f"scenes of {resolution} m per pixel cannot be drawn",
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
    """A UTM zone of Europe, and a place in it."""
    zone = int(rng.integers(30, 36))
    left, top = rng.uniform(3.2e5, 6.8e5), rng.uniform(4.3e6, 6.3e6)
    return f"EPSG:{32600 + zone}", round(float(left)), round(float(top))


def write_vectors(scene: Scene, path: Path) -> None:
    """Write what a scene shows as GeoJSON.

    Raises:
        RunError: it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(geojson(scene))


def geojson(scene: Scene) -> str:
    """The features as GeoJSON, longitude and latitude to a tenth of a millimetre."""
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
