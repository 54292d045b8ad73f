"""The pieces a map is made of, and the shapes they have."""

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
        look: how it is drawn.
        key, value: its OpenStreetMap tag.
        shape: in metres; polygon, or line of a road.
        angle: of its long side, rows or furrows, in radians.
        height: above ground, in metres: shadows.
        width: of roads, in metres.
        tint: 0..1, which of the possible colours it has.
        whole: the shape before the image's edge cut it: what is drawn.
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
        """OpenStreetMap's tags."""
        found = {self.key: self.value}
        return {**found, "width": str(self.width)} if self.width else found

    @property
    def kind(self) -> tuple[Layer, str]:
        """RSVQA's layer and label."""
        found = classify(self.tags, 1 if self.width else 2)
        assert found, self.value
        return found

    @property
    def layer(self) -> Layer:
        """RSVQA's layer."""
        return self.kind[0]


@dataclass(frozen=True, slots=True)
class Setting:
    """A kind of place.

    Attributes:
        name: e.g. ``suburb``.
        theme: what its blocks are filled with.
        roads: fewest and most main roads.
        tracks: probability of a track.
        river, coast: probability of each.
        grid: least and largest distance of streets in metres, for places with streets.
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
    """The single lines (1) or polygons (2) of a geometry."""
    pieces = shapely.get_parts(shape, return_index=False)
    if any(shapely.get_type_id(p) == 7 for p in pieces):
        pieces = shapely.get_parts(pieces)
    return [p for p in pieces if shapely.get_dimensions(p) == dimension and not p.is_empty]


def curve(rng: Generator, side: float, margin: float, bend: float) -> LineString:
    """A smooth line from beyond one edge of a square to beyond the opposite one.

    Args:
        rng: source of all that is random.
        side: of the square, in metres.
        margin: metres it goes on beyond the edges.
        bend: how far it strays from the straight line, as a part of the side.
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
    """An irregular round polygon about a point; a true circle where ``round_``."""
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
    """Rectangles by centre, sides and angle of the first side; all arguments of shape (n,)."""
    c, s = np.cos(angle), np.sin(angle)
    corner = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])
    u = corner[:, 0] * along[:, None]
    v = corner[:, 1] * across[:, None]
    px = x[:, None] + u * c[:, None] - v * s[:, None]
    py = y[:, None] + u * s[:, None] + v * c[:, None]
    rings: NDArray[Any] = shapely.polygons(np.stack([px, py], axis=2))
    return rings


def direction(block: Any) -> float:
    """Angle of a block's long side, in radians; 0 where nothing is left of it."""
    ring = shapely.get_coordinates(block.minimum_rotated_rectangle)
    if len(ring) < 2:
        return 0.0
    side = max(np.diff(ring[:3], axis=0), key=lambda v: float(np.hypot(*v)))
    return float(np.arctan2(side[1], side[0]))
