"""Cut georeferenced images with vectors into tiles for question generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import RasterToRGB
from ..errors import DataError
from ..raster import write_geotiff
from ..raster.scenes import Georeference, LargeImage, open_scene
from ..system.console import Progress, say, warn
from .questions import AnnotatedImage
from .vectors import REPAIRED, Tile, Vectors, read_vectors

NO_DATA = "tiles mostly nodata"
NOTHING = "tiles without elements to ask about"
EDGE = "incomplete tiles at the edges"
UNPAIRED = "images without a vector file of the same name"

IMAGES = (".tif", ".tiff", ".jp2")
VECTORS = (".geojson", ".gpkg", ".shp", ".fgb", ".osm.pbf", ".pbf", ".json")


@dataclass(frozen=True, slots=True)
class Source:
    """An image and its vector file."""

    image: Path
    vectors: Path


@dataclass(frozen=True, slots=True)
class ImageTile:
    """A tile of an image.

    Attributes:
        name: name of the image with the position of the tile.
        row, column: position, counted in tiles.
        pixels: RGB values, shape (height, width, 3).
        reference: georeference of the tile.
        view: elements of the tile.
        vocabulary: land uses in the whole image.
    """

    name: str
    row: int
    column: int
    pixels: NDArray[np.uint8]
    reference: Georeference
    view: AnnotatedImage
    vocabulary: tuple[str, ...]

    @property
    def resolution(self) -> float:
        """Metres per pixel."""
        return round(self.view.resolution, 4)

    def corner(self, bottom: bool) -> tuple[float, float]:
        """Return the map coordinates of the upper left corner, or (as published) lower left."""
        x, y = self.reference.shifted(0, len(self.pixels) if bottom else 0).transform[2::3]
        return x, y

    def write(self, path: Path) -> None:
        """Write the tile as GeoTIFF."""
        write_geotiff(path, self.pixels, self.reference.crs, self.reference.transform)


def pair_vectors(image: Path, vectors: Path | None, counts: Counter[str]) -> tuple[Source, ...]:
    """Pair images with their vector files.

    Args:
        image: an image file or a folder.
        vectors: one file for all images, or a folder; None to use the file of the same name beside
            each image.
        counts: counter of images without vectors.

    Raises:
        DataError: there is no image, or none with vectors.
    """
    for path in filter(None, (image, vectors)):
        if not path.exists():
            raise DataError(f"no file {path}", hint="check the path")
    images = [image]
    if image.is_dir():
        images = sorted(p for p in image.iterdir() if p.suffix.lower() in IMAGES)
    found = []
    for path in images:
        beside = vectors if vectors and not vectors.is_dir() else None
        if beside is None:
            places = [(vectors or path.parent) / f"{path.stem}{end}" for end in VECTORS]
            beside = next((place for place in places if place.exists()), None)
        if beside is None:
            counts[UNPAIRED] += 1
        else:
            found.append(Source(path, beside))
    if not found:
        what = (
            f"no vector file of the same name for {counts[UNPAIRED]:,} images"
            if images
            else f"no images ({', '.join(IMAGES)})"
        )
        raise DataError(f"{image}: {what}", hint="name both: --image FILE --vectors FILE")
    return tuple(found)


def tiles(source: Source, side: int, legacy: bool, counts: Counter[str]) -> Iterator[ImageTile]:
    """Cut an image into tiles.

    Args:
        source: image and vectors.
        side: side of the tiles, in pixels.
        legacy: as in the published data: keep elements of any size, and only tiles with at least
            two layers.
        counts: counter of skipped tiles and features.

    Raises:
        DataError: the image or the vectors cannot be read.
    """
    with open_scene(source.image, RasterToRGB()) as image:
        vectors = read_vectors(source.vectors, image, legacy=legacy)
        say(f"{source.vectors}: {len(vectors.kinds):,} features in {source.image}")
        if repaired := vectors.counts.pop(REPAIRED, 0):
            warn(f"{source.vectors}: {repaired:,} features {REPAIRED}")
        if side > min(image.width, image.height):
            side = min(image.width, image.height)
            warn(f"{source.image} is smaller than a tile: tiles of {side} pixels are cut")
        rows, columns = image.height // side, image.width // side
        whole = -(-image.height // side) * -(-image.width // side)
        counts[EDGE] += whole - rows * columns
        with Progress(f"cutting {source.image.name}", rows * columns, "tiles") as bar:
            for row in range(rows):
                for column in range(columns):
                    tile = Tile(column * side, row * side, side, side)
                    cut = _cut(source, image, vectors, tile, legacy, counts)
                    bar.advance()
                    if cut:
                        yield cut
        for reason, n in vectors.counts.items():
            counts[f"features {reason}"] += n


def _cut(
    source: Source,
    image: LargeImage,
    vectors: Vectors,
    tile: Tile,
    legacy: bool,
    counts: Counter[str],
) -> ImageTile | None:
    """Return one tile, or None if it is mostly nodata or has no elements."""
    pixels, share = image.read(tile.column, tile.row, tile.width, tile.height)
    if share < 0.5:
        counts[NO_DATA] += 1
        return None
    elements, (across, down) = vectors.cut(tile, least=0.0 if legacy else 1.0)
    layers = {e.layer for e in elements}
    if len(layers) < (2 if legacy else 1):
        counts[NOTHING] += 1
        return None
    middle = tile.column + tile.width / 2, tile.row + tile.height / 2
    _, north = image.reference.lonlat(*middle)
    view = AnnotatedImage(
        elements, tile.width * across, tile.height * down, (across + down) / 2, north
    )
    land = sorted({label for layer, label, _ in vectors.kinds if layer == "land"})
    name = f"{source.image.stem}_{tile.column}-{tile.row}{source.image.suffix}"
    reference = image.reference.shifted(tile.column, tile.row)
    row, column = tile.row // tile.height, tile.column // tile.width
    return ImageTile(name, row, column, pixels, reference, view, tuple(land))
