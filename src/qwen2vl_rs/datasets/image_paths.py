"""Resolve image paths, and explain missing files with a hint how to create them."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DataError
from ..system.console import warn
from ..system.oserrors import is_file, is_folder, mode_of
from ..types import Sample
from .base import Dataset

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ROOT = re.compile(r"^[A-Za-z]:|^[\\/]+")
_ANSWERS = re.compile(r".*(questions|answers)\.json")


def find_in_folder(folder: Path, path: str) -> str:
    r"""Find an image in a folder by the longest suffix of its path that exists there.

    Args:
        folder: folder that the images were moved to.
        path: original path; may be a Windows path (``C:\data\1.tif``).

    Returns:
        The file; if there is none, the folder joined with the whole path.
    """
    parts = [part for part in re.split(r"[\\/]", _ROOT.sub("", path, count=1)) if part]
    if not _WINDOWS.match(path) and "/" in path:  # a backslash may be part of a name
        parts = [part for part in path.split("/") if part]
    ends = [folder.joinpath(*parts[k:]) for k in range(len(parts))] or [folder]
    # unlike `Path.is_file`, this is False for invalid names
    return str(next((end for end in ends if is_file(end)), ends[0]))


def find_beside(questions: Path, image: str, folders: Iterable[str], above: int = 0) -> str:
    """Find an image beside a question file, or in a folder beside it.

    Args:
        questions: the question file.
        image: image name in the file.
        folders: image folders to search, in order.
        above: number of parent folders to search as well.

    Returns:
        The first path that exists; if there is none, the path beside the question file.
    """
    parent = questions.parent.absolute()
    bases, inner = (parent, *parent.parents[:above]), ("", *folders)
    places = [str(base / folder / image) for base in bases for folder in inner]
    return next(filter(is_file, places), places[0])


def resolve_image(questions: Path, image: str) -> str:
    """Resolve an image path relative to its question file, else to the current folder.

    Args:
        questions: the question file.
        image: image path in the file.
    """
    if os.path.isabs(image) or questions.parent == Path():
        return image
    near_file = str(questions.parent.absolute() / image)  # absolute: outputs may be elsewhere
    return near_file if is_file(near_file) else image


def relocate_images(samples: Iterable[Sample], folder: str | Path | None) -> Dataset:
    """Change the image paths to another folder; None leaves them unchanged.

    Raises:
        DataError: the folder does not exist or contains none of the images.
    """
    data = Dataset.of(samples)
    if folder is None:
        return data
    require_folder(Path(folder))
    new = data.changed("image", lambda image: find_in_folder(Path(folder), image))
    images = new.distinct("image")
    if images and not any(map(is_file, images)):
        before = data.distinct("image")
        raise DataError(
            f"none of the {len(before):,} images is in {folder}, e.g. {before[0]}",
            hint="--images must name the folder that contains them, with the same subfolders",
        )
    return new


def require_folder(images: Path) -> None:
    """Check that an image folder exists.

    Raises:
        DataError: it does not.
    """
    if not is_folder(images):
        raise DataError(f"no folder {images}{suggestion(images)}", hint="name the folder: --images")


def require_image(path: str, hint: str = "if the images were moved: --images FOLDER") -> None:
    """Check that an image exists.

    Args:
        path: the file.
        hint: hint of the error.

    Raises:
        DataError: it does not exist; the message mentions Windows paths and missing folders.
    """
    if mode_of(path) is None:
        raise DataError(f"{path}: no such file{why_missing(path)}", hint=hint)


def warn_of_missing(missing: Sequence[str], images: int, out: Path) -> None:
    """Warn about missing images, at which training on ``out`` would stop.

    Args:
        missing: the missing images.
        images: number of all images.
        out: the question file.
    """
    if missing:
        example = f"{missing[0]}{why_missing(missing[0])}"
        warn(
            f"{len(missing):,} of {images:,} images not found, e.g. {example}: train stops at the "
            "first. If they were moved: csv2json --images FOLDER, or "
            f"train{_data(out)} --images FOLDER"
        )


def _data(out: Path) -> str:
    return "" if out == Path("data_vl.json") else f" --data {shlex.quote(str(out))}"


def why_missing(path: str) -> str:
    """Return what is known about a missing file, in brackets; else empty."""
    if _WINDOWS.match(path) and os.name != "nt":
        return " (a Windows path)"
    return "" if os.path.isdir(os.path.dirname(path) or ".") else " (nor is its folder)"


def missing_file(path: Path) -> DataError:
    """Return the error for a missing file, with the command that creates it."""
    name, text = path.name, shlex.quote(str(path))
    hint = "check the name and the folder"
    if path.is_symlink():
        problem = f"{path} is a link to {os.readlink(path)}, which does not exist"
        return DataError(problem, hint="restore that file, or name another")
    if alike := suggestion(path):
        hint = f"check the name{alike}"
    elif path.suffix.lower() == ".csv":
        output = "" if text == "rsvqa-dataset.csv" else f" --output {text}"
        hint = f"create it from RSVQA's files: qwen2vl-rs data2csv{output}"
    elif name in ("data_vl_train.json", "data_vl_test.json"):
        hint = "train writes it: qwen2vl-rs train"
    elif name == "data_vl.json":
        table = path.with_name("rsvqa-dataset.csv").is_file()
        hint = f"create it: {'' if table else 'qwen2vl-rs data2csv, then '}qwen2vl-rs csv2json"
    elif _ANSWERS.fullmatch(name):
        hint = (
            "change to the folder with RSVQA's files, or name it: qwen2vl-rs data2csv --folder "
            "FOLDER; without own data: qwen2vl-rs generate --synthetic 100, or all steps at once: "
            "qwen2vl-rs demo"
        )
    elif name == "predictions.jsonl":
        hint = "eval writes it: qwen2vl-rs eval"
    return DataError(f"no file {path}", hint=hint)


def suggestion(path: Path) -> str:
    """Return ``, did you mean NAME?`` with the closest existing path; else empty.

    Any part may be mistyped: ``own/photo/north`` matches ``own/photos/north``.
    """
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        name = part if os.path.exists(found / part) else _nearest(found, part)
        if not name:
            return ""
        found /= name
    return f", did you mean {found}?" if found != path else ""


def _nearest(folder: Path, name: str) -> str:
    """Return the name with another extension, or the closest name; empty if there is none."""
    try:
        names = [one for one in os.listdir(folder) if not one.startswith(".")]
    except (OSError, ValueError):  # ValueError for invalid names
        return ""
    # whoever mistypes the training questions shall not be led to the test questions
    names = [one for one in names if "test" in name or "test" not in one]
    same = [one for one in sorted(names) if os.path.splitext(one)[0] == name]
    return next(iter(same or difflib.get_close_matches(name, names, n=1, cutoff=0.8)), "")
