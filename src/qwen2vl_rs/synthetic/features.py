"""Map features (`Feature`), kinds of places (`Setting`), and shape helpers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from shapely import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from ..questions.elements import Layer, classify


@dataclass(frozen=True, slots=True)
class Feature:
    """One object on a map.

    Attributes:
        look: visual style.
        key, value: OpenStreetMap tag.
        shape: polygon, or line of a road, in metres.
        angle: angle of the long side, rows or furrows, in radians.
        height: height above ground in metres, for the shadow.
        width: width of a road in metres.
        tint: 0..1, selects one of the possible colours.
        whole: the shape before clipping to the image; this is drawn.
    """

    look: str
    key: str
    value: str
    shape: Any
    angle: float = 0.0
    height: float = 0.0
    width: float = 0.0
    tint: float = 0.5
    whole: Any = None

    @property
    def tags(self) -> dict[str, str]:
        """OpenStreetMap tags."""
        found = {self.key: self.value}
        return {**found, "width": str(self.width)} if self.width else found

    @property
    def kind(self) -> tuple[Layer, str]:
        """Layer and label in RSVQA."""
        found = classify(self.tags, 1 if self.width else 2)
        assert found, self.value
        return found

    @property
    def layer(self) -> Layer:
        """Layer in RSVQA."""
        return self.kind[0]


@dataclass(frozen=True, slots=True)
class Setting:
    """A kind of place.

    Attributes:
        name: e.g. ``suburb``.
        theme: how its blocks are filled.
        roads: minimal and maximal number of main roads.
        tracks: probability of a track.
        river, coast: probability of each.
        grid: minimal and maximal distance of streets in metres; None without a street grid.
        centre: ``farm`` or ``village`` by the main road.
    """

    name: str
    theme: str
    roads: tuple[int, int] = (0, 0)
    tracks: float = 0.0
    river: float = 0.0
    coast: float = 0.0
    grid: tuple[float, float] | None = None
    centre: str = ""


def parts(shape: BaseGeometry, dimension: int) -> list[Any]:
    """Return the single lines (dimension 1) or polygons (2) of a geometry."""
    pieces = shapely.get_parts(shape, return_index=False)
    if any(shapely.get_type_id(p) == 7 for p in pieces):
        pieces = shapely.get_parts(pieces)
    return [p for p in pieces if shapely.get_dimensions(p) == dimension and not p.is_empty]


def curve(rng: Generator, side: float, margin: float, bend: float) -> LineString:
    """Draw a random smooth line across a square, from edge to edge.

    Args:
        rng: random generator.
        side: side of the square, in metres.
        margin: overhang beyond the edges, in metres.
        bend: deviation from the straight line, as a fraction of the side.
    """
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    reach = 0.75 * side + margin
    steps = np.linspace(-1, 1, 25)
    stray = sum(
        rng.normal(0, bend / f) * np.sin(steps * f * 1.6 + rng.uniform(0, 6)) for f in (1, 2, 3)
    )
    offset = rng.uniform(-0.36, 0.36) * side
    middle = np.array([side / 2, side / 2])
    points = middle + np.outer(steps * reach, along) + np.outer(stray * side + offset, across)
    return LineString(points)


def blob(rng: Generator, x: float, y: float, radius: float, *, round_: bool = False) -> Polygon:
    """Return an irregular round polygon around a point; a circle if ``round_``."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    r: NDArray[Any] = np.full(40, radius)
    if not round_:
        for f in (2, 3, 5):
            r = r + radius * rng.normal(0, 0.28 / f) * np.sin(f * turn + rng.uniform(0, 6))
        r = np.maximum(r, 0.4 * radius)
    return Polygon(np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], axis=1))


def boxes(
    x: NDArray[Any], y: NDArray[Any], along: NDArray[Any], across: NDArray[Any], angle: NDArray[Any]
) -> NDArray[Any]:
    """Return rectangles from centres, sides and angles of the first side; all of shape (n,)."""
    c, s = np.cos(angle), np.sin(angle)
    corner = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])
    u = corner[:, 0] * along[:, None]
    v = corner[:, 1] * across[:, None]
    px = x[:, None] + u * c[:, None] - v * s[:, None]
    py = y[:, None] + u * s[:, None] + v * c[:, None]
    rings: NDArray[Any] = shapely.polygons(np.stack([px, py], axis=2))
    return rings


def direction(block: Any) -> float:
    """Return the angle of a block's long side, in radians; 0 if the block is empty."""
    ring = shapely.get_coordinates(block.minimum_rotated_rectangle)
    if len(ring) < 2:
        return 0.0
    side = max(np.diff(ring[:3], axis=0), key=lambda v: float(np.hypot(*v)))
    return float(np.arctan2(side[1], side[0]))
