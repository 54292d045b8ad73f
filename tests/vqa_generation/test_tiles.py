"""Images with vectors, cut into tiles."""

from collections import Counter

import numpy as np
import pytest

from qwen2vl_rs.errors import DataError, ImageError
from qwen2vl_rs.raster import write_geotiff
from qwen2vl_rs.synthetic.scene import make_scene
from qwen2vl_rs.vqa_generation.tiles import (
    EDGE,
    NO_DATA,
    NOTHING,
    UNPAIRED,
    Source,
    pair_vectors,
    tiles,
)
from worlds import write_scene


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    scene = make_scene(2, 0, side=300, resolution=0.8, setting="suburb")
    return Source(*write_scene(scene, folder, "town"))


def test_tiles_keep_their_place_and_hold_their_pixels(source):
    counts = Counter()
    cuts = list(tiles(source, 128, False, counts))
    assert [(c.row, c.column) for c in cuts] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert counts[EDGE] == 9 - 4
    whole = make_scene(2, 0, side=300, resolution=0.8, setting="suburb")
    last = cuts[3]
    assert (last.pixels == whole.draw()[128:256, 128:256]).all()
    assert last.reference.transform[2] == pytest.approx(whole.left + 128 * 0.8)
    assert last.corner(False)[1] - last.corner(True)[1] == pytest.approx(128 * 0.8)
    assert last.name == "town_128-128.tif"
    assert last.resolution == pytest.approx(0.8, rel=1e-3)
    assert 38 < last.view.latitude < 58
    assert "residential" in last.vocabulary
    assert sum(len(c.view.elements) for c in cuts) > 20


def test_tiles_without_data_or_elements_are_left_out_and_counted(tmp_path):
    scene = make_scene(2, 0, side=192, resolution=0.8, setting="suburb")
    image, vectors = write_scene(scene, tmp_path, "town")
    wide = np.full((192, 384, 3), 90, np.uint8)  # nothing is known of its right half
    wide[:, :192] = scene.draw()
    wide[:96, :96] = 0
    write_geotiff(image, wide, scene.crs, scene.transform)
    counts = Counter()
    cuts = list(tiles(Source(image, vectors), 96, False, counts))
    assert len(cuts) == 3
    assert (counts[NO_DATA], counts[NOTHING]) == (1, 4)


def test_legacy_wants_two_layers(tmp_path):
    scene = make_scene(1, 0, side=64, resolution=2.0, setting="wild")
    source = Source(*write_scene(scene, tmp_path, "wild"))
    layers = {e.layer for e in scene.elements}
    assert len(list(tiles(source, 64, True, Counter()))) == (len(layers) > 1)
    assert len(list(tiles(source, 64, False, Counter()))) == 1


def test_an_image_smaller_than_a_tile_is_one_tile_and_that_is_said(source, capsys):
    (cut,) = tiles(source, 512, False, Counter())
    assert cut.pixels.shape == (300, 300, 3)
    assert "smaller than a tile" in capsys.readouterr().err


def test_an_image_that_lies_nowhere_is_refused(source, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), "green").save(tmp_path / "plain.png")
    with pytest.raises(ImageError, match="not georeferenced") as caught:
        list(tiles(Source(tmp_path / "plain.png", source.vectors), 64, False, Counter()))
    assert "gdal_translate" in caught.value.hint


def test_images_find_their_vectors(tmp_path):
    for name in ("a.tif", "a.geojson", "b.tif", "b.gpkg", "c.TIF", "notes.txt", "all.osm.pbf"):
        (tmp_path / name).touch()
    counts = Counter()
    found = pair_vectors(tmp_path, None, counts)
    assert [(s.image.name, s.vectors.name) for s in found] == [
        ("a.tif", "a.geojson"), ("b.tif", "b.gpkg"),
    ]  # fmt: skip
    assert counts[UNPAIRED] == 1
    everything = pair_vectors(tmp_path, tmp_path / "all.osm.pbf", counts)
    assert [s.vectors.name for s in everything] == ["all.osm.pbf"] * 3
    assert pair_vectors(tmp_path / "a.tif", None, counts)[0].vectors == tmp_path / "a.geojson"


def test_without_a_pair_there_is_nothing_to_do(tmp_path):
    with pytest.raises(DataError, match="no images"):
        pair_vectors(tmp_path, None, Counter())
    (tmp_path / "a.tif").touch()
    with pytest.raises(DataError, match="no vector file of the same name for 1") as caught:
        pair_vectors(tmp_path, None, Counter())
    assert "--vectors" in caught.value.hint


def test_a_tile_of_oblong_pixels_is_as_wide_and_high_as_on_the_ground(tmp_path):
    scene = make_scene(2, 0, side=300, resolution=0.8, setting="suburb")
    image, vectors = write_scene(scene, tmp_path, "town")
    a, b, c, d, e, f = scene.transform[:6]
    write_geotiff(image, scene.draw()[::2], scene.crs, (a, b, c, d, 2 * e, f))
    cut = next(iter(tiles(Source(image, vectors), 100, False, Counter())))
    assert (cut.view.width, cut.view.height) == pytest.approx((80, 160), rel=1e-3)
    assert cut.view.resolution == pytest.approx(1.2, rel=1e-3)
