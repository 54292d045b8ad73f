"""Scenes: the same by the same seed, and exactly what they say."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.questions.elements import Element
from qwen2vl_rs.raster.scenes import open_scene
from qwen2vl_rs.synthetic.scene import CLASSES, make_scene
from qwen2vl_rs.vqa_generation.vectors import Tile, read_vectors
from worlds import write_scene


def test_a_seed_and_a_number_make_a_scene():
    a, b = make_scene(1, 4, side=96), make_scene(1, 4, side=96)
    assert (a.draw() == b.draw()).all()
    assert a == b
    other = make_scene(1, 5, side=96)
    assert other.draw().shape == (96, 96, 3)
    assert (other.draw() != a.draw()).any()
    assert make_scene(2, 4, side=96) != a


@pytest.mark.parametrize("resolution", [0.15, 0.8, 10.0])
def test_files_hold_the_same_scene(tmp_path, resolution):
    for number in range(4):
        scene = make_scene(3, number, side=128, resolution=resolution)
        image, vectors = write_scene(scene, tmp_path, str(number))
        with open_scene(image, RasterToRGB()) as opened:
            pixels, share = opened.read(0, 0, 128, 128)
            found = read_vectors(vectors, opened)
        assert (pixels == scene.draw()).all()
        assert share > 0.99
        assert not +found.counts
        elements, size = found.cut(Tile(0, 0, 128, 128), least=1.0)
        assert size == pytest.approx((resolution, resolution), rel=1e-3)
        assert [(e.layer, e.label, e.width) for e in elements] == [
            (e.layer, e.label, e.width) for e in scene.elements
        ]
        for a, b in zip(elements, scene.elements, strict=True):
            assert a.shape.hausdorff_distance(b.shape) < 0.01


def test_the_files_are_those_of_any_gis(tmp_path):
    image, vectors = write_scene(make_scene(3, 1, side=64), tmp_path, "x")
    with rasterio.open(image) as source:
        assert source.crs.to_epsg() in range(32630, 32636)
        assert source.transform.a == -source.transform.e == source.res[0]
        assert 3e5 < source.bounds.left < 7e5
    features = json.loads(vectors.read_text())["features"]
    ((x, y, *_),) = {tuple(np.ravel(f["geometry"]["coordinates"][0])[:2]) for f in features[:1]}
    assert -6 < x < 36
    assert 38 < y < 58
    assert all(len(f["properties"]) in (1, 2) for f in features)


@pytest.fixture(scope="module")
def recipe():
    """Of the embedded base: it says what each visual token has to know."""
    path = Path(__file__).parents[2] / "recipes/embedded_base/scenes.py"
    spec = importlib.util.spec_from_file_location("recipe_scenes", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


def test_cells_say_what_lies_in_them(recipe):
    scene = make_scene(3, 0, side=252, setting="suburb", resolution=0.8)
    shares = recipe.cell_shares(scene.elements, scene.side, 9)
    assert shares.shape == (9, 9, len(CLASSES))
    assert shares.min() >= 0
    assert shares.max() <= 1
    for label in ("residential building", "residential"):
        area = sum(e.shape.area for e in scene.elements if e.label == label) / scene.side**2
        mean = shares[..., CLASSES.index(label)].mean()
        # a pixel of the outline is counted in full
        assert 0.95 * area < mean < 1.6 * area + 0.01


def test_cells_start_in_the_north_west(recipe):
    from shapely import box

    house = Element("building", "residential building", box(5, 85, 15, 95))
    shares = recipe.cell_shares([house], 100.0, 10)
    assert shares[:2, :2, 0].sum() > 0.9
    assert shares[2:, :, 0].sum() == 0


@pytest.mark.parametrize(
    ("options", "said"), [({"resolution": 20.0}, "20.0 m"), ({"setting": "moon"}, "moon")]
)
def test_what_cannot_be_drawn_is_refused(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        make_scene(1, 0, **options)
    assert caught.value.hint.startswith("choose from")


def test_two_cores_make_twenty_scenes_a_second():
    make_scene(5, 0).draw()  # textures are made once a process
    taken = []
    for attempt in range(5):  # the machine may be busy
        start = time.process_time()
        for number in range(10):
            make_scene(attempt, number).draw()
        taken.append((time.process_time() - start) / 10)
        if taken[-1] <= 2 / 20:
            return
    pytest.fail(f"{min(taken):.3f} s of a core for a scene at best")
