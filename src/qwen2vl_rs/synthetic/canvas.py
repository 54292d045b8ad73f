"""Something to paint on, in metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .layout import Map


@dataclass(frozen=True, slots=True)
class Canvas:
    """Something to paint on, larger than the picture by a whole factor.

    Attributes:
        map: what is drawn.
        side: of the picture, in pixels.
        factor: sheet pixels per picture pixel.
        image: the pixels.
        pen: draws on them.
    """

    map: Map
    side: int
    factor: int
    image: Image.Image
    pen: Any

    @classmethod
    def new(cls, map_: Map, side: int, factor: int, mode: str, colour: Any = 0) -> Canvas:
        """An empty sheet."""
        image = Image.new(mode, (side * factor, side * factor), colour)
        return cls(map_, side, factor, image, ImageDraw.Draw(image))

    @property
    def scale(self) -> float:
        """Sheet pixels per metre."""
        return self.factor / self.map.resolution

    def to_pixels(self, points: Any) -> NDArray[Any]:
        """Sheet coordinates (x, y) of points in metres, shape (n, 2)."""
        at = np.asarray(points, dtype=np.float64) * self.scale
        at[:, 1] = self.image.height - at[:, 1]
        return at

    def fill(self, shape: Any, colour: Any, hole: Any) -> None:
        """Fill a polygon, and its holes with another colour: they are painted over later."""
        self.ring(shapely.get_coordinates(shape.exterior), colour)
        for ring in shape.interiors:
            self.ring(shapely.get_coordinates(ring), hole)

    def ring(self, points: Any, colour: Any) -> None:
        """Fill a ring of points in metres."""
        self.pen.polygon(self.to_pixels(points).ravel().tolist(), fill=colour)

    def line(self, points: Any, width: float, colour: Any) -> None:
        """Draw a line, its width in metres, with round bends and ends."""
        at = self.to_pixels(points)
        wide = max(1, round(width * self.scale))
        self.pen.line(at.ravel().tolist(), fill=colour, width=wide, joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Any) -> None:
        """Fill a circle, all in metres."""
        ((px, py),) = self.to_pixels([(x, y)])
        r = radius * self.scale
        self.pen.ellipse([px - r, py - r, px + r, py + r], fill=colour)

    def reduced(self) -> Image.Image:
        """The sheet brought to the size of the picture."""
        return self.image.reduce(self.factor) if self.factor > 1 else self.image
