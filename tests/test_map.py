"""Question maps: windows over a scene, the files they give, and going on after a kill."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin

from qwen2vl_rs.cli import main
from qwen2vl_rs.geo.values import OTHER, band
from qwen2vl_rs.geo.windows import lay_grid
from qwen2vl_rs.model.session import Session

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
    assert len(found) == 12  # 140 and 200 are 2.5 and 3.57 windows of 56
    for line in found:
        row, column = divmod(line["window"], 4)
        piece = pixels[:, row * 56 : row * 56 + 56, column * 56 : column * 56 + 56]
        rgb = np.zeros((56, 56, 3), np.uint8)
        rgb[: piece.shape[1], : piece.shape[2]] = np.moveaxis(piece, 0, 2)
        assert line["data"] == pytest.approx((rgb.any(axis=2)).mean(), abs=1e-3)
        assert ("replies" in line) == (line["data"] >= 0.5)
        if "replies" in line:
            ((*wanted,),) = session.ask([(session.cut(rgb), ASKED)], closed=True)
            assert [r["text"] for r in line["replies"]] == [r.text for r in wanted]
            assert line["replies"][0]["shares"]["yes"] == pytest.approx(
                wanted[0].shares["yes"], abs=1e-4
            )


def test_the_map_opens_in_gdal(made):
    with rasterio.open(made / "map.tif") as file:
        assert file.crs.to_epsg() == 32631
        assert file.transform == Affine(112, 0, 5e5, 0, -112, 5.6e6)
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
    assert table[ASKED[0]] == pytest.approx(values[0, table["row"], table["column"]])
    assert list(table[f"{ASKED[1]} | answer"]) == [r["replies"][1]["text"] for r in asked]
    assert table[f"{ASKED[1]} | confidence"] == pytest.approx(
        [r["replies"][1]["confidence"] for r in asked]
    )


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
        assert file.transform == Affine(56, 0, 5e5 + 28, 0, -56, 5.6e6 - 28)
        assert file.shape == (5, 7)


def test_windows_are_brought_to_the_resolution(scene, small_base, tmp_path, capsys):
    assert make(small_base, scene, tmp_path / "r", "--resolution", "4", questions=ASKED[:1]) == 0
    assert "4 m each (as asked for)" in capsys.readouterr().err
    with rasterio.open(tmp_path / "r/map.tif") as file:
        assert file.transform.a == pytest.approx(224, rel=1e-3)


def test_a_trained_model_says_its_resolution(trained, scene, tmp_path, capsys):
    run = trained[0] / "output/Qwen2-VL-2B"
    out = tmp_path / "t"
    assert main(["map", str(run), str(scene), ASKED[0], "-o", str(out)]) == 0
    # its images have 10 units of Web Mercator per pixel, at 53 degrees north: about 6 m
    assert "of 56 pixels, 6" in (err := capsys.readouterr().err)
    assert "m each (as the model was trained on)" in err


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


def test_a_scene_without_a_position(small_base, tmp_path, capsys):
    with pytest.warns(NotGeoreferencedWarning):
        scene = write_scene(tmp_path / "s.tif", transform=Affine.identity())
    assert make(small_base, scene, tmp_path / "m") == 1
    assert "no position" in capsys.readouterr().err


def test_sixteen_bits_are_stretched_alike_everywhere(small_base, tmp_path):
    scene = write_scene(tmp_path / "s.tif", dtype="uint16")
    assert make(small_base, scene, tmp_path / "m", questions=ASKED[:1]) == 0


def test_several_scenes_have_a_map_each(scene, small_base, tmp_path, capsys):
    for name in ("a/x.tif", "b/x.tif", "b/y.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(scene, tmp_path / name)
    many = [str(tmp_path / name) for name in ("a/x.tif", "b")]
    out = tmp_path / "maps"
    words = ["map", str(small_base), *many, ASKED[0], "-o", str(out), "--tile", "56"]
    assert main([*words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [Path(m["scene"]).relative_to(tmp_path).as_posix() for m in made] == [
        "a/x.tif", "b/x.tif", "b/y.tif",
    ]  # fmt: skip
    assert [Path(m["files"][0]).parent.name for m in made] == ["x", "x-2", "y"]
    alone = [Path(m["files"][0]).read_bytes() for m in made]
    assert alone[0] == alone[1] == alone[2]
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


def test_a_grid_covers_what_is_at_least_half_a_window():
    from qwen2vl_rs.data.georaster import Georeference

    place = Georeference("EPSG:32631", (2.0, 0.0, 5e5, 0.0, -2.0, 5.6e6))
    for width, columns in ((100, 1), (149, 1), (150, 2), (250, 3), (200, 2)):
        grid = lay_grid(_Scene(width, 100, place), 100, None, 0.0)
        assert (grid.rows, grid.columns) == (1, columns)
    assert grid.across == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("lang", ["en", "zh"])
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
    x, y = ((column + 0.5) * 56 / 200 * box["width"], (row + 0.5) * 56 / 140 * box["height"])
    page.mouse.move(box["x"] + x, box["y"] + y)
    share = found["replies"][2]["shares"]["urban"]
    assert f"P(urban) = {share:.2f}" in page.locator("#read").inner_text()
    page.locator("#opacity").fill("20")
    assert page.evaluate("getComputedStyle(document.querySelector('.l2')).opacity") == "0.2"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not troubles
    context.close()
