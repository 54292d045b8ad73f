"""Windows over a scene: where they lie, and the grid of a map with one pixel for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..data.georaster import Georeference, LargeImage
from ..errors import ImageError

#: Windows of which less holds data are not asked about.
LEAST_DATA = 0.5


@dataclass(frozen=True, slots=True)
class Grid:
    """Square windows over a scene, row by row.

    Attributes:
        side: of a window as the model sees it, in pixels.
        resolution: of that picture, in metres per pixel.
        across, down: of a window in pixels of the scene.
        overlap: share of a window that the next one shows too.
        rows, columns: number of windows.
        reference: where the scene lies.
    """

    side: int
    resolution: float
    across: float
    down: float
    overlap: float
    rows: int
    columns: int
    reference: Georeference

    def __len__(self) -> int:
        return self.rows * self.columns

    @property
    def stride(self) -> tuple[float, float]:
        """From window to window (across, down) in pixels of the scene."""
        return self.across * (1 - self.overlap), self.down * (1 - self.overlap)

    def corner(self, index: int) -> tuple[float, float]:
        """Column and row of the scene at a window's upper left corner."""
        row, column = divmod(index, self.columns)
        return column * self.stride[0], row * self.stride[1]

    def map_reference(self) -> Georeference:
        """Where a map lies in which every window is a pixel around its middle."""
        over, under = self.stride
        moved = self.reference.moved((self.across - over) / 2, (self.down - under) / 2)
        a, b, c, d, e, f = moved.transform
        return Georeference(moved.crs, (a * over, b * under, c, d * over, e * under, f))

    def corners(self, index: int) -> list[tuple[float, float]]:
        """The four corners of a window as columns and rows of the scene, and the first again."""
        x, y = self.corner(index)
        right, bottom = x + self.across, y + self.down
        return [(x, y), (right, y), (right, bottom), (x, bottom), (x, y)]


def lay_grid(scene: LargeImage, side: int, resolution: float | None, overlap: float) -> Grid:
    """Windows over a whole scene, from its upper left corner.

    Those at the right and lower edge may reach beyond it, by less than half of a window.

    Args:
        scene: the scene.
        side: of a window, in pixels of ``resolution``.
        resolution: metres per pixel; None: the scene's own.
        overlap: share of a window that the next one shows too, below 1.

    Raises:
        ImageError: the scene is smaller than half a window.
    """
    own = scene.reference.pixel_size(scene.width / 2, scene.height / 2)
    resolution = resolution or sum(own) / 2
    across, down = (side * resolution / size for size in own)
    if scene.width < across * LEAST_DATA or scene.height < down * LEAST_DATA:
        raise ImageError(
            f"the scene of {scene.width} × {scene.height} pixels is smaller than half a window: "
            f"{across:,.0f} × {down:,.0f} of them",
            hint="choose smaller windows: --tile, or a finer --resolution",
        )
    columns, rows = (
        1 + max(0, math.floor((size - span * LEAST_DATA) / (span * (1 - overlap))))
        for size, span in ((scene.width, across), (scene.height, down))
    )
    return Grid(side, resolution, across, down, overlap, rows, columns, scene.reference)


def pieces(grid: Grid, questions: int, most: int = 200) -> Iterator[range]:
    """Windows that are asked about together, some ``most`` questions at a time."""
    step = max(1, most // questions)
    for start in range(0, len(grid), step):
        yield range(start, min(start + step, len(grid)))
