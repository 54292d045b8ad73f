"""From an image file to what the vision tower takes, and what it gives.

Shapes: N patches of an image, D = 3 · 2 · patch² values of a patch; V = N / merge² visual tokens,
F features of each: those that enter the language model's first layer, and in Qwen3-VL those that
are added after its first layers (DeepStack), H values each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from ..config import ImageRule, ViewConfig
from ..errors import ImageError, ModelError
from ..question_tree.tree import Ints
from ..raster import image_digest, image_size, read_rgb
from .folder import FETCH, PREPROCESSOR, Files, first_line


@dataclass(frozen=True, slots=True)
class Pixels:
    """One image, cut into patches or already encoded.

    Attributes:
        grid: (time, rows, columns) of patches; their product is N.
        tokens: number of visual tokens V.
        patches: (N, D) float32; None where the features are known.
        features: (V, F, H) output of the vision tower; None where it is still to be run.
        name: of the file, for people; empty where there is none.
    """

    grid: tuple[int, int, int]
    tokens: int
    patches: torch.Tensor | None = None
    features: torch.Tensor | None = None
    name: str = ""


class Images(Protocol):
    """Where the pixels of an image come from: its file, or a cache of encoded images."""

    @property
    def merge(self) -> int:
        """Patches along one side of a visual token."""

    def read(self, path: str) -> Pixels:
        """Read one image."""

    def tokens(self, path: str) -> int:
        """Number of visual tokens of an image."""


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads image files by a pixel rule with the processor of a base."""

    processor: Any
    rule: ImageRule

    @property
    def merge(self) -> int:
        """Patches along one side of a visual token."""
        merge: int = self.processor.merge_size
        return merge

    def read(self, path: str | Path) -> Pixels:
        """Read, resize, normalise and cut one image.

        Raises:
            ImageError: the file cannot be used; see `data.raster.read_rgb`.
        """
        return replace(self.cut(read_rgb(path, self.rule)), name=str(path))

    def cut(self, rgb: NDArray[np.uint8]) -> Pixels:
        """Resize, normalise and cut an image of shape (height, width, 3)."""
        out = self.processor(images=[Image.fromarray(rgb)], return_tensors="pt")
        t, rows, columns = out["image_grid_thw"][0].tolist()
        tokens = t * rows * columns // self.merge**2
        return Pixels((t, rows, columns), tokens, patches=out["pixel_values"])

    def grid(self, path: str | Path) -> tuple[int, int, int]:
        """Patches of an image by its header alone.

        Raises:
            ImageError: the file cannot be used; see `data.raster.image_size`.
        """
        width, height = image_size(path)
        size, patch = self.processor.size, self.processor.patch_size
        rows, columns = smart_resize(
            height,
            width,
            factor=patch * self.merge,
            min_pixels=size["shortest_edge"],
            max_pixels=size["longest_edge"],
        )
        return 1, rows // patch, columns // patch

    def tokens(self, path: str | Path) -> int:
        """Visual tokens of an image by its header alone.

        Raises:
            ImageError: see `grid`.
        """
        return math.prod(self.grid(path)) // self.merge**2


@dataclass(frozen=True, slots=True)
class UnchangedImages(ImageReader):
    """Reads images that must stay what they were when training began.

    Training on other pixels than those it began with (a disk that rots, files that are replaced)
    would go unnoticed for as long as they can be decoded.

    Attributes:
        digests: SHA-256 of each file by its path.
    """

    digests: Mapping[str, str]

    def read(self, path: str | Path) -> Pixels:
        """Read one image.

        Raises:
            ImageError: it cannot be used, or is another by now.
        """
        pixels = self.cut(read_rgb(path, self.rule))
        if image_digest(path) != self.digests[str(path)]:
            raise changed([str(path)])
        return pixels


def changed(paths: Sequence[str]) -> ImageError:
    """The error of images that are not what they were."""
    more = f" (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
    return ImageError(
        f"{paths[0]}{more}: changed since the training began",
        hint="put back the file it began with, then go on: --resume; or start anew: --output",
    )


def load_image_reader(files: Files, config: Any, view: ViewConfig) -> ImageReader:
    """Take a base's image settings and put the view's pixel bounds in force.

    Raises:
        ModelError: there are no settings, or they are unusable or not those of the vision tower.
    """
    settings = files.image_settings
    if settings is None:
        raise ModelError(f"{files.folder} has no {PREPROCESSOR}", hint=FETCH)
    _check_settings(files, settings, config.vision_config)
    try:
        # by these names: those in the file would win over ``size``
        processor = Qwen2VLImageProcessorPil.from_dict(
            settings, min_pixels=view.min_pixels, max_pixels=view.max_pixels
        )
    except Exception as error:  # whatever a wrong value makes it raise
        raise ModelError(
            f"the image settings in {files.folder} cannot be used: {first_line(error)}", hint=FETCH
        ) from error
    return ImageReader(processor, view.image)


def bounded(settings: Mapping[str, Any], view: ViewConfig) -> dict[str, Any]:
    """Image settings with the view's pixel bounds, in each form in which programs read them."""
    low, high = view.min_pixels, view.max_pixels
    size = {"shortest_edge": low, "longest_edge": high}
    return {**settings, "min_pixels": low, "max_pixels": high, "size": size}


def _check_settings(files: Files, settings: Mapping[str, Any], vision: Any) -> None:
    """Refuse values that would turn every image into something that is none."""
    kind = str(settings.get("image_processor_type", "Qwen2VLImageProcessor"))
    wrong = [] if kind.startswith("Qwen2VLImageProcessor") else [("image_processor_type", kind)]
    for name in ("image_mean", "image_std"):
        values = settings.get(name, (0.5, 0.5, 0.5))
        sound = isinstance(values, list | tuple) and len(values) == 3 and all(map(_finite, values))
        if not sound or (name == "image_std" and min(values) <= 0):
            wrong.append((name, values))
    if not settings.get("do_resize", True):
        shown = json.dumps(settings["do_resize"])
        wrong.append(("do_resize", f"{shown}, but what is cut into patches has to be resized"))
    factor = settings.get("rescale_factor", 1 / 255)
    if not _finite(factor) or factor <= 0:
        wrong.append(("rescale_factor", factor))
    cuts = {
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
    }
    for name, value in cuts.items():
        if name in settings and settings[name] != value:
            wrong.append((name, f"{settings[name]!r}, and the vision tower's {value}"))
    if wrong:
        name, value = wrong[0]
        hint = FETCH if name != "do_resize" else f"set it to true, or {FETCH}"
        raise ModelError(f"the image settings in {files.folder}: {name} is {value}", hint=hint)


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def root_positions(head: int, grid: tuple[int, int, int], merge: int, tail: int) -> Ints:
    """(3, P) rotary positions of header, image and instruction, as Qwen-VL numbers them.

    Text counts up on all three axes; an image spans its rows and columns from where the text
    stopped, and the text behind it goes on after the longer side (Qwen2-VL, section 2.1,
    "Multimodal Rotary Position Embedding").

    Args:
        head: text tokens before the image.
        grid: patches of the image (time, rows, columns).
        merge: patches along one side of a visual token.
        tail: text tokens behind the image.
    """
    t, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
    image = np.indices((t, rows, columns)).reshape(3, -1) + head
    behind = head + max(t, rows, columns) + np.arange(tail)
    text = np.broadcast_to(np.arange(head), (3, head))
    return np.concatenate([text, image, np.broadcast_to(behind, (3, tail))], axis=1)
