"""Synthetic scenes for pre-training in memory-mapped files, with targets for each visual token.

Shapes: N scenes, `SIDE` pixels along a side, `CELLS` visual tokens along a side, C classes.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from qwen2vl_rs.questions.elements import Element, Layer
from qwen2vl_rs.synthetic.scene import CLASSES, make_scene
from qwen2vl_rs.system.console import Progress
from qwen2vl_rs.system.files import atomic_write
from qwen2vl_rs.vqa_generation.referring import SHAPES, SIZES, ImageElements, Phrase, Rules

CELLS = 9
SIDE = 28 * CELLS  # the processor's size for a generated image of 256 pixels
DRAWN = 256
_KINDS = [(layer, a) for layer in ("building", "water", "land") for a in (*SIZES, *SHAPES)]
#: Targets per cell: shares of the classes; number of centres by class, and by size and shape; share
#: near a building.
SHARES, CENTRES = len(CLASSES), len(CLASSES) + len(_KINDS)
TARGETS = SHARES + CENTRES + 1
_BUILT_UP = 30.0  # metres around a building: the criterion of rural and urban
_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Scenes:
    """Scenes in memory-mapped files.

    Attributes:
        pixels: (N, SIDE, SIDE, 3) 8-bit.
        targets: (N, CELLS, CELLS, TARGETS), see `cell_truth`.
        folder: the folder of the files.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float16]
    folder: Path

    def __len__(self) -> int:
        return len(self.pixels)

    def elements(self, chunk: int) -> list[tuple[float, tuple[Element, ...]]]:
        """Return the side in metres and the elements of each scene of a chunk."""
        found: list[Any] = pickle.loads((self.folder / f"elements-{chunk}.pickle").read_bytes())
        return found


def cell_truth(elements: tuple[Element, ...], side: float) -> NDArray[np.float32]:
    """Return the targets of each cell, shape (CELLS, CELLS, TARGETS)."""
    shares = cell_shares(elements, side, CELLS)
    centres = np.zeros((CELLS, CELLS, CENTRES), np.float32)
    numbers = {label: k for k, label in enumerate(CLASSES)}
    things = ImageElements(elements, side, side, Rules(False, side / DRAWN))
    kinds = [_has(things, elements, *kind) for kind in _KINDS]
    for n, element in enumerate(elements):
        x, y = shapely.get_coordinates(shapely.point_on_surface(element.shape))[0]
        row = min(int((side - y) / side * CELLS), CELLS - 1)
        cell = centres[row, min(int(x / side * CELLS), CELLS - 1)]
        if (k := numbers.get(element.label)) is not None:
            cell[k] += 1
        cell[len(CLASSES) :] += [mask[n] for mask in kinds]
    near = np.zeros((CELLS, CELLS, 1), np.float32)
    buildings = [e.shape for e in elements if e.layer == "building"]
    if buildings:
        at = (np.arange(4 * CELLS) + 0.5) / (4 * CELLS) * side
        points = shapely.points(*np.meshgrid(at, side - at))
        tree = shapely.STRtree(buildings)
        hits = tree.query_nearest(points.ravel(), max_distance=_BUILT_UP, all_matches=False)[0]
        mask = np.zeros(points.size, np.float32)
        mask[hits] = 1
        near[..., 0] = mask.reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3))
    return np.concatenate([shares, centres, near], axis=2)


def cell_shares(elements: Iterable[Element], side: float, cells: int) -> NDArray[np.float32]:
    """Return the share of every class in each cell of a grid over a square image.

    Args:
        elements: the elements of a scene.
        side: side of the image, in metres.
        cells: number of cells along a side, e.g. 9 for 252 pixels and one token per 28 pixels.

    Returns:
        Shares of the cell's area from 0 to 1, shape (cells, cells, len(CLASSES)). Classes overlap
        (a house on a residential area counts for both), so the sum may exceed 1. Row 0 is the
        north, column 0 the west.
    """
    samples = 14 * cells
    scale = samples / side
    planes = [Image.new("1", (samples, samples)) for _ in CLASSES]
    pens = [ImageDraw.Draw(plane) for plane in planes]
    numbers = {label: k for k, label in enumerate(CLASSES)}
    for element in elements:
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
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _samples(line: Any, scale: float, samples: int) -> list[float]:
    at = shapely.get_coordinates(line) * scale
    at[:, 1] = samples - at[:, 1]
    return list(at.ravel().tolist())


def _has(things: ImageElements, elements: tuple[Element, ...], layer: Layer, word: str) -> Any:
    """Which elements of a layer have an attribute."""
    if layer != "land":
        label = "building" if layer == "building" else "water area"
        return things.select(Phrase(layer, label, word))
    labels = sorted({e.label for e in elements if e.layer == layer})
    none = np.zeros(len(elements), bool)
    return sum((things.select(Phrase(layer, label, word)) for label in labels), none)


def _chunk(seed: int, folder: Path, number: int) -> tuple[int, Any, Any]:
    pixels, targets, elements = [], [], []
    for k in range(number * _CHUNK, (number + 1) * _CHUNK):
        place = make_scene(seed, k, side=DRAWN)
        small = Image.fromarray(place.draw()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pixels.append(np.asarray(small))
        targets.append(cell_truth(place.elements, place.side).astype(np.float16))
        elements.append((place.side, place.elements))
    with atomic_write(folder / f"elements-{number}.pickle", "wb") as file:
        file.write(pickle.dumps(elements))
    return number, np.stack(pixels), np.stack(targets)


def draw(folder: Path, seed: int, number: int, workers: int = 2) -> None:
    """Draw scenes into files, unless they exist.

    Args:
        folder: the folder of the files.
        seed: seed of the scenes.
        number: number of scenes, a multiple of `_CHUNK`.
        workers: number of processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done_file = folder / "done.json"
    done = set(json.loads(done_file.read_text())) if done_file.exists() else set()
    todo = [k for k in range(number // _CHUNK) if k not in done]
    if not todo:
        return
    for name, size in (("pixels", SIDE * SIDE * 3), ("targets", CELLS * CELLS * TARGETS * 2)):
        with (folder / f"{name}.bin").open("ab") as file:
            file.truncate(max(number * size, file.tell()))
    pixels, targets = _files(folder, "r+")
    with multiprocessing.Pool(workers) as pool, Progress("drawing", len(todo), "chunks") as bar:
        for k, drawn, cells in pool.imap_unordered(partial(_chunk, seed, folder), todo):
            part = slice(k * _CHUNK, (k + 1) * _CHUNK)
            pixels[part], targets[part] = drawn, cells
            pixels.flush()
            targets.flush()
            done.add(k)
            with atomic_write(done_file) as file:
                file.write(json.dumps(sorted(done)))
            bar.advance()


def _files(folder: Path, mode: Any) -> tuple[Any, Any]:
    pixels = np.memmap(folder / "pixels.bin", np.uint8, mode).reshape(-1, SIDE, SIDE, 3)
    targets = np.memmap(folder / "targets.bin", np.float16, mode)
    return pixels, targets.reshape(-1, CELLS, CELLS, TARGETS)


def load(folder: Path, most: int | None = None) -> Scenes:
    """Load the scenes that `draw` has drawn, up to the first missing chunk, at most ``most``."""
    done = set(json.loads((folder / "done.json").read_text()))
    whole = next(k for k in range(len(done) + 1) if k not in done) * _CHUNK
    pixels, targets = _files(folder, "r")
    whole = min(whole, most or whole)
    return Scenes(pixels[:whole], targets[:whole], folder)
