"""Generate a data set from a plan: images, questions, splits, summary.

The plan is written first; the same plan in the same folder resumes an interrupted run and produces
the same files.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..datasets.table_notes import PLAN_FILE
from ..errors import DataError, RunError
from ..raster import write_geotiff
from ..synthetic.scene import CLASSES, make_scene, write_vectors
from ..system.console import Progress, say, warn
from ..system.disk import make_folder
from ..system.files import read_json, run_lock, write_json
from ..system.oserrors import unwritable
from ..types import canonical_manner
from ..version import VERSION
from . import summary
from .balance import SURPLUS, balance
from .dataset import SPLITS, Generated, Picture, assign_splits, file_layout, write_lists
from .questions import AnnotatedImage, Manner, Question, QuestionGenerator
from .tiles import Source, tiles

#: Land uses in synthetic scenes.
LAND = CLASSES[5:]
LOPSIDED = "questions dropped to balance the answers"


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a data set.

    Attributes:
        synthetic: number of synthetic scenes, or 0 with sources.
        sources: images with their vectors.
        manner: ``corrected``, ``legacy`` or ``balanced``.
        like: ``lr`` or ``hr``: data set that defines question types and file names.
        questions: number of questions per image.
        seed: random seed.
        split: shares of train, val and test.
        tile: side of the images in pixels.
        resolution: resolution of scenes in metres per pixel; None for a random one per scene.
    """

    synthetic: int = 0
    sources: tuple[Source, ...] = ()
    manner: Manner = "corrected"
    like: str = "lr"
    questions: int = 100
    seed: int = 0
    split: tuple[float, ...] = (0.8, 0.1, 0.1)
    tile: int = 256
    resolution: float | None = None

    @property
    def asker(self) -> QuestionGenerator:
        """The question generator for scenes."""
        return QuestionGenerator(self.manner, self.like == "hr", LAND)

    @property
    def asked(self) -> int:
        """Number of candidate questions per image, before balancing."""
        return self.questions * (SURPLUS if self.manner == "balanced" else 1)


def generate(
    plan: Plan, folder: Path, workers: int = 1, left_out: Counter[str] | None = None
) -> Path:
    """Generate a data set.

    Args:
        plan: the plan.
        folder: output folder; empty, or of the same plan.
        workers: number of processes that draw scenes; the result does not depend on it.
        left_out: numbers of items left out so far, by reason.

    Returns:
        The path of the summary page.

    Raises:
        DataError: the sources contain no usable tile.
        RunError: the folder contains another data set, is in use, or cannot be written.
    """
    page = folder / "index.html"
    with run_lock(folder):
        if _is_done(plan, folder) and page.is_file():
            say(f"{folder} is complete already")
            return page
        result = Generated(left_out=left_out or Counter())
        images = folder / file_layout(plan.like)[1]
        try:
            make_folder(images)
        except OSError as error:
            raise unwritable(images, error) from error
        drawn = _scenes(plan, images, workers) if plan.synthetic else _tiles(plan, images, result)
        for picture, asked in drawn:
            result.pictures.append(picture)
            result.questions.append(asked)
        if not result.pictures:
            reasons = "; ".join(f"{n:,} {why}" for why, n in result.left_out.items() if n)
            raise DataError(f"no image is left: {reasons}", hint="use larger images, or --tile")
        _divide(plan, result)
        write_lists(folder, file_layout(plan.like)[0], result)
        summary.write(page, images, plan.manner, plan.like, result)
        dataset = {"name": plan.like.upper(), "manner": plan.manner}
        write_json(folder / PLAN_FILE, {**_written(plan), "dataset": dataset, **_counted(result)})
    for reason, n in (+result.left_out).items():
        say(f"left out: {n:,} {reason}")
    total = sum(map(len, result.questions))
    images_asked = sum(map(bool, result.splits))
    say(f"wrote {total:,} questions about {images_asked:,} images to {folder}")
    return page


def _counted(result: Generated) -> dict[str, object]:
    """Return the counts that are added to the plan file at the end."""
    asked = dict.fromkeys(SPLITS, 0)
    for questions, split in zip(result.questions, result.splits, strict=True):
        if split:
            asked[split] += len(questions)
    return {"images": len(result.pictures), "questions": asked}


def first_split(folder: Path) -> str | None:
    """Return the first of train, val and test that has questions."""
    asked = (read_json(folder / PLAN_FILE) or {}).get("questions") or dict.fromkeys(SPLITS, 1)
    return next((split for split in SPLITS if asked.get(split)), None)


def _written(plan: Plan) -> dict[str, object]:
    """Return the content of the plan file, with the sizes of the sources."""
    sources = [
        {name: [str(path), path.stat().st_size] for name, path in asdict(s).items()}
        for s in plan.sources
    ]
    return {
        "version": VERSION,
        "plan": {**asdict(plan), "sources": sources, "split": list(plan.split)},
    }


def _is_done(plan: Plan, folder: Path) -> bool:
    """Whether the folder contains the complete data set; write the plan to a new folder."""
    old, new = read_json(folder / PLAN_FILE), _written(plan)
    if old is None:
        others = [p.name for p in folder.iterdir() if p.name != ".lock"]
        if others:
            raise RunError(
                f"{folder} is not empty ({', '.join(sorted(others)[:3])})",
                hint="choose a new folder: --output FOLDER",
            )
        write_json(folder / PLAN_FILE, new)
        return False
    if isinstance(own := old.get("plan"), dict) and "manner" in own:
        own["manner"] = canonical_manner(own["manner"])
    if {key: old.get(key) for key in new} != new:
        raise RunError(
            f"{folder} contains a data set of another plan (see {PLAN_FILE})",
            hint="choose another folder: --output FOLDER",
        )
    there = len(list((folder / file_layout(plan.like)[1]).glob("*.tif")))
    return bool(old.get("images") == there)


def _scenes(plan: Plan, images: Path, workers: int) -> Iterator[tuple[Picture, list[Question]]]:
    """Draw scenes and generate their questions; existing images are not drawn again."""
    make = partial(_scene, plan, images)
    numbers = range(plan.synthetic)
    with Progress("drawing", plan.synthetic, "scenes") as bar:
        for made in _mapped(make, numbers, min(workers, -(-plan.synthetic // 8))):
            bar.advance()
            yield made


def _mapped(
    make: partial[tuple[Picture, list[Question]]], numbers: Iterable[int], workers: int
) -> Iterator[tuple[Picture, list[Question]]]:
    if workers <= 1:
        yield from map(make, numbers)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(make, numbers, chunksize=4)


def _scene(plan: Plan, images: Path, number: int) -> tuple[Picture, list[Question]]:
    scene = make_scene(plan.seed, number, side=plan.tile, resolution=plan.resolution)
    vectors, image = images.parent / "vectors" / f"{number}.geojson", images / f"{number}.tif"
    if not vectors.is_file():
        write_vectors(scene, vectors)
    if not image.is_file():
        write_geotiff(image, scene.draw(), scene.crs, scene.transform)
    y = scene.top - scene.side if plan.manner == "legacy" else scene.top
    name = f"{scene.map.setting}_{plan.seed}_{number}"
    picture = Picture(name, "synthetic", scene.left, y, scene.resolution, (number, 0, 0))
    view = AnnotatedImage(
        scene.elements, scene.side, scene.side, scene.resolution, scene.top / 111_200
    )
    rng = np.random.default_rng([plan.seed, number, 2])
    return picture, plan.asker.questions(rng, view, plan.asked)


def _tiles(plan: Plan, images: Path, result: Generated) -> Iterator[tuple[Picture, list[Question]]]:
    """Cut the sources into tiles and generate questions about each."""
    number = 0
    for k, source in enumerate(plan.sources):
        legacy = plan.manner == "legacy"
        for tile in tiles(source, plan.tile, legacy, result.left_out):
            asker = replace(plan.asker, vocabulary=tile.vocabulary or LAND)
            rng = np.random.default_rng([plan.seed, number, 2])
            picture = Picture(
                tile.name,
                "unknown",
                *tile.corner(legacy),
                tile.resolution,
                (k, tile.row, tile.column),
            )
            path = images / f"{number}.tif"
            if not path.is_file():
                tile.write(path)
            yield picture, asker.questions(rng, tile.view, plan.asked)
            number += 1


def _divide(plan: Plan, result: Generated) -> None:
    """Assign the splits, and balance the answers within each."""
    regions = [p.region for p in result.pictures]
    result.splits = assign_splits(regions, plan.split, plan.seed, result.left_out)
    # images between two splits stay in the folder, without questions
    asked = [q if s else [] for q, s in zip(result.questions, result.splits, strict=True)]
    for split, share in zip(SPLITS, plan.split, strict=True):
        if share and split not in result.splits:
            warn(f"too few images for {split}: it is empty (--split {_shares(plan.split)})")
    if plan.manner == "balanced":
        before = sum(map(len, asked))
        dataset = plan.like.upper()
        for n, split in enumerate(SPLITS):
            mine = [k for k, s in enumerate(result.splits) if s == split]
            rng = np.random.default_rng([plan.seed, n, 3])
            chosen = balance(rng, [asked[k] for k in mine], plan.questions, dataset)
            for k, questions in zip(mine, chosen, strict=True):
                asked[k] = questions
        result.left_out[LOPSIDED] += before - sum(map(len, asked))
    result.questions = asked


def _shares(split: Sequence[float]) -> str:
    return ",".join(f"{share:g}" for share in split)
