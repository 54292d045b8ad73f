"""Faults of image files: missing, empty, unreadable, blank; their sizes, formats and digests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ..config import InputConfig, RasterToRGB
from ..datasets.image_paths import why_missing
from ..errors import Qwen2VLRSError
from ..raster import image_format, read_rgb
from ..system.console import Progress, counted
from ..system.oserrors import ABSENT, reading_hint
from .findings import EXAMPLES, Example, Finding, no_fault
from .parts import Parts
from .remembered import Picture, Remembered, facts_of

_MOVED = "if the images were moved: --images FOLDER"
_AT_ONCE = 256  # images handed to the threads at a time
_MOST_THREADS = 16  # each holds an image


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known about the images after they were decoded.

    Attributes:
        count: number of distinct images.
        decoded: number of those that can be used.
        sizes: number of images by (width, height) in pixels, most frequent first.
        formats: number of images by format.
        upscaled: number of images below ``view.min_pixels``.
        downscaled: number of images above ``view.max_pixels``.
    """

    count: int
    decoded: int
    sizes: Mapping[tuple[int, int], int]
    formats: Mapping[str, int]
    upscaled: int
    downscaled: int


@dataclass
class _Faults:
    """Images that cannot be used: by path, the reason and how to fix it."""

    missing: dict[str, tuple[str, str]] = field(default_factory=dict)
    empty: dict[str, tuple[str, str]] = field(default_factory=dict)
    unusable: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __contains__(self, path: str) -> bool:
        return path in self.missing or path in self.empty or path in self.unusable


def file_faults(parts: Parts) -> list[Finding]:
    """Find images that are missing, empty or not readable as files; none is opened."""
    return _findings(parts, _looked_at(parts.image_paths), decoded=False)


def image_faults(
    parts: Parts, view: InputConfig
) -> tuple[list[Finding], ImageFacts, dict[str, Picture]]:
    """Decode all images as training does, in several threads.

    What was found in intact files is remembered: see `remembered.Remembered`.

    Returns:
        The findings, what is known about the images, and each usable picture by its path.
    """
    paths = parts.image_paths
    faults = _looked_at(paths)
    pictures: dict[str, Picture] = {}
    todo = [path for path in paths if path not in faults]
    with Remembered(view.image) as known, Progress("decoding images", len(todo), "images") as bar:
        for path, found in _decoded(todo, view.image, known):
            if isinstance(found, Picture):
                pictures[path] = found
            else:
                faults.unusable[path] = found
            bar.advance()
    blank = [path for path, picture in pictures.items() if picture.blank]
    findings = [*_findings(parts, faults, decoded=True), _blank(parts, blank)]
    return findings, _facts(len(paths), pictures, view), pictures


def _looked_at(paths: Sequence[str]) -> _Faults:
    """Look up the size of each file."""
    faults = _Faults()
    with Progress("looking for images", len(paths), "images") as bar:
        for path in paths:
            try:
                found = os.stat(path)
            except (*ABSENT, ValueError):
                faults.missing[path] = (f"no such file{why_missing(path)}", _MOVED)
            except OSError as error:
                why = f"cannot be looked at: {error.strerror}"
                faults.unusable[path] = (why, reading_hint(error))
            else:
                if not stat.S_ISREG(found.st_mode):
                    what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
                    faults.unusable[path] = (what, "give the image file itself")
                elif not found.st_size:
                    faults.empty[path] = ("the file is empty", "copy or download it again")
            bar.advance()
    return faults


def _decoded(
    paths: Sequence[str], rule: RasterToRGB, known: Remembered
) -> Iterator[tuple[str, Picture | tuple[str, str]]]:
    """Yield each image with its picture, or why it cannot be used and how to fix that."""

    def read(path: str) -> tuple[Picture | tuple[str, str], str]:
        facts = facts_of(path)  # of the file as it is before it is read
        if (picture := known.get(path, facts)) is not None:
            return picture, ""
        try:
            return _picture(path, rule), facts
        except Qwen2VLRSError as error:
            why = error.message.removeprefix(f"{path}: ").removeprefix(f"{path!r}: ")
            return (why, error.hint or ""), ""

    waiting = iter(paths)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        try:
            while part := list(islice(waiting, _AT_ONCE)):
                known.look_up(part)
                for path, (found, facts) in zip(part, pool.map(read, part), strict=True):
                    if facts and isinstance(found, Picture):
                        known.add(path, facts, found)
                    yield path, found
        finally:
            pool.shutdown(cancel_futures=True)


def _picture(path: str, rule: RasterToRGB) -> Picture:
    pixels = read_rgb(path, rule)
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    height, width = pixels.shape[:2]
    blank = bool((pixels == pixels[0, 0]).all())
    return Picture(width, height, image_format(path), digest.hexdigest(), blank)


def _findings(parts: Parts, faults: _Faults, decoded: bool) -> list[Finding]:
    return [
        _fault(parts, "missing_images", faults.missing, "missing", "no image is missing"),
        _fault(parts, "empty_images", faults.empty, "empty (0 bytes)", "no image file is empty"),
        _fault(
            parts,
            "unusable_images",
            faults.unusable,
            "not usable",
            "all images can be decoded" if decoded else "all image files can be accessed",
        ),
    ]


def _fault(
    parts: Parts, check: str, faults: Mapping[str, tuple[str, str]], what: str, otherwise: str
) -> Finding:
    if not faults:
        return no_fault(check, otherwise)
    asked = int(np.isin(parts.images, _codes(parts, faults)).sum())
    text = f"{counted(len(faults), 'image')} {what}, with {counted(asked, 'question')}"
    hints = list(dict.fromkeys(hint for _, hint in faults.values() if hint))
    examples = _examples(parts, {path: why for path, (why, _) in faults.items()})
    return Finding(check, "error", len(faults), text, "; ".join(hints[:EXAMPLES]), examples)


def _blank(parts: Parts, paths: Sequence[str]) -> Finding:
    if not paths:
        return no_fault("blank_images", "no image is of one colour")
    text = f"{counted(len(paths), 'image')} of one colour"
    hint = "check the files, and view.image (bands, stretch) if they are not 8-bit"
    examples = _examples(parts, dict.fromkeys(paths, "all pixels are equal"))
    return Finding("blank_images", "warning", len(paths), text, hint, examples)


def _codes(parts: Parts, paths: Iterable[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    number = {path: code for code, path in enumerate(parts.image_paths)}
    return np.array([number[path] for path in paths], dtype=np.int64)


def _examples(parts: Parts, reasons: Mapping[str, str]) -> list[Example]:
    first = dict(islice(reasons.items(), EXAMPLES))
    rows = parts.first_rows(_codes(parts, first)).tolist()
    return [parts.example(row, why) for row, why in zip(rows, first.values(), strict=True)]


def _facts(count: int, pictures: Mapping[str, Picture], view: InputConfig) -> ImageFacts:
    sizes: dict[tuple[int, int], int] = {}
    formats: dict[str, int] = {}
    for one in pictures.values():
        sizes[one.width, one.height] = sizes.get((one.width, one.height), 0) + 1
        formats[one.format] = formats.get(one.format, 0) + 1
    most = sorted(sizes.items(), key=lambda item: -item[1])
    areas = {size: size[0] * size[1] for size in sizes}
    return ImageFacts(
        count,
        len(pictures),
        dict(most),
        dict(sorted(formats.items())),
        sum(n for size, n in most if areas[size] < view.min_pixels),
        sum(n for size, n in most if areas[size] > view.max_pixels),
    )
