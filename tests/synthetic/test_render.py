"""Pictures: what is on the map can be seen in them."""

import numpy as np
import pytest
import shapely

from qwen2vl_rs.synthetic import palette
from qwen2vl_rs.synthetic.features import Feature
from qwen2vl_rs.synthetic.layout import Map
from qwen2vl_rs.synthetic.render import draw
from qwen2vl_rs.synthetic.textures import crowns, noise

SIDE = 96


def picture(*features: Feature, resolution: float = 1.0, seed: int = 0):
    features = tuple(
        Feature(**{**{n: getattr(f, n) for n in Feature.__slots__}, "whole": f.shape})
        for f in features
    )
    m = Map(SIDE * resolution, resolution, "fields", features)
    return draw(m, np.random.default_rng(seed), SIDE).astype(float)


def spot(pixels, x0, y0, x1, y1):
    """Mean colour of a box in metres, from the lower left corner."""
    return pixels[SIDE - y1 : SIDE - y0, x0:x1].mean(axis=(0, 1))


LAND = Feature("meadow", "landuse", "meadow", shapely.box(0, 0, SIDE, SIDE))


def test_a_house_is_where_the_map_has_it_and_throws_its_shadow_north():
    house = Feature("gable", "building", "house", shapely.box(40, 40, 56, 52), height=8.0, tint=0.1)
    bare, built = picture(LAND), picture(LAND, house)
    change = np.abs(built - bare).mean(axis=2)
    assert change[SIDE - 50 : SIDE - 42, 43:53].mean() > 15
    assert not change[:, :20].any()
    assert spot(built, 44, 53, 52, 55).mean() < 0.85 * spot(bare, 44, 53, 52, 55).mean()
    assert spot(built, 44, 36, 52, 39).mean() > 0.9 * spot(bare, 44, 36, 52, 39).mean()


def test_water_is_bluer_than_land_and_a_road_is_grey():
    lake = Feature("water", "natural", "water", shapely.Point(48, 70).buffer(18))
    road = Feature("road", "highway", "primary", shapely.LineString([(0, 20), (96, 20)]), width=9.0)
    pixels = picture(LAND, lake, road)
    land, water = spot(pixels, 2, 30, 26, 94), spot(pixels, 42, 64, 54, 76)
    assert water[2] / water[0] > 1.3 * land[2] / land[0]
    grey = spot(pixels, 0, 18, 96, 22)
    assert np.ptp(grey) < 25


def test_furrows_run_in_the_direction_of_their_field():
    fields = [
        picture(Feature("field", "landuse", "farmland", LAND.shape, angle=a, tint=0.9))
        for a in (0.0, np.pi / 2)
    ]
    ratios = [f.mean(axis=(1, 2)).std() / f.mean(axis=(0, 2)).std() for f in fields]
    assert ratios[0] > 1.3 > 1 / 1.3 > ratios[1]


def test_a_hole_is_not_filled():
    ring = shapely.box(0, 0, SIDE, SIDE).difference(shapely.box(30, 30, 66, 66))
    forest = Feature("forest", "landuse", "forest", ring)
    pixels = picture(forest)
    rough = pixels[:, :20].mean(axis=2).std()  # crowns and the gaps between them
    assert pixels[40:56, 40:56].mean(axis=2).std() < 0.6 * rough


@pytest.mark.parametrize("season", palette.SEASONS)
def test_every_look_has_a_colour_in_every_season(season):
    for look in {*palette.TEXTURES, "road", "track", "parking", "playground", "court", "none"}:
        colour = palette.surface(look, season, 0.99)
        assert colour.shape == (3,)
        assert 20 < colour.mean() < 250


@pytest.mark.parametrize("resolution", [0.15, 1.0, 10.0])
def test_noise_and_crowns_fit_any_resolution(resolution):
    rng = np.random.default_rng(0)
    plane = noise(rng, 64, 1.2, resolution, 1.3)
    light, tree = crowns(rng, 64, 6.5, resolution, np.array([0.0, -1.0]))
    assert plane.shape == light.shape == tree.shape == (64, 64)
    assert np.isfinite(plane).all()
    assert light.std() > 0.03
    assert 0 <= tree.min() < tree.max() <= 1


def test_a_parking_in_two_parts_has_cars_on_both():
    halves = [shapely.box(10, 10, 45, 86), shapely.box(51, 10, 86, 86)]
    lots = [Feature("parking", "amenity", "parking", half) for half in halves]
    whole = shapely.MultiPolygon(halves)
    features = tuple(
        Feature(**{**{n: getattr(f, n) for n in Feature.__slots__}, "whole": whole}) for f in lots
    )
    drawn = draw(Map(SIDE * 0.5, 0.5, "city", features), np.random.default_rng(0), SIDE)
    for x in (30, 70):  # cars differ from the ground, and from each other
        assert drawn[:, x - 15 : x + 15].astype(float).std() > 5
