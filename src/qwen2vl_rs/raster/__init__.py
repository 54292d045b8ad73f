"""Image files to 8-bit RGB pixels: reading, nodata mask, contrast stretch; GeoTIFF writing.

Training, evaluation and serving call the same `read_rgb` with the same `RasterToRGB`, stored with
the run, so that the model sees the same pixels everywhere.

The steps, in this order:

1. Only regular local files are read, in the formats of `FORMATS`, detected by their first bytes,
   never by their name. Of the sidecars only a mask (``.msk``) and the nodata values in an
   ``.aux.xml`` are used, nothing else (``.ovr``, world files); nothing is written beside the file.
   Of a file with several images the first is read.
   An image with a transform along the axes of its reference system is flipped or rotated to north
   up, see `orientation`. All others are used as stored; an EXIF orientation is ignored.
2. Size limits are checked on the header, before any pixel is decoded.
3. Three bands are chosen: `RasterToRGB.bands`, else the bands tagged red, green and blue, else the
   first three that are not alpha; if there are only one or two such bands, the first is used as
   grey. A colour palette is expanded. CMYK, CIELAB and similar pixels, and greys with white as
   zero, are refused.
4. Values that are nodata, masked, fully transparent, NaN, infinite or 1e30 and above (fill values
   such as −3.4e38) are invalid. In a file that declares neither nodata nor a mask nor alpha, a
   collar of zeros is invalid, see `nodata`.
5. 8-bit values are used unchanged (values of fewer bits are scaled to 0..255).
   All other types get a contrast stretch, per band, over the valid values:
   ``round(255 * (value - low) / (high - low))``, clipped to 0..255, where low and high are
   `RasterToRGB.value_range` or else the `RasterToRGB.stretch` percentiles of this image. If low and
   high are equal, larger values become 255 and the rest 0: a constant band is black.
6. Invalid values become 0. In 8-bit data a pixel is nodata only if every chosen band is: a single
   saturated 255 is a colour, not a gap.

Only this package imports rasterio. Arrays are (band, row, column) in rasterio and (row, column,
channel) elsewhere; a comment marks each conversion.
"""

from __future__ import annotations

from .arrays import image_to_rgb
from .crs import reproject
from .opening import MAX_ASPECT, MIN_SIDE, image_format, image_size, open_image
from .rgb import read_rgb
from .sidecars import image_digest, image_facts
from .writing import Layer, write_cog, write_geotiff

__all__ = [
    "MAX_ASPECT",
    "MIN_SIDE",
    "Layer",
    "image_digest",
    "image_facts",
    "image_format",
    "image_size",
    "image_to_rgb",
    "open_image",
    "read_rgb",
    "reproject",
    "write_cog",
    "write_geotiff",
]
