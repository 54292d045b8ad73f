"""Data sets by the place where they lie: a file, or a folder in RSVQA's layout."""

from __future__ import annotations

import os
from pathlib import Path

from ..system.calls import public
from .base import Dataset
from .image_paths import moved
from .reading import read_official, read_samples
from .rsvqa import find_split

Source = str | os.PathLike[str]


@public
def read(path: Source, *, images: Source | None = None) -> Dataset:
    """The questions of a file of any known form.

    Args:
        path: conversations (JSON), a CSV table, an official question file, or a file of one of
            the data sets in docs/data.md.
        images: folder to which the images were moved; None: they are where the file says.

    Raises:
        DataError: the file is of no such form, or cannot be used.

    Examples:
        >>> data = rs.datasets.read("data.json")
        >>> data[0].answer
        '...'
    """
    return moved(read_samples(Path(path)), Path(images) if images else None)


class RSVQA(Dataset):
    """A split of RSVQA in a folder as it is published: RSVQA-LR, -HR, xBEN, or a generated one.

    Args:
        folder: holds the question files and the images.
        split: ``train``, ``val``, ``test``, …; None where the folder holds one split only.
        images: folder of the images; None for the one beside the questions.

    Raises:
        DataError: there is no such split, or its files cannot be used.

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
