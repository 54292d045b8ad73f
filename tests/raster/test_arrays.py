"""Images in memory look as the same image does in a file."""

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ImageError
from qwen2vl_rs.raster import image_to_rgb, read_rgb

RNG = np.random.default_rng(0)


def values(dtype, *shape):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(0, 1000, shape).astype(dtype)
    return RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def written(path, array):
    planes = array.transpose(2, 0, 1)
    profile = {"driver": "GTiff", "count": len(planes), "dtype": array.dtype,
               "crs": "EPSG:32631", "transform": from_origin(5e5, 5.6e6, 1, 1)}  # fmt: skip
    with rasterio.open(path, "w", height=array.shape[0], width=array.shape[1], **profile) as file:
        file.write(planes)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize(
    "rule", [RasterToRGB(), RasterToRGB(bands=(1, 1, 1), stretch=(0, 100)),
             RasterToRGB(value_range=(0, 4096))],
)  # fmt: skip
def test_an_array_looks_as_its_file_does(tmp_path, dtype, bands, rule):
    array = values(dtype, 20, 30, bands)
    array[:6] = 0  # a collar
    path = written(tmp_path / "a.tif", array)
    assert np.array_equal(image_to_rgb(array, rule), read_rgb(path, rule))


def test_values_that_are_no_numbers_are_black(tmp_path):
    array = values("float32", 12, 12, 3)
    array[3, 4], array[5, 6, 1], array[7, 7] = np.nan, np.inf, -3.4e38
    assert np.array_equal(
        image_to_rgb(array, RasterToRGB()),
        read_rgb(written(tmp_path / "a.tif", array), RasterToRGB()),
    )


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
def test_a_pil_image_looks_as_its_png_does(tmp_path, mode):
    pixels = {"I;16": values("uint16", 16, 24), "LA": values("uint8", 16, 24, 2)}.get(mode)
    if pixels is None:
        whole = Image.fromarray(values("uint8", 16, 24, 4), "RGBA")
        image = whole if mode == "RGBA" else whole.convert("RGB").convert(mode)
    else:
        image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(
            image_to_rgb(opened, RasterToRGB()), read_rgb(tmp_path / "a.png", RasterToRGB())
        )


def test_a_grey_array_needs_no_third_axis():
    grey = values("uint8", 10, 12)
    assert np.array_equal(image_to_rgb(grey, RasterToRGB()), np.stack([grey] * 3, -1))
    assert image_to_rgb(grey > 100, RasterToRGB()).max() == 255


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((3, 64, 64), np.uint8), "transpose"),
        (np.zeros((4, 4, 3), np.uint8), "too small"),
        (np.zeros((64, 64, 3), complex), "complex"),
        (np.zeros((2, 64, 64, 3)), "(height, width)"),
        ("no image", "(height, width)"),
        (Image.new("CMYK", (20, 20)), "CMYK"),
        (Image.new("LAB", (20, 20)), "LAB"),
    ],
)
def test_what_is_not_an_image_is_refused(image, said):
    with pytest.raises(ImageError) as caught:
        image_to_rgb(image, RasterToRGB())
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_bands_that_are_not_there_are_refused():
    with pytest.raises(ImageError, match="the array has 3"):
        image_to_rgb(np.zeros((20, 20, 3), np.uint8), RasterToRGB(bands=(8, 4, 3)))
