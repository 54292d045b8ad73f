"""Limits to the unit of maps, made pictures, tables and what programs print."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from shapely import Point, box

from factory import write_run
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.datasets.left_out import NO_IMAGE, LeftOut
from qwen2vl_rs.datasets.tables import read_csv, write_csv
from qwen2vl_rs.errors import DataError, ImageError
from qwen2vl_rs.instruction import bare_question
from qwen2vl_rs.maps.values import band
from qwen2vl_rs.maps.windows import lay_grid, pieces
from qwen2vl_rs.questions.elements import Element
from qwen2vl_rs.raster.scenes import Georeference, open_scene
from qwen2vl_rs.reporting.cards import data_card
from qwen2vl_rs.reporting.evidence import from_run
from qwen2vl_rs.serve.logs import Bounded
from qwen2vl_rs.types import Sample
from qwen2vl_rs.vqa_generation.referring import ImageElements, Phrase, Rules

PLACE = {"crs": "EPSG:32631", "transform": rasterio.Affine(2, 0, 5e5, 0, -2, 5.6e6)}
#: A place in UTM's middle meridian whose pixels are longer than broad.
LONG = Georeference("EPSG:32631", (2.0, 0.0, 5e5, 0.0, -3.0, 5.6e6))


@pytest.fixture
def scene(tmp_path):
    def scene(values, **options):
        count, height, width = values.shape
        with rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", width=width, height=height, count=count,
            dtype=values.dtype, **PLACE | options,
        ) as file:  # fmt: skip
            file.write(values)
        return open_scene(tmp_path / "a.tif", RasterToRGB())

    return scene


class Sized:
    """The size and the place of a scene."""

    def __init__(self, width, height, reference=LONG):
        self.width, self.height, self.reference = width, height, reference


def test_pixels_of_the_ground_have_two_sides():
    across, down = LONG.pixel_size(40, 40)
    assert (across, down) == (pytest.approx(2, rel=1e-3), pytest.approx(3, rel=1e-3))
    grid = lay_grid(Sized(300, 100), 50, 6.0, 0.0)
    assert (grid.across, grid.down) == (pytest.approx(150, rel=1e-3), pytest.approx(100, rel=1e-3))
    assert (grid.rows, grid.columns) == (1, 2)
    left, top, width, height = lay_grid(Sized(600, 700), 50, 6.0, 0.5).frame
    assert (left, top) == (pytest.approx(37.5, rel=1e-3), pytest.approx(25, rel=1e-3))
    assert (width, height) == (600 - 2 * left, 700 - 2 * top)


@pytest.mark.parametrize(
    ("width", "height", "taken"),
    [(75, 200, True), (74, 200, False), (300, 50, True), (300, 49, False), (75, 50, True)],
)
def test_a_scene_is_half_a_window_at_least(width, height, taken):
    """A window is 150 × 100 pixels; less than one comes from rounding."""
    if taken:
        assert len(lay_grid(Sized(width, height), 50, 6.0, 0.0)) >= 1
    else:
        with pytest.raises(ImageError, match="smaller than half a window"):
            lay_grid(Sized(width, height), 50, 6.0, 0.0)


@pytest.mark.parametrize(
    ("questions", "sizes"),
    [(1, [200, 40]), (3, [66, 66, 66, 42]), (66, [3] * 80), (67, [2] * 120), (100, [2] * 120),
     (101, [1] * 240), (500, [1] * 240)],
)  # fmt: skip
def test_two_hundred_questions_are_asked_together(questions, sizes):
    grid = lay_grid(Sized(16 * 150, 15 * 100), 50, 6.0, 0.0)
    found = list(pieces(grid, questions))
    assert [len(piece) for piece in found] == sizes
    assert [k for piece in found for k in piece] == list(range(240))


@pytest.mark.parametrize(("kinds", "classes"), [(11, 11), (12, 12), (13, 13), (14, 13)])
def test_a_map_has_twelve_classes_and_the_rest(kinds, classes):
    found = band("What is it?", [{"text": f"kind {k}"} for k in range(kinds)], (1, kinds))
    assert len(found.classes) == classes
    assert ("(other)" in found.classes) is (kinds > 12)


@pytest.mark.parametrize(
    ("question", "word"),
    [("Is there a road?", "yes"), ("Are there more roads than farms?", "yes"),
     ("Is it a rural or an urban area?", "urban")],
)  # fmt: skip
def test_of_two_words_the_one_that_is_shown(question, word):
    other = {"yes": "no", "urban": "rural"}[word]
    replies = [{"text": other, "shares": {word: 0.25, other: 0.75}}, None]
    found = band(question, replies, (1, 2))
    assert (found.of, found.kind) == (word, "probability")
    assert found.values[0, 0] == 0.25
    assert math.isnan(found.values[0, 1])
    assert found.unreadable == 0


def test_buckets_are_shown_by_their_lower_end():
    said = ["0", "between 0 and 10", "between 10 and 100", "between 100 and 1000", "more than 1000"]
    found = band("How many roads are there?", [{"text": t} for t in said], (1, 5))
    assert found.values.tolist() == [[0, 0, 10, 100, 1000]]
    areas = ["12m2", "between 10m2 and 100m2", "12"]
    found = band("What is the area covered by roads?", [{"text": t} for t in areas], (1, 3))
    assert found.values[0, :2].tolist() == [12, 10]
    assert found.unreadable == 1


@pytest.mark.parametrize(("rows", "share"), [(19, 0.475), (20, 0.5), (21, 0.525)])
def test_the_share_of_a_window_that_holds_data(scene, rows, share):
    values = np.full((3, 40, 30), 80, np.uint8)
    values[:, rows:] = 0
    with scene(values, nodata=0) as image:
        assert image.read(0, 0, 30, 40)[1] == pytest.approx(share)
        assert image.read_resized(0, 0, 30, 40, 40)[1] == pytest.approx(share)


def one(shape, resolution, legacy=False, hr=True):
    rules = Rules(legacy, resolution, 1.0, hr)
    found = ImageElements([Element("building", "building", shape)], 900.0, 900.0, rules)
    sizes = ("small", "medium", "large")
    return [s for s in sizes if found.select(Phrase("building", "building", s)).any()]


@pytest.mark.parametrize(
    ("area", "resolution", "size"),
    [
        (99.9, 0.3, "small"), (100, 0.3, "medium"), (499.9, 0.3, "medium"), (500, 0.3, "large"),
        (500, 2.9, "large"), (500, 3.0, "small"), (2_999, 10, "small"), (3_000, 10, "medium"),
        (9_999, 10, "medium"), (10_000, 10, "large"),
    ],
)  # fmt: skip
def test_sizes_of_things(area, resolution, size):
    assert one(box(0, 0, 10, area / 10), resolution) == [size]
    assert one(box(0, 0, 10, area / 10), 1.0, legacy=True, hr=resolution < 3) == [size]


def test_near_is_six_hundredths_of_the_longer_side():
    for gap, near in ((5.9, True), (6.0, True), (6.1, False)):
        house, shop = box(0, 0, 10, 10), box(10 + gap, 0, 30, 10)
        elements = [Element("building", "residential building", house),
                    Element("building", "commercial building", shop)]  # fmt: skip
        found = ImageElements(elements, 50.0, 100.0, Rules(False, 0.5))
        other = Phrase("building", "commercial building")
        asked = Phrase("building", "residential building", "", "next to", other)
        assert bool(found.select(asked).any()) is near


@pytest.mark.parametrize(("houses", "urban"), [(499, False), (500, False), (501, True)])
def test_five_hundred_buildings_are_no_town_yet(houses, urban):
    row = [Element("building", "building", Point(k, k).buffer(1)) for k in range(houses)]
    assert ImageElements(row, 600.0, 600.0, Rules(True, 10)).urban() is urban


@pytest.mark.parametrize(
    ("columns", "urban"), [(9, False), (10, None), (13, None), (14, True), (24, True)]
)
def test_the_share_that_is_built_up(columns, urban):
    """Looked at in 24 × 24 places: 9/24 = 0.375, 10/24 = 0.417, 13/24 = 0.542, 14/24 = 0.583."""
    wall = Element("building", "building", box(0, 0, columns * 100 - 40, 2400))
    assert ImageElements([wall], 2400.0, 2400.0, Rules(False, 10)).urban() is urban


def test_a_field_of_a_table_has_a_million_characters(tmp_path):
    def sample(n):
        return Sample("1", "a.tif", "q" * n, "a")

    for n in (999_999, 1_000_000):
        write_csv(tmp_path / "a.csv", [sample(n)], False)
        assert len(next(iter(read_csv(tmp_path / "a.csv"))).question) == n
    with pytest.raises(DataError, match=r"longer than 1,000,000 characters"):
        write_csv(tmp_path / "b.csv", [sample(1_000_001)], False)
    (tmp_path / "c.csv").write_text(f"image_path,question,answer\na.tif,{'q' * 1_000_001},a\n")
    with pytest.raises(DataError, match=r"longer than 1,000,000 characters"):
        list(read_csv(tmp_path / "c.csv"))


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, "1)"), (2, "1, 2)"), (3, "1, 2, 3)"), (4, "1, 2, 3, …)"), (5, "1, 2, 3, …)")],
)
def test_three_of_those_left_out_are_named(n, said):
    counts = LeftOut()
    for k in range(n):
        counts.add(NO_IMAGE, k + 1)
    assert counts.lines() == [f"{n} without an image (image ids {said}"]


@pytest.mark.parametrize(("length", "found"), [(19_999, True), (20_000, True), (20_001, False)])
def test_where_an_instruction_is_looked_for(length, found):
    said = "Answer in a word. "
    question = said + "q" * (length - len(said))
    assert (bare_question(question, said) == question.removeprefix(said)) is found


def test_size_categories_of_the_hub(tmp_path):
    found = from_run(write_run(tmp_path, images=1))
    one, two = found.manifest["data"]
    for questions, label in (
        (999, "n<1K"), (1_000, "1K<n<10K"), (9_999, "1K<n<10K"), (10_000, "10K<n<100K"),
        (99_999, "10K<n<100K"), (100_000, "100K<n<1M"), (999_999, "100K<n<1M"),
        (1_000_000, "n>1M"),
    ):  # fmt: skip
        data = {name: dict(facts) for name, facts in found.manifest["data"].items()}
        data[one]["questions"], data[two]["questions"] = questions - 300, 300
        card = data_card(replace(found, manifest={**found.manifest, "data": data}))
        assert f'- "{label}"\n' in card


def test_lines_of_the_log_in_a_minute():
    now = [0.0]
    log = Bounded(clock=lambda: now[0])

    def said(text):
        record = logging.LogRecord("a", logging.INFO, "a", 1, text, (), None)
        return record.msg if log.filter(record) else None

    for length, kept in ((299, 299), (300, 300), (301, 301)):
        line = said("x" * length)
        assert len(line) == kept
        assert line.endswith("…") is (length > 300)
    assert [said("x") for _ in range(17)] == ["x"] * 17  # twenty with the three before
    assert [said("x"), said("x")] == [None, None]
    now[0] = 59.9
    assert said("x") is None
    now[0] = 60.0
    assert said("x") == "x (3 lines before this were left out)"
    assert [said("x") for _ in range(20)] == ["x"] * 19 + [None]  # nor more in the next minute
    now[0] = 119.9
    assert said("x") is None
    now[0] = 120.0
    assert said("x") == "x (2 lines before this were left out)"


@pytest.mark.parametrize(
    "odd", ["\n", "\r\n", "\x1b[2J", "\x00", "\t", "\x7f", "\x9b", "\u202e", "\u2028", "\udc9b"]
)
def test_lines_of_the_log_are_one_line_each_and_print_as_they_are(odd):
    """Whether it stands in the message or in what is put into it."""
    log = Bounded(clock=lambda: 0.0)
    for text, args in (
        (f"{odd}a{odd}error: forged ä 道", ()),
        ("%s error: %s", (odd, f"ä 道{odd}")),
    ):
        record = logging.LogRecord("a", logging.INFO, "a", 1, text, args, None)
        assert log.filter(record)
        assert record.getMessage().isprintable()
        assert "ä 道" in record.getMessage()
