"""From an image file to what the vision tower takes, and what it gives.

Shapes: N patches of an image, D values of a patch; V = N / merge² visual tokens,
F features of each: those that enter the language model's first layer and, in some families, those
that are added after later layers, H values each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..config import InputConfig, RasterToRGB
from ..errors import ImageError, ModelError
from ..raster import image_digest, image_size, read_rgb
from .family import Family, family_of
from .folder import FETCH, PREPROCESSOR, ModelFiles, as_model_error


@dataclass(frozen=True, slots=True)
class ImageInput:
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


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads image files by a pixel rule with the processor of a base.

    Attributes:
        family: of the base.
        processor: of the base.
        rule: how files become colours.
        digests: SHA-256 of each file by its path, where they must stay what they were: training on
            other pixels than those it began with (a disk that rots, files that are replaced) would
            go unnoticed for as long as they can be decoded. None: they may change.
    """

    family: Family
    processor: Any
    rule: RasterToRGB
    digests: Mapping[str, str] | None = None

    @property
    def merge_size(self) -> int:
        """Patches along one side of a visual token."""
        return self.family.merge_size(self.processor)

    def read(self, path: str | Path) -> ImageInput:
        """Read, resize, normalise and cut one image.

        Raises:
            ImageError: the file cannot be used, or is another by now; see `raster.read_rgb`.
        """
        pixels = self.preprocess(read_rgb(path, self.rule))
        if self.digests is not None and image_digest(path) != self.digests[str(path)]:
            raise image_changed_error([str(path)])
        return replace(pixels, name=str(path))

    def preprocess(self, rgb: NDArray[np.uint8]) -> ImageInput:
        """Resize, normalise and cut an image of shape (height, width, 3)."""
        grid, patches = self.family.preprocess(self.processor, Image.fromarray(rgb))
        return ImageInput(grid, math.prod(grid) // self.merge_size**2, patches=patches)

    def grid(self, path: str | Path) -> tuple[int, int, int]:
        """Patches of an image by its header alone.

        Raises:
            ImageError: the file cannot be used; see `raster.image_size`.
        """
        width, height = image_size(path)
        return self.family.grid(self.processor, width, height)

    def tokens(self, path: str | Path) -> int:
        """Visual tokens of an image by its header alone.

        Raises:
            ImageError: see `grid`.
        """
        return math.prod(self.grid(path)) // self.merge_size**2


def image_changed_error(paths: Sequence[str]) -> ImageError:
    """The error of images that are not what they were."""
    more = f" (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
    return ImageError(
        f"{paths[0]}{more}: changed since the training began",
        hint="put back the file it began with, then go on: --resume; or start anew: --output",
    )


def load_image_reader(files: ModelFiles, config: Any, view: InputConfig) -> ImageReader:
    """Take a base's image settings and put the view's pixel bounds in force.

    Raises:
        ModelError: there are no settings, or they are unusable or not those of the vision tower.
    """
    settings = files.image_settings
    if settings is None:
        raise ModelError(f"{files.folder} has no {PREPROCESSOR}", hint=FETCH)
    family = family_of(config)
    if wrong := [*family.image_setting_problems(settings, config), *_wrong_values(settings)]:
        name, value = wrong[0]
        hint = FETCH if name != "do_resize" else f"set it to true, or {FETCH}"
        raise ModelError(f"the image settings in {files.folder}: {name} is {value}", hint=hint)
    with as_model_error(f"the image settings in {files.folder} cannot be used"):
        processor = family.processor(settings, view.min_pixels, view.max_pixels)
    return ImageReader(family, processor, view.image)


def _wrong_values(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Values that would turn every image into something that is none."""
    wrong: list[tuple[str, Any]] = []
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
    return wrong


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
