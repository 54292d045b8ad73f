"""A type of questions is one class: here one that is made up, with partial credit, in every use."""

import json
import math
import re
from dataclasses import dataclass, replace

import pytest

from factory import write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.maps.values import band
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.grammar import question_type, template
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.questions.question_type import QuestionType
from qwen2vl_rs.questions.registry import (
    OFFICIAL,
    all_types,
    official_type,
    temporary_type,
    type_named,
)
from qwen2vl_rs.scoring.metrics import type_order
from qwen2vl_rs.scoring.predictions import read_predictions, write_predictions
from qwen2vl_rs.types import Prediction


@dataclass(frozen=True)
class Roofs(QuestionType):
    """Which colours the roofs have: each colour counts, so that an answer may be half right."""

    name: str = "roofs"
    other_names: tuple[str, ...] = ("roofcolours",)
    templates: tuple[re.Pattern[str], ...] = (re.compile(r"which colours have the (.+)"),)
    counted_by_geochat: bool = False

    def normalise(self, answer):
        colours = sorted({"red", "grey", "black"} & set(re.findall(r"[a-z]+", answer)))
        return ", ".join(colours) or None

    def candidates(self, dataset):
        return "red", "grey", "black, grey"

    def score(self, gold, predicted):
        said, true = (set((x or "").split(", ")) - {""} for x in (predicted, gold))
        return len(said & true) / len(said | true) if said and true else 0.0


ASKED = "Which colours have the roofs?"


@pytest.fixture
def made_up():
    with temporary_type(Roofs()):
        yield


def test_before_and_after_it_is_unknown():
    before = all_types()
    assert question_type(ASKED) == "other"
    with temporary_type(Roofs()):
        assert question_type(ASKED) == "roofs"
        assert all_types()[-1] == "roofs"
    assert question_type(ASKED) == "other"
    assert all_types() == before
    assert [one.name for one in OFFICIAL] == list(before)[: len(OFFICIAL)]


@dataclass(frozen=True)
class Light(QuestionType):
    """By day or by night."""

    name: str = "light"
    templates: tuple[re.Pattern[str], ...] = (re.compile(r"when was the (.+) taken"),)
    choices: tuple[str, ...] = ("day", "night")
    map_value: str = "night"


def test_a_type_of_two_words_is_chosen_from_and_drawn(small_base, tmp_path):
    write_image(tmp_path / "a.tif", 56, 1)
    asked = "When was the image taken?"
    with temporary_type(Light()):
        assert normalise("Night.", "light") == "night"
        assert normalise("at dusk", "light") is None
        session = Session.open(small_base)
        ((reply,),) = session.ask([(session.read(tmp_path / "a.tif"), [asked])], closed=True)
        assert set(reply.shares) == {"day", "night"}
        assert sum(reply.shares.values()) == pytest.approx(1)
        drawn = band(asked, [{"text": reply.text, "shares": dict(reply.shares)}], (1, 1))
        assert (drawn.kind, drawn.of) == ("probability", "night")
        assert drawn.values[0, 0] == pytest.approx(reply.shares["night"])


def test_an_official_type_that_is_replaced_for_a_while_comes_back():
    before = all_types()
    with temporary_type(replace(type_named("presence"), map_value="no")):
        assert type_named("presence").map_value == "no"
        assert question_type("Is there a road?") == "presence"
    assert all_types() == before
    assert type_named("presence").map_value == "yes"


def test_names_in_other_letters_are_names_of_their_own():
    with temporary_type(replace(Roofs(), name="道路", other_names=())):
        assert official_type("道路") == "道路"
        assert official_type("房屋") == "房屋"
        assert official_type("12") == "12"


WORDINGS = {
    "presence": ("Is there a road?", "Is a water area present?", "Are there buildings?"),
    "count": ("How many roads are there?", "What is the number of parks?"),
    "comp": ("Are there more roads than parks?", "Is the number of a equal to the number of b?"),
    "rural_urban": ("Is it a rural or an urban area?",),
    "area": ("What is the area covered by roads?",),
    "LC": ("What land cover classes are in the image?", "Besides a, what classes are there?"),
}


@pytest.mark.parametrize(("name", "asked"), [(k, q) for k, all_ in WORDINGS.items() for q in all_])
def test_no_type_takes_the_questions_of_another(name, asked):
    """A new type is tried before the others: its templates must not be too wide."""
    assert question_type(asked) == name


def test_wording_normal_form_classes_and_candidates(made_up):
    assert official_type("Roof colours") == "roofs"
    assert template(ASKED) == "which colours have the [object]?"
    assert normalise("Grey and red!", "roofs") == "grey, red"
    assert normalise("none", "roofs") is None
    found = answer_sets((), "LR")["roofs"]
    assert (found.texts, found.classes) == (("black, grey", "grey", "red"),) * 2
    assert type_order(["other", "roofs", "count"]) == ["count", "roofs", "other"]


def test_a_map_draws_its_classes(made_up):
    replies = [{"text": "red"}, {"text": "Red, grey"}, {"text": "?"}, None]
    drawn = band(ASKED, replies, (2, 2))
    assert (drawn.kind, drawn.classes, drawn.unreadable) == ("class", ("grey, red", "red"), 1)
    assert drawn.values[0].tolist() == [1.0, 0.0]
    assert all(math.isnan(v) for v in drawn.values[1])


def test_scores_between_0_and_1_reach_results_comparison_and_report(made_up, tmp_path, capsys):
    truth, said = ["red", "red, grey", "black"], ["red", "red", "a red one"]  # 1, 1/2 and 0
    after = [
        Prediction(str(n), f"{n}.tif", ASKED, "", gold, text, text, 0.5)
        for n, (gold, text) in enumerate(zip(truth, said, strict=True))
    ]
    before = [replace(p, prediction="black", text="black") for p in after]  # 0, 0 and 1
    for name, run in (("after", after), ("before", before)):
        write_predictions(tmp_path / f"{name}.jsonl", run)
    assert read_predictions(tmp_path / "after.jsonl")[0].type == "roofs"
    paths = [str(tmp_path / f"{name}.jsonl") for name in ("after", "before")]
    assert main(["score", paths[0], "--against", paths[1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scored, compared = found, found["against"]
    assert "geochat" not in scored["protocols"]
    one = scored["protocols"]["official"]["types"]["roofs"]
    assert one["accuracy"] == scored["protocols"]["official"]["OA"] == pytest.approx(0.5)
    difference = compared["protocols"]["official"]["OA"]
    assert difference["difference"] == pytest.approx(1.5 / 3 - 1 / 3)
    assert (difference["wins"], difference["losses"]) == (2, 1)
    assert main(["report", "--after", paths[0], "--before", paths[1], "-o", str(tmp_path)]) == 0
    page = (tmp_path / "report.md").read_text("utf-8").replace("\xa0", " ")
    assert "roofs" in page
    assert "50.0" in page


@pytest.mark.parametrize("name", all_types())
def test_each_type_in_its_words(name):
    one = type_named(name)
    for text in (*one.choices, *one.candidates("LR"), *one.candidates("HR")):
        assert one.normalise(text) == text
        assert one.score(text, text) == 1
        assert one.score(text, None) == one.score(None, text) == one.score(None, None) == 0
        assert one.official_class(text, "unknown") == text
    assert one.map_value in (*one.choices, "number", "class")
    assert official_type(name.upper()) == name
    assert all(official_type(other) == name for other in one.other_names)
