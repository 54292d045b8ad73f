"""A question with its image in a notebook."""

import base64
import io
import re

import numpy as np
from PIL import Image

from factory import make_samples
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.raster import read_rgb


def test_a_question_shows_its_image_and_its_answer(tmp_path):
    samples = make_samples(tmp_path, 2)
    shown = Dataset.of(samples).plot(9)
    wanted = read_rgb(samples[9].image, RasterToRGB())
    assert np.array_equal(np.asarray(shown.image), wanted)
    html = shown._repr_html_()
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), wanted)
    assert f"<b>{samples[9].answer}</b>" in html
    assert samples[9].question in repr(shown)
