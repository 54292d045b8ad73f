"""Training and test sets that share no image."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence

from ..errors import DataError
from ..system.console import counted, say
from ..types import Sample


def split_by_image(
    samples: Iterable[Sample], test_fraction: float = 0.1, seed: int = 42
) -> tuple[list[Sample], list[Sample]]:
    """Divide samples so that all questions about an image stand on one side.

    An image is a file, however its path is spelt (relative, through a link). Which images are
    tested depends on the seed and the set of images alone, not on the order of the samples;
    within each side the order is kept.

    Args:
        samples: questions with their answers.
        test_fraction: part of the images, between 0 and 1, that is tested: at least one image,
            and at least one is left for training.
        seed: another seed, another choice.

    Returns:
        Training samples and test samples.

    Raises:
        DataError: there are fewer than two images.
    """
    everything = list(samples)
    images = _images(everything)
    names = sorted(set(images))
    if len(names) < 2:
        raise DataError(
            f"{len(everything):,} questions need at least 2 images, and are about {len(names)}",
            hint="take more images, or give a test file of its own",
        )
    drawn = {names[k] for k in _draw(len(names), test_fraction, seed)}
    return _divide(everything, [image in drawn for image in images])


def split_by_question(
    samples: Iterable[Sample], test_fraction: float = 0.1, seed: int = 42
) -> tuple[list[Sample], list[Sample]]:
    """Divide samples question by question: the same image is then trained on and tested.

    The arguments are those of `split_by_image`, with questions in place of images. Count what
    leaks with `leak`.

    Raises:
        DataError: there are fewer than two questions.
    """
    everything = list(samples)
    if len(everything) < 2:
        raise DataError(
            f"{len(everything)} questions cannot be divided", hint="take more questions"
        )
    order = sorted(
        range(len(everything)), key=lambda k: (everything[k].image, everything[k].question)
    )
    drawn = {order[k] for k in _draw(len(order), test_fraction, seed)}
    return _divide(everything, [k in drawn for k in range(len(everything))])


def leak(train: Iterable[Sample], test: Iterable[Sample]) -> int:
    """The number of images that stand on both sides."""
    return len(set(_images(train)) & set(_images(test)))


def _images(samples: Iterable[Sample]) -> list[str]:
    """Each sample's image file, links and spellings resolved once per spelling."""
    known: dict[str, str] = {}
    return [
        known.get(s.image) or known.setdefault(s.image, os.path.realpath(s.image)) for s in samples
    ]


def _draw(count: int, fraction: float, seed: int) -> set[int]:
    """Positions among ``count`` things: at least one, and not all."""
    n = min(max(1, round(fraction * count)), count - 1)
    return set(random.Random(seed).sample(range(count), n))


def _divide(samples: Sequence[Sample], tested: Iterable[bool]) -> tuple[list[Sample], list[Sample]]:
    sides: tuple[list[Sample], list[Sample]] = ([], [])
    for sample, is_tested in zip(samples, tested, strict=True):
        sides[is_tested].append(sample)
    return sides


def group_by_image(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples of the same image together, images in the order of their first sample."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image, []).append(sample)
    return list(groups.values())


def limit_by_image(samples: Sequence[Sample], most: int | None, what: str = "test") -> list[Sample]:
    """The first images whose questions are at most ``most`` together.

    An image that alone has more gives the first ``most`` of its questions.

    Args:
        samples: the questions.
        most: so many; None for all.
        what: what they are for, ``test`` or ``training``.
    """
    if most is None or len(samples) <= most:
        return list(samples)
    taken: list[Sample] = []
    for group in group_by_image(samples):
        if taken and len(taken) + len(group) > most:
            break
        taken += group
    images = counted(len({s.image for s in taken}), "whole image")
    if len(taken) > most:
        images = f"of one image, which has {len(taken):,}"
        taken = taken[:most]
    doing = "evaluating" if what == "test" else "using"
    say(f"{doing} {len(taken):,} of {len(samples):,} {what} questions ({images})")
    return taken
