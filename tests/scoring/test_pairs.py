"""Two runs side by side: what is fixed, broken, right or wrong, and which of it is asked for."""

import pytest

from qwen2vl_rs.scoring.pairs import pairs
from qwen2vl_rs.types import Prediction

SAID = {"fixed": ("no", "yes"), "broken": ("yes", "no"), "right": ("yes", "yes"),
        "wrong": ("no", "maybe")}  # fmt: skip


def answered(said, confidence=None):
    return [
        Prediction(
            name, "a.tif", "Is there a road?", "presence", "yes", text, f"{text}!", confidence
        )
        for name, text in said.items()
    ]


@pytest.fixture
def found():
    before = answered({name: said[0] for name, said in SAID.items()}, 0.25)
    return pairs(before, answered({name: said[1] for name, said in SAID.items()}, 0.75), "LR")


def test_each_question_by_what_changed(found):
    assert {pair.id: pair.change for pair in found} == {name: name for name in SAID}
    one = found[0].as_dict()
    assert (one["before"], one["after"]) == ("no!", "yes!")  # as the model said it
    assert (one["before_confidence"], one["after_confidence"]) == (0.25, 0.75)
    assert (one["before_right"], one["after_right"], one["change"]) == (False, True, "fixed")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("all", {"fixed", "broken", "right", "wrong"}),
        ("fixed", {"fixed"}),
        ("broken", {"broken"}),
        ("wrong", {"broken", "wrong"}),  # wrong after
    ],
)
def test_kinds_that_can_be_asked_for(found, kind, names):
    assert {pair.id for pair in found if pair.is_(kind)} == names
