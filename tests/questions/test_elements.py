"""OpenStreetMap's tags become RSVQA's elements."""

import pytest
from shapely import Point, box

from qwen2vl_rs.questions.elements import breadth, classify, noun, road_width


@pytest.mark.parametrize(
    ("tags", "dimension", "found"),
    [
        ({"building": "yes"}, 2, ("building", "residential building")),
        ({"building": "supermarket"}, 2, ("building", "commercial building")),
        ({"building": "barn"}, 2, ("building", "building")),
        ({"building": "no"}, 2, None),
        ({"building": "yes"}, 1, None),
        ({"building": "yes", "landuse": "retail"}, 2, ("building", "residential building")),
        ({"highway": "track"}, 1, ("road", "road")),
        ({"highway": "track"}, 2, None),
        ({"highway": "pedestrian", "area": "yes"}, 1, None),
        ({"highway": "pedestrian"}, 2, ("land", "pedestrian")),
        ({"railway": "rail"}, 1, None),
        ({"natural": "water", "landuse": "forest"}, 2, ("water", "water area")),
        ({"leisure": "swimming_pool"}, 2, ("water", "water area")),
        ({"waterway": "river"}, 1, None),
        ({"landuse": "grass"}, 2, ("land", "grass")),
        ({"landuse": "moon"}, 2, None),
        ({"landuse": "grass"}, 0, None),
        ({}, 2, None),
    ],
)
def test_tags_decide(tags, dimension, found):
    assert classify(tags, dimension) == found


def test_warehouses_are_commercial_but_for_the_published_misspelling():
    assert classify({"building": "warehouse"}, 2)[1] == "commercial building"
    assert classify({"building": "warehouse"}, 2, legacy=True)[1] == "building"


@pytest.mark.parametrize(
    ("value", "full", "bare"),
    [
        ("grass", "grass area", "grass area"),
        ("industrial", "industrial area", "industrial"),
        ("golf_course", "golf course", "golf course"),
    ],
)
def test_nouns(value, full, bare):
    assert noun(value) == full
    assert noun(value, bare=True) == bare


@pytest.mark.parametrize(
    ("tags", "width"),
    [
        ({"highway": "primary"}, 10.0),
        ({"highway": "motorway_link"}, 22.0),
        ({"highway": "residential"}, 6.0),
        ({"highway": "residential", "width": "4.5"}, 4.5),
        ({"highway": "residential", "width": "4 m"}, 4.0),
        ({"highway": "residential", "width": "broad"}, 6.0),
        ({"highway": "residential", "width": "-3"}, 6.0),
    ],
)
def test_road_widths(tags, width):
    assert road_width(tags) == width


def test_breadth_is_the_short_side():
    assert breadth(box(0, 0, 3, 50)) == pytest.approx(3)
    assert breadth(box(0, 0, 5, 5)) == pytest.approx(5)
    assert 6 < breadth(Point(0, 0).buffer(5)) < 10
