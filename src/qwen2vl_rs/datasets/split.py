"""Train/test split by image, so that the sets share no image; limits by image."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..system.console import counted, say
from ..types import Sample
from .base import Codes, Dataset


def split_by_image(
    samples: Iterable[Sample], test_fraction: float = 0.1, seed: int = 42
) -> tuple[Dataset, Dataset]:
    """Split samples so that all questions about an image are in the same set.

    Images are compared as files, independent of the spelling of their paths (relative, links).
    The test images depend only on the seed and the set of images, not on the order of the samples;
    both sets keep the order.

    Args:
        samples: questions with their answers.
        test_fraction: share of the images in the test set, between 0 and 1; both sets get at least
            one image.
        seed: seed of the random choice.

    Returns:
        Training samples and test samples.

    Raises:
        DataError: there are fewer than two images.
    """
    data = Dataset.of(samples)
    codes, images = data.codes("image")
    files = image_files(images)
    names = sorted(set(files))
    if len(names) < 2:
        raise DataError(
            f"a split needs at least 2 images, not {counted(len(data), 'question')} about "
            f"{counted(len(names), 'image')}",
            hint="use more images, or a separate test file",
        )
    drawn = {names[k] for k in _draw(len(names), test_fraction, seed)}
    return _divide(data, np.array([file in drawn for file in files])[codes])


def split_by_question(
    samples: Iterable[Sample], test_fraction: float = 0.1, seed: int = 42
) -> tuple[Dataset, Dataset]:
    """Split samples by question: training and test set then share images.

    The arguments are those of `split_by_image`, for questions instead of images. Count the leaked
    images with `count_shared_images`.

    Raises:
        DataError: there are fewer than two questions.
    """
    data = Dataset.of(samples)
    if len(data) < 2:
        raise DataError(
            f"{counted(len(data), 'question')} cannot be split", hint="use more questions"
        )
    order = np.lexsort((_ranks(data, "question"), _ranks(data, "image")))
    tested = np.zeros(len(data), dtype=np.bool_)
    tested[order[list(_draw(len(data), test_fraction, seed))]] = True
    return _divide(data, tested)


def count_shared_images(train: Iterable[Sample], test: Iterable[Sample]) -> int:
    """Count the images that are in both sets."""
    sides = [set(image_files(Dataset.of(side).distinct("image"))) for side in (train, test)]
    return len(sides[0] & sides[1])


def image_files(images: Iterable[str]) -> list[str]:
    """Resolve the path of each image, so that equal files have equal names.

    Each folder is resolved once.
    """
    folders: dict[str, str] = {}
    found = []
    for image in images:
        folder, name = os.path.split(image)
        if name in ("", ".", "..") or os.path.islink(image):
            found.append(os.path.realpath(image))
            continue
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        found.append(os.path.join(folders[folder], name))
    return found


def _ranks(data: Dataset, name: str) -> Codes:
    """Return the rank of each row's value among the sorted values of a column."""
    codes, values = data.codes(name)
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[sorted(range(len(values)), key=values.__getitem__)] = np.arange(len(values))
    return ranks[codes]


def _draw(count: int, fraction: float, seed: int) -> set[int]:
    """Draw some of ``count`` indices: at least one, and not all."""
    n = min(max(1, round(fraction * count)), count - 1)
    return set(random.Random(seed).sample(range(count), n))


def _divide(data: Dataset, tested: NDArray[np.bool_]) -> tuple[Dataset, Dataset]:
    return data.take(np.flatnonzero(~tested)), data.take(np.flatnonzero(tested))


def group_by_image(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Group samples by image, images in order of first occurrence."""
    data = Dataset.of(samples)
    rows = iter(data.take(data.groups.order))
    return [list(islice(rows, size)) for size in data.groups.sizes.tolist()]


def limit_images(samples: Iterable[Sample], most: int | None, what: str = "training") -> Dataset:
    """Keep the questions about the first images.

    Args:
        samples: the questions.
        most: maximal number of images; None for all.
        what: purpose of the questions, for the message.
    """
    data = Dataset.of(samples)
    codes, images = data.codes("image")
    if most is None or len(images) <= most:
        return data
    first = dict.fromkeys(codes.tolist())  # in order of first occurrence
    kept = data.take(np.flatnonzero(np.isin(codes, list(first)[:most])))
    questions = f"{len(kept):,} of {counted(len(data), f'{what} question')}"
    say(f"using {most:,} of {counted(len(images), 'image')}: {questions}")
    return kept


def limit_by_image(samples: Iterable[Sample], most: int | None, what: str = "test") -> Dataset:
    """Keep the first images with at most ``most`` questions in total.

    If the first image alone has more, keep the first ``most`` of its questions.

    Args:
        samples: the questions.
        most: maximal number of questions; None for all.
        what: purpose of the questions, ``test`` or ``training``; empty to say nothing.
    """
    data = Dataset.of(samples)
    if most is None or len(data) <= most:
        return data
    groups = data.groups
    whole = max(int(np.searchsorted(groups.ends, most, side="right")), 1)
    n = int(groups.ends[whole - 1])
    images = counted(whole, "whole image")
    if n > most:
        images, n = f"of one image, which has {n:,}", most
    if not what:
        return data.take(groups.order[:n])
    doing = "evaluating" if what == "test" else "using"
    say(f"{doing} {n:,} of {counted(len(data), f'{what} question')} ({images})")
    return data.take(groups.order[:n])
