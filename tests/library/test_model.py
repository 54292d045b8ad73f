"""A model as a notebook asks it."""

import numpy as np
import pytest
from PIL import Image

import qwen2vl_rs as rs
from endpoints import running, said
from factory import write_image
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.errors import ConfigError, ImageError, Qwen2VLRSError
from qwen2vl_rs.raster import read_rgb

ASKED = ["Is there a road?", "How many roads are there?", "Is it a rural or an urban area?"]


@pytest.fixture(scope="module")
def model(trained):
    return rs.load(trained[0] / "output/Qwen2-VL-2B")


@pytest.fixture
def tile(tmp_path):
    write_image(tmp_path / "tile.tif", 56, 1)
    return tmp_path / "tile.tif"


def test_an_image_in_memory_is_answered_as_its_file(model, tile):
    wanted = model.ask(tile, ASKED).to_dict()
    pixels = read_rgb(tile, model.session.view.image)
    for image in (str(tile), pixels, Image.fromarray(pixels)):
        assert model.ask(image, ASKED).to_dict() == wanted


def test_answers_are_a_table(model, tile):
    found = model.ask(tile, ASKED, answers="closed")
    assert [one.question for one in found] == ASKED
    assert found[0].probabilities.keys() == {"yes", "no"}
    assert found[1].probabilities is None
    frame = found.to_pandas()
    assert list(frame["type"]) == ["presence", "count", "rural_urban"]
    html = found._repr_html_()
    assert html.count("<tr>") == 4
    assert ASKED[0] in html
    assert len(found[1:]) == 2


def test_texts_are_text_on_a_page(model, tile):
    assert "<b>" not in model.ask(tile, "Is there a <b>road</b>?")._repr_html_()


def test_the_base_is_asked_through_the_same_weights(model, small_base, tile):
    bare = model.ask(tile, ASKED, use_adapter=False)
    assert bare.to_dict() == rs.load(small_base).ask(tile, ASKED).to_dict()
    assert bare.to_dict() != model.ask(tile, ASKED).to_dict()


def test_a_server_is_asked_like_a_model_at_hand(tile):
    with running(lambda body, _: said("yes")) as api:
        there = rs.load(endpoint=api.url, model="name")
        for image in (tile, read_rgb(tile, RasterToRGB())):
            found = there.ask(image, ASKED[:2])
            assert [(one.text, one.confidence) for one in found] == [("yes", None)] * 2
        with pytest.raises(ConfigError, match="generates its answers"):
            there.ask(tile, ASKED, answers="closed")


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ({}, ConfigError),
        ({"path": "nowhere"}, Qwen2VLRSError),
        ({"path": "x", "endpoint": "http://127.0.0.1:1/v1", "model": "m"}, ConfigError),
        ({"endpoint": "http://127.0.0.1:1/v1"}, ConfigError),
    ],
)
def test_what_is_no_model_is_refused(named, kind):
    with pytest.raises(kind) as caught:
        rs.load(**named)
    assert caught.value.hint
    assert caught.value.__notes__ == [f"hint: {caught.value.hint}"]


@pytest.mark.parametrize("questions", [[], "", [" "], [3]])
def test_an_empty_question_is_refused(model, tile, questions):
    with pytest.raises(ConfigError, match="question"):
        model.ask(tile, questions)


def test_what_is_no_image_is_refused(model, tmp_path):
    with pytest.raises(ImageError):
        model.ask(np.zeros((3, 64, 64), np.uint8), ASKED)
    with pytest.raises(ImageError):
        model.ask(tmp_path / "absent.tif", ASKED)


def test_a_device_that_is_not_there_is_refused(trained, tile):
    with pytest.raises(ConfigError, match="no device cuda:9"):
        rs.load(trained[0] / "output/Qwen2-VL-2B", device="cuda:9").ask(tile, ASKED)
