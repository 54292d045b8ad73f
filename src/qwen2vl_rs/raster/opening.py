"""Open image files: format detection, size limits, header checks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ..errors import ImageError
from ..system.named_files import open_named
from ..system.oserrors import read_failure, reading_hint
from ..system.scopes import ignore_warnings
from .decoder_memory import check_units
from .image_errors import broken_image, foreign_format, is_animated, out_of_memory, unreadable_image
from .orientation import may_be_turned, turn_of
from .sidecars import mask_beside, with_sidecars, wrong_mask

#: Maximum side, in pixels.
MAX_SIDE = 16_384
#: Maximum number of pixels of one image.
MAX_PIXELS = 100_000_000
#: Minimum side, in pixels: about a quarter of the side of a visual token (28 × 28 pixels). Smaller
#: images show nothing, and image processors take a side of 1 or 3 for the channels.
MIN_SIDE = 8
#: Maximum aspect ratio: the limit of Qwen2-VL's image processor.
MAX_ASPECT = 200
#: Maximum bytes of all bands unpacked. Interleaved bands are unpacked together: a small file that
#: declares thousands of them would fill the memory although only three are read.
MAX_BYTES = 4 * 2**30

#: Supported formats: first bytes of the file, GDAL driver, display name.
FORMATS = (
    (b"II*\0", "GTiff", "TIFF"),
    (b"MM\0*", "GTiff", "TIFF"),
    (b"II+\0", "GTiff", "TIFF"),
    (b"MM\0+", "GTiff", "TIFF"),
    (b"\x89PNG\r\n\x1a\n", "PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG", "JPEG"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG", "JPEG 2000"),
    (b"BM", "BMP", "BMP"),
    (b"RIFF", "WEBP", "WebP"),
)

_NAMES = {driver: name for _, driver, name in FORMATS}
GDAL_OPTIONS = {
    # No sidecars but those of `sidecars`: GDAL would list the folder for each image and follow
    # references to further files, also on the network.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "NONE",  # parsing a CRS takes five times as long as reading a tile
    # GDAL's fast path for whole PNGs detects neither truncated files nor wrong checksums: it
    # returns uninitialised memory for the missing rows.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return width and height of an image, north up, in pixels, from its header only.

    Raises:
        ImageError: see `read_rgb`, as far as the header shows it.
    """
    with open_image(path) as source:
        turn = turn_of(source)
        return turn.width, turn.height


def image_format(path: str | os.PathLike[str]) -> str:
    """Return the name of an image's file format, from its first bytes.

    Raises:
        ImageError: the file cannot be read, or has another format.
    """
    return _NAMES[_driver(path)]


@contextmanager
def open_image(path: str | os.PathLike[str], **options: str) -> Iterator[Any]:
    """Open a file and check its header; errors inside the block become `ImageError`.

    With GDAL ``options`` the image is read in windows, and its size is not limited.
    """
    driver = _driver(path)
    check_units(path, driver)
    # rasterio never takes a Path for a URL or a "zip+file:" name, and GDAL never takes an absolute
    # one for a prefix such as "GTIFF_RAW:".
    file = Path(os.path.abspath(path))
    opened = file
    try:
        with with_sidecars(file) as (opened, beside):
            settings = {**GDAL_OPTIONS, **options, **beside}
            if settings["GDAL_GEOREF_SOURCES"] == "NONE" and may_be_turned(file, driver):
                settings["GDAL_GEOREF_SOURCES"] = "INTERNAL"
            if beside:  # GDAL counts PAM as a source of georeferencing, though ours has none
                settings["GDAL_GEOREF_SOURCES"] = f"{settings['GDAL_GEOREF_SOURCES']},PAM"
            with rasterio.Env(**settings):
                # rasterio warns for each file without georeferencing
                with ignore_warnings(NotGeoreferencedWarning):
                    source = rasterio.open(opened, driver=driver)
                with source:
                    _check_header(source, path, in_pieces=bool(options))
                    if beside:
                        _check_mask(source, file, opened)
                    yield source
    except (RasterioError, CPLE_BaseError) as error:
        why = " ".join(str(error.__cause__ or error).split())
        why = why.replace(str(opened.parent), str(file.parent))
        if f"{file.name}.msk" in why:
            raise wrong_mask(file, f"cannot be read: {why}") from error
        if cause := read_failure(file):
            raise unreadable_image(path, cause) from error
        raise broken_image(path, _NAMES[driver], why) from error
    except MemoryError as error:
        raise out_of_memory(path) from error
    except UnicodeError as error:
        raise ImageError(
            f"{os.fspath(path)!a}: the file name is not valid UTF-8", hint="rename the file"
        ) from error


def _driver(path: str | os.PathLike[str]) -> str:
    """Return the GDAL driver for a file, from its first bytes.

    The file is opened before GDAL sees its name: virtual names that GDAL would fetch from the
    network (``/vsicurl/…``, ``https:…``) are missing files here, and VRT files are not images.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path}: a folder, not an image", hint="give the image file itself")
        if not stat.S_ISREG(mode):  # opening a pipe would block
            raise ImageError(f"{path}: not a regular file", hint="give an image file")
        with open_named(path, "rb") as file:
            head = file.read(32)
    except FileNotFoundError as error:
        raise ImageError(
            f"{path}: no such file",
            hint="check the path; only local files are read, relative to the current folder",
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        hint = "check the path and its permissions (ls -l)"
        if isinstance(error, OSError):
            hint = reading_hint(error, hint)
        raise ImageError(f"{os.fspath(path)!r}: cannot be read: {why}", hint=hint) from error
    if not head:
        raise ImageError(f"{path}: the file is empty", hint="copy or download it again")
    for signature, driver, _ in FORMATS:
        if head.startswith(signature) and (driver != "WEBP" or head[8:12] == b"WEBP"):
            if driver == "WEBP" and is_animated(head):
                raise ImageError(
                    f"{path}: an animated WebP, not a single image",
                    hint="extract one frame: webpmux -get frame 1 IN -o OUT.webp",
                )
            return driver
    raise foreign_format(path, head, ", ".join(_NAMES.values()))


def _check_mask(source: Any, file: Path, opened: Path) -> None:
    """Refuse a mask file with another size than the image."""
    if mask_beside(file) is None:
        return
    mask = opened.with_name(f"{file.name}.msk")
    with ignore_warnings(NotGeoreferencedWarning), rasterio.open(mask, driver="GTiff") as found:
        if found.shape != source.shape:
            raise wrong_mask(file, f"has another size: {found.width} × {found.height} pixels")


def check_size(
    path: str | os.PathLike[str], width: int, height: int, *, in_pieces: bool = False
) -> None:
    """Refuse images that are too large or too small.

    Args:
        path: name of the image in the error.
        width: width in pixels.
        height: height in pixels.
        in_pieces: whether the image is read in windows, without a size limit.

    Raises:
        ImageError: it is too large, too small or too narrow.
    """
    size = f"{path}: {width} × {height} pixels"
    if not in_pieces and (max(width, height) > MAX_SIDE or width * height > MAX_PIXELS):
        raise ImageError(
            f"{size} is too large: at most {MAX_SIDE:,} on a side and {MAX_PIXELS:,} in all",
            hint="cut it into tiles, e.g. gdal_translate -srcwin 0 0 512 512 SCENE TILE.tif",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{size} is too small: at least {MIN_SIDE} on a side",
            hint="use a larger crop of the scene",
        )
    if not in_pieces and max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{size} is too narrow: the model takes a side at most {MAX_ASPECT} times the other",
            hint="cut it into squarer tiles",
        )


def _check_header(source: Any, path: str | os.PathLike[str], in_pieces: bool) -> None:
    """Refuse images that are too large, too small or complex, before decoding them."""
    width, height = source.width, source.height
    check_size(path, width, height, in_pieces=in_pieces)
    dtype = source.dtypes[0]
    if dtype.startswith("complex"):
        raise ImageError(
            f"{path}: complex values ({dtype}) cannot be displayed",
            hint="convert them first, e.g. to amplitude",
        )
    unpacked = width * height * source.count * np.dtype(dtype).itemsize
    if not in_pieces and unpacked > MAX_BYTES:
        raise ImageError(
            f"{path}: {source.count} bands unpack to {unpacked:,} bytes, at most {MAX_BYTES:,}",
            hint="keep only the bands you need: gdal_translate -b 1 -b 2 -b 3 IN OUT.tif",
        )
