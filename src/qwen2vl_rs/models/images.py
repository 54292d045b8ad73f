"""Preprocess images for the vision tower: resize, normalise, patchify.

Shapes: N patches of an image, D values of a patch; V = N / merge² visual tokens, F features of each
(one for the first layer of the language model and, in some families, more for later layers), H
values of a feature.
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
from .folder import FETCH, PREPROCESSOR, ModelFiles, model_errors


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image, as patches or already encoded.

    Attributes:
        grid: (time, rows, columns) of patches; their product is N.
        tokens: number of visual tokens V.
        patches: (N, D) float32; None if the features are known.
        features: (V, F, H) output of the vision tower; None if it has not run yet.
        name: file name for messages; empty if there is none.
    """

    grid: tuple[int, int, int]
    tokens: int
    patches: torch.Tensor | None = None
    features: torch.Tensor | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads and preprocesses images for a base model.

    Attributes:
        family: family of the base model.
        processor: image processor of the base model.
        to_rgb: conversion of files to RGB.
        digests: SHA-256 of each file by its path, to detect files that change during training
            (replaced files, disk errors). None: they may change.
    """

    family: Family
    processor: Any
    to_rgb: RasterToRGB
    digests: Mapping[str, str] | None = None

    @property
    def merge_size(self) -> int:
        """Patches along one side of a visual token."""
        return self.family.merge_size(self.processor)

    def read(self, path: str | Path) -> ImageInput:
        """Read and preprocess one image.

        Raises:
            ImageError: the file cannot be used or has changed; see `raster.read_rgb`.
        """
        pixels = self.preprocess(read_rgb(path, self.to_rgb))
        if self.digests is not None and image_digest(path) != self.digests[str(path)]:
            raise image_changed_error([str(path)])
        return replace(pixels, name=str(path))

    def preprocess(self, rgb: NDArray[np.uint8]) -> ImageInput:
        """Resize, normalise and patchify an image of shape (height, width, 3)."""
        grid, patches = self.family.preprocess(self.processor, Image.fromarray(rgb))
        return ImageInput(grid, math.prod(grid) // self.merge_size**2, patches=patches)

    def grid(self, path: str | Path) -> tuple[int, int, int]:
        """Return the patch grid of an image, from its header only.

        Raises:
            ImageError: the file cannot be used; see `raster.image_size`.
        """
        width, height = image_size(path)
        return self.family.grid(self.processor, width, height)

    def tokens(self, path: str | Path) -> int:
        """Return the number of visual tokens of an image, from its header only.

        Raises:
            ImageError: see `grid`.
        """
        return math.prod(self.grid(path)) // self.merge_size**2


def image_changed_error(paths: Sequence[str]) -> ImageError:
    """Return the error for images that changed during training."""
    more = f" (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
    return ImageError(
        f"{paths[0]}{more}: changed since training started",
        hint="restore the original file and resume: --resume; or start a new run: --output",
    )


def load_image_reader(files: ModelFiles, config: Any, view: InputConfig) -> ImageReader:
    """Create an image reader from a base model's image settings and the run's pixel bounds.

    Raises:
        ModelError: the settings are missing, invalid or contradict the vision tower.
    """
    settings = files.image_settings
    if settings is None:
        raise ModelError(f"{files.folder} has no {PREPROCESSOR}", hint=FETCH)
    family = family_of(config)
    if wrong := [*family.image_problems(settings, config), *_wrong_values(settings)]:
        name, value = wrong[0]
        hint = FETCH if name != "do_resize" else f"set it to true, or {FETCH}"
        raise ModelError(f"the image settings in {files.folder}: {name} is {value}", hint=hint)
    with model_errors(f"the image settings in {files.folder} cannot be used"):
        processor = family.processor(settings, view.min_pixels, view.max_pixels)
    return ImageReader(family, processor, view.image)


def _wrong_values(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return settings with values that would spoil every image."""
    wrong: list[tuple[str, Any]] = []
    for name in ("image_mean", "image_std"):
        values = settings.get(name, (0.5, 0.5, 0.5))
        sound = isinstance(values, list | tuple) and len(values) == 3 and all(map(_finite, values))
        if not sound or (name == "image_std" and min(values) <= 0):
            wrong.append((name, values))
    if not settings.get("do_resize", True):
        shown = json.dumps(settings["do_resize"])
        wrong.append(("do_resize", f"{shown}, but images must be resized before patchifying"))
    factor = settings.get("rescale_factor", 1 / 255)
    if not _finite(factor) or factor <= 0:
        wrong.append(("rescale_factor", factor))
    return wrong


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
