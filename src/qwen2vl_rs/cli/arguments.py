"""Images and questions as they are typed in one row at a terminal.

Shells put all files of a pattern into the row, so what is a file has to be an image: taken for a
question it would be answered without a word.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..datasets.image_paths import suggestion
from ..errors import DataError, ImageError
from ..raster import image_size
from ..system.oserrors import is_folder, mode_of, reading_hint

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".bmp")
"""Endings of image files that are read: those taken from a folder."""

# Endings that no question has; of formats that are not read too, which is then said.
_ENDINGS = (*SUFFIXES, ".gif", ".vrt", ".img", ".hdf", ".h5", ".nc", ".heic", ".avif", ".jxl")

# What no question looks like: /a/b, ./a, ~/a, a/*, a/
_PATH = re.compile(r"(?:/|\.{1,2}/|~/)\S*|\S*/\S*\*\S*|[!-~]+/|[A-Za-z]:[\\/]\S*")
_PARTS = re.compile(r"\S*[\\/]\S*")
_ASKS = ("?", "\uff1f", "\u061f")  # how a question ends: also in Chinese and in Arabic


def images_and_questions(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Tell images from questions.

    Files and folders are images (of a folder, all image files in it, by name), patterns that the
    shell left alone are the files they match, and everything else is a question: but for what can
    only be a path, or is nearly one that is there, and does not end in a question mark.

    Args:
        words: as typed, in any order.

    Returns:
        Images, each once, and questions, in their order.

    Raises:
        DataError: a file is no image, a folder holds none, or what can only be a path is not
            there.
    """
    images: list[str] = []
    questions: list[str] = []
    for word in words:
        found = _images(word)
        if found is None:
            questions.append(word)
        images += found or ()
    return list(dict.fromkeys(images)), questions


def _images(word: str) -> Sequence[str] | None:
    """The images a word stands for; None for a question."""
    if is_folder(word):
        return _of_folder(Path(word))
    if mode_of(word) is not None:
        return [_checked(word)]
    if not _is_path(word):
        return None
    if glob.has_magic(word):
        if matched := sorted(glob.glob(word)):
            return [image for name in matched for image in _images(name) or ()]
        raise DataError(f"no file matches {word}", hint="check the folder and the pattern: ls")
    slashed = word.replace("\\", "/")
    there = f", did you mean {slashed}?" if os.path.exists(slashed) else ""
    alike = there or suggestion(Path(slashed))
    raise DataError(
        f"{word}: no such file or folder{alike}",
        hint="check the path, relative to the current folder; a question ends with a question mark",
    )


def _is_path(word: str) -> bool:
    """Whether a word, of which there is no file, was meant as one."""
    if os.path.splitext(word)[1].lower() in _ENDINGS or _PATH.fullmatch(word):
        return True
    if word.endswith(_ASKS):
        return False
    if _PARTS.fullmatch(word):  # without a space; in Chinese a question has none either
        first = re.split(r"[\\/]", word, maxsplit=1)[0]
        return word.isascii() or os.path.isdir(first) or bool(suggestion(Path(first)))
    return bool(suggestion(Path(word)))


def _of_folder(folder: Path) -> list[str]:
    try:
        names = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise DataError(
            f"cannot list the folder {folder}: {error.strerror}",
            hint=reading_hint(error, "name a folder that you may read"),
        ) from error
    if not names:
        raise DataError(
            f"{folder} is a folder without images ({', '.join(SUFFIXES)})",
            hint="name the image files, or the folder that holds them",
        )
    return [str(name) for name in names]


def _checked(file: str) -> str:
    """A file that is an image, or is named as one: what is wrong with that, reading it will say.

    Raises:
        DataError: it is something else.
    """
    if os.path.splitext(file)[1].lower() not in SUFFIXES:
        try:
            image_size(file)
        except ImageError as error:
            raise DataError(
                f"{file} is a file and not an image, so neither an image nor a question: "
                f"{error.message.removeprefix(f'{file}: ')}",
                hint="name image files and folders, then the questions in quotation marks",
            ) from error
    return file
