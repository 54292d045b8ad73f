"""Where files are: images that were moved, files that are not there, and what makes them."""

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


def place(folder: Path, path: str) -> str:
    r"""Where an image lies in a folder: the longest end of its path that is a file there.

    Args:
        folder: of the images, wherever it was moved to.
        path: as it was; also a Windows path (``C:\data\1.tif``).

    Returns:
        That file; where there is none, where the whole path would be.
    """
    parts = [part for part in re.split(r"[\\/]", _ROOT.sub("", path, count=1)) if part]
    if not _WINDOWS.match(path) and "/" in path:  # a backslash may be part of a name
        parts = [part for part in path.split("/") if part]
    ends = [folder.joinpath(*parts[k:]) for k in range(len(parts))] or [folder]
    # unlike `Path.is_file` this is False for a name that no file can have
    return str(next((end for end in ends if is_file(end)), ends[0]))


def beside(questions: Path, image: str, folders: Iterable[str], above: int = 0) -> str:
    """Where an image that a file of questions names lies: beside the file, or in a folder there.

    Args:
        questions: the file.
        image: as it is named there.
        folders: where images may lie, the likeliest first.
        above: in how many folders above the file it is also looked for.

    Returns:
        The first that is a file; where there is none, beside the questions.
    """
    parent = questions.parent.absolute()
    bases, inner = (parent, *parent.parents[:above]), ("", *folders)
    places = [str(base / folder / image) for base in bases for folder in inner]
    return next(filter(is_file, places), places[0])


def located(questions: Path, image: str) -> str:
    """Where an image lies that a file names: beside the file, else from the current folder.

    Args:
        questions: the file.
        image: as it is named there.
    """
    if os.path.isabs(image) or questions.parent == Path():
        return image
    near_file = str(questions.parent.absolute() / image)  # what is made of it may lie elsewhere
    return near_file if is_file(near_file) else image


def moved(samples: Iterable[Sample], folder: str | Path | None) -> Dataset:
    """Samples with their images in another folder; as they are where none is named.

    Raises:
        DataError: there is no such folder, or none of the images is in it.
    """
    data = Dataset.of(samples)
    if folder is None:
        return data
    require_folder(Path(folder))
    new = data.changed("image", lambda image: place(Path(folder), image))
    images = new.distinct("image")
    if images and not any(map(is_file, images)):
        before = data.distinct("image")
        raise DataError(
            f"none of the {len(before):,} images is in {folder}, e.g. {before[0]}",
            hint="--images names the folder that holds them; subfolders stay as they were",
        )
    return new


def require_folder(images: Path) -> None:
    """Make sure that the folder of the images is there.

    Raises:
        DataError: it is not.
    """
    if not is_folder(images):
        raise DataError(f"no folder {images}{near(images)}", hint="name the folder: --images")


def require_image(path: str, hint: str = "where the images were moved to: --images FOLDER") -> None:
    """Make sure that an image is there.

    Args:
        path: the file.
        hint: what to do where it is not.

    Raises:
        DataError: it is not; says so of Windows paths and moved folders.
    """
    if mode_of(path) is None:
        raise DataError(f"{path}: no such file{_why(path)}", hint=hint)


def warn_of_absent(absent: Sequence[str], images: int, out: Path) -> None:
    """Say that images are not there, and that training on ``out`` would stop at them.

    Args:
        absent: the images that are not there.
        images: number of all images.
        out: the file that names them.
    """
    if absent:
        warn(
            f"{len(absent):,} of {images:,} images not found, e.g. {absent[0]}{_why(absent[0])}: "
            "train stops at the first. If they were moved: csv2json --images FOLDER, or "
            f"train{_data(out)} --images FOLDER"
        )


def _data(out: Path) -> str:
    return "" if out == Path("data_vl.json") else f" --data {shlex.quote(str(out))}"


def _why(path: str) -> str:
    if _WINDOWS.match(path) and os.name != "nt":
        return " (a Windows path)"
    return "" if os.path.isdir(os.path.dirname(path) or ".") else " (nor is its folder)"


def absent(path: Path) -> DataError:
    """The error for a file that is not there, with the command that makes it."""
    name, text = path.name, shlex.quote(str(path))
    hint = "check the name and the folder"
    if path.is_symlink():
        said = f"{path} is a link to {os.readlink(path)}, which is not there"
        return DataError(said, hint="put that file back, or name another")
    if alike := near(path):
        hint = f"check the name{alike}"
    elif path.suffix.lower() == ".csv":
        output = "" if text == "rsvqa-dataset.csv" else f" --output {text}"
        hint = f"make it of RSVQA's files: qwen2vl-rs data2csv{output}"
    elif name in ("data_vl_train.json", "data_vl_test.json"):
        hint = "train writes it: qwen2vl-rs train"
    elif name == "data_vl.json":
        table = path.with_name("rsvqa-dataset.csv").is_file()
        hint = f"make it: {'' if table else 'qwen2vl-rs data2csv, then '}qwen2vl-rs csv2json"
    elif _ANSWERS.fullmatch(name):
        hint = (
            "go to the folder that holds RSVQA's files, or name it: qwen2vl-rs data2csv --folder "
            "FOLDER; without data of your own: qwen2vl-rs generate --synthetic 100, or all steps "
            "at once: qwen2vl-rs demo"
        )
    elif name == "predictions.jsonl":
        hint = "eval writes it: qwen2vl-rs eval"
    return DataError(f"no file {path}", hint=hint)


def near(path: Path) -> str:
    """``, did you mean NAME?`` for what is there and has the nearest path; else empty.

    Every part may be mistyped: ``own/photo/north`` is near to ``own/photos/north``.
    """
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        name = part if os.path.exists(found / part) else _nearest(found, part)
        if not name:
            return ""
        found /= name
    return f", did you mean {found}?" if found != path else ""


def _nearest(folder: Path, name: str) -> str:
    """The name in a folder that is the same but for its ending, or nearest; empty where none is."""
    try:
        names = [one for one in os.listdir(folder) if not one.startswith(".")]
    except (OSError, ValueError):  # the latter for names that no file can have
        return ""
    same = [one for one in sorted(names) if os.path.splitext(one)[0] == name]
    return next(iter(same or difflib.get_close_matches(name, names, n=1, cutoff=0.8)), "")
