"""From the bytes of an upload to pixels, by the same reader and rule as in training."""

from __future__ import annotations

import base64
import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import ImageRule
from ..data.raster import MAX_ASPECT, MIN_SIDE, open_image, read_rgb
from ..errors import ImageError
from .intake import Box, Upload
from .limits import MIB, Limits
from .refusal import Refusal

_PREVIEW = 1024  # longest side of a preview in pixels


def key_of(upload: Upload, box: Box | None) -> str:
    """Digest of an image's content and of the piece of it that is meant."""
    return f"{hashlib.sha256(upload.content).hexdigest()} {box}"


def read(upload: Upload, box: Box | None, rule: ImageRule, limits: Limits) -> NDArray[np.uint8]:
    """An image, or a piece of it, as RGB pixels of shape (height, width, 3).

    A piece is cut from what the whole image looks like.

    Raises:
        Refusal: the file is no image that can be used, too large (by its header, before anything
            is decoded), or the box does not lie in it.
    """
    with _as_file(upload) as path:
        try:
            _check_size(path, limits)
            rgb = read_rgb(path, rule)
        except ImageError as error:
            text = error.message.replace(str(path), upload.name)
            raise Refusal(400, "invalid_image", text, hint=error.hint, param="image") from error
    if box is None:
        return rgb
    left, top, right, bottom = box
    height, width = rgb.shape[:2]
    sides = (right - left, bottom - top)
    if right > width or bottom > height:
        raise Refusal(
            400, "invalid_box", f"the box leaves the image of {width} × {height} pixels",
            param="box",
        )  # fmt: skip
    if min(sides) < MIN_SIDE or max(sides) > MAX_ASPECT * min(sides):
        raise Refusal(
            400, "invalid_box",
            f"the box of {sides[0]} × {sides[1]} pixels is too small: at least {MIN_SIDE} a side",
            param="box",
        )  # fmt: skip
    return rgb[top:bottom, left:right]


def preview(rgb: NDArray[np.uint8]) -> str:
    """A data: URL of an image, reduced to what a page shows."""
    image = Image.fromarray(rgb)
    image.thumbnail((_PREVIEW, _PREVIEW))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


@contextmanager
def _as_file(upload: Upload) -> Iterator[Path]:
    """The upload under a name of ours: GDAL is never given one from a request."""
    with tempfile.TemporaryDirectory(prefix="qwen2vl-rs-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(upload.content)
        yield path


def _check_size(path: Path, limits: Limits) -> None:
    with open_image(path, GDAL_NUM_THREADS="1") as source:  # as a scene: of any size, header only
        width, height = source.width, source.height
        unpacked = width * height * sum(np.dtype(d).itemsize for d in source.dtypes)
    if width * height > limits.pixels:
        raise Refusal(
            413, "image_too_large",
            f"the image has {width:,} × {height:,} pixels, at most {limits.pixels:,} in all",
            hint="cut it into tiles: gdal_translate -srcwin 0 0 512 512 SCENE TILE.tif",
            param="image",
        )  # fmt: skip
    if unpacked > limits.unpacked_bytes:
        raise Refusal(
            413, "image_too_large",
            f"the image unpacks to {unpacked // MIB:,} MiB, at most "
            f"{limits.unpacked_bytes // MIB:,}",
            hint="keep only the bands to be shown: gdal_translate -b 1 -b 2 -b 3 IN OUT.tif",
            param="image",
        )  # fmt: skip
