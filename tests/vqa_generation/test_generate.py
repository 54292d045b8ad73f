"""The command `generate`: a whole data set, the same however it came about."""

import hashlib
import json
import re

import numpy as np
import pytest
import rasterio

from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.rsvqa import LeftOut, find_split, read_split
from qwen2vl_rs.errors import DataError, RunError
from qwen2vl_rs.questions.grammar import question_type
from qwen2vl_rs.synthetic.scene import make_scene
from qwen2vl_rs.vqa_generation import generate as module
from qwen2vl_rs.vqa_generation.generate import Plan, generate
from qwen2vl_rs.vqa_generation.tiles import Source
from worlds import write_scene

SMALL = ["--tile", "64", "--questions", "12", "--workers", "1"]


def files(folder):
    """Digest of every file of a data set."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def samples(folder, split):
    found = find_split(folder, split)
    return list(read_split(found.questions, found.answers, found.images, counts=LeftOut()))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "world"
    generate(Plan(synthetic=12, tile=64, questions=12), folder)
    return folder


def test_a_data_set_of_scenes(tmp_path, capsys):
    out = tmp_path / "new world"
    assert main(["generate", "--synthetic", "10", *SMALL, "-o", str(out)]) == 0
    stdout, err = capsys.readouterr()
    assert not stdout
    assert re.search(r"wrote 1\d\d questions about 10 images", err)
    assert err.endswith(f"next: qwen2vl-rs data2csv --folder '{out}' --split train -o train.csv\n")
    table = tmp_path / "t.csv"
    assert main(["data2csv", "--folder", str(out), "--split", "train", "-o", str(table)]) == 0
    assert len(table.read_text().splitlines()) > 90
    for split, images in (("train", 8), ("val", 1), ("test", 1)):
        found = samples(out, split)
        assert len({s.image for s in found}) == images
        assert all(question_type(s.question) == s.type for s in found)
    with rasterio.open(out / "Images_LR" / "9.tif") as image:
        assert image.crs
    assert json.loads((out / "vectors" / "9.geojson").read_text())["features"]


@pytest.mark.slow
def test_workers_change_nothing(made, tmp_path):
    plan = Plan(synthetic=12, tile=64, questions=12)
    other = tmp_path / "world"
    generate(plan, other, workers=2)
    assert files(other) == files(made)


def test_interrupted_and_started_again_it_ends_the_same(made, tmp_path, monkeypatch):
    plan = Plan(synthetic=12, tile=64, questions=12)
    folder = tmp_path / "world"
    drawn = []

    def stop(path, *rest):
        drawn.append(path.name)
        if len(drawn) == 5:
            raise KeyboardInterrupt
        write(path, *rest)

    write = module.write_geotiff
    monkeypatch.setattr(module, "write_geotiff", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(plan, folder)
    assert not (folder / "index.html").exists()
    generate(plan, folder)
    assert files(folder) == files(made)
    assert len(set(drawn)) == 12
    assert len(drawn) == 13  # what was drawn is not drawn again
    generate(plan, folder)
    assert len(drawn) == 13
    (folder / "Images_LR" / "3.tif").unlink()
    generate(plan, folder)
    assert files(folder) == files(made)


def test_another_plan_does_not_write_over_it(made, tmp_path):
    with pytest.raises(RunError, match="another plan") as caught:
        generate(Plan(synthetic=13, tile=64, questions=12), made)
    assert "--output" in caught.value.hint
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty \(thesis.txt\)"):
        generate(Plan(synthetic=2, tile=64), tmp_path)


def test_the_page_shows_examples_and_what_was_left_out(made, tmp_path):
    page = (made / "index.html").read_text()
    assert "questions about 12 images" in page
    assert page.count("data:image/png;base64") == 12
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for word in ("presence", "rural_urban", "between 0 and 10", "train", "Left out"):
        assert word in page
    folder = tmp_path / "world"
    generate(Plan(synthetic=8, tile=64, questions=8, manner="balanced"), folder)
    text = (folder / "index.html").read_text()
    assert "questions dropped to balance the answers" in text


def test_legacy_hr_has_the_habits_and_names_of_rsvqa_hr(tmp_path):
    plan = Plan(synthetic=6, tile=64, resolution=0.3, questions=60, manner="legacy", like="hr")
    generate(plan, tmp_path / "w")
    assert (tmp_path / "w" / "USGS_split_train_questions.json").is_file()
    assert (tmp_path / "w" / "Data" / "0.tif").is_file()
    found = [s for split in ("train", "val", "test") for s in samples(tmp_path / "w", split)]
    assert {s.type for s in found} == {"presence", "count", "comp", "area"}
    assert any("  " in s.question for s in found)
    images = json.loads((tmp_path / "w" / "USGS_split_train_images.json").read_text())["images"]
    (first, *_) = [r for r in images if r["active"]]
    with rasterio.open(tmp_path / "w" / "Data" / f"{first['id']}.tif") as image:
        assert first["upperleft_map_y"] == pytest.approx(image.bounds.bottom)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    scene = make_scene(2, 0, side=640, resolution=0.8, setting="suburb")
    return Source(*write_scene(scene, folder, "town"))


def test_a_data_set_of_an_image_and_vectors(town, tmp_path, capsys):
    out = tmp_path / "w"
    arguments = ["generate", "--image", str(town.image), "--vectors", str(town.vectors)]
    assert main([*arguments, *SMALL, "--split", "0.5,0.25,0.25", "-o", str(out)]) == 0
    err = capsys.readouterr().err
    assert "features in" in err
    assert re.search(r"left out: \d+ tiles beside those of another split", err)
    places = {}
    for split in ("train", "val", "test"):
        for path in {s.image for s in samples(out, split)}:
            with rasterio.open(path) as image:
                assert image.shape == (64, 64)
                places[round(image.bounds.left / 51.2), round(image.bounds.top / 51.2)] = split
    assert set(places.values()) == {"train", "val", "test"}
    for (x, y), split in places.items():
        around = {places.get((x + a, y + b)) for a in (-1, 0, 1) for b in (-1, 0, 1)}
        assert around <= {split, None}


def test_too_few_tiles_for_all_splits_is_said(town, tmp_path, capsys):
    generate(Plan(sources=(town,), tile=512, questions=10), tmp_path / "w")
    assert "too few images for val: it is empty" in capsys.readouterr().err
    assert len(samples(tmp_path / "w", "train")) == 10


def test_an_image_without_anything_is_refused(tmp_path, town):
    image, _ = write_scene(make_scene(2, 1, side=64), tmp_path, "elsewhere")
    with pytest.raises(DataError, match="none of its features is in the image"):
        generate(Plan(sources=(Source(image, town.vectors),), tile=64), tmp_path / "w")
    with rasterio.open(image, "r+") as file:
        file.write(np.zeros((3, 64, 64), np.uint8))
    vectors = image.with_suffix(".geojson")
    with pytest.raises(DataError, match="no image is left: 1 tiles mostly nodata"):
        generate(Plan(sources=(Source(image, vectors),), tile=64), tmp_path / "v")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give --synthetic N, or --image FILE"),
        (["--synthetic", "3", "--image", "x.tif"], "give --synthetic N, or --image FILE"),
        (["--synthetic", "3", "--vectors", "x.gpkg"], "--vectors needs --image"),
        (["--synthetic", "3", "--legacy", "--balanced"], "not both"),
        (["--image", "x.tif", "--resolution", "1"], "images have their own"),
        (["--synthetic", "0"], "x>=1"),
    ],
)
def test_wrong_usage(capsys, args, said):
    assert main(["generate", *args]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--synthetic", "3", "--split", "0.5"], "not a list of shares of train, val and test"),
        (["--synthetic", "3", "--resolution", "99"], "99.0 m per pixel are not supported"),
        (["--image", "missing.tif"], "no file missing.tif"),
        (["--image", "missing.tif", "--vectors", "missing.gpkg"], "no file missing.tif"),
    ],
)
def test_what_cannot_be_made_is_said_with_a_hint(capsys, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", *args]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "\nhint: " in err


def test_scenes_alike_are_asked_other_questions(tmp_path, monkeypatch):
    """Of every scene another draw, also where two are the same."""
    one = module.make_scene(5, 0, side=96, resolution=0.8)
    monkeypatch.setattr(module, "make_scene", lambda *_, **__: one)
    (tmp_path / "images").mkdir()
    (tmp_path / "vectors").mkdir()
    plan = Plan(synthetic=2, tile=96, resolution=0.8, seed=5, questions=12)
    asked = [module._scene(plan, tmp_path / "images", number)[1] for number in range(2)]
    assert [q.text for q in asked[0]] != [q.text for q in asked[1]]


def test_the_shares_of_answers_are_those_of_their_type(made):
    page = (made / "index.html").read_text()
    found = [float(text) for text in re.findall(r'<td class="n">([\d.]+) %', page)]
    types = round(sum(found) / 100)  # of each they are 100 % together
    assert types > 2
    assert sum(found) == pytest.approx(100 * types, abs=0.1 * len(found))
