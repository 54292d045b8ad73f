"""The questions of a training: whether they can be read, and how many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..system.console import counted, say
from .computer import gigabytes
from .lines import Line, problem, warning

if TYPE_CHECKING:
    from ..datasets.base import Dataset

_MOST = 100e6  # bytes of question files that are read here: some 400,000 questions, 5 seconds
_SLOW = 10e6
_LEAST = 5  # test images below which results have no meaningful interval


@dataclass(slots=True)
class Questions:
    """What is known about the questions.

    Attributes:
        train: training questions; the first one alone if there are too many to read.
        counted: whether these are all.
    """

    train: Dataset | None = None
    counted: bool = False


def questions(config: Config, found: Questions, figures: dict[str, Any]) -> Iterator[Line]:
    """Yield lines about the questions of a training.

    Args:
        config: the settings.
        found: filled in.
        figures: numbers of questions and images are added.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    from ..datasets.reading import first_sample

    data = config.data
    named = (
        {"train": data.train, "test": data.test} if data.train else {"whole": data.conversations}
    )
    files = {name: Path(path) for name, path in {**named, "val": data.val}.items() if path}
    firsts = [first_sample(path, data.dataset) for path in files.values()]
    for path, first in zip(files.values(), firsts, strict=True):
        yield from _first_image(config, path, first)
    size = sum(map(_size, files.values()))
    if size > _MOST:
        found.train = _placed(config, firsts[0])
        text = f"not counted: {', '.join(map(str, files.values()))} have {gigabytes(size)}"
        yield Line("number", text)
        return
    if size > _SLOW:
        say(f"reading {', '.join(map(str, files.values()))}")
    parts = _parts(config, files)
    found.train, found.counted = _placed(config, parts["train"]), True
    for name, part in parts.items():
        images = len(part.distinct("image"))
        figures[f"{name}_questions"], figures[f"{name}_images"] = len(part), images
        text = f"{counted(len(part), 'question')} about {counted(images, 'image')}"
        if not len(part):
            yield problem(f"{name} questions", text, "check the files of questions")
        elif name == "test" and images < _LEAST:
            hint = "use more images: --test FILE, or --set data.test_fraction=0.2"
            yield warning(f"{name} questions", f"{text}: too few for an interval", hint)
        else:
            yield Line(f"{name} questions", text)
    yield from _shared(parts["train"], parts["test"])


def _parts(config: Config, files: dict[str, Path]) -> dict[str, Dataset]:
    """Return the parts by name, as `train` makes them."""
    from ..datasets.parts import make_parts
    from ..datasets.reading import read_samples

    data = config.data
    given: dict[str, Dataset] = {
        name: read_samples(path, dataset=data.dataset) for name, path in files.items()
    }
    return make_parts(data, config.training.seed, **given)


def _shared(train: Dataset, test: Dataset) -> Iterator[Line]:
    from ..datasets.split import count_shared_images

    if shared := count_shared_images(train, test):
        text = f"{counted(shared, 'image')} on both sides: the test result will be too optimistic"
        yield warning("split", text, "split by image: --split-by image")


def _first_image(config: Config, path: Path, first: Dataset) -> Iterator[Line]:
    """Yield a line about a file, with the size of its first image."""
    from ..datasets.image_paths import relocate_images, require_image
    from ..raster import image_size

    if not len(first):
        yield problem(str(path), "no question in it", "check the file")
        return
    (sample,) = relocate_images(first, config.data.images)
    require_image(sample.image)
    width, height = image_size(sample.image)
    yield Line("questions", f"{path} ({gigabytes(_size(path))}); its first image: {width}x{height}")


def _placed(config: Config, samples: Dataset) -> Dataset:
    from ..datasets.image_paths import relocate_images

    return relocate_images(samples, config.data.images)


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # reading it will say why
        return 0
