"""Tell images from questions in the arguments of a command.

A shell expands a pattern to all matching files, so every file must be an image: a file that was
taken for a question would be answered silently.
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
"""Extensions of the image files that are taken from a folder."""

# Extensions of image files, also of formats that are not supported.
_ENDINGS = (*SUFFIXES, ".gif", ".vrt", ".img", ".hdf", ".h5", ".nc", ".heic", ".avif", ".jxl")

# Patterns of paths: /a/b, ./a, ~/a, a/*, a/
_PATH = re.compile(r"(?:/|\.{1,2}/|~/)\S*|\S*/\S*\*\S*|[!-~]+/|[A-Za-z]:[\\/]\S*")
_PARTS = re.compile(r"\S*[\\/]\S*")
_ASKS = ("?", "\uff1f", "\u061f")  # question marks, also Chinese and Arabic


def images_and_questions(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separate images and questions.

    Files are images, and folders stand for the image files in them, by name. Patterns that the
    shell did not expand stand for the matching files. Everything else is a question, unless it can
    only be a path or nearly is an existing one, and does not end in a question mark.

    Args:
        words: the arguments, in any order.

    Returns:
        Images without duplicates, and questions, in their order.

    Raises:
        DataError: a file is not an image, a folder holds no images, or a path does not exist.
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
    """The images that an argument stands for; None for a question."""
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
