"""Georeferenced images read in pieces."""

import re

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window

from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ImageError, RunError
from qwen2vl_rs.raster import Layer, read_rgb, reproject, write_cog, write_geotiff, writing
from qwen2vl_rs.raster.scenes import Georeference, open_scene, typical_resolution

UTM = from_origin(500_000, 5_700_000, 2, 2)


def write(path, values, **options):
    bands, height, width = values.shape
    options = {"crs": "EPSG:32631", "transform": UTM, **options}
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=values.dtype,
        **options,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def noise(dtype="uint8", high=255, shape=(3, 40, 60)):
    return np.random.default_rng(0).integers(1, high, shape).astype(dtype)


def test_pieces_are_the_pixels_of_the_whole(tmp_path):
    path = write(tmp_path / "a.tif", noise())
    whole = read_rgb(path, RasterToRGB())
    with open_scene(path, RasterToRGB()) as scene:
        assert (scene.width, scene.height) == (60, 40)
        assert scene.reference == Georeference("EPSG:32631", tuple(UTM)[:6])
        pixels, share = scene.read(10, 5, 20, 30)
    assert (pixels == whole[5:35, 10:30]).all()
    assert share == 1.0


@pytest.mark.parametrize(("width", "height"), [(30, 20), (20, 30), (40, 30), (20, 22), (24, 24)])
def test_a_piece_is_averaged_where_it_has_more_rows_than_are_wanted(tmp_path, width, height):
    path, way = write(tmp_path / "a.tif", noise()), Resampling.bilinear
    if height > 24:
        way = Resampling.average
    with rasterio.open(path) as file:
        window, out = Window(7, 5, width, height), (3, 24, 24)
        want = file.read(window=window, out_shape=out, resampling=way)
    with open_scene(path, RasterToRGB()) as scene:
        found, _ = scene.read_resized(7, 5, width, height, 24)
    assert (found == np.moveaxis(want, 0, 2)).all()


@pytest.mark.parametrize(
    ("rare", "shown"), [(5.25, 64), (5.75, 191), (6.0, 255), (9.0, 255), (4.0, 0)]
)
def test_where_nearly_all_of_a_scene_is_one_value_a_unit_more_is_white(tmp_path, rare, shown):
    """A range of nothing would make every other value black or white."""
    values = np.full((3, 40, 60), 5.0, np.float32)
    values[:, 20, 30] = rare
    with open_scene(write(tmp_path / "a.tif", values), RasterToRGB()) as scene:
        pixels, share = scene.read(0, 0, 60, 40)
    assert share == 1.0
    assert pixels[20, 30].tolist() == [shown] * 3
    pixels[20, 30] = 0
    assert not pixels.any()


def test_other_types_are_stretched_alike_in_all_pieces(tmp_path):
    values = noise("uint16", 4000)
    values[:, :, 30:] //= 2
    path = write(tmp_path / "a.tif", values)
    with open_scene(path, RasterToRGB()) as scene:
        bright, _ = scene.read(0, 0, 30, 40)
        dark, _ = scene.read(30, 0, 30, 40)
    assert bright.mean() > 1.5 * dark.mean()
    with open_scene(path, RasterToRGB(value_range=(0, 4000))) as scene:
        assert scene.read(0, 0, 30, 40)[0].mean() == pytest.approx(127, abs=5)


def test_the_share_of_data_is_told(tmp_path):
    values = noise()
    values[:, :, :15] = 0
    with open_scene(write(tmp_path / "a.tif", values, nodata=0), RasterToRGB()) as scene:
        assert scene.read(0, 0, 60, 40)[1] == pytest.approx(0.75)
        assert scene.read(0, 0, 15, 40)[1] == 0
    real = noise("float32", 9)
    real[:, :20] = np.nan
    with open_scene(write(tmp_path / "b.tif", real), RasterToRGB()) as scene:
        assert scene.read(0, 0, 60, 40)[1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"crs": None}, "no coordinate reference system"), ({"transform": Affine.identity()}, "no p")],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_that_lies_nowhere_is_refused_with_the_remedy(tmp_path, options, said):
    path = write(tmp_path / "a.tif", noise(), **options)
    with pytest.raises(ImageError, match=said) as caught, open_scene(path, RasterToRGB()):
        pass
    assert f"gdal_translate -a_{'srs' if options.get('crs', 1) is None else 'ullr'}" in (
        caught.value.hint
    )


def test_a_palette_is_refused_with_the_remedy(tmp_path):
    path = write(tmp_path / "a.tif", noise(shape=(1, 40, 60)), photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {k: (k, 0, 0, 255) for k in range(256)})
    with pytest.raises(ImageError, match="palette") as caught, open_scene(path, RasterToRGB()):
        pass
    assert "-expand rgb" in caught.value.hint


def test_what_is_written_is_read_again(tmp_path):
    pixels = np.moveaxis(noise(), 0, 2)
    there = Georeference("EPSG:32631", tuple(UTM)[:6]).shifted(7, 3)
    assert there.transform[2::3] == (500_014, 5_699_994)
    write_geotiff(tmp_path / "a.tif", pixels, there.crs, there.transform)
    again = (tmp_path / "a.tif").read_bytes()
    write_geotiff(tmp_path / "b.tif", pixels, there.crs, there.transform)
    assert (tmp_path / "b.tif").read_bytes() == again
    with open_scene(tmp_path / "a.tif", RasterToRGB()) as scene:
        assert scene.reference == there
        assert (scene.read(0, 0, 60, 40)[0] == pixels).all()


def last_block(values):
    values[-1, -8:, -8:] = 0


def one_pixel(values):
    values[0, 3, 4] += 1


def no_values(values):
    values[:] = np.nan if values.dtype.kind == "f" else 0


@pytest.mark.parametrize("lose", [last_block, one_pixel, no_values])
@pytest.mark.parametrize("cloud", [False, True])
def test_a_file_of_which_a_part_was_lost_is_not_written(tmp_path, monkeypatch, lose, cloud):
    """As GDAL loses blocks where memory runs out while it closes a file."""
    fill = writing._fill

    def filled(memory, values, *place, **how):
        values = values.copy()
        lose(values)
        fill(memory, values, *place, **how)

    def write_one(path):
        if cloud:
            values = noise("float32", shape=(2, 40, 60))
            values[0, :5] = np.nan
            write_cog(
                path, [Layer(f"q{k}", {}, one, k == 1) for k, one in enumerate(values)], *here
            )
        else:
            write_geotiff(path, np.moveaxis(noise(), 0, 2), *here)

    here = ("EPSG:32631", tuple(UTM)[:6])
    write_one(tmp_path / "whole.tif")
    monkeypatch.setattr(writing, "_fill", filled)
    with pytest.raises(RunError, match="a part is missing"):
        write_one(tmp_path / "a.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.tif"]


@pytest.mark.parametrize("lost", [r"<Description>q1</Description>", r"<SRS.*?</SRS>"])
def test_a_map_without_its_names_or_its_place_is_not_written(tmp_path, monkeypatch, lost):
    sheet = writing._side_by_side
    monkeypatch.setattr(
        writing,
        "_side_by_side",
        lambda *of: re.sub(lost.encode(), b"", sheet(*of), flags=re.DOTALL),
    )
    layers = [Layer(f"q{k}", {}, one, True) for k, one in enumerate(noise("float32"))]
    with pytest.raises(RunError, match="a part is missing"):
        write_cog(tmp_path / "a.tif", layers, "EPSG:32631", tuple(UTM)[:6])
    assert not list(tmp_path.iterdir())


def test_points_change_systems():
    there = reproject("EPSG:4326", "EPSG:32631", np.array([[3.0, 0.0]]))
    assert there == pytest.approx(np.array([[500_000.0, 0.0]]), abs=1e-3)
    same = np.array([[1.0, 2.0]])
    assert reproject("EPSG:4326", "EPSG:4326", same) is same
    with pytest.raises(ImageError, match="EPSG:999999") as caught:
        reproject("EPSG:999999", "EPSG:4326", same)
    assert "-a_srs" in caught.value.hint


def test_the_usual_ground_is_that_of_a_sample_of_all_images(tmp_path):
    """The last two thirds of a mixed set are larger and finer; some say nowhere where they lie."""
    paths = []
    for k in range(100):
        side, size = (20, 10.0) if k < 35 else (30, 0.5)
        place = {} if k % 5 == 4 else {"transform": from_origin(500_000, 5_700_000, size, size)}
        values = np.zeros((1, side, side), np.uint8)
        if place:
            paths.append(write(tmp_path / f"{k}.tif", values, **place))
        else:
            paths.append(tmp_path / f"{k}.png")
            Image.fromarray(values[0]).save(paths[-1])
    assert typical_resolution(list(map(str, paths))) == (0.5, 30)
    assert typical_resolution(list(map(str, paths[:35]))) == (10.0, 20)
    assert typical_resolution([str(paths[4])]) == (None, 20)


TURNED = {  # how it is stored, and where it says that it lies: by a matrix, or by negative pixels
    "south up": (np.s_[:, ::-1], Affine(2, 0, 500_000, 0, 2, 5_699_960)),
    "mirrored": (np.s_[:, :, ::-1], Affine(-2, 0, 500_060, 0, -2, 5_700_000)),
    "both": (np.s_[:, ::-1, ::-1], Affine(-2, 0, 500_060, 0, 2, 5_699_960)),
    "north up": (np.s_[:], UTM),
}


@pytest.mark.parametrize("big", ["YES", "NO"])
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
@pytest.mark.parametrize("way", TURNED)
def test_a_turned_image_is_seen_behind_many_tags(tmp_path, way, order, big):
    """The entries of a directory stand in the order of their numbers; most are before the place."""
    north, (stored, transform) = noise(shape=(3, 20, 30)), TURNED[way]
    options = {"BIGTIFF": big, "ENDIANNESS": order, "transform": transform}
    path = write(tmp_path / "a.tif", north[stored].copy(), **options)
    names = ("DOCUMENTNAME", "IMAGEDESCRIPTION", "SOFTWARE", "DATETIME", "ARTIST", "HOSTCOMPUTER",
             "COPYRIGHT", "XRESOLUTION", "YRESOLUTION", "RESOLUTIONUNIT", "MINSAMPLEVALUE",
             "MAXSAMPLEVALUE")  # fmt: skip
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{f"TIFFTAG_{name}": "2" for name in names})
    assert (read_rgb(path, RasterToRGB()) == np.moveaxis(north, 0, 2)).all()
