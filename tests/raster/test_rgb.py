"""Image files become RGB pixels by the stated rule, or are refused in words."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from pydantic import ValidationError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from family import few
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ImageError
from qwen2vl_rs.raster import image_size, read_rgb

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RULE = RasterToRGB()


def write(path, values, *, driver="GTiff", mask=None, tags=None, colors=None, **options):
    """Write ``values`` (band, row, column) and return the path."""
    values = np.asarray(values)
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with (
            rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK="YES"),
            rasterio.open(
                path, "w", driver=driver, width=width, height=height, count=count,
                dtype=values.dtype, **options,
            ) as file,
        ):  # fmt: skip
            if tags:
                file.colorinterp = tags
            if colors:
                file.write_colormap(1, colors)
            file.write(values)
            if mask is not None:
                file.write_mask(mask)
    return path


def noise(count=3, height=24, width=40, dtype=np.uint8, seed=0):
    top = min(np.iinfo(dtype).max, 60_000)
    return np.random.default_rng(seed).integers(0, top, (count, height, width), dtype=dtype)


def channels_last(values):
    return np.moveaxis(np.asarray(values), 0, -1)


def png(width, height, bits, kind, rows):
    """Bytes of a PNG from raw rows (without filter bytes): what the PNG writer cannot make."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refuse(path, *parts, rule=RULE):
    """Both readers refuse; message and hint say what and how. Returns the error of read_rgb."""
    with pytest.raises(ImageError) as caught:
        read_rgb(path, rule)
    assert caught.value.hint
    assert Path(str(path)).name[:20] in caught.value.message
    for part in parts:
        assert part in caught.value.message
    return caught.value


# --- the rule ----------------------------------------------------------------------------------


def test_rule_is_checked_frozen_and_survives_json():
    rule = RasterToRGB(bands=[4, 3, 2], stretch=(1, 99), value_range=(0, 4096))
    assert RasterToRGB.model_validate_json(rule.model_dump_json()) == rule
    assert hash(rule) == hash(RasterToRGB(bands=(4, 3, 2), stretch=(1, 99), value_range=(0, 4096)))
    with pytest.raises(ValidationError):
        rule.bands = None
    for wrong in (
        {"bands": (0, 1, 2)},
        {"bands": (1, 2)},
        {"stretch": (98, 2)},
        {"stretch": (2, 2)},
        {"stretch": (-1, 98)},
        {"stretch": (2, 101)},
        {"value_range": (5, 5)},
        {"value_range": (0, float("inf"))},
        {"value_range": (float("nan"), 1)},
        {"gamma": 2},
    ):
        with pytest.raises(ValidationError):
            RasterToRGB(**wrong)


# --- 8-bit: as it is ---------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=hnp.arrays(
        np.uint8, st.tuples(st.just(3), st.integers(8, 24), st.integers(8, 24)), fill=st.nothing()
    ),
    options=st.sampled_from(
        [
            {},
            {"compress": "deflate", "interleave": "band"},
            {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw"},
            {"driver": "PNG"},
            {"driver": "BMP"},
            {"driver": "WEBP", "LOSSLESS": "YES"},
            {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"},
        ]
    ),
)
def test_eight_bit_rgb_is_exact(tmp_path, values, options):
    path = write(tmp_path / "image", values, **options)
    rgb = read_rgb(path, RULE)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert_array_equal(rgb, channels_last(values))
    assert image_size(path) == (values.shape[2], values.shape[1])


def test_jpeg_is_close_and_keeps_stored_orientation(tmp_path):
    values = np.zeros((3, 32, 48), np.uint8)
    values[0, :, :24] = 200
    path = write(tmp_path / "a.jpg", values, driver="JPEG", QUALITY=95)
    rgb = read_rgb(path, RULE)
    assert rgb.shape == (32, 48, 3)
    assert np.abs(rgb.astype(int) - channels_last(values)).mean() < 4
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    stored = path.read_bytes()
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(
        stored[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + stored[2:]
    )
    assert_array_equal(read_rgb(turned, RULE), rgb)


def test_transparent_pixels_are_black(tmp_path):
    values = noise(4)
    values[3] = 255
    values[3, :5] = 0
    values[3, 5] = 128  # half transparent: the colour as stored
    expected = channels_last(values[:3]).copy()
    expected[:5] = 0
    for driver in ("PNG", "GTiff"):
        path = write(tmp_path / driver, values, driver=driver)
        assert_array_equal(read_rgb(path, RULE), expected)


def test_alpha_asked_for_by_number_is_data(tmp_path):
    values = noise(4)
    values[3, :5] = 0
    path = write(tmp_path / "rgbn.tif", values)
    assert_array_equal(
        read_rgb(path, RasterToRGB(bands=(4, 1, 2))), channels_last(values[[3, 0, 1]])
    )


def test_nodata_in_eight_bit_is_a_gap_only_in_all_bands(tmp_path):
    values = noise()
    values[:, 0, 0] = 255
    values[2, 1, 1] = 255
    rgb = read_rgb(write(tmp_path / "a.tif", values, nodata=255), RULE)
    assert rgb[0, 0].tolist() == [0, 0, 0]
    assert rgb[1, 1].tolist() == values[:, 1, 1].tolist()


def test_internal_mask(tmp_path):
    values = noise() | 1
    mask = np.full(values.shape[1:], 255, np.uint8)
    mask[:, :7] = 0
    rgb = read_rgb(write(tmp_path / "a.tif", values, mask=mask), RULE)
    assert not rgb[:, :7].any()
    assert_array_equal(rgb[:, 7:], channels_last(values)[:, 7:])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_bands_are_grey(tmp_path, count):
    values = noise(count)
    rgb = read_rgb(write(tmp_path / "a.tif", values, photometric="minisblack", alpha="no"), RULE)
    assert_array_equal(rgb, channels_last(values[[0, 0, 0]]))


def test_grey_with_alpha(tmp_path):
    values = noise(2)
    values[1] = 255
    values[1, 3:] = 0
    rgb = read_rgb(write(tmp_path / "a.png", values, driver="PNG"), RULE)
    assert_array_equal(rgb[:3], channels_last(values[[0, 0, 0]])[:3])
    assert not rgb[3:].any()


@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_palette_is_expanded(tmp_path, driver):
    values = np.zeros((1, 10, 12), np.uint8)
    values[0, :, 4:8] = 1
    values[0, :, 8:] = 2
    colors = {0: (10, 20, 30, 255), 1: (200, 100, 50, 255), 2: (255, 255, 255, 255)}
    path = write(tmp_path / "a", values, driver=driver, colors=colors)
    expected = np.array([colors[i][:3] for i in range(3)], np.uint8)[values[0]]
    assert_array_equal(read_rgb(path, RULE), expected)
    assert_array_equal(read_rgb(path, RasterToRGB(bands=(1, 1, 1))), expected)


def test_transparent_palette_entry_is_black(tmp_path):
    values = np.arange(96, dtype=np.uint8).reshape(1, 8, 12) % 3
    colors = {0: (9, 9, 9, 0), 1: (1, 2, 3, 255), 2: (4, 5, 6, 255)}
    rgb = read_rgb(write(tmp_path / "a.png", values, driver="PNG", colors=colors), RULE)
    assert_array_equal(rgb, np.array([(0, 0, 0), (1, 2, 3), (4, 5, 6)], np.uint8)[values[0]])


def test_fewer_bits_are_spread(tmp_path):
    path = tmp_path / "four.png"
    path.write_bytes(png(16, 9, 4, 0, [bytes(range(0x01, 0x100, 0x22))] * 9))
    assert read_rgb(path, RULE)[0, :, 1].tolist() == [17 * n for n in range(16)]
    path.write_bytes(png(16, 9, 1, 0, [b"\xaa\xaa"] * 9))
    assert read_rgb(path, RULE)[0, :2, 0].tolist() == [255, 0]
    for photometric in ("minisblack", "miniswhite"):
        values = np.zeros((1, 8, 8), np.uint8)
        values[0, 0] = 1
        bilevel = write(tmp_path / "b.tif", values, NBITS=1, photometric=photometric)
        light = 0 if photometric == "minisblack" else 255
        assert set(np.unique(read_rgb(bilevel, RULE)[0])) == {255 - light}
        assert set(np.unique(read_rgb(bilevel, RULE)[1:])) == {light}


# --- choice of bands ---------------------------------------------------------------------------


def test_bands_in_the_order_asked_for(tmp_path):
    values = noise(5)
    path = write(tmp_path / "a.tif", values, photometric="minisblack")
    assert_array_equal(read_rgb(path, RULE), channels_last(values[:3]))
    for bands in ((4, 3, 2), (5, 5, 1), (2, 2, 2)):
        rgb = read_rgb(path, RasterToRGB(bands=bands))
        assert_array_equal(rgb, channels_last(values[[b - 1 for b in bands]]))
    refuse(path, "the file has 5", rule=RasterToRGB(bands=(1, 2, 6)))


def test_tagged_colours_go_before_position(tmp_path):
    values = noise(4)
    tags = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    path = write(tmp_path / "a.tif", values, photometric="minisblack", alpha="no", tags=tags)
    assert_array_equal(read_rgb(path, RULE), channels_last(values[[3, 2, 1]]))


@pytest.mark.parametrize(
    ("photometric", "count", "dtype", "words"),
    [
        ("cmyk", 4, np.uint8, "CMYK"),
        ("cmyk", 4, np.uint16, "cyan, magenta, yellow, black"),
        ("cielab", 3, np.uint8, "CIELAB"),
    ],
)
def test_pixels_that_are_no_rgb_are_refused(tmp_path, photometric, count, dtype, words):
    path = write(tmp_path / "a.tif", noise(count, dtype=dtype), photometric=photometric)
    refuse(path, words)
    refuse(path, words, rule=RasterToRGB(bands=(1, 2, 3)))


def test_palette_band_without_palette_is_refused(tmp_path):
    tags = [ColorInterp.palette]
    refuse(write(tmp_path / "a.tif", noise(1), photometric="minisblack", tags=tags), "palette")


def test_white_is_zero_is_refused(tmp_path):
    refuse(write(tmp_path / "a.tif", noise(1), photometric="miniswhite"), "white-is-zero")


def test_cmyk_jpeg_is_refused(tmp_path):
    refuse(write(tmp_path / "a.jpg", noise(4), driver="JPEG"), "CMYK")


# --- everything else: stretched ----------------------------------------------------------------


def test_uint16_with_nodata(tmp_path):
    values = noise(4, dtype=np.uint16) + np.uint16(1)
    values[:, :6] = 0
    path = write(tmp_path / "a.tif", values, nodata=0, photometric="minisblack")
    rgb = read_rgb(path, RULE)
    assert not rgb[:6].any()
    for channel in range(3):
        band = values[channel, 6:].astype(float)
        low, high = np.percentile(band, (2, 98))
        expected = np.clip((band - low) / (high - low) * 255, 0, 255)
        assert np.abs(rgb[6:, :, channel] - expected).max() <= 0.51
        assert (rgb[..., channel].min(), rgb[..., channel].max()) == (0, 255)


def test_percentiles_ignore_what_is_invalid(tmp_path):
    """Bright garbage under the mask changes nothing."""
    values = noise(3, dtype=np.uint16)
    mask = np.full(values.shape[1:], 255, np.uint8)
    mask[:10] = 0
    first = read_rgb(write(tmp_path / "a.tif", values, mask=mask), RULE)
    values[:, :10] = 65_000
    second = read_rgb(write(tmp_path / "b.tif", values, mask=mask), RULE)
    assert_array_equal(first, second)
    assert not first[:10].any()


def test_one_band_may_be_invalid_alone(tmp_path):
    values = noise(3, dtype=np.int16).astype(np.int16)
    values[1, 0, 0] = -9999
    rgb = read_rgb(
        write(tmp_path / "a.tif", values, nodata=-9999), RasterToRGB(value_range=(0, 100))
    )
    assert rgb[0, 0, 1] == 0
    assert rgb[0, 1, 1] == min(255, round(int(values[1, 0, 1]) * 2.55))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_with_nan_and_infinity(tmp_path, dtype):
    values = np.random.default_rng(1).random((3, 20, 30)).astype(dtype)
    values[:, 0] = np.nan
    values[:, 1] = np.inf
    values[:, 2] = -np.inf
    rgb = read_rgb(write(tmp_path / "a.tif", values), RULE)
    assert not rgb[:3].any()
    low, high = np.percentile(values[0, 3:], (2, 98))
    expected = np.clip((values[0, 3:] - low) / (high - low) * 255, 0, 255)
    assert np.abs(rgb[3:, :, 0] - expected).max() <= 0.51


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "int64", "uint64"])
def test_other_integers(tmp_path, dtype):
    info = np.iinfo(dtype)
    values = np.full((1, 16, 16), info.min, dtype)
    values[0, 8:] = info.max
    values[0, 0], values[0, :8, 0], values[0, :8, -1] = 1, 1, 1  # zeros at the edge are no data
    rgb = read_rgb(write(tmp_path / "a.tif", values), RULE)
    assert (rgb[:8] < 255).all()
    assert not rgb[1:8, 1:-1].any()
    assert (rgb[8:] == 255).all()


def test_value_range_replaces_percentiles(tmp_path):
    values = np.full((3, 8, 8), 2048, np.uint16)
    values[0, 0, 0], values[0, 0, 1] = 0, 9000
    rgb = read_rgb(write(tmp_path / "a.tif", values), RasterToRGB(value_range=(0, 4096)))
    assert rgb[0, :3, 0].tolist() == [0, 255, 128]
    eight = noise()
    path = write(tmp_path / "b.tif", eight)
    assert_array_equal(read_rgb(path, RasterToRGB(value_range=(0, 10))), channels_last(eight))


def test_constant_empty_and_extreme_bands_do_not_warn(tmp_path):
    flat = np.full((3, 8, 8), 700, np.uint16)
    assert not read_rgb(write(tmp_path / "flat.tif", flat), RULE).any()
    flat[0, 0, 0] = 900  # beyond both percentiles, which coincide
    rgb = read_rgb(write(tmp_path / "spot.tif", flat), RULE)
    assert (rgb[0, 0, 0], rgb.sum()) == (255, 255)
    assert not read_rgb(write(tmp_path / "gone.tif", flat * 0, nodata=0), RULE).any()
    assert not read_rgb(write(tmp_path / "nan.tif", np.full((1, 8, 8), np.nan, "f4")), RULE).any()
    wide = np.zeros((1, 8, 8))
    wide[0, 4:], wide[0, :4] = np.finfo(float).max, np.finfo(float).min
    read_rgb(write(tmp_path / "wide.tif", wide), RULE)
    tiny = np.zeros((1, 8, 8))
    tiny[0, 4:] = 5e-324
    read_rgb(write(tmp_path / "tiny.tif", tiny), RULE)
    read_rgb(tmp_path / "nan.tif", RasterToRGB(value_range=(-1e300, 1e300)))


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_values_are_refused(tmp_path, dtype):
    path = tmp_path / "a.tif"
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", width=9, height=9, count=1, dtype=dtype),
    ):
        pass
    refuse(path, "complex")


# --- refusals ----------------------------------------------------------------------------------


def sparse(path, width, height, **options):
    options = {"count": 3, "dtype": "uint8", "compress": "deflate", "SPARSE_OK": True} | options
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", width=width, height=height, **options),
    ):
        pass
    return path


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (50_000, 50_000, "too large"),
        (16_385, 100, "too large"),
        (10_001, 10_000, "too large"),
        (1, 1, "too small"),
        (7, 300, "too small"),
        (8, 1601, "too narrow"),
    ],
)
def test_sizes_are_refused_on_the_header(tmp_path, width, height, words):
    path = sparse(tmp_path / "a.tif", width, height, tiled=width > 256, BIGTIFF="YES")
    start = time.process_time()
    refuse(path, words, f"{width} × {height}")
    with pytest.raises(ImageError, match=words):
        image_size(path)
    assert time.process_time() - start < 1


def test_sizes_at_the_limits_are_taken(tmp_path):
    assert image_size(sparse(tmp_path / "a.tif", 16_384, 6_000)) == (16_384, 6_000)
    assert read_rgb(sparse(tmp_path / "b.tif", 1600, 8), RULE).shape == (8, 1600, 3)
    assert read_rgb(sparse(tmp_path / "c.tif", 8, 8), RULE).shape == (8, 8, 3)


def test_bombs_are_refused(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000, 8, 2, []))
    refuse(path, "too large")
    refuse(sparse(tmp_path / "many.tif", 9000, 9000, count=60, tiled=True), "60 bands")


CUTS = {
    "tif": {"driver": "GTiff"},
    "lzw.tif": {"driver": "GTiff", "compress": "lzw"},
    "tiled.tif": {
        "driver": "GTiff", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"
    },
    "jpeg.tif": {"driver": "GTiff", "compress": "jpeg", "photometric": "ycbcr"},
    "png": {"driver": "PNG"},
    "jpg": {"driver": "JPEG"},
    "progressive.jpg": {"driver": "JPEG", "PROGRESSIVE": "ON"},
    "jp2": {"driver": "JP2OpenJPEG"},
    "bmp": {"driver": "BMP"},
    "webp": {"driver": "WEBP"},
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_cut_files_are_errors_not_half_pictures(tmp_path, name):
    path = write(tmp_path / f"a.{name}", noise(3, 100, 90), **CUTS[name])
    read_rgb(path, RULE)
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.7, 0.97, 0.995):
        path.write_bytes(whole[: int(len(whole) * share)])
        refuse(path)
    path.write_bytes(whole[:20])
    refuse(path)


def test_cut_interlaced_grey_and_16_bit_png(tmp_path):
    for bits, kind, row in ((8, 0, 50), (16, 2, 300), (8, 6, 200)):
        rows = [os.urandom(row) for _ in range(50)]
        path = tmp_path / "a.png"
        path.write_bytes(png(50, 50, bits, kind, rows[:30]))
        refuse(path)
        path.write_bytes(png(50, 50, bits, kind, rows)[:-100])
        refuse(path)


def test_flipped_bit_in_png_is_noticed(tmp_path):
    path = write(tmp_path / "a.png", noise(3, 100, 90), driver="PNG")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refuse(path)


def test_what_is_no_image_file(tmp_path):
    refuse(tmp_path / "missing.tif", "no such file")
    refuse(tmp_path, "folder")
    (tmp_path / "empty.tif").touch()
    refuse(tmp_path / "empty.tif", "empty")
    for content in (b"id,question,answer\n", b"II", b"RIFF\0\0\0\0WAVEfmt ", b"GIF89a\x08\0\x08\0"):
        (tmp_path / "text.tif").write_bytes(content)
        error = refuse(tmp_path / "text.tif", "not an image of a known format")
        assert "PNG" in error.hint
    (tmp_path / "bm.bmp").write_bytes(b"BMW is a car maker\n")
    refuse(tmp_path / "bm.bmp", "BMP")
    os.mkfifo(tmp_path / "pipe.tif")
    refuse(tmp_path / "pipe.tif", "not a regular file")
    with pytest.raises(ImageError):
        read_rgb("null\0byte", RULE)
    with pytest.raises(ImageError):
        read_rgb(tmp_path / "x.tif" / "y.tif" / ("z" * 300), RULE)


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may read everything")
def test_file_without_permission(tmp_path):
    path = write(tmp_path / "a.tif", noise())
    path.chmod(0)
    refuse(path, "Permission denied")


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/http://127.0.0.1:9/a.tif",
        "http://127.0.0.1:9/a.tif",
        "zip+file:///tmp/a.zip!a.tif",
        "GTIFF_DIR:1:a.tif",
        "/vsistdin/",
        "/vsimem/a.tif",
    ],
)
def test_virtual_names_are_only_missing_files(name):
    with pytest.raises(ImageError, match="no such file"):
        read_rgb(name, RULE)
    with pytest.raises(ImageError, match="no such file"):
        image_size(name)


def test_vrt_is_refused(tmp_path):
    source = write(tmp_path / "a.tif", noise())
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="40" rasterYSize="24"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    refuse(vrt, "not an image of a known format")
    vrt.rename(tmp_path / "b.tif")
    refuse(tmp_path / "b.tif", "not an image of a known format")


# --- names, surroundings, threads --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "卫星 图像 (1).tif",
        "a b?c#d%20!e&f.tif",
        "GTIFF_RAW:a.tif",
        "zip+file:a.tif",
        "s3:a.tif",
        "n" * 251 + ".tif",
    ],
)
def test_any_file_name_works(tmp_path, monkeypatch, name):
    values = noise()
    plain = write(tmp_path / "plain.tif", values)
    plain.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, str(tmp_path / name), Path(name), name):
        assert_array_equal(read_rgb(path, RULE), channels_last(values))


def test_name_that_is_not_utf8_is_refused_in_words(tmp_path):
    plain = write(tmp_path / "plain.tif", noise())
    name = os.fsencode(tmp_path) + b"/bad\xff.tif"
    plain.rename(os.fsdecode(name))
    with pytest.raises(ImageError, match="UTF-8") as caught:
        read_rgb(os.fsdecode(name), RULE)
    caught.value.message.encode()  # can be printed


def test_nothing_else_beside_the_image_is_read_and_nothing_written(tmp_path):
    values = noise()
    path = write(tmp_path / "a.tif", values)
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32631</SRS><GeoTransform>9, 1, 0, 9, 0, 1</GeoTransform>"
        '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/http://a.invalid/b.tif</MDI>'
        '</Metadata><PAMRasterBand band="1"><NoDataValue>7</NoDataValue>'
        "<ColorInterp>Blue</ColorInterp></PAMRasterBand></PAMDataset>"
    )
    (tmp_path / "a.tif.ovr").write_bytes(b"broken")
    (tmp_path / "a.tfw").write_text("1\n0\n0\n1\n5\n5\n")
    before = set(tmp_path.iterdir())
    values16 = write(tmp_path / "b.tif", noise(dtype=np.uint16))
    assert_array_equal(read_rgb(path, RULE), channels_last(values))
    read_rgb(values16, RULE)
    assert set(tmp_path.iterdir()) == {*before, values16}


def test_nothing_is_printed(tmp_path, capfd):
    path = write(tmp_path / "a.png", noise(), driver="PNG")
    read_rgb(path, RULE)
    path.write_bytes(path.read_bytes()[:900])
    refuse(path)
    (tmp_path / "bad.tif").write_bytes(b"II*\0" + bytes(range(200)))
    refuse(tmp_path / "bad.tif")
    out = capfd.readouterr()
    assert out.out + out.err == ""
    assert logging.getLogger("rasterio").handlers


def test_threads_read_the_same(tmp_path):
    values = noise(3, 100, 100)
    path = write(tmp_path / "a.png", values, driver="PNG")
    results = []

    def work():
        for _ in range(20):
            results.append(np.array_equal(read_rgb(path, RULE), channels_last(values)))  # noqa: PERF401

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80


# --- real tiles --------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no RSVQA sample data at {DATA}")
@pytest.mark.parametrize(("folder", "side"), few([("rsvqa-lr", 256), ("rsvqa-hr", 512)], 0))
def test_official_tiles_are_read_as_they_are(folder, side):
    tiles = sorted((DATA / folder).rglob("*.tif"))
    assert tiles
    for tile in tiles:
        assert image_size(tile) == (side, side)
        with rasterio.open(tile) as file:
            assert_array_equal(read_rgb(tile, RULE), channels_last(file.read([1, 2, 3])))
