"""The embedded base: it loads, it is small, it looks, and it speaks in sentences."""

import numpy as np
import pytest
import torch
from PIL import Image

from qwen2vl_rs.cli import cli
from qwen2vl_rs.cli.demo import STEPS, prepare
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.models.base import FOLDER
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.synthetic.scene import make_scene

UNSEEN = 31_337  # a seed that no recipe uses
NOUNS = {
    "water area": "a water area", "forest": "a forest", "farmland": "a farmland",
    "residential building": "a residential building", "road": "a road", "orchard": "an orchard",
}  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return load_base(FOLDER, InputConfig(instruction=""), torch.device("cpu"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, base):
    """Visual tokens of some scenes, and the labels of what is in each."""
    folder, found = tmp_path_factory.mktemp("scenes"), []
    for n in range(16):
        scene = make_scene(UNSEEN, n)
        Image.fromarray(scene.draw()).save(folder / f"{n}.png")
        labels = {e.label for e in scene.elements}
        found.append((base.images.read(folder / f"{n}.png"), labels))
    return found


def ask(base, scenes):
    """(scenes, nouns) whether the base says that it is there, and whether it is."""
    questions = [f"Does the picture show {a}?" for a in NOUNS.values()]
    told = answer(base, base.model, [(px, questions) for px, _ in scenes], max_new_tokens=12)
    texts = np.array([[one.text for one in row] for row in told])
    assert set(texts.ravel()) <= {"Yes, it does.", "No, it does not."}
    true = np.array([[label in labels for label in NOUNS] for _, labels in scenes])
    return texts == "Yes, it does.", true


def test_it_is_small_and_has_a_card():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= 12e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("Limits", "recipes/embedded_base", "Apache-2.0"))


def test_it_looks(base, scenes):
    yes, true = ask(base, scenes)
    right = (yes == true).mean()
    wrong = np.mean([(np.roll(yes, k, axis=0) == true).mean() for k in range(1, len(scenes))])
    assert right >= wrong + 0.25  # 0.93 and 0.55 were seen


@pytest.mark.slow
def test_it_answers_in_sentences(base, scenes):
    ask(base, scenes)


def test_plain_transformers_reads_it():
    from transformers import Qwen2VLForConditionalGeneration

    model, info = Qwen2VLForConditionalGeneration.from_pretrained(
        FOLDER, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.model_type == "qwen2_vl"


@pytest.mark.parametrize("step", STEPS)
def test_steps_of_the_demo_are_commands(step):
    name, *arguments = step.split()
    above = cli.make_context("qwen2vl-rs", [name])
    cli.commands[name].make_context(name, arguments, parent=above)  # unknown options are errors


def test_a_demo_replaces_only_a_demo(tmp_path):
    folder = tmp_path / "demo"
    prepare(folder, FOLDER)
    load_config(folder / "demo.toml")
    (folder / "old").touch()
    prepare(folder, FOLDER)
    assert not (folder / "old").exists()
    assert (folder / "base/model.safetensors").is_file()
    assert not (folder / "base/__init__.py").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(RunError, match="other files than a demo"):
        prepare(tmp_path / "mine", FOLDER)
    assert (tmp_path / "mine/thesis.tex").exists()
