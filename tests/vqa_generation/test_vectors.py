"""Vector files over an image: any format, any reference system, true metres."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.warp import transform
from shapely import LineString, MultiPolygon, Point, Polygon, box

from qwen2vl_rs.errors import DataError
from qwen2vl_rs.raster.scenes import Georeference
from qwen2vl_rs.vqa_generation.vectors import (
    BAD_TAGS,
    NO_SHAPE,
    NO_TAGS,
    REPAIRED,
    TOO_SMALL,
    Tile,
    read_vectors,
)
from worlds import Placed, at
from worlds import write_layer as write

# 200 × 100 pixels of half a metre, near Utrecht
IMAGE = Georeference("EPSG:32631", (0.5, 0.0, 640_000.0, 0.0, -0.5, 5_770_050.0))
WIDTH, HEIGHT = 200, 100
WHOLE = Tile(0, 0, WIDTH, HEIGHT)


def read(path, tile=WHOLE, *, reference=IMAGE, **options):
    found = read_vectors(path, Placed(reference, WIDTH, HEIGHT))
    return found.cut(tile, **options)[0], found.counts


HOUSE = (box(10, 10, 20, 22), {"building": "house"})
GRASS = (box(-50, 30, 40, 80), {"landuse": "grass"})
ROAD = (LineString([(-10, 25), (110, 25)]), {"highway": "primary", "width": "7.5"})
ROWS = [HOUSE, GRASS, ROAD]


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg", "a.fgb"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:28992"])
def test_any_format_in_any_system(tmp_path, name, crs):
    path = write(tmp_path / name, ROWS, crs)
    elements, _ = read(path)
    found = {e.label: e for e in elements}
    assert set(found) == {"residential building", "grass", "road"}
    assert found["residential building"].shape.bounds == pytest.approx((10, 10, 20, 22), abs=0.1)
    assert found["residential building"].shape.area == pytest.approx(120, rel=2e-3)
    assert found["grass"].shape.area == pytest.approx(40 * 20, rel=2e-3)
    assert found["road"].shape.length == pytest.approx(100, rel=2e-3)
    assert found["road"].width == 7.5


def test_shapefiles(tmp_path):
    path = write(tmp_path / "a.shp", [HOUSE, GRASS], "EPSG:28992")
    assert len(read(path)[0]) == 2


def test_all_layers_of_a_file_are_read(tmp_path):
    path = write(tmp_path / "a.gpkg", [HOUSE], layer="houses")
    write(path, [ROAD], layer="roads", append=True)
    write(path, [(Point(5, 5), {"building": "house"})], layer="points", append=True)
    assert {e.layer for e in read(path)[0]} == {"building", "road"}


def test_tags_in_one_column_as_openstreetmap_files_have_them(tmp_path):
    tags = '"building"=>"retail","name"=>"A \\"good\\" shop, => open"'
    path = write(tmp_path / "a.gpkg", [(HOUSE[0], {"other_tags": tags, "name": "x"})])
    assert [e.label for e in read(path)[0]] == ["commercial building"]


def houses(path, tags):
    """A GeoJSON of one outline, once with each of the tags."""
    shape = shapely.geometry.mapping(at(HOUSE[0], "EPSG:4326"))
    features = [{"type": "Feature", "properties": one, "geometry": shape} for one in tags]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_values_that_are_missing_are_no_tags(tmp_path):
    """As pandas writes them, in columns of their own and in one for all."""
    for name, tags in (
        ("a", [{"building": 1.0, "tunnel": None}, {"building": None, "tunnel": 1.0}]),
        ("b", [{"tags": '{"building": "yes", "tunnel": NaN, "indoor": null, "location": ""}'},
               {"tags": '{"building": NaN, "landuse": ""}'}]),
        ("c", [{"tags": '"building"=>"yes", "tunnel"=>"", "indoor"=>NULL'},
               {"tags": '"building"=>"", "landuse"=>NULL'}]),
        ("d", [{"tags": '"landuse"=>NULL'}, {"building": "yes", "tags": ""}]),
    ):  # fmt: skip
        elements, counts = read(houses(tmp_path / f"{name}.geojson", tags))
        assert [e.layer for e in elements] == ["building"]
        assert counts[NO_TAGS] == 1
        assert not counts[BAD_TAGS]


def test_a_column_of_tags_that_is_missing_is_no_tags(tmp_path):
    """Of numbers, where only what is there is blamed for what it is."""
    rows = [{"building": "yes", "tags": None}, {"building": "yes", "tags": 0.5}]
    elements, counts = read(houses(tmp_path / "a.geojson", rows))
    assert [e.layer for e in elements] == ["building"] * 2
    assert counts[BAD_TAGS] == 1


def test_lists_are_several_values(tmp_path):
    """Of GeoJSON, which GDAL gives as arrays, and in a column of JSON; a list itself is no tags."""
    rows = [{"building": ["house", "yes"]}, {"building": ["no"]}, {"building": []}]
    elements, counts = read(houses(tmp_path / "a.geojson", rows))
    assert [e.layer for e in elements] == ["building"]
    assert counts[NO_TAGS] == 2
    rows = [{"tags": json.dumps({"building": ["house", "yes"], "tunnel": [], "indoor": ["no"]})}]
    assert [e.layer for e in read(houses(tmp_path / "b.geojson", rows))[0]] == ["building"]
    rows = [{"building": ["yes"], "tags": ["a", "b"]}, {"building": ["yes"], "tags": []}]
    elements, counts = read(houses(tmp_path / "c.geojson", rows))
    assert len(elements) == 2
    assert counts[BAD_TAGS] == 1


def test_an_openstreetmap_extract(tmp_path):
    lon, lat = at(box(10, 10, 20, 22), "EPSG:4326").exterior.coords.xy
    nodes = "".join(
        f'<node id="{n}" lat="{y:.9f}" lon="{x:.9f}"/>'
        for n, (x, y) in enumerate(zip(lon[:4], lat[:4], strict=True), start=1)
    )
    way = "".join(f'<nd ref="{n}"/>' for n in (1, 2, 3, 4, 1))
    path = tmp_path / "a.osm"
    path.write_text(
        f'<osm version="0.6">{nodes}<way id="9">{way}<tag k="building" v="house"/></way>'
        '<way id="8"><nd ref="1"/><nd ref="3"/><tag k="highway" v="track"/></way></osm>'
    )
    assert sorted(e.label for e in read(path)[0]) == ["residential building", "road"]


def test_tiles_have_their_own_corner(tmp_path):
    path = write(tmp_path / "a.gpkg", [HOUSE, (box(40, 10, 60, 20), {"building": "yes"})])
    left, _ = read(path, Tile(0, 0, 100, 100))
    right, _ = read(path, Tile(100, 50, 100, 50))
    assert [round(e.shape.area) for e in left] == [120, 100]
    assert right[0].shape.bounds == pytest.approx((0, 10, 10, 20), abs=0.05)


def test_what_only_touches_a_tile_is_not_in_it(tmp_path):
    path = write(tmp_path / "a.gpkg", [(box(50, 0, 60, 10), {"building": "yes"}), HOUSE],
                 "EPSG:32631")  # fmt: skip
    assert len(read(path, Tile(0, 0, 100, 100))[0]) == 1


def test_small_things_are_left_out_and_counted_where_asked(tmp_path):
    path = write(tmp_path / "a.gpkg", [HOUSE, (box(50, 20, 50.4, 20.4), {"building": "yes"})])
    found = read_vectors(path, Placed(IMAGE, WIDTH, HEIGHT))
    assert len(found.cut(WHOLE)[0]) == 2
    assert len(found.cut(WHOLE, least=1.0)[0]) == 1
    assert found.counts[TOO_SMALL] == 1


def test_web_mercator_is_not_believed():
    # at 60 degrees north its metres are half of the true ones
    x, y = transform("EPSG:4326", "EPSG:3857", [25.0], [60.0])
    mercator = Georeference("EPSG:3857", (1.0, 0.0, x[0], 0.0, -1.0, y[0]))
    assert mercator.pixel_size(0, 0) == pytest.approx((0.5, 0.5), rel=0.005)
    assert IMAGE.pixel_size(50, 50) == pytest.approx((0.5, 0.5), rel=1e-6)
    degrees = Georeference("EPSG:4326", (1e-5, 0.0, 25.0, 0.0, -1e-5, 60.0))
    across, down = degrees.pixel_size(0, 0)
    assert (across, down) == pytest.approx((0.558, 1.114), rel=0.005)


def test_an_image_in_web_mercator(tmp_path):
    x0, y0, x1, y1 = at(box(0, 0, 100, 50), "EPSG:3857").bounds
    image = Georeference("EPSG:3857", ((x1 - x0) / WIDTH, 0.0, x0, 0.0, -(y1 - y0) / HEIGHT, y1))
    elements, _ = read(write(tmp_path / "a.geojson", [HOUSE]), reference=image)
    assert elements[0].shape.area == pytest.approx(120, rel=0.01)


# Bad input


def refused(path, reference=IMAGE):
    with pytest.raises(DataError) as caught:
        read_vectors(path, Placed(reference, WIDTH, HEIGHT))
    assert caught.value.hint
    return f"{caught.value.message} | {caught.value.hint}"


def test_outlines_that_cross_themselves_are_repaired_and_counted(tmp_path):
    bow = Polygon([(10, 10), (20, 20), (20, 10), (10, 20)])
    ring = MultiPolygon([box(50, 10, 60, 20), box(55, 10, 65, 20)])
    path = write(tmp_path / "a.gpkg", [(bow, {"building": "yes"}), (ring, {"building": "yes"})])
    elements, counts = read(path)
    assert counts[REPAIRED] == 2
    assert sorted(round(e.shape.area) for e in elements) == [50, 150]
    assert all(e.shape.is_valid for e in elements)


def test_features_without_shape_or_tags_are_counted(tmp_path):
    rows = [HOUSE, (None, {"building": "yes"}), (box(0, 0, 5, 5), {"landuse": "moon"}),
            (Point(3, 3), {"building": "yes"})]  # fmt: skip
    elements, counts = read(write(tmp_path / "a.geojson", rows))
    assert len(elements) == 1
    assert counts[NO_TAGS] == 1
    assert counts[NO_SHAPE] >= 1


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
def test_without_a_reference_system(tmp_path):
    assert "no coordinate reference system" in refused(
        write(tmp_path / "a.shp", [HOUSE], "EPSG:28992", said=False)
    )


def test_empty(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert "no lines or polygons" in refused(path)


def test_elsewhere(tmp_path):
    far = (box(90_000, 0, 90_010, 10), {"building": "yes"})
    assert "none of its features is in the image" in refused(write(tmp_path / "a.gpkg", [far]))


def test_without_tags(tmp_path):
    path = write(tmp_path / "a.gpkg", [(HOUSE[0], {"fclass": "building", "code": "1500"})])
    said = refused(path)
    assert "no tags (its columns: code, fclass)" in said
    assert "building, highway" in said


def test_with_tags_that_rsvqa_does_not_know(tmp_path):
    path = write(tmp_path / "a.gpkg", [(HOUSE[0], {"landuse": "moon"})])
    assert "1 without a tag that RSVQA knows" in refused(path)


def test_no_file_and_no_vectors(tmp_path):
    assert "no file" in refused(tmp_path / "a.gpkg")
    path = tmp_path / "b.gpkg"
    path.write_bytes(b"not a database")
    assert "not a readable vector file" in refused(path)


@pytest.mark.slow
def test_a_million_features(tmp_path):
    import resource
    import time

    rng = np.random.default_rng(0)
    x, y = rng.uniform(-5000, 5000, (2, 1_000_000))
    shapes = shapely.box(x + 640_000, y + 5_770_000, x + 640_008, y + 5_770_008)
    path = tmp_path / "a.gpkg"
    pyogrio.raw.write(
        path, shapely.to_wkb(shapes), [np.full(1_000_000, "yes", dtype=object)], ["building"],
        crs="EPSG:32631", geometry_type="Polygon",
    )  # fmt: skip
    start = time.process_time()
    assert len(read(path)[0]) == pytest.approx(1_000_000 * 108 * 58 / 1e8, rel=0.3)
    assert time.process_time() - start < 10
    wide = Georeference("EPSG:32631", (50.0, 0.0, 635_000.0, 0.0, -50.0, 5_775_000.0))
    start = time.process_time()
    found = read_vectors(path, Placed(wide, 200, 200))
    assert len(found.kinds) > 990_000
    assert time.process_time() - start < 120
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6e6  # KiB


def test_names_of_columns_that_are_no_utf8(tmp_path):
    """Found by fuzzing: pyogrio raises what is no error of GDAL."""
    path = write(tmp_path / "a.geojson", ROWS)
    path.write_bytes(path.read_bytes().replace(b'"width"', b'"w\xff\xfed"'))
    with pytest.raises(DataError, match="not a readable vector file"):
        read(path)
