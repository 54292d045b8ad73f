"""Errors of images that cannot be read, with a hint for each cause."""

from __future__ import annotations

import os
import re

from ..errors import ImageError
from ..system.oserrors import reading_hint

AGAIN = "the file is damaged or truncated: copy or download it again"
_CONVERT = "convert it to PNG or TIFF"
_TRANSLATE = "convert it: gdal_translate IN OUT.tif"
_UNPACK = "unpack it and give the image inside"

#: Known unsupported formats: first bytes, their offset, name, hint.
_FOREIGN = (
    (b"GIF8", 0, "GIF", _CONVERT),
    (b"ftypavif", 4, "AVIF", _CONVERT),
    (b"ftypheic", 4, "HEIC", _CONVERT),
    (b"ftypmif1", 4, "HEIC", _CONVERT),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL", _CONVERT),
    (b"\xff\x0a", 0, "JPEG XL", _CONVERT),
    (b"8BPS", 0, "Photoshop", _CONVERT),
    (b"<svg", 0, "SVG", _CONVERT),
    (b"%PDF", 0, "PDF", _CONVERT),
    (b"\x89HDF", 0, "HDF5 or NetCDF", "pick a variable: gdal_translate NETCDF:IN:NAME OUT.tif"),
    (b"CDF", 0, "NetCDF", "pick a variable: gdal_translate NETCDF:IN:NAME OUT.tif"),
    (b"NITF", 0, "NITF", _TRANSLATE),
    (b"EHFA", 0, "ERDAS Imagine", _TRANSLATE),
    (b"GRIB", 0, "GRIB", _TRANSLATE),
    (b"SIMPLE ", 0, "FITS", _TRANSLATE),
    (b"msid", 0, "MrSID", _TRANSLATE),
    (b"<VRT", 0, "VRT", "convert it to one file: gdal_translate IN.vrt OUT.tif"),
    (b"PK\x03\x04", 0, "zip", _UNPACK),
    (b"\x1f\x8b", 0, "gzip", _UNPACK),
    (b"7z\xbc\xaf", 0, "7z", _UNPACK),
    (b"Rar!", 0, "RAR", _UNPACK),
    (b"version https:/", 0, "Git LFS pointer", "fetch its content: git lfs pull"),
    (b"<!doctype html", 0, "web page", "the download failed: download it again"),
    (b"<html", 0, "web page", "the download failed: download it again"),
)

#: GDAL's messages for intact files that it cannot read.
_CODEC = re.compile(r"missing codec (?:of code )?([\w-]+)")
_UNSUPPORTED = re.compile(r"(?i)unsupported|not supported|not implemented|unhandled|cannot handle")
_MEMORY = re.compile(r"(?i)out of memory|cannot allocate|not enough memory|malloc")
_REWRITE = "rewrite it with a GDAL that supports it: gdal_translate -co COMPRESS=DEFLATE IN OUT.tif"


def foreign_format(path: str | os.PathLike[str], head: bytes, names: str) -> ImageError:
    """Return the error for a file of an unsupported format.

    Args:
        path: the file.
        head: its first bytes.
        names: the supported formats.
    """
    start = head.lower()
    for signature, at, name, hint in _FOREIGN:
        if start[at:].startswith(signature.lower()):
            return ImageError(f"{path}: not an image of a known format ({name})", hint=hint)
    return ImageError(f"{path}: not an image of a known format", hint=f"formats read: {names}")


def is_animated(head: bytes) -> bool:
    """Whether a WebP header (RIFF container, chunk VP8X) declares an animation."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)


def broken_image(path: str | os.PathLike[str], format: str, why: str) -> ImageError:
    """Return the error for a file that GDAL failed on, from GDAL's message."""
    if codec := _CODEC.search(why):
        return ImageError(
            f"{path}: compressed with a codec that this GDAL lacks ({codec[1]}); "
            "the file itself may be intact",
            hint=_REWRITE,
        )
    if _MEMORY.search(why):
        return out_of_memory(path)
    if _UNSUPPORTED.search(why):
        return ImageError(
            f"{path}: a kind of {format} that this GDAL cannot read: {why}", hint=_REWRITE
        )
    return ImageError(f"{path}: broken or incomplete {format} file: {why}", hint=AGAIN)


def unreadable_image(path: str | os.PathLike[str], error: OSError, what: str = "") -> ImageError:
    """Return the error for a file (or a part, ``what``) that cannot be read now."""
    return ImageError(
        f"{path}: {what}cannot be read: {error.strerror or error}", hint=reading_hint(error)
    )


def out_of_memory(path: str | os.PathLike[str]) -> ImageError:
    """Return the error for an image that does not fit in memory."""
    return ImageError(f"{path}: not enough memory for this image", hint="cut it into smaller tiles")


def not_colours(path: str | os.PathLike[str], strange: str) -> ImageError:
    """Return the error for pixels in another colour space, or with white as zero."""
    hints = {
        "white-is-zero": "invert it: gdal_translate -scale 0 255 255 0 IN OUT.tif",
        "CMYK": "convert it with its colour profile: magick IN -colorspace sRGB OUT.png",
    }
    return ImageError(
        f"{path}: its pixels are {strange}", hint=hints.get(strange, "convert the file to RGB")
    )
