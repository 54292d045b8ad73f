"""Drawing canvas with metric coordinates."""

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
    """A canvas, supersampled by an integer factor.

    Attributes:
        map: the map to draw.
        side: side of the final image, in pixels.
        factor: canvas pixels per image pixel.
        image: the pixels.
        pen: draws on the pixels.
    """

    map: Map
    side: int
    factor: int
    image: Image.Image
    pen: Any

    @classmethod
    def new(cls, map_: Map, side: int, factor: int, mode: str, colour: Any = 0) -> Canvas:
        """Create an empty canvas."""
        image = Image.new(mode, (side * factor, side * factor), colour)
        return cls(map_, side, factor, image, ImageDraw.Draw(image))

    @property
    def scale(self) -> float:
        """Canvas pixels per metre."""
        return self.factor / self.map.resolution

    def to_pixels(self, points: Any) -> NDArray[Any]:
        """Convert points in metres to canvas coordinates (x, y), shape (n, 2)."""
        at = np.asarray(points, dtype=np.float64) * self.scale
        at[:, 1] = self.image.height - at[:, 1]
        return at

    def fill(self, shape: Any, colour: Any, hole: Any) -> None:
        """Fill a polygon, and its holes with another colour, to be painted over later."""
        self.ring(shapely.get_coordinates(shape.exterior), colour)
        for ring in shape.interiors:
            self.ring(shapely.get_coordinates(ring), hole)

    def ring(self, points: Any, colour: Any) -> None:
        """Fill a ring of points in metres."""
        self.pen.polygon(self.to_pixels(points).ravel().tolist(), fill=colour)

    def line(self, points: Any, width: float, colour: Any) -> None:
        """Draw a line with round joints; the width is in metres."""
        at = self.to_pixels(points)
        wide = max(1, round(width * self.scale))
        self.pen.line(at.ravel().tolist(), fill=colour, width=wide, joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Any) -> None:
        """Fill a circle; all arguments are in metres."""
        ((px, py),) = self.to_pixels([(x, y)])
        r = radius * self.scale
        self.pen.ellipse([px - r, py - r, px + r, py + r], fill=colour)

    def reduced(self) -> Image.Image:
        """Return the canvas downsampled to the image size."""
        return self.image.reduce(self.factor) if self.factor > 1 else self.image
