"""Image files in, 8-bit RGB pixels out, by a rule that is stated and kept with the run.

Training, evaluation and serving call the same `read_rgb` with the same `ImageRule`, so that the
model never sees one picture in training and another one in use.

What happens to a file, in this order:

1. Only plain local files are read, in the formats of `FORMATS`, recognised by their first bytes,
   never by their name. Nothing beside the file is looked at (``.aux.xml``, ``.msk``, ``.ovr``,
   world files) and nothing is written there. Of a file with several images the first is read.
   Georeferencing is not read (but by `georaster`), and an EXIF orientation is ignored: the rows
   and columns are those stored in the file.
2. Size limits are checked on the header, before any pixel is decoded.
3. Three bands are chosen: `ImageRule.bands`, else the bands tagged red, green and blue, else the
   first three that are not alpha; a file of one or two such bands gives its first as grey. A
   colour palette is expanded. CMYK, CIELAB and other such pixels, and greys with white as zero, are
   refused.
4. Values that are nodata, masked out, fully transparent, NaN or infinite are invalid.
5. 8-bit values are taken as they are (those stored in fewer bits are spread over 0..255).
   All other types are stretched, each band by itself, over its valid values:
   ``round(255 * (value - low) / (high - low))``, held within 0..255, where low and high are
   `ImageRule.value_range` or else the `ImageRule.stretch` percentiles of this image. Where low and
   high coincide, what lies above them becomes 255 and the rest 0: a constant band is black.
6. Invalid values become 0. In 8-bit data nodata counts only where every chosen band holds it: a
   single saturated 255 is a colour, not a gap.

This is the only module that imports rasterio. Arrays are (band, row, column) on rasterio's side
and (row, column, channel) on ours; each crossing says so.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.warp import transform as warp
from rasterio.windows import Window

from ..config import ImageRule
from ..errors import ImageError
from ..files import atomic_write
from .pixels import eight_bit, expand_palette, stretch

#: Longest side, in pixels.
MAX_SIDE = 16_384
#: Most pixels of one image.
MAX_PIXELS = 100_000_000
#: Shortest side, in pixels: about a quarter of what becomes one token (28 × 28 pixels). With less
#: there is nothing to see, and a side of 1 or 3 is taken for the channels by image processors.
MIN_SIDE = 8
#: Longest side over shortest side: the limit of Qwen2-VL's image processor.
MAX_ASPECT = 200
#: Most bytes of all bands unpacked. Bands stored together are unpacked together, so that a small
#: file declaring thousands of them would fill the memory although three are asked for.
MAX_BYTES = 4 * 2**30

#: Formats read: first bytes of the file, driver, name for people.
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

_GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecar files
    "GDAL_PAM_ENABLED": "NO",  # neither read nor write .aux.xml
    "GDAL_GEOREF_SOURCES": "NONE",  # parsing a CRS takes five times as long as reading a tile
    # GDAL's fast path for whole PNGs neither notices a cut file nor checks checksums: it returns
    # whatever was in memory for the missing rows.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
#: Colour spaces of bands, and of files that GDAL converts to RGB without their colour profile.
_NOT_RGB_BANDS = {
    ColorInterp.cyan, ColorInterp.magenta, ColorInterp.yellow, ColorInterp.black,
    ColorInterp.hue, ColorInterp.saturation, ColorInterp.lightness,
    ColorInterp.Y, ColorInterp.Cb, ColorInterp.Cr,
}  # fmt: skip
_NOT_RGB_FILES = {"CMYK", "YCCK", "CIELAB"}
_quiet_open = threading.Lock()
_AGAIN = "the file is damaged or cut short: copy or download it again"


def read_rgb(path: str | os.PathLike[str], rule: ImageRule) -> NDArray[np.uint8]:
    """Read an image file as 8-bit RGB pixels, by the steps at the head of this module.

    Args:
        path: a local file.
        rule: which bands are shown, and how values that are not 8-bit become 0..255.

    Returns:
        Array (row, column, channel) of shape (height, width, 3), channels red, green, blue.

    Raises:
        ImageError: the file is missing, unreadable, no image, damaged, cut short, too large or
            too small, has too few bands for the rule or pixels that are not colours.
    """
    with open_image(path) as source:
        bands = choose_bands(source, path, rule)
        distinct = sorted(set(bands))
        values: NDArray[Any] = source.read(distinct)  # (band, row, column)
        valid = valid_values(source, distinct)
        if source.colorinterp[distinct[0] - 1] == ColorInterp.palette:
            try:
                colors = source.colormap(distinct[0])
            except ValueError as error:
                raise ImageError(f"{path}: its palette is missing", hint=_AGAIN) from error
            return expand_palette(values[0], valid, colors)
        bits = int(source.tags(distinct[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if values.dtype == np.uint8:
        planes = eight_bit(values, valid, bits)
    else:
        planes = stretch(values, valid, rule)
    rgb = np.empty((*planes.shape[1:], 3), dtype=np.uint8)
    for channel, band in enumerate(bands):  # (band, row, column) → (row, column, channel)
        rgb[:, :, channel] = planes[distinct.index(band)]
    return rgb


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image file in pixels, from its header only.

    Raises:
        ImageError: as `read_rgb`, as far as the header shows it.
    """
    with open_image(path) as source:
        return source.width, source.height


def crs_name(crs: Any) -> str:
    """Short name of a coordinate reference system, its WKT where it has no number."""
    code = crs.to_epsg(confidence_threshold=100)
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def write_geotiff(
    path: Path, pixels: NDArray[np.uint8], crs: str, transform: Sequence[float]
) -> None:
    """Write 8-bit RGB pixels as an uncompressed GeoTIFF; it appears whole or not at all.

    Args:
        path: the file.
        pixels: shape (height, width, 3).
        crs: coordinate reference system, ``EPSG:32631`` or WKT.
        transform: (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f.

    Raises:
        RunError: the file cannot be written.
    """
    values = np.moveaxis(pixels, 2, 0)  # (row, column, channel) → (band, row, column)
    _write(path, values, crs, transform, driver="GTiff", photometric="RGB", interleave="pixel")


def write_cog(
    path: Path,
    values: NDArray[np.float32],
    names: Sequence[str],
    tags: Sequence[Mapping[str, str]],
    crs: str,
    transform: Sequence[float],
) -> None:
    """Write a Cloud Optimized GeoTIFF with NaN as nodata; it appears whole or not at all.

    Args:
        path: the file.
        values: (band, row, column).
        names: description of each band.
        tags: of each band.
        crs: as for `write_geotiff`.
        transform: as for `write_geotiff`.

    Raises:
        RunError: the file cannot be written.
    """
    said = list(zip(names, tags, strict=True))
    _write(path, values, crs, transform, said, driver="COG", nodata=np.nan, compress="deflate")


def _write(
    path: Path, values: NDArray[Any], crs: str, transform: Sequence[float],
    said: Sequence[tuple[str, Mapping[str, str]]] = (), **how: Any,
) -> None:  # fmt: skip
    """Write (band, row, column) values, with a description and tags of each band."""
    count, height, width = values.shape
    with rasterio.Env(**_GDAL_OPTIONS), MemoryFile() as memory:
        with memory.open(
            width=width, height=height, count=count, dtype=values.dtype, crs=crs,
            transform=rasterio.Affine(*transform), **how,
        ) as file:  # fmt: skip
            file.write(values)
            for number, (name, facts) in enumerate(said, start=1):
                file.set_band_description(number, name)
                file.update_tags(number, **facts)
        data = memory.read()
    with atomic_write(path, "wb") as out:
        out.write(data)


def reproject(source: str, target: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates in another reference system; points and result of shape (n, 2): x, y.

    Longitude comes before latitude. What cannot be carried over becomes infinite.

    Raises:
        ImageError: one of the systems is unknown.
    """
    if source == target:
        return points
    try:
        with rasterio.Env(**_GDAL_OPTIONS):
            x, y = warp(source, target, points[:, 0], points[:, 1])
    except (CRSError, RasterioError, CPLE_BaseError) as error:
        raise ImageError(
            f"cannot go from {source[:60]} to {target[:60]}: {error}",
            hint="name a known system: gdal_translate -a_srs EPSG:…, ogr2ogr -a_srs EPSG:…",
        ) from error
    return np.column_stack([x, y])


@contextmanager
def open_image(path: str | os.PathLike[str], **options: str) -> Iterator[Any]:
    """Open a file for reading, its header checked; what goes wrong inside is an `ImageError`.

    With ``options`` of GDAL the image is read in pieces: its size is not limited.
    """
    driver = _driver(path)
    # A Path is never taken for a URL or for one of rasterio's "zip+file:" names; an absolute one
    # is never taken for a GDAL prefix such as "GTIFF_RAW:".
    file = Path(os.path.abspath(path))
    try:
        with rasterio.Env(**{**_GDAL_OPTIONS, **options}):
            # Without georeferencing rasterio warns at each file. Filters belong to the whole
            # process: two threads in here at once would put back each other's.
            with _quiet_open, warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                source = rasterio.open(file, driver=driver)
            with source:
                _check_header(source, path, in_pieces=bool(options))
                yield source
    except (RasterioError, CPLE_BaseError) as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise ImageError(
            f"{path}: broken or incomplete {driver} file: {why}", hint=_AGAIN
        ) from error
    except MemoryError as error:
        raise ImageError(
            f"{path}: not enough memory for this image", hint="cut it into smaller tiles"
        ) from error
    except UnicodeError as error:
        raise ImageError(
            f"{os.fspath(path)!a}: the file name is not valid UTF-8", hint="rename the file"
        ) from error


def _driver(path: str | os.PathLike[str]) -> str:
    """Name of the driver for this file, judged by its first bytes.

    The kernel opens the file before GDAL hears of it, so that the virtual names GDAL would fetch
    from the network (``/vsicurl/…``, ``https:…``) are missing files, and VRT files are no images.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path}: a folder, not an image", hint="give the image file itself")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise ImageError(f"{path}: not a regular file", hint="give an image file")
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise ImageError(
            f"{path}: no such file",
            hint="check the path; only local files are read, relative to the current folder",
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ImageError(
            f"{os.fspath(path)!r}: cannot be read: {why}",
            hint="check the path and its permissions (ls -l)",
        ) from error
    if not head:
        raise ImageError(f"{path}: the file is empty", hint="copy or download it again")
    for signature, driver, _ in FORMATS:
        if head.startswith(signature) and (driver != "WEBP" or head[8:12] == b"WEBP"):
            return driver
    names = ", ".join(dict.fromkeys(name for _, _, name in FORMATS))
    raise ImageError(f"{path}: not an image of a known format", hint=f"formats read: {names}")


def _check_header(source: Any, path: str | os.PathLike[str], in_pieces: bool) -> None:
    """Refuse what is too large, too small or not made of real numbers, before decoding it."""
    width, height = source.width, source.height
    size = f"{path}: {width} × {height} pixels"
    if not in_pieces and (max(width, height) > MAX_SIDE or width * height > MAX_PIXELS):
        raise ImageError(
            f"{size} is too large: at most {MAX_SIDE:,} on a side and {MAX_PIXELS:,} in all",
            hint="cut it into tiles, e.g. gdal_translate -srcwin 0 0 512 512 SCENE TILE.tif",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{size} is too small: at least {MIN_SIDE} on a side",
            hint="use a larger piece of the scene",
        )
    if not in_pieces and max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{size} is too narrow: the model takes a side at most {MAX_ASPECT} times the other",
            hint="cut it into squarer tiles",
        )
    dtype = source.dtypes[0]
    if dtype.startswith("complex"):
        raise ImageError(
            f"{path}: complex values ({dtype}) are no picture",
            hint="convert them first, e.g. to amplitudes",
        )
    unpacked = width * height * source.count * np.dtype(dtype).itemsize
    if not in_pieces and unpacked > MAX_BYTES:
        raise ImageError(
            f"{path}: {source.count} bands unpack to {unpacked:,} bytes, at most {MAX_BYTES:,}",
            hint="keep only the bands to be shown: gdal_translate -b 1 -b 2 -b 3 IN OUT.tif",
        )


def choose_bands(
    source: Any, path: str | os.PathLike[str], rule: ImageRule
) -> tuple[int, int, int]:
    """Numbers, from 1, of the bands shown as red, green and blue."""
    tagged = list(source.colorinterp)
    structure = source.tags(ns="IMAGE_STRUCTURE")
    if structure.get("SOURCE_COLOR_SPACE") in _NOT_RGB_FILES:
        strange = structure["SOURCE_COLOR_SPACE"]
    elif _NOT_RGB_BANDS.intersection(tagged):
        strange = ", ".join(tag.name for tag in tagged)
    elif structure.get("MINISWHITE") == "YES" and ColorInterp.palette not in tagged:
        strange = "white-is-zero"
    else:
        strange = ""
    if strange:
        raise ImageError(f"{path}: its pixels are {strange}", hint="convert the file to RGB")
    if rule.bands is not None:
        if max(rule.bands) > source.count:
            raise ImageError(
                f"{path}: bands {rule.bands} are asked for, the file has {source.count}",
                hint=f"set bands to numbers from 1 to {source.count}, or leave them unset",
            )
        return rule.bands
    if all(tag in tagged for tag in _RGB):
        red, green, blue = (tagged.index(tag) + 1 for tag in _RGB)
        return red, green, blue
    shown = [n for n, tag in enumerate(tagged, start=1) if tag != ColorInterp.alpha] or [1]
    return (shown[0], shown[1], shown[2]) if len(shown) > 2 else (shown[0],) * 3


def valid_values(source: Any, bands: list[int], **piece: Any) -> NDArray[np.bool_] | None:
    """Which values count by nodata, mask or alpha, as (band, row, column); None where all do."""
    tagged, flags = source.colorinterp, source.mask_flag_enums
    if all(MaskFlags.all_valid in flags[band - 1] for band in bands):
        return None
    # A fourth 8-bit band is often tagged alpha by the writing software and is near infrared in
    # truth. Who asks for it by number means data: zeros in it are no holes.
    if any(tagged[band - 1] == ColorInterp.alpha for band in bands):
        return None
    valid: NDArray[np.bool_] = source.read_masks(bands, **piece) != 0
    return valid


def read_resampled(
    source: Any, bands: Sequence[int], piece: tuple[float, float, float, float],
    shape: tuple[int, int],
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:  # fmt: skip
    """A piece (column, row, width, height) of an open image at another size (rows, columns).

    Returns:
        Values and their validity as `valid_values` gives it, (band, row, column).
    """
    window = Window(*piece)
    smaller = shape[0] < piece[3]
    way = Resampling.average if smaller else Resampling.bilinear
    out = (len(bands), *shape)
    values = source.read(list(bands), window=window, out_shape=out, resampling=way)
    return values, valid_values(source, list(bands), window=window, out_shape=out)
