"""Every public name has an example in its docstring, and the examples are true."""

import doctest
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import qwen2vl_rs as rs
from factory import make_samples, write_image, write_rsvqa
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.raster import write_geotiff

ROOT = Path(__file__).resolve().parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def desk(tmp_path_factory, trained, small_base):
    """A folder with what a notebook of the examples finds."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(trained[0] / "output/Qwen2-VL-2B", folder / "output/demo")
    (folder / "output/Qwen2-VL-2B").symlink_to(folder / "output/demo")
    (folder / "base").symlink_to(small_base)
    for split, first in (("test", 0), ("train", 4)):
        write_rsvqa(folder / "RSVQA_LR", 4, prefix=f"LR_split_{split}_", first=first)
    (folder / "RSVQA_LR/rsvqa_images").rename(folder / "RSVQA_LR/Images_LR")
    write_conversations(folder / "data.json", make_samples(folder / "images", 4))
    write_image(folder / "tile.tif", 56, 1)
    pixels = np.random.default_rng(3).integers(1, 255, (140, 200, 3), dtype=np.uint8)
    write_geotiff(folder / "scene.tif", pixels, "EPSG:32631", (2, 0, 5e5, 0, -2, 5.6e6))
    return folder


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_shows_what_works(page, desk, monkeypatch):
    monkeypatch.chdir(desk)
    (desk / "rsvqa_images").mkdir(exist_ok=True)
    shutil.copy(desk / "tile.tif", desk / "rsvqa_images/0.tif")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    names = {}
    exec(compile(code, page, "exec"), names)
    assert names["result"].official.n == len(names["data"])


def shown(module, name=""):
    """The public names of a module that are its own, with their objects."""
    for one in module.__all__:
        value = getattr(module, one)
        if inspect.ismodule(value):
            yield from shown(value, f"{one}.")
        else:
            yield f"{name}{one}", value


EXAMPLES = [*dict(shown(rs)), "datasets", "Model.ask"]


def test_all_that_is_visible_is_public():
    for module in (rs, rs.datasets):
        assert [name for name in dir(module) if not name.startswith("_")] == sorted(module.__all__)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.slow] * (one == "train")) for one in EXAMPLES]
)
def test_examples_are_true(name, desk, monkeypatch, capsys):
    value = rs
    for part in name.split("."):
        value = getattr(value, part)
    monkeypatch.chdir(desk)
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(value, name, globs={"rs": rs})
    assert found.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    said = []
    runner.run(found, out=said.append)
    assert not runner.failures, "".join(said)
    assert capsys.readouterr().out == ""
