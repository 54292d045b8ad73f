"""Image features: run the frozen vision tower once per image and cache its output on disk.

Shapes: N patches of all images, D values of a patch; V visual tokens of an image, F features of
each (1, or more where later layers get their own), H values of a feature.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.family import family_of
from ..models.finite import require_finite_features
from ..models.images import ImageInput
from ..models.loader import Base
from ..raster import image_digest
from ..system.console import Progress, counted, say, warn
from ..system.files import append_to, atomic_write, is_there
from ..system.jsonl import read_jsonl, to_line
from ..system.named_files import open_named, reading
from ..system.oserrors import unreadable
from .prefetch import prefetch

# Per pass of the vision tower: on a GPU 12 images of 256 pixels, 3 of 512. A CPU gets one image at
# a time, so that an image's features do not depend on its neighbours in the pass.
_PATCHES_AT_ONCE = {"cpu": 1, "cuda": 4096}


Free = dict[tuple[str, int], int]  # offsets by key and length, all in words


def encode(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> list[torch.Tensor]:
    """Return the features of images, computed in one pass of the vision tower.

    Gradients flow to what is trained in the tower and merger; a frozen tower keeps no activations.

    Args:
        model: a base model, with or without adapter.
        patches: (N, D) of all images, on the model's device.
        grids: (images, 3) time, rows and columns of patches, likewise.

    Returns:
        For each image (V, F, H), on the model's device.
    """
    return family_of(model.config).encode(model, patches, grids)


@torch.no_grad()
def with_features(model: Any, images: Sequence[ImageInput]) -> list[ImageInput]:
    """Return the images with features, computed in batches; existing features are kept."""
    found = list(images)
    bare = [i for i, image in enumerate(found) if image.features is None]
    for part in vision_batches([math.prod(found[i].grid) for i in bare], model.device):
        some = [found[bare[k]] for k in part]
        patches = torch.cat([i.patches for i in some if i.patches is not None])
        grids = torch.tensor([i.grid for i in some])
        device = model.device
        features = encode(model, patches.to(device), grids.to(device))
        for k, one in zip(part, features, strict=True):
            found[bare[k]] = replace(found[bare[k]], features=one, patches=None)
    return found


def vision_batches(sizes: Sequence[int], device: torch.device) -> Iterator[list[int]]:
    """Cut a sequence of images into batches for the vision tower, by number of patches."""
    most = _PATCHES_AT_ONCE[device.type]
    part: list[int] = []
    used = 0
    for i, size in enumerate(sizes):
        if part and used + size > most:
            yield part
            part, used = [], 0
        part.append(i)
        used += size
    if part:
        yield part


class ImageSource(Protocol):
    """Where training gets its images from: image files, or features."""

    @property
    def merge_size(self) -> int:
        """Patches along one side of a visual token."""

    def tokens(self, path: str) -> int:
        """Return the number of visual tokens of an image."""

    def read(self, path: str) -> ImageInput:
        """Return an image with patches or features."""


@dataclass(frozen=True)
class EncodedImages:
    """Images with their features in a file, which is memory-mapped when it is first read.

    Attributes:
        merge_size: patches along one side of a visual token.
        file: the file, as 16- or 32-bit words.
        dtype: of the features.
        entries: for each image path its grid, offset in words, and shape (V, F, H).
    """

    merge_size: int
    file: Path
    dtype: torch.dtype
    entries: Mapping[str, tuple[tuple[int, int, int], int, tuple[int, int, int]]]

    @cached_property
    def _values(self) -> NDArray[Any]:
        with reading(self.file):
            return np.memmap(self.file, dtype=_words(self.dtype), mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to read the file."""
        return {name: value for name, value in vars(self).items() if name != "_values"}

    def tokens(self, path: str) -> int:
        """Return the number of visual tokens of an image."""
        return self.entries[path][2][0]

    def read(self, path: str) -> ImageInput:
        """Read the features of one image."""
        grid, start, shape = self.entries[path]
        words = np.array(self._values[start : start + math.prod(shape)])
        features = torch.from_numpy(words).view(self.dtype).reshape(shape)
        return ImageInput(grid, shape[0], features=features)


def _words(dtype: torch.dtype) -> Any:
    return np.int16 if dtype.itemsize == 2 else np.int32


def encode_all(
    base: Base, paths: Sequence[str], folder: Path, budget: int, dtype: torch.dtype
) -> EncodedImages | None:
    """Encode every image once and keep the result for all epochs.

    Features of an interrupted call are used again if their checksum is right. The cache key of an
    entry is made of the image's content, the input settings, the base model and the dtype.

    Args:
        base: the base model.
        paths: the images.
        folder: folder of the cache.
        budget: maximum bytes of the cache.
        dtype: of the encoder and the cached features.

    Returns:
        The encoded images; None, after a message, if they would not fit.
    """
    config = base.model.config
    layers, width = family_of(config).feature_shape(config)
    grids = {path: base.images.grid(path) for path in paths}
    tokens = sum(math.prod(g) for g in grids.values()) // base.images.merge_size**2
    size = tokens * layers * width * dtype.itemsize
    folder.mkdir(parents=True, exist_ok=True)
    held = folder / "features.bin"  # of an interrupted call, or of another process
    free = shutil.disk_usage(folder).free + (held.stat().st_size if held.is_file() else 0)
    if size > min(budget, free // 2):
        where = "training.vision_cache_gb" if size > budget else "half of the free disk space"
        say(f"images are encoded in every epoch: their features ({_gb(size)}) exceed {where}")
        return None
    say(f"each image is encoded once for all epochs ({_gb(size)} in {folder})")
    return _fill(base, grids, folder, (layers, width), dtype)


def _fill(
    base: Base,
    grids: Mapping[str, tuple[int, int, int]],
    folder: Path,
    shape: tuple[int, int],
    dtype: torch.dtype,
) -> EncodedImages:
    """Write the features of all images that are not cached yet or are damaged there."""
    index, data = folder / "index.jsonl", folder / "features.bin"
    rule = hashlib.sha256(
        f"{base.fingerprint} {base.images.to_rgb!r} {base.images.processor.size} {dtype}".encode()
    ).hexdigest()
    known, free, end = _recover(index, data, dtype.itemsize)
    keys = {path: f"{rule[:16]}-{image_digest(path)}" for path in grids}
    paths = list(grids)
    # batches depend on the list of images only, so that a resumed call has the same
    passes = [
        [paths[i] for i in part]
        for part in vision_batches([math.prod(g) for g in grids.values()], base.model.device)
    ]
    missing = [part for part in passes if any(keys[path] not in known for path in part)]
    mixed = dtype is not base.model.dtype

    with (
        append_to(index) as names,
        append_to(data, "r+b") as file,
        Progress("encoding", len(grids), "images") as progress,
        ThreadPoolExecutor(1, thread_name_prefix="writing") as pool,  # during the next batch
    ):
        writer = _Writer(names, file, dtype.itemsize, known, free, end)

        def write(part: Sequence[str], features: Sequence[torch.Tensor]) -> None:
            for path, one in zip(part, features, strict=True):
                writer.write(keys[path], path, one)
            progress.advance(len(part))

        progress.advance(sum(map(len, passes)) - sum(map(len, missing)))
        read = prefetch(lambda part: [base.images.read(path) for path in part], missing)
        written: Future[None] | None = None
        for part, pixels in zip(missing, read, strict=True):
            with torch.autocast(base.model.device.type, dtype, enabled=mixed):
                images = with_features(base.model, pixels)
            features = [i.features.to(dtype).cpu() for i in images if i.features is not None]
            if written:
                written.result()
            written = pool.submit(write, part, features)
        if written:
            written.result()
    tokens = {path: math.prod(grid) // base.images.merge_size**2 for path, grid in grids.items()}
    found = {path: (grids[path], known[keys[path]], (tokens[path], *shape)) for path in paths}
    return EncodedImages(base.images.merge_size, data, dtype, found)


@dataclass
class _Writer:
    """Writes features to a free range of the file, and then their line of the index.

    Attributes:
        names, file: ``index.jsonl`` and ``features.bin``.
        width: bytes of a word.
        known, free, end: see `_recover`.
    """

    names: IO[str]
    file: IO[bytes]
    width: int
    known: dict[str, int]
    free: Free
    end: int

    def write(self, key: str, path: str, features: torch.Tensor) -> None:
        """Write the features of an image unless they are cached.

        Raises:
            ModelError: they contain NaN or infinity.
        """
        if key in self.known:
            return
        flat = features.contiguous().view(-1)
        require_finite_features(flat, path)
        data, at = flat.view(torch.uint8).numpy().data, self.free.get((key, len(flat)), self.end)
        row = _Row(key, at, len(flat), hashlib.sha256(data).hexdigest())
        self.file.seek(row.at * self.width)
        self.file.write(data)
        self.file.flush()
        self.known[key], self.end = row.at, max(self.end, row.at + row.words)
        self.names.write(to_line(asdict(row)))
        self.names.flush()


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of ``index.jsonl``: key, offset and length of an encoded image, in words."""

    key: str
    at: int
    words: int
    sha256: str

    def is_within(self, size: int) -> bool:
        """Return whether the row lies within a file of ``size`` words."""
        kinds = isinstance(self.key, str), isinstance(self.at, int), isinstance(self.words, int)
        return all(kinds) and 0 <= self.at <= self.at + self.words <= size


def _recover(index: Path, data: Path, width: int) -> tuple[dict[str, int], Free, int]:
    """Read the cache of an interrupted call and truncate what is incomplete.

    Returns:
        Offsets by key of the images with a right checksum; offsets by key and length of damaged
        images, which are written again in place; the end of the file. All in words.

    Raises:
        RunError: one of the files is not readable.
    """
    names = [one.name for one in fields(_Row)]
    if not (is_there(index) and is_there(data)):
        index.unlink(missing_ok=True)
        data.unlink(missing_ok=True)
    try:
        data.touch()
        listed, read = read_jsonl(index, *names)
        held, written = data.stat().st_size, index.stat().st_size if is_there(index) else 0
        rows = [_Row(**{name: line[name] for name in names}) for line in listed]
        whole = [row for row in rows if row.is_within(held // width)]
        last = {row.key: row for row in whole}
        known = _sound(data, last.values(), width)
    except OSError as error:
        raise unreadable(index, error) from error
    end = max((row.at + row.words for row in whole), default=0)
    if (len(whole), read, end * width) != (len(rows), written, held):  # else leave them unchanged
        with atomic_write(index) as file:
            file.writelines(to_line(asdict(row)) for row in whole)
        os.truncate(data, end * width)
    if read < written:
        say(f"{index}: ignored after line {len(rows):,}: incomplete, damaged or of an old version")
    if damaged := len(last) - len(known):
        warn(f"{data}: {counted(damaged, 'image')} damaged, encoded again")
    taken = sorted((row for row in last.values() if row.key in known), key=_start)
    free: Free = {}
    for row in last.values():  # the offset of a damaged one may be wrong, too
        if row.key not in known and row.words and not _overlaps(row, taken):
            free[row.key, row.words] = row.at
            bisect.insort(taken, row, key=_start)
    return known, free, end


def _start(row: _Row) -> int:
    return row.at


def _overlaps(row: _Row, taken: Sequence[_Row]) -> bool:
    """Return whether any of the other rows, sorted by offset, overlaps this one."""
    after = bisect.bisect_left(taken, row.at + row.words, key=_start)
    return after > 0 and taken[after - 1].at + taken[after - 1].words > row.at


def _sound(data: Path, rows: Collection[_Row], width: int) -> dict[str, int]:
    """Return the offsets by key of the images with a right checksum."""
    found = {}
    with (
        open_named(data, "rb") as file,
        Progress("checking features", len(rows), "images") as progress,
    ):
        for row in rows:
            file.seek(row.at * width)
            if hashlib.sha256(file.read(row.words * width)).hexdigest() == row.sha256:
                found[row.key] = row.at
            progress.advance()
    return found


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
