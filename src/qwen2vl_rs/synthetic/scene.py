"""Scenes that do not exist: a picture from the air, and exactly what is in it.

A scene is drawn from a map of vectors; what would be too small to be seen, or could not be told
from its neighbour, is not on the map. A seed and a number give the same scene, byte by byte, in
any order and on any number of processes.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import ConfigError
from ..questions.elements import Element, classify
from ..raster import reproject, write_geotiff
from ..system.files import atomic_write
from . import render
from .features import Feature
from .layout import SETTINGS, WEIGHTS, Map, lay_out

#: Finest and coarsest resolution that is drawn, metres per pixel.
RESOLUTIONS = (0.15, 10.0)
#: Resolutions chosen from where none is asked for: houses are then at least eight pixels wide.
_USUAL = (0.45, 1.05)
_USUAL_EMPTY = (0.5, 2.0)  # where there are no houses to be seen

#: What `truth` tells of each cell, in this order: labels of elements.
CLASSES = (
    "residential building", "commercial building", "building", "road", "water area",
    "residential", "commercial", "industrial", "retail", "parking", "farmyard", "farmland",
    "meadow", "grass", "forest", "orchard", "vineyard", "scrub", "heath", "wetland", "park",
    "pitch", "playground", "cemetery", "allotments",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
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


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and its truth.

    Attributes:
        pixels: shape (side, side, 3), 8-bit red, green, blue; row 0 is the north.
        place: what it shows.
    """

    pixels: NDArray[np.uint8]
    place: Place

    @property
    def elements(self) -> tuple[Element, ...]:
        """What is in it."""
        return self.place.elements

    @property
    def resolution(self) -> float:
        """Metres per pixel."""
        return self.place.resolution

    @property
    def side(self) -> float:
        """Of the square image, in metres."""
        return self.place.side


def make_place(
    seed: int, number: int = 0, *, side: int = 256, resolution: float | None = None,
    setting: str | None = None,
) -> Place:  # fmt: skip
    """Lay out one scene without drawing it; the arguments are those of `make_scene`."""
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
    map_ = lay_out(rng, side * resolution, resolution, setting)
    elements = tuple(_element(f) for f in map_.features)
    return Place(seed, number, map_, elements, side, crs, left, top)


def make_scene(
    seed: int, number: int = 0, *, side: int = 256, resolution: float | None = None,
    setting: str | None = None,
) -> Scene:  # fmt: skip
    """Make one scene.

    Args:
        seed: of a series of scenes.
        number: in the series, from 0.
        side: of the square picture, in pixels.
        resolution: metres per pixel, within `RESOLUTIONS`; None draws a usual one.
        setting: a key of `layout.SETTINGS`; None draws one.

    Raises:
        ConfigError: a resolution or a setting that there is not.
    """
    place = make_place(seed, number, side=side, resolution=resolution, setting=setting)
    return Scene(place.draw(), place)


def make_scenes(
    seed: int, numbers: Iterable[int], *, workers: int = 1, **options: Any
) -> Iterator[Scene]:
    """Make many scenes, in the order of their numbers.

    Args:
        seed: of the series.
        numbers: which of the series.
        workers: number of processes; with 1 all is done in this one.
        **options: as of `make_scene`.
    """
    make = partial(make_scene, seed, **options)
    if workers == 1:
        yield from map(make, numbers)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(make, numbers, chunksize=4)


def _somewhere(rng: Generator) -> tuple[str, float, float]:
    """A UTM zone of Europe, and a place in it."""
    zone = int(rng.integers(30, 36))
    left, top = rng.uniform(3.2e5, 6.8e5), rng.uniform(4.3e6, 6.3e6)
    return f"EPSG:{32600 + zone}", round(float(left)), round(float(top))


def tags(feature: Feature) -> dict[str, str]:
    """A feature's OpenStreetMap tags."""
    found = {feature.key: feature.value}
    return {**found, "width": str(feature.width)} if feature.width else found


def _element(feature: Feature) -> Element:
    found = classify(tags(feature), 1 if feature.width else 2)
    assert found, feature.value
    return Element(*found, feature.shape, feature.width)


def write_scene(scene: Scene, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a scene as ``NAME.tif`` and ``NAME.geojson`` (WGS 84, OpenStreetMap's tags).

    Raises:
        RunError: they cannot be written.
    """
    image, vectors = folder / f"{name}.tif", folder / f"{name}.geojson"
    write_geotiff(image, scene.pixels, scene.place.crs, scene.place.transform)
    write_vectors(scene.place, vectors)
    return image, vectors


def write_vectors(place: Place, path: Path) -> None:
    """Write what a scene shows as GeoJSON.

    Raises:
        RunError: it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(geojson(place))


def geojson(place: Place) -> str:
    """The features as GeoJSON, longitude and latitude to a tenth of a millimetre."""
    features = place.map.features
    shapes = np.array([f.shape for f in features], dtype=object)
    points = shapely.get_coordinates(shapes) + np.array([place.left, place.top - place.side])
    there = reproject(place.crs, "EPSG:4326", points) if len(points) else points
    shapes = shapely.set_coordinates(shapes, np.round(there, 9))
    lines = [
        json.dumps({"type": "Feature", "properties": tags(f)})[:-1]
        + f', "geometry": {shapely.to_geojson(shape)}}}'
        for f, shape in zip(features, shapes, strict=True)
    ]
    return '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]}\n"


def truth(
    elements: Iterable[Element], side: float, cells: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What lies in each cell of a grid over a square image, to teach a model to see.

    Args:
        elements: of a scene.
        side: of the image, in metres.
        cells: number of cells along a side, e.g. 9 for 252 pixels and one token per 28 pixels.

    Returns:
        Shares, shape (cells, cells, len(CLASSES)): of the cell's area that each class covers, 0..1.
        Classes overlap (a house on a residential area counts for both), so they add to more
        than 1. And centres, shape (cells, cells): number of buildings whose centre lies in the
        cell. Row 0 is the north, column 0 the west.
    """
    samples = 14 * cells
    scale = samples / side
    planes = [Image.new("1", (samples, samples)) for _ in CLASSES]
    pens = [ImageDraw.Draw(plane) for plane in planes]
    numbers = {label: k for k, label in enumerate(CLASSES)}
    centres = np.zeros((cells, cells), np.float32)
    for element in elements:
        if element.layer == "building":
            x, y = element.shape.centroid.coords[0]
            row = min(int((side - y) / side * cells), cells - 1)
            centres[row, min(int(x / side * cells), cells - 1)] += 1
        if (k := numbers.get(element.label)) is None:
            continue
        if element.layer == "road":
            at = _samples(element.shape, scale, samples)
            pens[k].line(at, fill=1, width=max(1, round(element.width * scale)))
            continue
        pens[k].polygon(_samples(element.shape.exterior, scale, samples), fill=1)
        for ring in element.shape.interiors:
            pens[k].polygon(_samples(ring, scale, samples), fill=0)
    stack = np.stack([np.asarray(plane) for plane in planes], axis=2)
    blocks = stack.reshape(cells, 14, cells, 14, len(CLASSES))
    return blocks.mean(axis=(1, 3), dtype=np.float32), centres


def _samples(line: Any, scale: float, samples: int) -> list[float]:
    at = shapely.get_coordinates(line) * scale
    at[:, 1] = samples - at[:, 1]
    return list(at.ravel().tolist())
