"""Image files in, 8-bit RGB pixels out, by a rule that is stated and kept with the run.

Training, evaluation and serving call the same `read_rgb` with the same `RasterToRGB`, so that the
model never sees one picture in training and another one in use.

What happens to a file, in this order:

1. Only plain local files are read, in the formats of `FORMATS`, recognised by their first bytes,
   never by their name. Of what lies beside the file a mask (``.msk``) and the nodata values in an
   ``.aux.xml`` count, and nothing else (``.ovr``, world files); nothing is written there. Of a
   file with several images the first is read.
   An image whose transform lies along the axes of its reference system is turned to have north up,
   see `orientation`. All others are shown as stored; an EXIF orientation is ignored.
2. Size limits are checked on the header, before any pixel is decoded.
3. Three bands are chosen: `RasterToRGB.bands`, else the bands tagged red, green and blue, else the
   first three that are not alpha; a file of one or two such bands gives its first as grey. A
   colour palette is expanded. CMYK, CIELAB and other such pixels, and greys with white as zero, are
   refused.
4. Values that are nodata, masked out, fully transparent, NaN, infinite or larger than anything
   measured (1e30: fill values such as −3.4e38) are invalid. In a file that declares neither nodata
   nor a mask nor alpha a collar of zeros is, see `nodata`.
5. 8-bit values are taken as they are (those stored in fewer bits are spread over 0..255).
   All other types are stretched, each band by itself, over its valid values:
   ``round(255 * (value - low) / (high - low))``, held within 0..255, where low and high are
   `RasterToRGB.value_range` or else the `RasterToRGB.stretch` percentiles of this image. Where low
   and high coincide, what lies above them becomes 255 and the rest 0: a constant band is black.
6. Invalid values become 0. In 8-bit data nodata counts only where every chosen band holds it: a
   single saturated 255 is a colour, not a gap.

This package is the only one that imports rasterio. Arrays are (band, row, column) on rasterio's
side and (row, column, channel) on ours; each crossing says so.
"""

from __future__ import annotations

from .arrays import image_to_rgb
from .crs import reproject
from .opening import MAX_ASPECT, MIN_SIDE, image_size, open_image
from .rgb import read_rgb
from .sidecars import image_digest, image_facts
from .writing import Layer, write_cog, write_geotiff

__all__ = [
    "MAX_ASPECT",
    "MIN_SIDE",
    "Layer",
    "image_digest",
    "image_facts",
    "image_size",
    "image_to_rgb",
    "open_image",
    "read_rgb",
    "reproject",
    "write_cog",
    "write_geotiff",
]
