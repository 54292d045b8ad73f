"""Limits to the unit: what meets one exactly is taken, and one more or one less is not."""

import json
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from qwen2vl_rs.cli import main
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.datasets.split import limit_by_image
from qwen2vl_rs.errors import DataError, ImageError
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.questions.protocols import judge, protocol
from qwen2vl_rs.raster import image_size
from qwen2vl_rs.raster.scenes import open_scene
from qwen2vl_rs.reporting.evidence import from_files
from qwen2vl_rs.reporting.i18n import Words
from qwen2vl_rs.reporting.page import build
from qwen2vl_rs.scoring.comparison import compare_runs
from qwen2vl_rs.scoring.metrics import confusions
from qwen2vl_rs.scoring.predictions import read_predictions, write_predictions
from qwen2vl_rs.types import Prediction, Sample

PLACED = {"crs": "EPSG:32631", "transform": rasterio.Affine(2, 0, 5e5, 0, -2, 5.6e6)}


def sparse(path, width, height, count=3):
    """An image of no pixels: its header is all there is."""
    with (
        warnings.catch_warnings(),
        rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count, dtype="uint8",
            tiled=max(width, height) > 256, compress="deflate", SPARSE_OK=True, BIGTIFF="YES",
        ),
    ):  # fmt: skip
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("taken", "refused", "said"),
    [
        ((16_384, 6_000), (16_385, 6_000), "too large"),
        ((6_000, 16_384), (6_000, 16_385), "too large"),
        ((10_000, 10_000), (10_000, 10_001), "too large"),  # 100,000,000 pixels
        ((8, 9), (7, 9), "too small"),
        ((9, 8), (9, 7), "too small"),
        ((1_600, 8), (1_601, 8), "too narrow"),
        ((9, 1_800), (9, 1_801), "too narrow"),
        ((8_192, 8_192, 64), (8_192, 8_192, 65), "65 bands"),  # 4 GiB unpacked
    ],
)
def test_sizes_of_images(tmp_path, taken, refused, said):
    assert image_size(sparse(tmp_path / "a.tif", *taken)) == taken[:2]
    with pytest.raises(ImageError, match=said):
        image_size(sparse(tmp_path / "b.tif", *refused))


def scene(path, values, **options):
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, dtype=values.dtype,
        **PLACED | options,
    ) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.mark.parametrize(("zeros", "share"), [(19, 1.0), (20, 0.99), (21, 0.9895)])
def test_a_collar_is_a_hundredth_of_the_image(tmp_path, zeros, share):
    values = np.full((3, 40, 50), 90, np.uint8)
    values[:, 0, :zeros] = 0
    with open_scene(scene(tmp_path / "a.tif", values), RasterToRGB()) as image:
        assert image.read(0, 0, 50, 40)[1] == pytest.approx(share)
    inside = np.full((3, 40, 50), 90, np.uint8)  # as many, but one of them is not at the edge
    inside[:, 0, : zeros - 1] = 0
    inside[:, 20, 20] = 0
    with open_scene(scene(tmp_path / "b.tif", inside), RasterToRGB()) as image:
        wanted = 1.0 if zeros - 1 < 20 else 0.99
        assert image.read(0, 0, 50, 40)[1] == pytest.approx(wanted)


@pytest.mark.parametrize(("value", "seen"), [(9.9e29, True), (1e30, False), (-1e30, False)])
def test_values_beyond_anything_measured(tmp_path, value, seen):
    values = np.full((3, 16, 20), 5.0, np.float64)
    values[:, 3, 4] = value
    with open_scene(scene(tmp_path / "a.tif", values), RasterToRGB()) as image:
        assert image.read(0, 0, 20, 16)[1] == (1.0 if seen else 1 - 1 / 320)


@pytest.mark.parametrize(("nodata", "left", "top"), [(0, 3, 5), (None, 2, 7)])
def test_shrinking_averages(tmp_path, nodata, left, top):
    """A pixel is the mean of those it stands for, whatever the shape and place of the piece."""
    board = np.indices((48, 96)).sum(axis=0) % 2 * 200 + 20
    noise = np.random.default_rng(7).integers(1, 255, (48, 96))
    values = np.stack([board, noise, noise[::-1]]).astype(np.uint8)
    with open_scene(scene(tmp_path / "a.tif", values, nodata=nodata), RasterToRGB()) as image:
        for width, height in ((32, 32), (64, 32), (32, 40), (8, 32), (8, 16)):
            rgb, share = image.resampled(left, top, width, height, 8)
            piece = values[:, top : top + height, left : left + width]
            blocks = piece.reshape(3, 8, height // 8, 8, width // 8).mean(axis=(2, 4))
            assert share == 1.0
            assert np.abs(np.moveaxis(rgb, 2, 0) - blocks).max() <= 1, (width, height)
        large, _ = image.resampled(left, top, 8, 8, 32)  # and growing goes from one to the next
        assert len(np.unique(large[:, :, 0])) > 2


def lines(path, *lengths):
    """Lines of predictions of so many bytes each."""
    text = ""
    for number, length in enumerate(lengths):
        row = {"id": str(number), "question": "q", "answer": "a", "prediction": "ä", "note": ""}
        missing = length - len(json.dumps(row, ensure_ascii=False).encode()) - 1
        text += json.dumps({**row, "note": "x" * missing}, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_line_of_predictions_has_a_mebibyte(tmp_path):
    taken = lines(tmp_path / "a", 2**20 - 1, 2**20, 2**20)
    assert len(read_predictions(taken)) == 3
    with pytest.raises(DataError, match="line 2: longer than a MiB"):
        read_predictions(lines(tmp_path / "b", 2**20, 2**20 + 1))


@pytest.mark.parametrize(("value", "taken"), [(0, 1), (1, 1), (-1e-9, 0), (1 + 1e-9, 0)])
def test_a_confidence_is_a_probability(tmp_path, value, taken):
    row = {"question": "q", "answer": "a", "prediction": "a", "confidence": value}
    (tmp_path / "a").write_text(json.dumps(row))
    if taken:
        assert read_predictions(tmp_path / "a")[0].confidence == value
    else:
        with pytest.raises(DataError, match="confidence"):
            read_predictions(tmp_path / "a")


def test_an_answer_has_a_thousand_characters():
    for length, said in ((999, "yes"), (1000, "yes"), (1001, None)):
        assert normalise("yes," + "x" * (length - 4), "comp") == said


def test_a_number_has_twelve_digits():
    assert normalise("9" * 11, "count") == "9" * 11
    assert normalise("9" * 12, "count") == "9" * 12
    assert normalise("9" * 13, "count") is None
    assert normalise("999,999,999,999", "count") == "9" * 12
    assert normalise("9,999,999,999,999", "count") is None


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("0", "0"), ("1", "between 0 and 10"), ("9", "between 0 and 10"),
        ("10", "between 0 and 10"), ("11", "between 10 and 100"), ("99", "between 10 and 100"),
        ("100", "between 10 and 100"), ("101", "between 100 and 1000"),
        ("999", "between 100 and 1000"), ("1000", "between 100 and 1000"),
        ("1001", "more than 1000"),
    ],
)  # fmt: skip
def test_official_buckets(said, name):
    for dataset, kind, unit in (("LR", "count", ""), ("LR", "area", "m2"), ("HR", "area", "m2")):
        area = name.replace(" and", "m2 and") + "m2" if unit else name
        run = [Prediction("", "", "q", kind, said + unit, area)]
        judged = judge(run, protocol("official"), dataset)
        assert judged.gold == judged.predicted == [area]
    exact = [Prediction("", "", "q", "count", said, name)]
    assert judge(exact, protocol("official"), "HR").gold == [said]


def test_candidates_are_a_thousand_at_most():
    def found(n):
        asked = [Sample("", "", "How many roads are there?", str(k)) for k in range(n)]
        return answer_sets(asked, "LR")["count"]

    for n, kept, covered in ((999, 999, 1), (1000, 1000, 1), (1001, 1000, 1000 / 1001)):
        assert (len(found(n).texts), found(n).covered) == (kept, pytest.approx(covered))


@pytest.mark.parametrize(("classes", "shown"), [(11, 11), (12, 12), (13, 13), (14, 13)])
def test_a_confusion_has_twelve_classes_and_the_rest(classes, shown):
    run = [Prediction("", "", "q", "count", str(k), str(k)) for k in range(classes)]
    found = confusions(judge(run, protocol("official"), "HR"))["count"]
    assert len(found) == shown
    assert ("(other)" in found) is (classes > 12)


@pytest.mark.parametrize(
    ("most", "taken"), [(None, 9), (9, 9), (8, 7), (7, 7), (6, 4), (4, 4), (3, 3), (2, 2), (1, 1)]
)
def test_images_whose_questions_are_just_enough_are_taken_whole(most, taken):
    """Only of the first image, where it has more than are wanted, a part is taken."""
    groups = {"a": 3, "b": 1, "c": 3, "d": 2}
    asked = [Sample(f"{i}{k}", i, "q", "a") for i, n in groups.items() for k in range(n)]
    assert len(limit_by_image(asked, most)) == taken


@pytest.mark.parametrize(("extra", "named"), [(4, 4), (5, 5), (6, 5)])
def test_five_unmatched_questions_are_named(extra, named):
    run = [Prediction(str(k), "", "Is there a road?", "", "yes", "yes") for k in range(9)]
    found = compare_runs(run, run[: 9 - extra])["unmatched"]
    assert (found["before"], len(found["examples"])) == (extra, named)


@pytest.mark.parametrize(("n", "ranked"), [(9, False), (10, True), (11, True)])
def test_templates_with_ten_questions_are_ranked(tmp_path, n, ranked):
    run = [Prediction(str(k), "", "Is there a road?", "", "yes", "yes") for k in range(n)]
    write_predictions(tmp_path / "a.jsonl", run)
    page = build(from_files(tmp_path / "a.jsonl"), Words("en"))
    assert ("templates" in {section.id for section in page.sections}) is ranked


@pytest.mark.parametrize(("n", "shown"), [(11, 11), (12, 12), (13, 12)])
def test_twelve_cases_of_a_kind_are_shown(tmp_path, n, shown):
    for name, said in (("before", "no"), ("after", "yes")):
        run = [Prediction(str(k), "", "Is there a road?", "", "yes", said) for k in range(n)]
        write_predictions(tmp_path / f"{name}.jsonl", run)
    page = build(from_files(tmp_path / "after.jsonl", tmp_path / "before.jsonl"), Words("en"))
    (cases,) = [section for section in page.sections if section.id == "cases"]
    assert [len(gallery.cases) for gallery in cases.galleries] == [shown, 0]


@pytest.mark.parametrize(("length", "cut"), [(239, 239), (240, 240), (241, 240)])
def test_texts_of_cases_are_cut(tmp_path, length, cut):
    question = "Is there a " + "r" * (length - 11)
    for name, said in (("before", "no"), ("after", "yes")):
        write_predictions(
            tmp_path / f"{name}.jsonl", [Prediction("1", "", question, "", "yes", said)]
        )
    page = build(from_files(tmp_path / "after.jsonl", tmp_path / "before.jsonl"), Words("en"))
    (cases,) = [section for section in page.sections if section.id == "cases"]
    told = cases.galleries[0].cases[0].question
    assert len(told) == cut
    assert told.endswith("…") is (length > 240)


@pytest.mark.parametrize(("n", "small"), [(10, False), (11, True)])
def test_a_p_value_below_a_thousandth(tmp_path, capsys, n, small):
    """Of n questions that all turned right it is 2 · 0.5^n: 0.00195 and 0.00098."""
    for name, said in (("before", "no"), ("after", "yes")):
        run = [Prediction(str(k), "", "Is there a road?", "", "yes", said) for k in range(n)]
        write_predictions(tmp_path / f"{name}.jsonl", run)
    after, before = (str(tmp_path / f"{name}.jsonl") for name in ("after", "before"))
    assert main(["score", after, "--against", before]) == 0
    assert ("<0.001" in capsys.readouterr().out) is small
