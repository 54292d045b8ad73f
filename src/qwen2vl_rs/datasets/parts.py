"""The parts of a training's questions: training, validation and test."""

from __future__ import annotations

from ..config import DataConfig
from .base import Dataset
from .split import limit_by_image, limit_images, split_by_image, split_by_question

TRAIN, VAL, TEST = "train", "val", "test"


def make_parts(
    data: DataConfig,
    seed: int,
    *,
    whole: Dataset | None = None,
    train: Dataset | None = None,
    test: Dataset | None = None,
    val: Dataset | None = None,
) -> dict[str, Dataset]:
    """Split questions as the settings say, and limit their number.

    The test questions do not depend on the validation questions, which are taken from the training
    questions unless they are given.

    Args:
        data: the settings of the split.
        seed: seed of the random choice.
        whole: questions to split.
        train: training questions, if they are given.
        test: test questions, likewise.
        val: validation questions, if they are given.

    Returns:
        The parts by name: `TRAIN`, `TEST` and, if there are any, `VAL`.

    Raises:
        DataError: there are too few images or questions to split.
    """
    by = split_by_image if data.split_by == "image" else split_by_question
    if whole is not None:
        train, test = by(whole, data.test_fraction, seed)
    assert train is not None
    assert test is not None
    if val is None and data.val_fraction:
        train, val = by(train, data.val_fraction, seed)
    train = limit_images(train, data.max_train_images)
    parts = {TRAIN: limit_by_image(train, data.max_train, "training"), TEST: test}
    if val is not None:
        parts[VAL] = limit_by_image(val, data.max_val, "validation")
    return parts
