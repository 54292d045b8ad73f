"""Question maps: windows over a scene, the files they give, and going on after a kill."""

import base64
import contextlib
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin

from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.maps.files import write_map, write_windows
from qwen2vl_rs.maps.mapper import Mapped
from qwen2vl_rs.maps.values import OTHER, Band, band
from qwen2vl_rs.maps.windows import lay_grid
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.raster.scenes import Georeference, open_scene
from qwen2vl_rs.reporting.map_page import write_page

ASKED = ("Is there a road?", "How many roads are there?", "Is it a rural or an urban area?",
         "What is <b>it</b>?")  # fmt: skip
FILES = ("map.tif", "windows.gpkg", "map.html", "windows.jsonl")


def write_scene(path, width=200, height=140, crs="EPSG:32631", transform=None, dtype="uint8"):
    rng = np.random.default_rng(3)
    values = rng.integers(1, 255, (3, height, width)).astype(dtype)
    values[:, :, : width // 5] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype=dtype, crs=crs,
        transform=transform or from_origin(5e5, 5.6e6, 2, 2), nodata=0,
    ) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


def make(base, scene, out, *more, questions=ASKED):
    return main(["map", str(base), str(scene), *questions, "-o", str(out), "--tile", "56", *more])


@pytest.fixture(scope="module")
def made(tmp_path_factory, scene, small_base):
    out = tmp_path_factory.mktemp("out") / "map"
    assert make(small_base, scene, out) == 0
    return out


def lines(out):
    return [json.loads(line) for line in (out / "windows.jsonl").read_text().splitlines()[1:]]


def test_each_window_has_the_answers_of_its_picture_alone(made, scene, small_base):
    session = Session.open(small_base)
    with rasterio.open(scene) as file:
        pixels = file.read()
    found = lines(made)
    assert len(found) == 12  # 140 and 200 are 2.5 and 3.57 windows of 56: spread to the edges
    for line in found:
        row, column = divmod(line["window"], 4)
        rows, columns = range(42 * row, 42 * row + 56), range(48 * column, 48 * column + 56)
        rgb = np.moveaxis(pixels[:, rows][:, :, columns], 0, 2)
        assert line["data"] == pytest.approx((rgb.any(axis=2)).mean(), abs=1e-3)
        assert ("replies" in line) == (line["data"] >= 0.5)
        if "replies" in line:
            ((*wanted,),) = session.ask([(session.preprocess(rgb), ASKED)], closed=True)
            assert [r["text"] for r in line["replies"]] == [r.text for r in wanted]
            assert line["replies"][0]["shares"]["yes"] == pytest.approx(
                wanted[0].shares["yes"], abs=1e-4
            )


def test_the_map_opens_in_gdal(made):
    with rasterio.open(made / "map.tif") as file:
        assert file.crs.to_epsg() == 32631
        # the scene's 400 × 280 m evenly divided
        assert file.transform.almost_equals(Affine(100, 0, 5e5, 0, -280 / 3, 5.6e6))
        assert file.descriptions == ASKED
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert np.isnan(file.nodata)
        assert file.tags(1)["kind"] == "probability"
        assert (file.tags(1)["of"], file.tags(3)["of"]) == ("yes", "urban")
        assert file.tags(2)["kind"] == "number"
        assert file.tags(4)["kind"] == "class"
        values = file.read()
    for line in lines(made):
        row, column = divmod(line["window"], 4)
        if "replies" in line:
            for b, word in ((0, "yes"), (2, "urban")):
                share = line["replies"][b]["shares"][word]
                assert values[b, row, column] == pytest.approx(share, abs=1e-6)
        else:
            assert np.isnan(values[:, row, column]).all()


def test_the_windows_open_in_gdal_beside_the_map(made):
    info = pyogrio.read_info(made / "windows.gpkg")
    assert info["crs"] == "EPSG:32631"
    meta, _, shapes, columns = pyogrio.raw.read(made / "windows.gpkg")
    table = dict(zip(meta["fields"], columns, strict=True))
    asked = [line for line in lines(made) if "replies" in line]
    assert len(shapes) == len(asked)
    with rasterio.open(made / "map.tif") as file:
        values = file.read()
    assert info["layer_metadata"]["q1"] == ASKED[0]
    assert info["layer_metadata"]["q1_kind"] == "probability"
    assert table["q1"] == pytest.approx(values[0, table["row"], table["column"]])
    assert list(table["q2_answer"]) == [r["replies"][1]["text"] for r in asked]
    assert table["q2_confidence"] == pytest.approx([r["replies"][1]["confidence"] for r in asked])


def test_geopandas_style_bounds(made):
    bounds = pyogrio.read_bounds(made / "windows.gpkg")[1]
    assert bounds[0].max() < 5e5 + 2 * 200
    assert (bounds[2] - bounds[0]) == pytest.approx(112)


def test_an_interrupted_map_goes_on_to_the_same_files(made, scene, small_base, tmp_path, capsys):
    whole = (made / "windows.jsonl").read_bytes()
    cut = whole.split(b"\n")
    (tmp_path / "windows.jsonl").write_bytes(b"\n".join(cut[:1]) + b"\n" + cut[1][:20])
    assert make(small_base, scene, tmp_path) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name
    assert not list(tmp_path.glob(".*tmp*"))
    stamp = (tmp_path / "windows.jsonl").stat().st_mtime_ns
    assert make(small_base, scene, tmp_path, "--json") == 0
    assert (tmp_path / "windows.jsonl").stat().st_mtime_ns == stamp  # nothing was asked again
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["windows"] == 12


@pytest.mark.slow
def test_killed_while_it_asks(scene, small_base, made, tmp_path):
    questions = [f"Is there a road of kind {k}?" for k in range(150)]  # one window at a time
    words = ["map", str(small_base), str(scene), *questions, "--tile", "56", "-o"]
    command = [sys.executable, "-m", "qwen2vl_rs", *words, str(tmp_path / "a")]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    path = tmp_path / "a" / "windows.jsonl"
    while running.poll() is None and (not path.is_file() or path.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert not (tmp_path / "a" / "map.tif").exists()
    for out in ("a", "b"):
        assert main([*words, str(tmp_path / out)]) == 0
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_other_settings_do_not_go_on(made, scene, small_base, capsys):
    assert make(small_base, scene, made, "--overlap", "0.5") == 1
    assert "other settings" in capsys.readouterr().err


def test_overlapping_windows_make_a_finer_map(scene, small_base, tmp_path):
    assert make(small_base, scene, tmp_path / "o", "--overlap", "0.5", questions=ASKED[:1]) == 0
    with rasterio.open(tmp_path / "o/map.tif") as file:
        # a quarter of a window of 112 m is left off on each side
        wanted = Affine(344 / 7, 0, 5e5 + 28, 0, -224 / 4, 5.6e6 - 28)
        assert file.transform.almost_equals(wanted)
        assert file.shape == (4, 7)


def test_windows_are_brought_to_the_resolution(scene, small_base, tmp_path, capsys):
    assert make(small_base, scene, tmp_path / "r", "--resolution", "4", questions=ASKED[:1]) == 0
    assert "4 m each (as requested)" in capsys.readouterr().err
    with rasterio.open(tmp_path / "r/map.tif") as file:
        assert file.shape == (2, 2)  # windows of 224 m over 400 × 280 m
        assert file.transform.almost_equals(Affine(200, 0, 5e5, 0, -140, 5.6e6))


def test_a_trained_model_says_its_resolution(trained, scene, tmp_path, capsys):
    run = trained[0] / "output/Qwen2-VL-2B"
    out = tmp_path / "t"
    assert main(["map", str(run), str(scene), ASKED[0], "-o", str(out)]) == 0
    # its images have 10 units of Web Mercator per pixel, at 53 degrees north: about 6 m
    assert "of 56 pixels, 6" in (err := capsys.readouterr().err)
    assert "m each (as in training)" in err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"crs": None}, "no coordinate reference system"),
        ({"width": 20, "height": 20}, "smaller than half a window"),
    ],
)
def test_scenes_that_cannot_be_mapped(small_base, tmp_path, capsys, change, why):
    scene = write_scene(tmp_path / "s.tif", **change)
    assert make(small_base, scene, tmp_path / "m") == 1
    assert why in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_scene_without_a_position(small_base, tmp_path, capsys):
    with pytest.warns(NotGeoreferencedWarning):
        scene = write_scene(tmp_path / "s.tif", transform=Affine.identity())
    assert make(small_base, scene, tmp_path / "m") == 1
    assert "no position" in capsys.readouterr().err


def test_sixteen_bits_are_stretched_alike_everywhere(small_base, tmp_path):
    scene = write_scene(tmp_path / "s.tif", dtype="uint16")
    assert make(small_base, scene, tmp_path / "m", questions=ASKED[:1]) == 0


def test_several_scenes_have_a_map_each(scene, small_base, tmp_path, capsys):
    """In a folder of its own, however many have its name and whatever others are called."""
    names = ("x-3.tif", "a/x.tif", "b/x.tif", "b/y.tif", "c/X.tif", "a/\xe9.tif", "d/E\u0301.tif")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(scene, tmp_path / name)
    many = [str(tmp_path / name) for name in (*names[:2], "b", *names[4:])]
    out = tmp_path / "maps"
    words = ["map", str(small_base), *many, ASKED[0], "-o", str(out), "--tile", "56"]
    assert main([*words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [Path(m["scene"]).relative_to(tmp_path).as_posix() for m in made] == list(names)
    folders = [Path(m["files"][0]).parent.name for m in made]
    assert folders == ["x-3", "x", "x-2", "y", "X-4", "\xe9", "E\u0301-2"]  # one on some systems
    assert len({Path(m["files"][0]).read_bytes() for m in made}) == 1
    assert made[0]["asked"] > 0


def test_questions_that_stand_there_twice(small_base, scene, tmp_path):
    assert make(small_base, scene, tmp_path / "m", questions=("A?", "A?")) == 2


def test_values_of_answers():
    replies = [{"text": t} for t in ("12", "between 10 and 100", "many", "0")] + [None]
    found = band("How many roads are there?", replies, (1, 5))
    assert np.array_equal(found.values[0], [12, 10, np.nan, 0, np.nan], equal_nan=True)
    assert found.unreadable == 1
    texts = [f"kind {k}" for k in range(14)] + ["kind 0"] * 3
    found = band("What is it?", [{"text": t} for t in texts], (1, 17))
    assert found.classes[-1] == OTHER
    assert len(found.classes) == 13
    assert not np.isnan(found.values).any()


def test_the_page_needs_nothing_and_shows_questions_as_text(made):
    page = (made / "map.html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert "<b>it</b>" not in page
    assert "&lt;b&gt;it&lt;/b&gt;" in page


class _Scene:
    """The size of a scene alone, to lay grids over."""

    def __init__(self, width, height, reference):
        self.width, self.height, self.reference = width, height, reference


PLACE = Georeference("EPSG:32631", (2.0, 0.0, 5e5, 0.0, -2.0, 5.6e6))


def test_the_number_of_windows():
    wanted = ((60, 1), (100, 1), (101, 1), (102, 2), (149, 2), (200, 2), (250, 3), (2005, 21))
    for width, columns in wanted:
        grid = lay_grid(_Scene(width, 100, PLACE), 100, None, 0.0)
        assert (grid.rows, grid.columns) == (1, columns), width
    assert grid.across == pytest.approx(100, rel=1e-3)


@settings(max_examples=60)
@given(
    width=st.integers(40, 900), height=st.integers(40, 900), side=st.integers(28, 80),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9]),
    resolution=st.sampled_from([None, 1.0, 2.3]),
)  # fmt: skip
def test_windows_leave_nothing_out_and_pixels_lie_in_theirs(
    width, height, side, overlap, resolution
):
    assume(min(width, height) > side * (resolution or 1) / 2)  # smaller scenes are refused
    grid = lay_grid(_Scene(width, height, PLACE), side, resolution, overlap)
    map_ = grid.map_reference()
    for size, span, n, axis in (
        (width, grid.across, grid.columns, 0), (height, grid.down, grid.rows, 1),
    ):  # fmt: skip
        index = np.arange(n) * (1 if axis == 0 else grid.columns)
        starts = np.array([grid.corner(int(i))[axis] for i in index])
        ends = starts + span
        pixel = 1 + span / side
        assert starts[0] == 0
        assert ends[-1] >= size - pixel
        assert (starts == np.round(starts)).all()
        if n > 1:
            assert ends[-1] <= size + 1
            assert (np.diff(starts) > 0).all()
            # side by side or over each other, never apart by more than rounding
            assert (starts[1:] <= ends[:-1] + pixel).all()
            assert (np.diff(starts) <= span * (1 - overlap) + pixel).all()
        corners = np.zeros((n + 1, 2))
        corners[:, axis] = np.arange(n + 1)
        edges = PLACE.to_pixels(map_.to_map(corners))[:, axis]
        assert (edges[:-1] >= starts - pixel).all()
        assert (edges[1:] <= ends + pixel).all()
        middles = (starts + np.minimum(ends, size)) / 2
        assert (edges[:-1] <= middles + pixel).all()
        assert (edges[1:] >= middles - pixel).all()
        if overlap == 0:
            assert edges[[0, -1]] == pytest.approx([0, size])


@pytest.mark.parametrize(
    "transform",
    [
        Affine(1, 0, 5e5, 0, 1, 5.6e6),  # south up
        Affine(10, 0, 5e5, 0, 10, 5.6e6),
        Affine(-1, 0, 5e5, 0, -1, 5.6e6),  # west to the right
        Affine(1, 0, 0, 0, 1, 1e6),
        Affine.translation(5e5, 5.6e6) * Affine.rotation(30) * Affine.scale(1, -1),
        Affine(0, 1, 5e5, 1, 0, 5.6e6),  # rows and columns swapped
    ],
)
def test_whatever_way_a_scene_lies_the_map_lies_the_same(tmp_path, transform):
    path = write_scene(tmp_path / "s.tif", width=150, transform=transform)
    with open_scene(path, RasterToRGB()) as scene:
        a, b, _, d, e, _ = scene.reference.transform
        assert (b == d == 0) != (transform.is_rectilinear is False)  # askew stays askew
        assert b or (a > 0 > e)  # along the axes: north up
        grid = lay_grid(scene, 56, None, 0.0)
    shape = (grid.rows, grid.columns)
    replies = [{"text": str(i), "confidence": 1.0} for i in range(len(grid))]
    bands = [band("How many roads are there?", replies, shape)]
    told = [{"window": i, "data": 1.0, "replies": [r]} for i, r in enumerate(replies)]
    write_map(tmp_path / "map.tif", grid, bands)
    write_windows(tmp_path / "windows.gpkg", grid, bands, told)
    meta, _, shapes, columns = pyogrio.raw.read(tmp_path / "windows.gpkg")
    table = dict(zip(meta["fields"], columns, strict=True))
    shapes = shapely.from_wkb(shapes)
    with rasterio.open(path) as file, rasterio.open(tmp_path / "map.tif") as drawn:
        corners = [(0, 0), (file.width, 0), (file.width, file.height), (0, file.height)]
        whole = shapely.Polygon([file.transform * at for at in corners])
        values = drawn.read(1)
        for shape, value in zip(shapes, table["q1"], strict=True):
            column, row = ~drawn.transform * (shape.centroid.x, shape.centroid.y)
            assert values[int(row), int(column)] == value
        corners = [(0, 0), (drawn.width, 0), (drawn.width, drawn.height), (0, drawn.height)]
        mapped = shapely.Polygon([drawn.transform * at for at in corners])
    assert mapped.symmetric_difference(whole).area < 1e-6 * whole.area
    assert shapely.union_all(shapes).symmetric_difference(whole).area < 0.02 * whole.area


def test_overviews_show_what_the_windows_show(tmp_path):
    """Zoomed out: probabilities are means, counts and classes are those of some window."""
    grid = replace(lay_grid(_Scene(5600, 5600, PLACE), 56, None, 0.0), rows=520, columns=1100)
    rng = np.random.default_rng(0)
    shape = (520, 1100)
    likely = (rng.random(shape) > 0.5).astype(np.float32)
    counts = rng.choice(np.array([0, 40, 1000], np.float32), shape)
    classes = rng.choice(np.array([0, 5], np.float32), shape)
    for values in (likely, counts, classes):
        values[:, :200] = np.nan
    names = tuple(f"class {k}" for k in range(6))
    bands = [
        Band("Is there a road?", "probability", "yes", likely, (), 0),
        Band("How many roads are there?", "number", "", counts, (), 0),
        Band("What is it?", "class", "", classes, names, 0),
        Band("Is there water?", "probability", "yes", 1 - likely, (), 0),
    ]
    write_map(tmp_path / "map.tif", grid, bands)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.descriptions == tuple(one.question for one in bands)
        assert file.tags(3) == {"kind": "class", "classes": "|".join(names)}
        assert_array_equal(file.read(), np.stack([one.values for one in bands]))
        assert file.overviews(1) == file.overviews(4) == [2, 4]
    for level, factor in enumerate((2, 4)):
        with rasterio.open(tmp_path / "map.tif", overview_level=level) as file:
            first, second, third, last = file.read()
        cut = 200 // factor
        for drawn in (first, second, third, last):
            assert np.isnan(drawn[:, :cut]).all()
        blocks = likely.reshape(520 // factor, factor, 1100 // factor, factor).mean(axis=(1, 3))
        assert first[:, cut:] == pytest.approx(blocks[:, cut:], abs=1e-6)
        assert last[:, cut:] == pytest.approx(1 - blocks[:, cut:], abs=1e-6)
        assert set(np.unique(second[:, cut:])) == {0, 40, 1000}
        assert set(np.unique(third[:, cut:])) == {0, 5}


ODD = ("Is there a road?", "is there a road?", "IS THERE A ROAD?", "fid", "FID", "geom", "data",
       "row", "Row", "column", "windows", "rowid", "q1", "q2_answer", "", 'a "quoted" one',
       "'); DROP TABLE windows; --", "a | b", "这里有道路吗？",
       "🛰?", "What is " + "x" * 900)  # fmt: skip


def test_questions_of_any_wording_have_their_own_columns(scene, small_base, tmp_path, capsys):
    questions = [q for q in ODD if q]
    assert make(small_base, scene, tmp_path / "m", "--json", questions=questions) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["question"] for one in told["questions"]] == questions
    assert [one["column"] for one in told["questions"]] == [
        f"q{k + 1}" for k in range(len(questions))
    ]
    assert told["asked"] + told["left_out"] == told["windows"] == 12
    assert told["left_out"] == 3  # the first column lies in the collar
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "m/windows.gpkg")
    facts = pyogrio.read_info(tmp_path / "m/windows.gpkg")["layer_metadata"]
    table = dict(zip(meta["fields"], columns, strict=True))
    asked = [line for line in lines(tmp_path / "m") if "replies" in line]
    with rasterio.open(tmp_path / "m/map.tif") as file:
        assert file.descriptions == tuple(questions)
    with contextlib.closing(sqlite3.connect(tmp_path / "m/windows.gpkg")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        aliases = dict(file.execute("SELECT column_name, title FROM gpkg_data_columns"))
    for one, question in zip(told["questions"], questions, strict=True):
        column, k = one["column"], one["band"] - 1
        assert facts[column] == aliases[column] == question
        assert list(table[f"{column}_answer"]) == [r["replies"][k]["text"] for r in asked]
        assert facts[f"{column}_kind"] == one["kind"]


@pytest.mark.parametrize("question", ["a\x01b", "Is there \udcff?", "a\x7f"])
def test_questions_that_files_cannot_hold_are_refused_at_once(
    scene, small_base, tmp_path, capsys, question
):
    assert make(small_base, scene, tmp_path / "m", questions=[question]) == 2
    assert "control characters" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["map.tif", "windows.gpkg"])
def test_what_cannot_be_written_shows_before_the_first_window(
    scene, small_base, tmp_path, capsys, name
):
    (tmp_path / name).mkdir()
    assert make(small_base, scene, tmp_path) == 1
    said = capsys.readouterr().err
    assert "not a regular file" in said
    assert "disk space" not in said
    assert not (tmp_path / "windows.jsonl").exists()
    assert not (tmp_path / ".trial").exists()


def test_a_damaged_record_of_windows_is_not_taken_for_none(made, scene, small_base, tmp_path):
    whole = (made / "windows.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "windows.jsonl"
    for content in (b'{"id": 1}\n', b"[1]\n", whole[0][:-9] + b"\n" + whole[1]):
        path.write_bytes(content)
        assert make(small_base, scene, tmp_path) == 1
        assert path.read_bytes() == content  # nobody removes what cannot be read
    # behind a torn line the rest is asked again
    path.write_bytes(b"".join(whole[:4]) + whole[4][:30] + b"\0\0\0\n" + b"".join(whole[5:]))
    assert make(small_base, scene, tmp_path) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_windows_in_a_collar_are_left_out_and_counted(small_base, tmp_path, capsys, dtype):
    values = np.random.default_rng(0).integers(20, 120, (3, 112, 224)).astype(dtype)
    values[:, :, :112] = 0
    path = tmp_path / "s.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=224, height=112, count=3, dtype=dtype, crs="EPSG:32631",
        transform=from_origin(5e5, 5.6e6, 2, 2),
    ) as file:  # fmt: skip
        file.write(values)
    assert make(small_base, path, tmp_path / "m", "--json", questions=ASKED[:1]) == 0
    out = capsys.readouterr()
    told = json.loads(out.out)
    assert (told["windows"], told["asked"], told["left_out"]) == (8, 4, 4)
    assert "4 windows were left out" in out.err
    assert "4 windows left out" in (tmp_path / "m/map.html").read_text()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_scene_without_any_data_is_no_map(small_base, tmp_path, capsys, dtype):
    path = tmp_path / "s.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=60, height=60, count=3, dtype=dtype, crs="EPSG:32631",
        transform=from_origin(5e5, 5.6e6, 2, 2),
    ) as file:  # fmt: skip
        file.write(np.zeros((3, 60, 60), dtype))
    assert make(small_base, path, tmp_path / "m", questions=ASKED[:1]) == 1
    assert "no window has valid data" in capsys.readouterr().err
    assert not (tmp_path / "m/map.tif").exists()


def test_the_page_says_that_windows_share_ground(made):
    page = (made / "map.html").read_text().replace("\xa0", " ")
    assert "Neighbouring windows overlap by up to 25.0 %" in page
    assert "3 windows left out" in page


@pytest.mark.parametrize(("lang", "width"), few([("en", 390), ("zh", 1280)], 0))
def test_the_page_in_a_browser(made, scene, small_base, browser, tmp_path, width, lang):
    shutil.copy(made / "windows.jsonl", tmp_path)
    assert make(small_base, scene, tmp_path, "--lang", lang) == 0
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, troubles = context.new_page(), []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text))
    page.goto((tmp_path / "map.html").as_uri())
    shown = "[...document.querySelectorAll('.layer')].map(e => getComputedStyle(e).display)"
    assert page.evaluate(shown) == ["block", "none", "none", "none"]
    page.get_by_text(ASKED[2]).click()
    assert page.evaluate(shown) == ["none", "none", "block", "none"]
    box = page.locator("#stage").bounding_box()
    found = next(line for line in lines(made) if "replies" in line)
    row, column = divmod(found["window"], 4)
    x, y = ((column + 0.5) / 4 * box["width"], (row + 0.5) / 3 * box["height"])
    page.mouse.move(box["x"] + x, box["y"] + y)
    share = found["replies"][2]["shares"]["urban"]
    assert f"P(urban) = {share:.2f}" in page.locator("#read").inner_text()
    page.locator("#opacity").fill("20")
    assert page.evaluate("getComputedStyle(document.querySelector('.l2')).opacity") == "0.2"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not troubles
    context.close()


def test_the_page_says_in_how_many_windows_an_answer_is_likelier(made, scene, small_base, tmp_path):
    """Not the mean of the probabilities, which is 0.59 here."""
    key, *rest = (made / "windows.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in rest]
    asked = [line for line in found if "replies" in line]
    for line, yes in zip(asked, (0.9, 0.6, 0.55, 0.5, 0.1) * 2, strict=False):
        line["replies"][0]["shares"] = {"yes": yes, "no": 1 - yes}
    (tmp_path / "windows.jsonl").write_text("\n".join([key, *map(json.dumps, found)]) + "\n")
    assert make(small_base, scene, tmp_path) == 0
    page = (tmp_path / "map.html").read_text().replace("\xa0", " ")
    assert len(asked) == 9
    assert "“yes” is the more likely answer in 66.7 % of the windows." in page


def test_the_page_reckons_without_the_windows_that_have_no_answer(tmp_path):
    """Half of this scene holds no data, and in one window of ten nothing clear was said."""
    grid = lay_grid(_Scene(560, 112, PLACE), 56, None, 0.0)
    assert (grid.rows, grid.columns) == (2, 10)
    land = ["forest"] * 5 + ["water"] * 3 + [""] * 2
    counts = ["30", "10", "2", "0", "0", "0", "0", "0", "0", "many"]
    roads = [0.9] * 6 + [0.5, 0.1, 0.1, 0.1]
    asked = {
        "What is it?": [{"text": word} for word in land],
        "How many roads are there?": [{"text": word} for word in counts],
        "Is there a road?": [{"text": "", "shares": {"yes": p, "no": 1 - p}} for p in roads],
    }
    bands = [band(q, [*replies, *[None] * 10], (2, 10)) for q, replies in asked.items()]
    told = [{"window": i, "data": 1.0, **({"replies": []} if i < 10 else {})} for i in range(20)]
    preview = np.zeros((112, 560, 3), np.uint8)
    write_page(tmp_path / "a.html", Mapped(grid, bands, told, preview, "m"), "s.tif", "en")
    page = (tmp_path / "a.html").read_text().replace("\xa0", " ")
    for said in ("forest: 62.5 %", "water: 37.5 %", "Mean 4.7, at most 30.",
                 "“yes” is the more likely answer in 60.0 % of the windows.",
                 "10 of 20 windows with answers", "10 windows left out"):  # fmt: skip
        assert said in page, said


def test_no_answer_ends_the_script_of_the_page(tmp_path):
    grid = lay_grid(_Scene(112, 56, PLACE), 56, None, 0.0)
    hostile = "</script><img src=x onerror=alert(1)>"
    bands = [band("What is it?", [{"text": text} for text in (hostile, "sea")], (1, 2))]
    told, preview = (
        [{"window": i, "data": 1.0, "replies": []} for i in (0, 1)],
        np.zeros((56, 112, 3), np.uint8),
    )
    write_page(tmp_path / "a.html", Mapped(grid, bands, told, preview, hostile), hostile, "en")
    page = (tmp_path / "a.html").read_text()
    assert page.count("<script") == page.count("</script>")
    assert "<img src=x" not in page


def test_the_picture_on_the_page_is_the_whole_scene(made, scene):
    with rasterio.open(scene) as file:
        pixels = np.moveaxis(file.read(), 0, 2).astype(int)
    found = re.findall(r"data:image/\w+;base64,([^\"')]+)", (made / "map.html").read_text())
    pictures = [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]
    (picture,) = [p for p in pictures if p.size == (200, 140)]  # the others have a pixel a window
    shown = np.asarray(picture.convert("RGB"))
    # noise is stored with loss: means of blocks of 20 × 20 pixels
    blocks = (p.reshape(7, 20, 10, 20, 3).mean(axis=(1, 3)) for p in (shown, pixels))
    assert np.abs(np.subtract(*blocks)).max() < 12


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.9])
def test_half_the_overlap_is_left_off_also_of_what_is_narrower_than_a_window(overlap):
    """Otherwise a map could end within its one column of windows, or lie the wrong way round."""
    for width, height in ((200, 1000), (1000, 200), (256, 256), (150, 150)):
        grid = lay_grid(_Scene(width, height, PLACE), 256, None, overlap)
        left, top, across, down = grid.frame
        at = [overlap * min(256, size) / 2 for size in (width, height)]
        assert (left, top) == pytest.approx(at, rel=1e-2)
        assert (across, down) == pytest.approx((width - 2 * at[0], height - 2 * at[1]), rel=1e-2)
        corners = np.array([[0, 0], [grid.columns, grid.rows]])
        placed = PLACE.to_pixels(grid.map_reference().to_map(corners))
        assert placed == pytest.approx(np.array([[left, top], [left + across, top + down]]))


def test_windows_of_oblong_pixels_have_the_mean_of_both_sides():
    place = Georeference("EPSG:32631", (1.0, 0.0, 5e5, 0.0, -3.0, 5.6e6))
    grid = lay_grid(_Scene(800, 400, place), 100, None, 0.0)
    assert grid.resolution == pytest.approx(2, rel=1e-3)
    assert (grid.across, grid.down) == pytest.approx((200, 200 / 3), rel=0.02)
    assert (grid.columns, grid.rows) == (4, 6)


def test_a_map_of_another_model_is_not_gone_on_with(made, scene, small_base, tmp_path, capsys):
    other = shutil.copytree(small_base, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "unused": 1}))
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(made / "windows.jsonl", out)
    assert make(other, scene, out) == 1
    assert "holds a map of another scene or model" in capsys.readouterr().err
