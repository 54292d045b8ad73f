"""Maps: everything is inside, can be seen, and can be counted."""

from itertools import combinations

import numpy as np
import pytest
import shapely

from qwen2vl_rs.questions.elements import breadth
from qwen2vl_rs.synthetic.layout import SETTINGS, WEIGHTS, generate_map
from qwen2vl_rs.synthetic.scene import make_scene

CASES = [(name, r) for name in SETTINGS for r in (0.15, 0.8, 2.0)]


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}-{c[1]}")
def maps(request):
    setting, resolution = request.param
    return [
        generate_map(np.random.default_rng([3, k]), 256 * resolution, resolution, setting)
        for k in range(2)
    ]


def test_features_lie_in_the_image_and_are_valid(maps):
    for m in maps:
        image = shapely.box(0, 0, m.side, m.side).buffer(1e-6)
        for f in m.features:
            assert f.shape.is_valid
            assert f.shape.geom_type == ("LineString" if f.layer == "road" else "Polygon")
            assert image.contains(f.shape)


def test_nothing_is_too_small_to_be_seen(maps):
    for m in maps:
        for f in m.features:
            if f.layer == "road":
                assert f.width >= 1.5 * m.resolution - 0.05  # stored to a decimetre
                assert f.shape.length > 10 * m.resolution
            else:
                assert breadth(f.shape) >= 3 * m.resolution


def test_things_of_one_kind_never_touch(maps):
    for m in maps:
        solid = [f for f in m.features if f.layer != "road"]
        for a, b in combinations(solid, 2):
            if a.layer == b.layer and (a.layer == "building" or a.value == b.value):
                assert a.shape.distance(b.shape) > 1.4 * m.resolution


def test_buildings_stand_on_dry_ground_beside_the_roads(maps):
    for m in maps:
        buildings = [f.shape for f in m.features if f.layer == "building"]
        for f in m.features:
            near = {"road": f.width / 2, "water": 0.5 * m.resolution}.get(f.layer)
            if near is not None:
                assert not any(b.distance(f.shape) < near for b in buildings)


def test_layers_come_in_the_order_of_drawing(maps):
    order = ["land", "water", "road", "building"]
    for m in maps:
        ranks = [order.index(f.layer) for f in m.features]
        assert ranks == sorted(ranks)


def test_a_mosaic_holds_many_kinds_of_places():
    m = generate_map(np.random.default_rng(2), 2560.0, 10.0, "village")
    assert len({f.value for f in m.features}) > 6
    # a house cannot be seen from so far
    assert all(breadth(f.shape) > 30 for f in m.features if f.layer == "building")


def test_settings_are_drawn_by_their_weights():
    assert set(WEIGHTS) == set(SETTINGS)
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    names = {make_scene(1, k, side=60, resolution=1.0).map.setting for k in range(60)}
    assert len(names) >= 7
