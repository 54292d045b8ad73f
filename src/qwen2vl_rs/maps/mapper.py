"""A question map: windows over a scene, several questions asked of each, kept as they come.

Written into one folder: ``windows.jsonl`` (what was answered, line by line while it runs, so that
a map that was interrupted goes on), then ``map.tif`` and ``windows.gpkg``.
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

SIDE = 256  # pixels of a window where the model does not say what it was trained on
WHOLE = 4 * 2**30  # bytes of a scene that are read for its digest: some ten seconds
_PREVIEW = 1200  # pixels of the longer side

Line = dict[str, Any]  # of windows.jsonl: the window's number, and its replies or why it has none


@dataclass(frozen=True, slots=True)
class MapRequest:
    """What is to be mapped.

    Attributes:
        scene: a georeferenced image of any size.
        questions: asked of every window, all different.
        output: folder of the map.
        tile: pixels on a side of a window; None: of the images the model was trained on.
        resolution: metres per pixel of a window; None: likewise, else the scene's own.
        overlap: share of a window that the next one shows too.
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
        grid: its windows.
        bands: the answers, one for each question.
        lines: of ``windows.jsonl``, one for each window.
        preview: the scene in small, (height, width, 3).
        model: its name.
    """

    grid: Grid
    bands: list[Band]
    lines: list[Line]
    preview: NDArray[np.uint8]
    model: str

    @property
    def asked(self) -> int:
        """Number of windows that were asked about."""
        return sum("replies" in line for line in self.lines)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """Where the answers to each question stand in the files, and what they are."""
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
        """Number of windows that hold too little data."""
        return len(self.grid) - self.asked


def make_map(session: Session, request: MapRequest) -> Mapped:
    """Ask the questions of every window and write the map.

    Raises:
        ImageError: the scene cannot be used, is not georeferenced, or holds no data.
        RunError: the folder cannot be written to, or holds a map with other settings.
    """
    bare = dict.fromkeys(map(session.view.bare, request.questions))  # all different
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
                f"{request.scene}: nothing to ask about: no window holds data in {LEAST_DATA:.0%} "
                "of it",
                hint="compare gdalinfo -stats SCENE: is its nodata value right? or choose smaller "
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
            f"{done.left_out:,} windows were not asked about: less than {LEAST_DATA:.0%} of each "
            "holds data"
        )
    for one in bands:
        if one.unreadable:
            say(f"{one.unreadable:,} answers have no value: {one.question}")
    return done


def _grid(session: Session, request: MapRequest, scene: LargeImage) -> Grid:
    card = session.card
    side = request.tile or (card.side if card and card.side else SIDE)
    resolution = request.resolution or (card.metres_per_pixel if card else None)
    grid = lay_grid(scene, side, resolution, request.overlap)
    whose = (
        "as asked for"
        if request.resolution
        else "as the model was trained on"
        if resolution
        else "the scene's own"
    )
    say(
        f"{len(grid):,} windows ({grid.rows} × {grid.columns}) of {side} pixels, "
        f"{grid.resolution:.3g} m each ({whose})"
    )
    if round(grid.shared, 2) > round(request.overlap, 2):
        say(
            f"neighbours share up to {grid.shared:.0%} of a window, so that they end at the edges "
            "of the scene"
        )
    return grid


def _file(session: Session, request: MapRequest, grid: Grid) -> AnswerFile:
    """Where the windows are written down, and all that decides the answers."""
    parts = [session.digest, session.view.model_dump_json(), repr(grid), repr(request.questions)]
    key = digest_of(["\0".join([*parts, image_digest(request.scene, WHOLE)])])
    head = {"key": key, "questions": request.questions}
    return AnswerFile(request.output / "windows.jsonl", head, name="window")


def _ask(
    session: Session, request: MapRequest, scene: LargeImage, grid: Grid, file: AnswerFile
) -> dict[int, Line]:
    """Ask about the windows that are not in the file yet, some of them at a time.

    Raises:
        RunError: the file cannot be read, or belongs to something else.
    """
    found = file.read()
    if found.foreign:
        raise RunError(
            f"{file.path} does not begin as the windows of a map do: damaged, or another file",
            hint="move it away, or choose another folder: --output",
        )
    if found.key is not None and not file.accepts(found.key):
        raise RunError(
            f"{request.output} holds a map of another scene or model, or with other settings",
            hint="choose another folder: --output",
        )
    file.report_torn(found)
    # A piece is asked as a whole or not at all: packed otherwise, rounding differs.
    every = pieces(grid, len(request.questions))
    missing = [piece for piece in every if not found.known.keys() >= set(piece)]

    def read(piece: range) -> list[tuple[int, NDArray[np.uint8], float]]:
        span = (grid.across, grid.down)
        return [(i, *scene.resampled(*grid.corner(i), *span, grid.side)) for i in piece]

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
    """The whole scene in small."""
    width, height = float(scene.width), float(scene.height)
    longest = max(width, height)
    square, _ = scene.resampled(0, 0, longest, longest, min(_PREVIEW, round(longest)))
    scale = len(square) / longest
    return square[: max(1, round(height * scale)), : max(1, round(width * scale))]
