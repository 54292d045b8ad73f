"""Windows over a scene, and the grid of a map with one pixel per window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ImageError
from ..predict.job import QUESTIONS_AT_ONCE
from ..raster.scenes import Georeference, LargeImage

#: Windows with a smaller fraction of valid data are left out.
LEAST_DATA = 0.5


@dataclass(frozen=True, slots=True)
class Grid:
    """Square windows over a scene, row by row.

    They are spread evenly, and the last ones end at the right and lower edge. If the scene is not
    a whole number of windows, they overlap more than requested.

    Attributes:
        side: of a window in the model's input, in pixels.
        resolution: of that input, in metres per pixel.
        across, down: size of a window in pixels of the scene.
        overlap: minimum overlap of neighbours, as a fraction of a window.
        rows, columns: number of windows.
        width, height: of the scene in pixels.
        reference: georeference of the scene.
    """

    side: int
    resolution: float
    across: float
    down: float
    overlap: float
    rows: int
    columns: int
    width: int
    height: int
    reference: Georeference

    def __len__(self) -> int:
        return self.rows * self.columns

    @property
    def shared(self) -> float:
        """The overlap of neighbours as a fraction of a window, the larger of both directions."""
        shares = [
            1 - (size - span) / (n - 1) / span
            for size, span, n in (
                (self.width, self.across, self.columns),
                (self.height, self.down, self.rows),
            )
            if n > 1
        ]
        return max([0.0, *shares])

    def corner(self, index: int) -> tuple[float, float]:
        """Return column and row of a window's upper left corner in the scene, whole numbers."""
        row, column = divmod(index, self.columns)
        return (
            _start(column, self.columns, self.width, self.across),
            _start(row, self.rows, self.height, self.down),
        )

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """The part of the scene that a map shows: column, row, width and height.

        Half of the overlap is cut off at each edge, so that a pixel of the map lies around the
        centre of its window.
        """
        left = self.overlap * min(self.across, self.width) / 2
        top = self.overlap * min(self.down, self.height) / 2
        return left, top, self.width - 2 * left, self.height - 2 * top

    def map_reference(self) -> Georeference:
        """Return the georeference of a map with one pixel per window.

        The pixels divide `frame` evenly. Each lies within its window and contains its centre.
        """
        left, top, width, height = self.frame
        moved = self.reference.shifted(left, top)
        over, under = width / self.columns, height / self.rows
        a, b, c, d, e, f = moved.transform
        return Georeference(moved.crs, (a * over, b * under, c, d * over, e * under, f))

    def corners(self, index: int) -> list[tuple[float, float]]:
        """Return a window's corners as columns and rows of the scene, a closed ring."""
        x, y = self.corner(index)
        right, bottom = x + self.across, y + self.down
        return [(x, y), (right, y), (right, bottom), (x, bottom), (x, y)]


def _start(number: int, of: int, size: int, span: float) -> float:
    """Return the start of a window, in whole pixels to avoid resampling."""
    return float(round(number * (size - span) / (of - 1))) if of > 1 else 0.0


def lay_grid(scene: LargeImage, side: int, resolution: float | None, overlap: float) -> Grid:
    """Cover a whole scene with windows.

    A scene that is smaller than a window gets one window, which extends beyond its edge.

    Args:
        scene: the scene.
        side: of a window, in pixels of ``resolution``.
        resolution: metres per pixel; None: the scene's own.
        overlap: fraction of a window that overlaps the next one, below 1.

    Raises:
        ImageError: the scene is smaller than half a window.
    """
    own = scene.reference.pixel_size(scene.width / 2, scene.height / 2)
    resolution = resolution or sum(own) / 2
    across, down = (side * resolution / size for size in own)
    # a difference below one pixel comes from rounding
    if scene.width <= across * LEAST_DATA - 1 or scene.height <= down * LEAST_DATA - 1:
        raise ImageError(
            f"the scene of {scene.width} × {scene.height} pixels is smaller than half a window: "
            f"{across:,.0f} × {down:,.0f} of them",
            hint="choose smaller windows: --tile, or a finer --resolution",
        )
    columns, rows = (
        # an uncovered rest of less than a pixel needs no window
        1 + max(0, math.ceil((size - span * (1 + 1 / side)) / (span * (1 - overlap))))
        for size, span in ((scene.width, across), (scene.height, down))
    )
    return Grid(
        side,
        resolution,
        across,
        down,
        overlap,
        rows,
        columns,
        scene.width,
        scene.height,
        scene.reference,
    )


def pieces(grid: Grid, questions: int, most: int = QUESTIONS_AT_ONCE) -> Iterator[range]:
    """Yield windows that are processed together, for about ``most`` questions at a time."""
    step = max(1, most // questions)
    for start in range(0, len(grid), step):
        yield range(start, min(start + step, len(grid)))
