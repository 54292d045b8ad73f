"""What the embedded base is told in pre-training: true, in sentences, and not in RSVQA's form."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from qwen2vl_rs.synthetic.scene import make_scene
from qwen2vl_rs.vqa_generation.phrases import TEMPLATES

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes/embedded_base"))

from scenes import CELLS, TARGETS, cell_truth
from sentences import Talk, in_words


@pytest.fixture(scope="module")
def pairs():
    places = [make_scene(31_337, n) for n in range(12)]
    return [
        pair
        for n, place in enumerate(places)
        for pair in Talk(np.random.default_rng(n), place.elements, place.side).pairs(40)
    ]


def test_neither_templates_nor_labels_of_rsvqa(pairs):
    heads = [t.split("{")[0].strip() for kind in TEMPLATES.values() for t in kind]
    heads = [h for h in heads if len(h.split()) > 1] + ["Is a ", "Is it a rural"]
    labels = re.compile(r"(yes|no|rural|urban|\d+(m2)?|between .*|more than .*)", re.IGNORECASE)
    for _, question, answer in pairs:
        assert not question.startswith(tuple(heads))
        assert not labels.fullmatch(answer)
        assert " " in answer
        assert answer.endswith(".")
        assert "between" not in answer


def test_answers_are_mixed(pairs):
    for kind in ("seen", "compared"):
        yes = [p.answer.startswith("Yes") for p in pairs if p.kind == kind and p.answer[2] in "s,"]
        assert 0.3 < np.mean(yes) < 0.7


def test_numbers_in_words():
    told = {0: "no", 12: "twelve", 40: "forty", 63: "sixty-three", 100: "100"}
    assert {n: in_words(n) for n in told} == told


def test_truth_of_cells_counts_every_building_once():
    for n in range(5):
        place = make_scene(31_337, n)
        truth = cell_truth(place.elements, place.side)
        assert truth.shape == (CELLS, CELLS, TARGETS)
        buildings = sum(e.layer == "building" for e in place.elements)
        assert truth[..., 25:28].sum() == buildings
        assert truth[..., :25].max() <= 1
