"""Odd rasters: each is read rightly, or refused by what is wrong with it, with a hint that fits."""

import struct
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine, from_origin

from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ImageError
from qwen2vl_rs.raster import read_rgb
from qwen2vl_rs.raster.scenes import open_scene

PIXELS = np.random.default_rng(0).integers(1, 255, (3, 32, 40)).astype(np.uint8)
NOWHERE = {"crs": None, "transform": None}
LOCAL = 'LOCAL_CS["site grid",UNIT["metre",1]]'


def write(path, values=PIXELS, *, gcps=None, rpcs=None, **options):
    count, height, width = values.shape
    options = {"crs": "EPSG:32631", "transform": from_origin(5e5, 5.6e6, 1, 1)} | options
    options = {key: value for key, value in options.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count,
            dtype=values.dtype, **options,
        ) as file:  # fmt: skip
            file.write(values)
            if gcps:
                file.gcps = gcps
            if rpcs:
                file.rpcs = rpcs
    return path


def open_and_close(path, rule):
    with open_scene(path, rule):
        pass


def refused(path, use=None):
    with pytest.raises(ImageError) as caught:
        (use or open_and_close)(path, RasterToRGB())
    return caught.value.message, caught.value.hint


def control_points():
    corners = ((0, 0), (0, 40), (32, 0), (32, 40))
    points = [GroundControlPoint(r, c, 5e5 + c, 5.6e6 - r) for r, c in corners]
    return points, rasterio.crs.CRS.from_epsg(32631)


def coefficients():
    line, sample = [0, 0, -1] + [0] * 17, [0, 1] + [0] * 18
    return RPC(
        height_off=0, height_scale=500, lat_off=50, lat_scale=0.1, long_off=3, long_scale=0.1,
        line_off=16, line_scale=16, samp_off=20, samp_scale=20, line_num_coeff=line,
        line_den_coeff=[1] + [0] * 19, samp_num_coeff=sample, samp_den_coeff=[1] + [0] * 19,
        err_bias=None, err_rand=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"gcps": control_points(), **NOWHERE}, "ground control points only (4)", "gdalwarp -t_s"),
        ({"rpcs": coefficients(), **NOWHERE}, "RPC", "gdalwarp -rpc"),
        (NOWHERE, "no coordinate reference system and no position", "-a_srs EPSG:… -a_ullr"),
        ({"crs": None}, "no coordinate reference system", "gdal_translate -a_srs EPSG:… IN"),
        ({"transform": None}, "no position", "gdal_translate -a_ullr LEFT"),
        ({"transform": Affine(1, 0, 5e5, 0, 0, 5e6)}, "no size on the ground", "-a_ullr"),
        ({"crs": LOCAL}, "'site grid' is neither projected nor geographic", "gdalwarp"),
        ({"crs": "EPSG:4978"}, "neither projected nor geographic", "-a_srs"),
        ({"crs": "EPSG:4326"}, "does not exist in its coordinate reference system", "gdalinfo"),
        ({"transform": from_origin(9e9, 9e9, 1, 1)}, "does not exist", "gdalinfo"),
    ],
)  # fmt: skip
def test_what_does_not_say_where_it_lies(tmp_path, options, said, hint):
    path = write(tmp_path / "a.tif", **options)
    message, helps = refused(path)
    assert said in message
    assert hint in helps
    assert read_rgb(path, RasterToRGB()).shape == (32, 40, 3)  # as a picture it is sound


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("a.tfw", NOWHERE, "gdal_translate -a_srs EPSG:… IN"),
        ("a.TFW", NOWHERE, "gdal_translate -a_srs EPSG:… IN"),
        ("a.wld", {"transform": None}, "gdal_translate IN OUT.tif"),
        ("a.tif.aux.xml", NOWHERE, "gdal_translate IN OUT.tif"),
        ("a_RPC.TXT", NOWHERE, "gdalwarp -rpc"),
    ],
)
def test_what_lies_beside_it_is_named(tmp_path, name, options, hint):
    path = write(tmp_path / "a.tif", **options)
    (tmp_path / name).write_text("1\n0\n0\n-1\n500000.5\n5599999.5\n")
    message, helps = refused(path)
    assert f"{name} beside it is not read" in message
    assert hint in helps


@pytest.mark.parametrize(
    "options",
    [
        {"transform": Affine(1, 0, 5e5, 0, 1, 5.6e6)},
        {"transform": Affine(1, 0, 0, 0, 1, 5.6e6)},
        {"transform": Affine(1, 0, 5e5, 0, 1, 0)},
        {"transform": Affine.translation(5e5, 5.6e6) * Affine.rotation(40) * Affine.scale(2, -2)},
        {"crs": "EPSG:4326", "transform": from_origin(3, 50.5, 1.4e-5, 9e-6)},
        {"crs": "EPSG:4326", "transform": Affine(1, 0, 0, 0, -1, 16)},
        {"crs": "EPSG:4979", "transform": from_origin(3, 50.5, 1e-5, 1e-5)},
        {"crs": "EPSG:32631+5773"},
        {"crs": "ESRI:102003", "transform": from_origin(0, 0, 1, 1)},
        {"crs": "EPSG:3031", "transform": from_origin(0, 100, 1, 1)},
        {"crs": "EPSG:4326", "transform": from_origin(179.9999, -17, 1.2e-5, 1e-5)},
    ],
)
def test_places_that_are_taken(tmp_path, options):
    path = write(tmp_path / "a.tif", **options)
    with open_scene(path, RasterToRGB()) as scene:
        stored = options.get("transform", from_origin(5e5, 5.6e6, 1, 1))
        if stored.b == 0 and stored.e > 0:  # south up: shown with north up
            stored = stored * Affine(1, 0, 0, 0, -1, scene.height)
        assert scene.reference.transform == pytest.approx(tuple(stored)[:6])
        assert all(0 < size < 2e5 for size in scene.reference.pixel_size(20, 16))
        assert scene.read(0, 0, 40, 32)[1] == 1.0


def recoded(path, codec):
    """A TIFF that says it is compressed by another method (tag 259)."""
    data = bytearray(write(path, compress="deflate").read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == 259:
            struct.pack_into("<H", data, entry + 8, codec)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", [50_002, 34_712, 65_000])  # JPEG XL, JPEG 2000, a private one
def test_a_codec_that_gdal_lacks_is_no_damage(tmp_path, codec):
    path = recoded(tmp_path / "a.tif", codec)
    for use in (read_rgb, None):
        message, hint = refused(path, use)
        assert "this GDAL lacks" in message
        assert "COMPRESS=DEFLATE" in hint
        assert "damaged" not in message + hint


def test_a_sound_codec_over_other_bytes_is_damage(tmp_path):
    message, hint = refused(recoded(tmp_path / "a.tif", 50_000), read_rgb)
    assert "broken or incomplete TIFF" in message
    assert "damaged or truncated" in hint


def test_webp_that_moves_and_webp_that_does_not(tmp_path):
    first = Image.fromarray(np.moveaxis(PIXELS, 0, 2))
    second = Image.fromarray(255 - np.moveaxis(PIXELS, 0, 2))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    message, hint = refused(tmp_path / "a.webp", read_rgb)
    assert "animated WebP" in message
    assert "webpmux" in hint
    first.convert("RGBA").save(tmp_path / "b.webp", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0")
    assert (read_rgb(tmp_path / "b.webp", RasterToRGB()) == np.moveaxis(PIXELS, 0, 2)).all()


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_of_several_images_in_a_file_the_first_is_read(tmp_path, name):
    first = Image.new("RGB", (40, 32), (90, 60, 30))
    options = {"format": "MPO"} if name == "a.jpg" else {}
    second = Image.new("RGB", first.size, (255, 255, 255))
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    found = read_rgb(tmp_path / name, RasterToRGB())
    assert np.abs(found.astype(int) - np.asarray(first)).max() <= (4 if name == "a.jpg" else 0)


@pytest.mark.parametrize(
    ("head", "said", "hint"),
    [
        (b"GIF89a\x08\0", "GIF", "PNG or TIFF"),
        (b"\0\0\0\x1cftypavif", "AVIF", "PNG or TIFF"),
        (b"\0\0\0\x18ftypheic", "HEIC", "PNG or TIFF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "PNG or TIFF"),
        (b"%PDF-1.7", "PDF", "PNG or TIFF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "NETCDF:IN:NAME"),
        (b"NITF02.10", "NITF", "gdal_translate"),
        (b"EHFA_HEADER_TAG", "ERDAS", "gdal_translate"),
        (b"<VRTDataset>", "VRT", "gdal_translate IN.vrt"),
        (b"PK\x03\x04", "zip", "unpack"),
        (b"\x1f\x8b\x08", "gzip", "unpack"),
        (b"<!DOCTYPE html><html>", "web page", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (b"id,question\n", "", "formats read: TIFF, PNG"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, head, said, hint):
    (tmp_path / "a.tif").write_bytes(head + bytes(200))
    message, helps = refused(tmp_path / "a.tif", read_rgb)
    assert "not an image of a known format" in message
    assert said in message
    assert hint in helps


@pytest.mark.parametrize(
    ("mode", "said", "hint"),
    [("CMYK", "CMYK", "-colorspace sRGB"), ("LAB", "CIELAB", "convert the file to RGB")],
)
def test_other_colour_spaces(tmp_path, mode, said, hint):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.tif")
    picture = Image.fromarray(np.moveaxis(PIXELS, 0, 2))
    if mode == "LAB":
        picture = Image.merge("LAB", picture.split())
    (picture.convert("CMYK") if mode == "CMYK" else picture).save(path)
    message, helps = refused(path, read_rgb)
    assert said in message
    assert hint in helps


def test_white_is_zero_says_how_to_turn_it(tmp_path):
    path = write(tmp_path / "a.tif", PIXELS[:1], photometric="miniswhite")
    message, hint = refused(path, read_rgb)
    assert "white-is-zero" in message
    assert "-scale 0 255 255 0" in hint
