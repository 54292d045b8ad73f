"""What counts in an image: what its file declares, else all but a collar of zeros."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.predict.job import Job
from qwen2vl_rs.raster import read_rgb
from qwen2vl_rs.raster.nodata import collar, image_collar
from qwen2vl_rs.raster.scenes import open_scene
from qwen2vl_rs.types import Sample

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RGB = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def write(path, values, *, mask=None, tags=None, **options):
    count, height, width = values.shape
    options = {"crs": "EPSG:32631", "transform": from_origin(5e5, 5.6e6, 1, 1)} | options
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"),
        rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=count,
                      dtype=values.dtype, **options) as file,
    ):  # fmt: skip
        if tags:
            file.colorinterp = tags
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
    return path


def picture(dtype="uint16", side=64, count=3):
    """Values 20..119, so that even percentiles know whether zeros were among them."""
    return np.random.default_rng(0).integers(20, 120, (count, side, side)).astype(dtype)


def share(path, rule=RasterToRGB()):  # noqa: B008
    with open_scene(path, rule) as scene:
        return scene.read(0, 0, scene.width, scene.height)[1]


def flooded(zeros):
    """By hand: what four neighbours lead to from the edge."""
    height, width = zeros.shape
    edge = {(r, c) for r in range(height) for c in range(width)
            if r in (0, height - 1) or c in (0, width - 1)}  # fmt: skip
    front, seen = [p for p in edge if zeros[p]], set()
    while front:
        r, c = front.pop()
        if (r, c) in seen:
            continue
        seen.add((r, c))
        front += [p for p in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1))
                  if 0 <= p[0] < height and 0 <= p[1] < width and zeros[p]]  # fmt: skip
    return seen


@settings(max_examples=150)
@given(
    zeros=hnp.arrays(
        np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.booleans()
    )
)
def test_a_collar_is_what_is_joined_to_the_edge(zeros):
    wanted = flooded(zeros)
    found = collar(zeros)
    if len(wanted) < 0.01 * zeros.size or not wanted:
        assert found is None
    else:
        assert {tuple(p) for p in np.argwhere(found).tolist()} == wanted


def test_a_spiral_is_followed_to_its_end():
    side = 41
    zeros = np.zeros((side, side), bool)
    r, c, step, turn = 0, 0, [(0, 1), (1, 0), (0, -1), (-1, 0)], 0
    lengths = [side - 1] + [n for n in range(side - 1, 0, -2) for _ in (0, 1)]
    zeros[0, 0] = True
    for length in lengths:
        for _ in range(length):
            r, c = r + step[turn][0], c + step[turn][1]
            zeros[r, c] = True
        turn = (turn + 1) % 4
    assert not zeros[20, 10:15].all()
    assert_array_equal(collar(zeros), zeros)


@pytest.mark.parametrize("dtype", TYPES)
def test_an_undeclared_collar_is_no_data_in_every_type(tmp_path, dtype):
    """As if it were declared: the same pixels, the same share, none in the percentiles."""
    values = picture(dtype)
    values[:, :, :32] = 0
    plain = write(tmp_path / "plain.tif", values)
    declared = write(tmp_path / "declared.tif", values, nodata=0)
    assert_array_equal(read_rgb(plain, RasterToRGB()), read_rgb(declared, RasterToRGB()))
    assert share(plain) == share(declared) == 0.5
    with open_scene(plain, RasterToRGB()) as one, open_scene(declared, RasterToRGB()) as other:
        for piece in ((0, 0, 40, 20), (30, 5, 30, 30)):
            assert_array_equal(one.read(*piece)[0], other.read(*piece)[0])
            assert one.read(*piece)[1] == other.read(*piece)[1]
            assert one.read_resized(*piece, 20)[1] == pytest.approx(
                other.read_resized(*piece, 20)[1], abs=0.06
            )


def test_what_is_no_collar(tmp_path):
    inside, two, thin, low = (picture() for _ in range(4))
    inside[:, 10:50, 10:50] = 0  # a lake: not at the edge
    two[:2, :, :32] = 0  # zero in two of three bands
    thin[:, :20, :2] = 0  # at the edge, less than 1 %
    low[:, :, :32] = 1  # dark, not zero
    for name, values in (("inside", inside), ("two", two), ("thin", thin), ("low", low)):
        assert share(write(tmp_path / f"{name}.tif", values)) == 1.0, name
    thin[:, :21, :2] = 0
    assert share(write(tmp_path / "enough.tif", thin)) == pytest.approx(1 - 42 / 4096)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_lake_beside_a_collar_stays_a_lake(tmp_path, dtype):
    values = picture(dtype)
    values[:, :, :20] = 0
    values[:, 30:40, 30:40] = 0
    assert share(write(tmp_path / "a.tif", values)) == pytest.approx(44 / 64)
    corners = picture(dtype)
    corners[:, np.add.outer(np.arange(64), np.arange(64)) < 30] = 0
    corners[:, np.add.outer(np.arange(64), np.arange(64)) > 110] = 0
    wanted = corners.any(axis=0).mean()
    assert share(write(tmp_path / "b.tif", corners)) == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_a_file_declares_wins(tmp_path, dtype):
    """True black, at night or over water, is data where the file says what is none."""
    values = picture(dtype)
    values[:, :, :40] = 0
    everything = np.full((64, 64), 255, np.uint8)
    alpha = np.concatenate([values, np.full((1, 64, 64), 255, dtype)])
    for name, path in {
        "nodata": write(tmp_path / "a.tif", values, nodata=255),
        "another nodata": write(tmp_path / "b.tif", values, nodata=7),
        "mask": write(tmp_path / "c.tif", values, mask=everything),
        "alpha": write(tmp_path / "d.tif", alpha, tags=[*RGB, ColorInterp.alpha]),
    }.items():
        assert share(path) == 1.0, name
        rgb = read_rgb(path, RasterToRGB())
        assert not rgb[:, :40].any(), name
    if dtype != "uint8":  # zeros take part in the stretch
        limit = np.percentile(values[0], 98)
        wanted = np.clip(values[0, :, 40:] / limit * 255, 0, 255)
        assert np.abs(rgb[:, 40:, 0] - wanted).max() <= 0.51


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("bands", [4, 5])
@pytest.mark.parametrize("opaque", [1, 100])
def test_alpha_counts_in_every_type_and_place(tmp_path, dtype, bands, opaque):
    values = picture(dtype, count=bands)
    values[-1] = opaque
    values[-1, :, :32] = 0
    tags = [*RGB, *([ColorInterp.undefined] * (bands - 4)), ColorInterp.alpha]
    path = write(tmp_path / "a.tif", values, tags=tags)
    assert share(path) == 0.5
    rgb = read_rgb(path, RasterToRGB())
    assert not rgb[:, :32].any()
    band = values[0, :, 32:].astype(float)
    if dtype != "uint8":
        low, high = np.percentile(band, (2, 98))
        assert np.abs(rgb[:, 32:, 0] - np.clip((band - low) / (high - low) * 255, 0, 255)).max() < 1
    with open_scene(path, RasterToRGB()) as scene:
        assert scene.read_resized(0, 0, 64, 64, 32)[1] == pytest.approx(0.5, abs=0.04)
    # asked for by number, it is data
    assert share(path, RasterToRGB(bands=(bands, 1, 2))) == 1.0


def test_alpha_and_nodata_both_count(tmp_path):
    values = picture("uint8", count=4)
    values[3], values[3, :16], values[:3, :, :32] = 255, 0, 7
    path = write(tmp_path / "a.tif", values, tags=[*RGB, ColorInterp.alpha], nodata=7)
    assert share(path) == pytest.approx(0.75 * 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fill", [-3.4028234663852886e38, -3.4e38, 1.70141e38, -1e31, np.nan])
@pytest.mark.parametrize("nodata", [None, -9999.0])
def test_fill_values_of_floats_need_no_declaration(tmp_path, dtype, fill, nodata):
    values = picture(dtype)
    clean = values.copy()
    values[:, :, :32] = fill
    values[:, 40, 40] = fill
    path = write(tmp_path / "a.tif", values, nodata=nodata)
    assert share(path) == pytest.approx(0.5 - 1 / 4096)
    rgb = read_rgb(path, RasterToRGB())
    assert not rgb[:, :32].any()
    assert rgb[40, 40].tolist() == [0, 0, 0]
    band = clean[0, :, 32:].astype(float)
    low, high = np.percentile(np.delete(band.ravel(), 40 * 32 + 8), (2, 98))
    wanted = np.clip((clean[0, 10, 40:50] - low) / (high - low) * 255, 0, 255)
    assert np.abs(rgb[10, 40:50, 0] - wanted).max() < 1
    with open_scene(path, RasterToRGB()) as scene:  # means of fill and data are no data either
        reduced, part = scene.read_resized(0, 0, 64, 64, 21)
    assert part == pytest.approx(0.5, abs=0.06)
    assert reduced[:, 12:].mean() > 80


def test_large_scenes_have_their_collar_too(tmp_path):
    """Beyond 2,048 pixels the collar is found on the scene in small."""
    values = np.full((3, 300, 4500), 90, np.uint16)
    values[:] += np.random.default_rng(1).integers(0, 50, (3, 300, 4500)).astype(np.uint16)
    values[:, :, :1003] = 0
    values[:, 100:200, 2000:2100] = 0
    path = write(tmp_path / "a.tif", values, tiled=True)
    assert share(path) == pytest.approx(1 - 1003 / 4500)
    with open_scene(path, RasterToRGB()) as scene:
        assert scene.read(2000, 100, 100, 100)[1] == 1.0
        assert scene.read(0, 0, 1003, 300)[1] == 0.0
        assert scene.read(1003, 0, 50, 300)[1] == 1.0


def test_one_band_and_no_position(tmp_path):
    values = picture(count=1)
    values[:, :16] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        path = write(tmp_path / "a.tif", values, crs=None, transform=None)
    low, high = np.percentile(values[0, 16:], (2, 98))
    wanted = np.clip((values[0, 16:].astype(float) - low) / (high - low) * 255, 0, 255)
    assert np.abs(read_rgb(path, RasterToRGB())[16:, :, 0] - wanted).max() <= 0.51


# --- tiles of data sets ------------------------------------------------------------------------


def digest(pixels):
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def same_as_stored(tile):
    with rasterio.open(tile) as file:
        stored = np.moveaxis(file.read([1, 2, 3]), 0, 2)
    return digest(read_rgb(tile, RasterToRGB())) == digest(stored)


def test_tiles_of_a_made_data_set_keep_their_pixels(tmp_path):
    words = ["--synthetic", "4", "--questions", "2", "--tile", "64", "-o", str(tmp_path / "d")]
    assert main(["-q", "generate", *words, "--workers", "1"]) == 0
    tiles = sorted((tmp_path / "d").rglob("*.tif"))
    assert len(tiles) == 4
    for tile in tiles:
        assert same_as_stored(tile)
        with rasterio.open(tile) as file:
            values, profile = file.read(), file.profile
        values[:, :, :20] = 0  # night, or beyond the edge: black all the same
        with rasterio.open(tile, "w", **profile) as file:
            file.write(values)
        assert same_as_stored(tile)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no RSVQA sample data at {DATA}")
@pytest.mark.parametrize("folder", few(["rsvqa-lr", "rsvqa-hr"], 0))
def test_official_tiles_keep_their_pixels(folder):
    tiles = sorted((DATA / folder).rglob("*.tif"))
    assert tiles
    assert [tile.name for tile in tiles if not same_as_stored(tile)] == []


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_large_image_read_whole_looks_like_the_scene_read_in_pieces(tmp_path, dtype):
    values = np.random.default_rng(2).integers(20, 90, (3, 64, 4100)).astype(dtype)
    values[:, :, :500] = 0
    values[:, 20:30, 2000:2020] = 0
    path = write(tmp_path / "a.tif", values)
    full = read_rgb(path, RasterToRGB())
    assert not full[:, :500].any()
    with open_scene(path, RasterToRGB()) as scene:
        pieces = [scene.read(x, 0, 820, 64) for x in range(0, 4100, 820)]
    assert [part for _, part in pieces] == pytest.approx([1 - 500 / 820, 1, 1, 1, 1])
    joined = np.concatenate([pixels for pixels, _ in pieces], axis=1)
    assert np.abs(joined.astype(int) - full).max() <= (0 if dtype == "uint8" else 4)


def test_a_tangle_of_zeros_is_no_work_without_end():
    """The runs of a large noisy image are counted in small: one in four pixels here."""
    zeros = np.random.default_rng(0).random((3000, 3000)) < 0.6
    found = image_collar(zeros)
    assert found is not None
    assert not (found & ~zeros).any()


def test_a_pixel_is_data_where_any_band_is(tmp_path):
    """A gap of one band is no gap of a scene; its value is one in that band alone."""
    values = picture("uint8")
    values[0, :, :32] = 255  # a gap in the first band
    values[:, :16] = 255  # and in all
    path = write(tmp_path / "a.tif", values, nodata=255)
    assert share(path) == pytest.approx(1 - 16 / 64)


def test_the_nodata_value_of_one_band_is_of_that_band(tmp_path):
    values = picture("uint16")
    values[2, :8] = values[0, 40:48] = 60_000
    path = write(tmp_path / "a.tif", values)
    plain = read_rgb(path, RasterToRGB())
    path.with_name("a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="2"></PAMRasterBand><PAMRasterBand band="3">'
        "<NoDataValue>60000</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    found = read_rgb(path, RasterToRGB())
    assert_array_equal(found[:, :, :2], plain[:, :, :2])
    assert (found[:8, :, 2] == 0).all()  # a hole
    assert found[8:, :, 2].max() == 255  # the rest has all shades
    assert plain[8:, :, 2].max() < 10


@pytest.mark.parametrize("name", ["a.tif.msk", "a.tif.aux.xml"])
def test_answers_about_an_image_are_asked_anew_when_its_gaps_change(tmp_path, name):
    """Also within one process, though the image itself is untouched."""
    path = write(tmp_path / "a.tif", picture("uint8"))
    samples = [Sample("1", str(path), "Is there a road?", "yes")]
    keys = [Job(samples, tmp_path, ["model"]).key]
    for value in (20, 21):
        if name.endswith(".msk"):
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
                rasterio.open(path, "r+") as file,
            ):
                before = path.read_bytes()
                file.write_mask(picture("uint8")[0] != value)
            path.write_bytes(before)
            os.utime(path, ns=(0, 0))
        else:
            path.with_name(name).write_text(
                f'<PAMDataset><PAMRasterBand band="1"><NoDataValue>{value}</NoDataValue>'
                "</PAMRasterBand></PAMDataset>"
            )
        assert path.with_name(name).is_file()
        keys.append(Job(samples, tmp_path, ["model"]).key)
    assert len(set(keys)) == 3
