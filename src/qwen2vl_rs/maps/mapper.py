"""Make a question map: ask several questions about every window of a scene. Resumable.

The output folder holds ``windows.jsonl`` (the answers, one line per window, appended during the
work), then ``map.tif`` and ``windows.gpkg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.prefetch import prefetch
from ..errors import ImageError, RunError
from ..predict.job import AnswerFile, digest_of
from ..predict.session import Session
from ..raster import image_digest
from ..raster.scenes import LargeImage, open_scene
from ..system.console import Progress, say
from ..system.files import run_lock
from .files import MAP, WINDOWS, column_of, rehearse, write_map, write_windows
from .values import Band, band
from .windows import LEAST_DATA, Grid, lay_grid, pieces

SIDE = 256  # pixels of a window if the model does not record the size of its training images
WHOLE = 4 * 2**30  # bytes of a scene that are read for its checksum: about ten seconds
_PREVIEW = 1200  # pixels of the longer side

Line = dict[str, Any]  # of windows.jsonl: the window's number, its answers or why it has none


@dataclass(frozen=True, slots=True)
class MapRequest:
    """The settings of a map.

    Attributes:
        scene: a georeferenced image of any size.
        questions: asked about every window, without duplicates.
        output: folder of the map.
        tile: pixels per side of a window; None: as in the model's training images.
        resolution: metres per pixel of a window; None: likewise, else the scene's own.
        overlap: fraction of a window that overlaps the next one.
    """

    scene: Path
    questions: tuple[str, ...]
    output: Path
    tile: int | None = None
    resolution: float | None = None
    overlap: float = 0.0


@dataclass(frozen=True, slots=True)
class Mapped:
    """A finished map.

    Attributes:
        grid: the windows.
        bands: the answers, one band per question.
        lines: of ``windows.jsonl``, one per window.
        preview: the scene at reduced size, (height, width, 3).
        model: the model's name.
    """

    grid: Grid
    bands: list[Band]
    lines: list[Line]
    preview: NDArray[np.uint8]
    model: str

    @property
    def asked(self) -> int:
        """The number of windows with answers."""
        return sum("replies" in line for line in self.lines)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """Describe the bands and columns of each question."""
        found = []
        for i, one in enumerate(self.bands):
            facts = {"question": one.question, "band": i + 1, "column": column_of(i)}
            facts |= {**one.layer.tags, "unreadable": one.unreadable}
            if one.classes:
                facts["classes"] = list(one.classes)
            found.append(facts)
        return found

    @property
    def left_out(self) -> int:
        """The number of windows with too little data."""
        return len(self.grid) - self.asked


def make_map(session: Session, request: MapRequest) -> Mapped:
    """Ask the questions about every window and write the map.

    Raises:
        ImageError: the scene is not usable, not georeferenced, or has no data.
        RunError: the folder is not writable, or holds a map with other settings.
    """
    bare = dict.fromkeys(map(session.view.bare, request.questions))  # without duplicates
    request = replace(request, questions=tuple(bare))
    with run_lock(request.output), open_scene(request.scene, session.view.image) as scene:
        grid = _grid(session, request, scene)
        file = _file(session, request, grid)
        rehearse(request.output, grid, request.questions)
        known = _ask(session, request, scene, grid, file)
        lines = [known[window] for window in sorted(known)]
        replies = [line.get("replies") for line in lines]
        if not any(replies):
            raise ImageError(
                f"{request.scene}: nothing to map: no window has valid data in {LEAST_DATA:.0%} of "
                "its area",
                hint="check the scene's nodata value with gdalinfo -stats SCENE, or choose smaller "
                "windows: --tile",
            )
        shape = (grid.rows, grid.columns)
        bands = [
            band(question, [r[i] if r else None for r in replies], shape)
            for i, question in enumerate(request.questions)
        ]
        write_map(request.output / MAP, grid, bands)
        write_windows(request.output / WINDOWS, grid, bands, lines)
        done = Mapped(grid, bands, lines, _preview(scene), session.name)
    if done.left_out:
        say(
            f"{done.left_out:,} windows were left out: less than {LEAST_DATA:.0%} of each has "
            "valid data"
        )
    for one in bands:
        if one.unreadable:
            say(f"{one.unreadable:,} answers have no value: {one.question}")
    return done


def _grid(session: Session, request: MapRequest, scene: LargeImage) -> Grid:
    card = session.metadata
    side = request.tile or (card.side if card and card.side else SIDE)
    resolution = request.resolution or (card.metres_per_pixel if card else None)
    grid = lay_grid(scene, side, resolution, request.overlap)
    whose = (
        "as requested"
        if request.resolution
        else "as in training"
        if resolution
        else "the scene's own"
    )
    say(
        f"{len(grid):,} windows ({grid.rows} × {grid.columns}) of {side} pixels, "
        f"{grid.resolution:.3g} m each ({whose})"
    )
    if round(grid.shared, 2) > round(request.overlap, 2):
        say(
            f"neighbours overlap by up to {grid.shared:.0%} of a window, so that the windows end "
            "at the edges of the scene"
        )
    return grid


def _file(session: Session, request: MapRequest, grid: Grid) -> AnswerFile:
    """Return the answer file of the windows, with all that determines the answers in its key."""
    parts = [session.digest, session.view.model_dump_json(), repr(grid), repr(request.questions)]
    key = digest_of(["\0".join([*parts, image_digest(request.scene, WHOLE)])])
    head = {"key": key, "questions": request.questions}
    return AnswerFile(request.output / "windows.jsonl", head, name="window")


def _ask(
    session: Session, request: MapRequest, scene: LargeImage, grid: Grid, file: AnswerFile
) -> dict[int, Line]:
    """Ask about the windows that are not in the file yet, piece by piece.

    Raises:
        RunError: the file is not readable, or belongs to something else.
    """
    found = file.read()
    if found.foreign:
        raise RunError(
            f"{file.path} is damaged or not a map's file of windows",
            hint="move it away, or choose another folder: --output",
        )
    if found.key is not None and not file.accepts(found.key):
        raise RunError(
            f"{request.output} holds a map of another scene or model, or with other settings",
            hint="choose another folder: --output",
        )
    file.report_torn(found)
    # A piece is computed as a whole or not at all: other packs round differently.
    every = pieces(grid, len(request.questions))
    missing = [piece for piece in every if not found.known.keys() >= set(piece)]

    def read(piece: range) -> list[tuple[int, NDArray[np.uint8], float]]:
        span = (grid.across, grid.down)
        return [(i, *scene.read_resized(*grid.corner(i), *span, grid.side)) for i in piece]

    bar = Progress("asking", len(grid), "windows", len(found.known))
    with file.appending(found, bar) as log:
        for shown in prefetch(read, missing):
            log.add(_answer(session, request.questions, shown))
    return log.known


def _answer(
    session: Session,
    questions: Sequence[str],
    shown: Sequence[tuple[int, NDArray[np.uint8], float]],
) -> list[Line]:
    full = [(i, rgb) for i, rgb, share in shown if share >= LEAST_DATA]
    groups = [(session.preprocess(rgb), questions) for _, rgb in full]
    replies = iter(session.ask(groups, closed=True)) if groups else iter(())
    lines: list[Line] = []
    for i, _, share in shown:
        line: Line = {"window": i, "data": round(share, 4)}
        if share >= LEAST_DATA:
            line["replies"] = [
                {
                    "text": r.text,
                    "confidence": round(r.confidence, 6),
                    "shares": {w: round(s, 6) for w, s in r.shares.items()} if r.shares else None,
                }
                for r in next(replies)
            ]
        lines.append(line)
    return lines


def _preview(scene: LargeImage) -> NDArray[np.uint8]:
    """Return the scene at reduced size."""
    width, height = float(scene.width), float(scene.height)
    longest = max(width, height)
    square, _ = scene.read_resized(0, 0, longest, longest, min(_PREVIEW, round(longest)))
    scale = len(square) / longest
    return square[: max(1, round(height * scale)), : max(1, round(width * scale))]
