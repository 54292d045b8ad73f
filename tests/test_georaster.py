"""Georeferenced images read in pieces."""

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine, from_origin

from qwen2vl_rs.config import ImageRule
from qwen2vl_rs.data.georaster import Georeference, open_scene, usual_ground
from qwen2vl_rs.data.raster import read_rgb, reproject, write_geotiff
from qwen2vl_rs.errors import ImageError

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
    whole = read_rgb(path, ImageRule())
    with open_scene(path, ImageRule()) as scene:
        assert (scene.width, scene.height) == (60, 40)
        assert scene.reference == Georeference("EPSG:32631", tuple(UTM)[:6])
        pixels, share = scene.read(10, 5, 20, 30)
    assert (pixels == whole[5:35, 10:30]).all()
    assert share == 1.0


def test_other_types_are_stretched_alike_in_all_pieces(tmp_path):
    values = noise("uint16", 4000)
    values[:, :, 30:] //= 2
    path = write(tmp_path / "a.tif", values)
    with open_scene(path, ImageRule()) as scene:
        bright, _ = scene.read(0, 0, 30, 40)
        dark, _ = scene.read(30, 0, 30, 40)
    assert bright.mean() > 1.5 * dark.mean()
    with open_scene(path, ImageRule(value_range=(0, 4000))) as scene:
        assert scene.read(0, 0, 30, 40)[0].mean() == pytest.approx(127, abs=5)


def test_the_share_of_data_is_told(tmp_path):
    values = noise()
    values[:, :, :15] = 0
    with open_scene(write(tmp_path / "a.tif", values, nodata=0), ImageRule()) as scene:
        assert scene.read(0, 0, 60, 40)[1] == pytest.approx(0.75)
        assert scene.read(0, 0, 15, 40)[1] == 0
    real = noise("float32", 9)
    real[:, :20] = np.nan
    with open_scene(write(tmp_path / "b.tif", real), ImageRule()) as scene:
        assert scene.read(0, 0, 60, 40)[1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"crs": None}, "no coordinate reference system"), ({"transform": Affine.identity()}, "no p")],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_that_lies_nowhere_is_refused_with_the_remedy(tmp_path, options, said):
    path = write(tmp_path / "a.tif", noise(), **options)
    with pytest.raises(ImageError, match=said) as caught, open_scene(path, ImageRule()):
        pass
    assert f"gdal_translate -a_{'srs' if options.get('crs', 1) is None else 'ullr'}" in (
        caught.value.hint
    )


def test_a_palette_is_refused_with_the_remedy(tmp_path):
    path = write(tmp_path / "a.tif", noise(shape=(1, 40, 60)), photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {k: (k, 0, 0, 255) for k in range(256)})
    with pytest.raises(ImageError, match="palette") as caught, open_scene(path, ImageRule()):
        pass
    assert "-expand rgb" in caught.value.hint


def test_what_is_written_is_read_again(tmp_path):
    pixels = np.moveaxis(noise(), 0, 2)
    there = Georeference("EPSG:32631", tuple(UTM)[:6]).moved(7, 3)
    assert there.transform[2::3] == (500_014, 5_699_994)
    write_geotiff(tmp_path / "a.tif", pixels, there.crs, there.transform)
    again = (tmp_path / "a.tif").read_bytes()
    write_geotiff(tmp_path / "b.tif", pixels, there.crs, there.transform)
    assert (tmp_path / "b.tif").read_bytes() == again
    with open_scene(tmp_path / "a.tif", ImageRule()) as scene:
        assert scene.reference == there
        assert (scene.read(0, 0, 60, 40)[0] == pixels).all()


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
    assert usual_ground(list(map(str, paths))) == (0.5, 30)
    assert usual_ground(list(map(str, paths[:35]))) == (10.0, 20)
    assert usual_ground([str(paths[4])]) == (None, 20)


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}])
def test_south_up_is_seen_behind_many_tags(tmp_path, options):
    """The entries of a directory stand in the order of their numbers; most are before the place."""
    north = noise(shape=(3, 20, 30))
    south = Affine(2, 0, 500_000, 0, 2, 5_699_960)
    path = write(tmp_path / "a.tif", north[:, ::-1].copy(), transform=south, **options)
    names = ("DOCUMENTNAME", "IMAGEDESCRIPTION", "SOFTWARE", "DATETIME", "ARTIST", "HOSTCOMPUTER",
             "COPYRIGHT", "XRESOLUTION", "YRESOLUTION", "RESOLUTIONUNIT", "MINSAMPLEVALUE",
             "MAXSAMPLEVALUE")  # fmt: skip
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{f"TIFFTAG_{name}": "2" for name in names})
    assert (read_rgb(path, ImageRule()) == np.moveaxis(north, 0, 2)).all()
