"""Why an image cannot be used, and what helps: each cause has its own hint."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ...errors import ImageError

AGAIN = "the file is damaged or cut short: copy or download it again"
_CONVERT = "convert it to PNG or TIFF"
_TRANSLATE = "convert it: gdal_translate IN OUT.tif"
_UNPACK = "unpack it, and name the image inside"

#: Known formats that are not read: first bytes, where they stand, name, what helps.
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
    (b"<VRT", 0, "VRT", "make one file of it: gdal_translate IN.vrt OUT.tif"),
    (b"PK\x03\x04", 0, "zip", _UNPACK),
    (b"\x1f\x8b", 0, "gzip", _UNPACK),
    (b"7z\xbc\xaf", 0, "7z", _UNPACK),
    (b"Rar!", 0, "RAR", _UNPACK),
    (b"version https:/", 0, "Git LFS pointer", "fetch what it points to: git lfs pull"),
    (b"<!doctype html", 0, "web page", "it is no download of the image: download it again"),
    (b"<html", 0, "web page", "it is no download of the image: download it again"),
)

#: What GDAL says of files that are whole but not for it.
_CODEC = re.compile(r"missing codec (?:of code )?([\w-]+)")
_UNSUPPORTED = re.compile(r"(?i)unsupported|not supported|not implemented|unhandled|cannot handle")
_MEMORY = re.compile(r"(?i)out of memory|cannot allocate|not enough memory|malloc")
_REWRITE = "rewrite it with a GDAL that has it: gdal_translate -co COMPRESS=DEFLATE IN OUT.tif"

#: Files beside an image that say where it lies, by what is added to or replaces its ending.
_WORLD = (".tfw", ".tifw", ".tiffw", ".wld", ".jgw", ".jpgw", ".pgw", ".pngw", ".j2w", ".jp2w",
          ".bpw", ".bmpw")  # fmt: skip
_RPC_FILES = ("_rpc.txt", "_RPC.TXT", ".rpb", ".RPB", "_rpc.xml", "_RPC.XML")


def foreign_format(path: str | os.PathLike[str], head: bytes, names: str) -> ImageError:
    """The refusal of a file that is of no format that is read.

    Args:
        path: of the file.
        head: its first bytes.
        names: the formats that are read.
    """
    start = head.lower()
    for signature, at, name, hint in _FOREIGN:
        if start[at:].startswith(signature.lower()):
            return ImageError(f"{path}: not an image of a known format ({name})", hint=hint)
    return ImageError(f"{path}: not an image of a known format", hint=f"formats read: {names}")


def animated(head: bytes) -> bool:
    """Whether a WebP's header (RIFF container, chunk VP8X) says that it is an animation."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)


def unreadable(path: str | os.PathLike[str], format: str, why: str) -> ImageError:
    """The refusal of a file that GDAL gave up on, by what it said."""
    if codec := _CODEC.search(why):
        return ImageError(
            f"{path}: compressed by a method that this GDAL lacks ({codec[1]}); "
            "the file itself may be sound",
            hint=_REWRITE,
        )
    if _MEMORY.search(why):
        return too_large_for_memory(path)
    if _UNSUPPORTED.search(why):
        return ImageError(
            f"{path}: a kind of {format} that this GDAL cannot read: {why}", hint=_REWRITE
        )
    return ImageError(f"{path}: broken or incomplete {format} file: {why}", hint=AGAIN)


def too_large_for_memory(path: str | os.PathLike[str]) -> ImageError:
    """The refusal of an image that does not fit the memory."""
    return ImageError(f"{path}: not enough memory for this image", hint="cut it into smaller tiles")


def not_colours(path: str | os.PathLike[str], strange: str) -> ImageError:
    """The refusal of pixels that are in another colour space, or where white is zero."""
    hints = {
        "white-is-zero": "invert it: gdal_translate -scale 0 255 255 0 IN OUT.tif",
        "CMYK": "convert it with its colour profile: magick IN -colorspace sRGB OUT.png",
    }
    return ImageError(
        f"{path}: its pixels are {strange}", hint=hints.get(strange, "convert the file to RGB")
    )


def no_position(path: str | os.PathLike[str], source: Any, *, placed: bool) -> ImageError:
    """The refusal of an image that does not say where it lies, by what it has instead.

    Args:
        path: of the image.
        source: the open image.
        placed: whether it has a transform, and so lacks a reference system only.
    """
    where = f"{path}: not georeferenced: it has "
    if source.gcps[0] and not placed:
        return ImageError(
            f"{where}ground control points only ({len(source.gcps[0])})",
            hint="warp it by them: gdalwarp -t_srs EPSG:32631 -r bilinear IN OUT.tif",
        )
    if source.rpcs and not placed:
        return ImageError(
            f"{where}rational polynomial coefficients (RPC) only",
            hint="orthorectify it: gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs EPSG:32631 IN OUT.tif",
        )
    missing = ["no coordinate reference system"] if source.crs is None else []
    missing += [] if placed else ["no position"]
    what = " and ".join(missing)
    if beside := _beside(Path(path)):
        return ImageError(
            f"{where}{what} in itself; {beside.name} beside it is not read",
            hint=_take_in(beside, with_system=source.crs is None),
        )
    system = " -a_srs EPSG:32631" if source.crs is None else ""
    corners = "" if placed else " -a_ullr LEFT TOP RIGHT BOTTOM"
    return ImageError(f"{where}{what}", hint=f"say it: gdal_translate{system}{corners} IN OUT.tif")


def _beside(path: Path) -> Path | None:
    """A file beside an image that says where it lies."""
    names = [f"{path.name}.aux.xml"]
    for end in _WORLD:
        names += [f"{path.stem}{end}", f"{path.stem}{end.upper()}"]
    names += [f"{path.stem}{end}" for end in _RPC_FILES]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _take_in(beside: Path, *, with_system: bool) -> str:
    if beside.name.endswith(_RPC_FILES):
        return "orthorectify it: gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs EPSG:32631 IN OUT.tif"
    told = with_system and not beside.name.endswith(".aux.xml")
    system = " -a_srs EPSG:32631" if told else ""
    return f"take it into the file: gdal_translate{system} IN OUT.tif"


def flat_position(path: str | os.PathLike[str]) -> ImageError:
    """The refusal of a transform that lays all pixels on a line or a point, or nowhere."""
    return ImageError(
        f"{path}: not georeferenced: its pixels have no size on the ground (its transform is "
        "singular)",
        hint="say its corners: gdal_translate -a_ullr LEFT TOP RIGHT BOTTOM IN OUT.tif",
    )


def not_of_the_earth(path: str | os.PathLike[str], name: str) -> ImageError:
    """The refusal of a local, geocentric or vertical system."""
    return ImageError(
        f"{path}: its coordinate reference system {name!r} is neither projected nor geographic, so "
        "that it is not known where on Earth it lies",
        hint="say in which system its coordinates truly are: gdal_translate -a_srs EPSG:… IN "
        "OUT.tif; or tie it by control points (-gcp) and gdalwarp",
    )


def out_of_bounds(path: str | os.PathLike[str], name: str, x: float, y: float) -> ImageError:
    """The refusal of coordinates that the system cannot have."""
    return ImageError(
        f"{path}: its middle, {x:,.6g} {y:,.6g}, does not exist in its coordinate reference "
        f"system {name[:60]}",
        hint="compare gdalinfo IN; where the system is the wrong one: gdal_translate -a_srs EPSG:… "
        "IN OUT.tif",
    )
