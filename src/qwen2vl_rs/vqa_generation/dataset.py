"""Write a generated data set in RSVQA's official layout: splits by region, ids, files.

Records have the published keys, in the published order. Ids are unique over all images; in the
files of one split, the records of other splits are stubs, as published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..known_datasets import all_datasets, dataset_name
from ..system.files import atomic_write
from ..system.jsonl import to_json
from .questions import Question

SPLITS = ("train", "val", "test")
BESIDE = "tiles beside those of another split"
_FEW, _TRIES = 2000, 24  # most tiles for which other splits are tried; tries per block size


Region = tuple[int, int, int]  # (source, row, column) of a tile


def file_layout(like: str) -> tuple[str, str]:
    """Return the published file name prefix and image folder of a data set."""
    prefix, folders = next(iter(all_datasets()[dataset_name(like)].image_folders.items()))
    return prefix, folders[0]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a data set.

    Attributes:
        name: original name.
        sensor: name of the sensor.
        x, y: map coordinates of the corner stored in the image list.
        resolution: metres per pixel.
        region: (source, row, column) of the tile.
    """

    name: str
    sensor: str
    x: float
    y: float
    resolution: float
    region: Region


@dataclass
class Generated:
    """A generated data set.

    Attributes:
        pictures, questions, splits: one entry per image; its index is the id. The split is None for
            images between two splits.
        left_out: numbers of skipped items by reason.
    """

    pictures: list[Picture] = field(default_factory=list)
    questions: list[list[Question]] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def parse_split(text: str) -> tuple[float, ...]:
    """Parse the shares of train, val and test, such as ``0.8,0.1,0.1``.

    Raises:
        ConfigError: the text is not two or three shares that sum to 1.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    # written so that NaN fails
    if len(shares) not in (2, 3) or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
        raise ConfigError(
            f"{text!r} is not a list of shares of train, val and test",
            hint="give numbers that sum to 1, e.g. --split 0.8,0.1,0.1",
        )
    return (*shares, 0.0)[:3]


def assign_splits(
    regions: Sequence[Region],
    shares: Sequence[float],
    seed: int,
    counts: Counter[str],
) -> list[str | None]:
    """Assign each image to a split, so that tiles of different splits do not touch.

    Tiles of one source are assigned in square blocks. Where blocks of two splits touch, the
    touching tiles of the larger split are left out. If that leaves a split empty, other block sizes
    and random choices are tried, so that with few tiles the largest split is not empty.

    Args:
        regions: (source, row, column) of each image.
        shares: shares of train, val and test.
        seed: random seed.
        counts: counter of images left out.

    Returns:
        ``train``, ``val``, ``test``, or None for images left out.
    """
    sides = [(4, 8), (3, 8), (2, 8), (4, 3), (3, 3), (2, 3)]  # block side, minimal number of blocks
    block = next((side for side, least in sides if len(_blocks(regions, side)) >= least), 1)
    # largest share first, because the last split may get nothing
    wanted = sorted(
        (s for s, share in zip(SPLITS, shares, strict=True) if share),
        key=lambda s: -shares[SPLITS.index(s)],
    )
    best: list[str | None] = _choose(regions, shares, wanted, block, [seed, 7])
    if not set(wanted) <= set(best) and len(regions) <= _FEW:
        tries = [
            _choose(regions, shares, wanted, side, [seed, 7, n])
            for side in range(block, 0, -1)
            for n in range(_TRIES)
        ]
        best = max([best, *tries], key=lambda found: _worth(found, shares, wanted))
    if left_out := best.count(None):
        counts[BESIDE] += left_out
    return best


def _worth(
    found: Sequence[str | None], shares: Sequence[float], wanted: Sequence[str]
) -> tuple[bool, int, float, int]:
    """Rank a choice: largest split not empty, few empty splits, sizes close to the shares."""
    sizes = [found.count(split) for split in wanted]
    even = min(n / shares[SPLITS.index(split)] for n, split in zip(sizes, wanted, strict=True))
    return sizes[0] > 0, sum(map(bool, sizes)), even, sum(sizes)


def _choose(
    regions: Sequence[Region],
    shares: Sequence[float],
    wanted: Sequence[str],
    block: int,
    seed: Sequence[int],
) -> list[str | None]:
    """Make one random choice in blocks of a given side, see `assign_splits`."""
    blocks = _blocks(regions, block)
    order = np.random.default_rng(seed).permutation(len(blocks)).tolist()
    names = sorted(blocks)
    total, taken = len(regions), dict.fromkeys(SPLITS, 0)
    where: dict[Region, str] = {}
    for n, k in enumerate(order):
        # each split gets one block; then always the split furthest below its share
        split = (
            wanted[n]
            if n < len(wanted)
            else max(wanted, key=lambda s: shares[SPLITS.index(s)] * total - taken[s])
        )
        taken[split] += len(blocks[names[k]])
        where |= dict.fromkeys(blocks[names[k]], split)
    rank = {split: shares[k] for k, split in enumerate(SPLITS)}
    result: list[str | None] = []
    for region in regions:
        source, row, column = region
        near = product([source], range(row - 1, row + 2), range(column - 1, column + 2))
        others = {where.get(n) for n in near} - {None, where[region]}
        if any((rank[str(o)], str(o)) < (rank[where[region]], where[region]) for o in others):
            result.append(None)
        else:
            result.append(where[region])
    return result


def _blocks(regions: Iterable[Region], side: int) -> dict[Region, list[Region]]:
    found: dict[Region, list[Region]] = {}
    for source, row, column in regions:
        block = (source, row // side, column // side)
        found.setdefault(block, []).append((source, row, column))
    return found


def write_lists(folder: Path, prefix: str, made: Generated) -> list[Path]:
    """Write the question, answer and image lists of all splits.

    Args:
        folder: folder of the data set.
        prefix: prefix of the file names.
        made: the generated data set; images without a split are inactive in all lists.

    Returns:
        The files written.

    Raises:
        RunError: a file cannot be written.
    """
    asked = [(image, one) for image, mine in enumerate(made.questions) for one in mine]
    first = np.concatenate([[0], np.cumsum([len(mine) for mine in made.questions])]).tolist()
    written = []
    for split in [s for s in SPLITS if s in made.splits]:
        active = [s == split for s in made.splits]
        last = max(first[k + 1] for k, a in enumerate(active) if a)
        rows = {
            "questions": (
                _question(n, image, one) if active[image] else _stub(n)
                for n, (image, one) in enumerate(asked[:last])
            ),
            "answers": (
                _answer(n, one) if active[image] else _stub(n)
                for n, (image, one) in enumerate(asked[:last])
            ),
            "images": (
                _image(n, picture, range(first[n], first[n + 1])) if active[n] else _stub(n)
                for n, picture in enumerate(made.pictures)
            ),
        }
        for kind, records in rows.items():
            path = folder / f"{prefix}_split_{split}_{kind}.json"
            with atomic_write(path) as file:
                file.write(f'{{"{kind}": [')
                for n, record in enumerate(records):
                    file.write((",\n" if n else "\n") + to_json(record))
                file.write("\n]}\n")
            written.append(path)
    return written


def _stub(number: int) -> dict[str, Any]:
    return {"id": number, "active": False}


def _question(number: int, image: int, question: Question) -> dict[str, Any]:
    return {
        "id": number,
        "date_added": 0.0,
        "img_id": image,
        "people_id": 0,
        "type": question.type,
        "question": question.text,
        "answers_ids": [number],
        "active": True,
    }


def _answer(number: int, question: Question) -> dict[str, Any]:
    return {
        "id": number,
        "date_added": 0.0,
        "question_id": number,
        "people_id": 0,
        "answer": question.answer,
        "active": True,
    }


def _image(number: int, picture: Picture, questions: range) -> dict[str, Any]:
    size = f"{picture.resolution:g}m"
    return {
        "id": number,
        "date_added": 0.0,
        "original_name": picture.name,
        "sensor": picture.sensor,
        "upperleft_map_x": picture.x,
        "upperleft_map_y": picture.y,
        "res_x": size,
        "res_y": size,
        "people_id": 0,
        "type": "RGB",
        "questions_ids": list(questions),
        "active": True,
    }
