"""Load a data set from a file (`read`) or from a folder in RSVQA's layout (`RSVQA`)."""

from __future__ import annotations

import os
from pathlib import Path

from ..system.calls import public
from .base import Dataset
from .image_paths import relocate_images
from .reading import read_official, read_samples
from .rsvqa import find_split

Source = str | os.PathLike[str]


@public
def read(path: Source, *, images: Source | None = None) -> Dataset:
    """Read the questions of a file in any supported format.

    Args:
        path: conversations (JSON), a CSV table, an official question file, or a file of one of
            the data sets in docs/data.md.
        images: folder that contains the images; None to use the paths in the file.

    Raises:
        DataError: the format is not supported, or the file cannot be read.

    Examples:
        >>> data = rs.datasets.read("data.json")
        >>> data[0].answer
        '...'
    """
    return relocate_images(read_samples(Path(path)), Path(images) if images else None)


class RSVQA(Dataset):
    """A split of RSVQA in its published layout: RSVQA-LR, -HR, xBEN, or a generated data set.

    Args:
        folder: folder with the question files and the images.
        split: ``train``, ``val``, ``test``, …; None if the folder contains only one split.
        images: image folder; None for the one beside the questions.

    Raises:
        DataError: there is no such split, or its files cannot be read.

    Examples:
        >>> data = rs.datasets.RSVQA("RSVQA_LR", split="test")
        >>> data[0].type in data.types
        True
    """

    @public
    def __init__(
        self, folder: Source, split: str | None = None, images: Source | None = None
    ) -> None:
        files = find_split(Path(folder), split, Path(images) if images else None)
        super().__init__(read_official(files).table)
