"""Which elements a phrase means, by the published rules and by corrected ones."""

import numpy as np
import pytest
from shapely import LineString, MultiPolygon, Point, Polygon, box

from qwen2vl_rs.questions.elements import Element
from qwen2vl_rs.vqa_generation.referring import RELATIONS, ImageElements, Phrase, Rules


def building(shape, label="residential building"):
    return Element("building", label, shape)


def things(*elements, legacy=False, stretch=1.0, hr=True, resolution=0.5, side=100.0):
    return ImageElements(elements, side, side, Rules(legacy, resolution, stretch, hr))


def chosen(found, *phrase):
    return np.flatnonzero(found.select(Phrase(*phrase))).tolist()


HOUSE, SHOP, BARN = (
    building(box(10, 10, 18, 20)),
    building(box(60, 60, 80, 75), "commercial building"),
    building(box(30, 80, 38, 92), "building"),
)
ROAD = Element("road", "road", LineString([(0, 50), (100, 50)]), 6.0)
POND = Element("water", "water area", Point(80, 20).buffer(6))
GRASS = Element("land", "grass", box(0, 0, 100, 40))
TOWN = (HOUSE, SHOP, BARN, ROAD, POND, GRASS)


@pytest.mark.parametrize("legacy", [False, True])
def test_categories(legacy):
    found = things(*TOWN, legacy=legacy)
    assert chosen(found, "building", "building") == [0, 1, 2]
    assert chosen(found, "building", "commercial building") == [1]
    assert chosen(found, "road", "road") == [3]
    assert chosen(found, "land", "grass") == [5]
    assert chosen(found, "land", "forest") == []
    assert found.land().tolist() == ["grass"]
    assert found.has("water")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("relation", "sides"),
    [
        ("at the top of", [2]), ("on the right of", [1]),
        ("at the bottom of", [0]), ("on the left of", [0, 2]),
    ],
)  # fmt: skip
def test_relations_look_at_the_middle_of_the_other(legacy, relation, sides):
    well = Element("water", "water area", box(48, 76, 52, 78))
    found = things(HOUSE, SHOP, BARN, well, legacy=legacy)
    assert relation in RELATIONS
    assert chosen(found, "building", "building", "", relation, Phrase("water", "water area")) == (
        sides if relation != "at the bottom of" else [0, 1]
    )


def test_a_relation_to_any_of_several_is_enough_and_to_none_is_not():
    wells = [Element("water", "water area", Point(x, 50).buffer(2)) for x in (5, 95)]
    found = things(SHOP, *wells)
    for relation in ("on the right of", "on the left of"):
        assert chosen(
            found, "building", "building", "", relation, Phrase("water", "water area")
        ) == [0]
    for relation in RELATIONS:
        assert chosen(found, "building", "building", "", relation, Phrase("road", "road")) == []


def test_next_to_is_near_and_in_legacy_everywhere():
    near = Phrase("building", "building", "", "next to", Phrase("water", "water area"))
    found = things(building(box(66, 15, 72, 25)), HOUSE, POND)
    assert np.flatnonzero(found.select(near)).tolist() == [0]
    assert np.flatnonzero(things(HOUSE, SHOP, POND, legacy=True).select(near)).size == 2
    # 1,000 units of Web Mercator are 500 metres at 60 degrees north
    far = building(box(0, 0, 10, 10)), Element("water", "water area", box(600, 0, 610, 10))
    assert things(*far, legacy=True, stretch=2.0).select(near).sum() == 0
    assert things(*far, legacy=True).select(near).sum() == 1


@pytest.mark.parametrize(
    ("attribute", "corrected", "legacy"),
    [
        ("small", [0], [0, 5]), ("medium", [1, 2, 3], [1, 2, 3]), ("large", [4], [4]),
        ("circular", [3], [3]), ("rectangular", [0, 1, 4], [0, 1, 3, 4]), ("square", [1], [3]),
    ],
)  # fmt: skip
def test_attributes(attribute, corrected, legacy):
    shapes = [box(0, 0, 5, 9), box(0, 0, 12, 12), Polygon([(0, 0), (30, 0), (30, 5), (10, 5),
              (10, 14), (5, 14), (5, 9), (0, 9)]), Point(0, 0).buffer(8, quad_segs=16),
              box(0, 0, 40, 20)]  # fmt: skip
    elements = [*map(building, shapes), ROAD]
    everything = np.arange(6)
    for is_legacy, expected in ((False, corrected), (True, legacy)):
        found = things(*elements, legacy=is_legacy)
        mask = found._has(attribute)
        assert everything[mask].tolist() == expected


def test_legacy_sizes_grow_with_the_latitude():
    house = building(box(0, 0, 8, 8))
    assert chosen(things(house, legacy=True), "building", "building", "small") == [0]
    north = things(house, legacy=True, stretch=2.0)
    assert chosen(north, "building", "building", "medium") == [0]
    assert north.area(np.array([True])) == pytest.approx(256)
    assert things(house, stretch=2.0).area(np.array([True])) == pytest.approx(64)


def test_what_is_large_depends_on_the_scale():
    hall = building(box(0, 0, 40, 40))
    assert chosen(things(hall), "building", "building", "large") == [0]
    assert chosen(things(hall, resolution=10.0), "building", "building", "small") == [0]
    assert chosen(things(hall, legacy=True, hr=False), "building", "building", "small") == [0]


def test_areas_that_overlap_count_once_but_in_legacy():
    both = [building(box(0, 0, 10, 10)), building(box(5, 0, 15, 10))]
    mask = np.array([True, True])
    assert things(*both).area(mask) == pytest.approx(150)
    assert things(*both, legacy=True).area(mask) == pytest.approx(200)
    assert things(*both).area(np.array([False, False])) == 0


def test_shapes_of_several_parts_have_no_legacy_shape():
    two = building(MultiPolygon([box(0, 0, 5, 5), box(20, 0, 25, 5)]))
    assert chosen(things(two, legacy=True), "building", "building", "rectangular") == []
    assert chosen(things(two), "building", "building", "square") == []


def test_urban_is_where_most_lies_near_a_building():
    houses = [building(box(x, y, x + 8, y + 8)) for x in range(5, 95, 25) for y in range(5, 95, 25)]
    assert things(*houses, side=100.0).urban() is True
    assert things(*houses[:2], side=400.0).urban() is False
    assert things(side=400.0).urban() is False
    assert things(*houses, side=170.0).urban() is None
    assert things(*houses * 31, legacy=True).urban() is False
    assert things(*houses * 32, legacy=True).urban() is True
