"""Multiple choice: options are found in the question, and one clear choice among them is read."""

import pytest

from factory import write_image
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.questions.answer_sets import answer_sets, question_answer_set
from qwen2vl_rs.questions.choice import options
from qwen2vl_rs.questions.grammar import question_type
from qwen2vl_rs.questions.normal_forms import interpret, normalise
from qwen2vl_rs.questions.protocols import protocol
from qwen2vl_rs.questions.registry import official_type, type_named
from qwen2vl_rs.types import Sample

ASKED = (
    "What is it?\nA. residential area\nB. dense residential area\nC. can't judge\nD. 3\n"
    "E. forest or park"
)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Which?\nA.a road\nB.park", {"A": "a road", "B": "park"}),
        ("Which?\n(A) road\n (B) park\r\n(C) pond", {"A": "road", "B": "park", "C": "pond"}),
        ("Which? A. road B. park, C. pond", {"A": "road", "B": "park,", "C": "pond"}),
        ("A. road\nthen:\nA: x\nB: y\nAnswer with a letter", {"A": "x", "B": "y"}),
        ("Which? A) road B) park", {"A": "road", "B": "park"}),
        ("Which: (A) road (B) park", {"A": "road", "B": "park"}),
        ("Which?\na. road\nb) park", {"A": "road", "B": "park"}),
        ("Which?\n(a) road\n(b) park", {"A": "road", "B": "park"}),
        ("When?\na.m. or p.m.\nb.c.", {}),
        ("Which?\nb. road\na. park", {}),
        ("What is in area A. Is B. bigger?", {}),
        ("Is building (A) larger than building (B) is?", {}),
        ("Is it in area A. or not? A. road B. park", {"A": "road", "B": "park"}),
        ("Is there a road?", {}),
        ("Is building A. large?", {}),
        ("B. road\nC. park", {}),
        ("Which?\nA. road", {}),
    ],
)
def test_options_are_found(question, found):
    assert options(question) == found
    assert (question_type(question) == "choice") == bool(found) or question.startswith("A.")


def test_up_to_26_options():
    lines = "".join(f"\n{chr(65 + n)}. {n}" for n in range(26))
    assert list(options(f"Which number?{lines}")) == [chr(65 + n) for n in range(26)]
    assert normalise("Z", "choice", f"Which number?{lines}") == "Z"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("Answer: B", "B"),
        ("The correct answer is (B).", "B"),
        ("Option B", "B"),
        ("I think the answer is B.", "B"),
        ("Based on the image, the answer is B.", "B"),
        ("答案是B。", "B"),
        ("选B", "B"),
        ("答案不是B", None),
        ("不选B", None),
        ("B is correct", "B"),
        ("B. dense residential area", "B"),
        ("B) Dense residential area.", "B"),
        ("B. because many houses stand close together", "B"),
        ("<think>A or B?</think>B", "B"),
        ("dense residential area", "B"),
        ("It is a dense residential area.", "B"),
        ("A residential area", "A"),
        ("can't judge", "C"),
        ("C. can't judge", "C"),
        ("3", "D"),
        ("forest or park", "E"),
        ("A, C", "A,C"),
        ("A and C", "A,C"),
        ("C,A", "A,C"),
        ("AC", "A,C"),
        ("B or C", None),
        ("C) B answer B.", None),
        ("C, a and", None),
        ("B, not C", None),
        ("not B", None),
        ("The answer is not B.", None),
        ("B. residential area", None),
        ("A. residential area\nB. dense residential area", None),
        ("A. dense residential area", None),
        ("residential area or forest or park", None),
        ("There is no residential area", None),
        ("residential", None),
        ("F", None),
        ("bad", None),
        ("A/B", None),
        ("none", None),
        ("", None),
    ],
)
def test_one_clear_choice_is_read(said, found):
    assert normalise(said, "choice/task", ASKED) == found
    if found:
        assert normalise(found, "choice/task", ASKED) == found


def test_the_letter_counts_before_texts_that_are_letters():
    asked = "Which point?\nA. B\nB. A\nC. D"
    assert [normalise(said, "choice", asked) for said in "ABCD"] == ["A", "B", "C", "C"]


def test_of_two_options_alike_none_is_chosen_by_its_text():
    assert normalise("road", "choice", "Which?\nA. road\nB. road") is None


def test_an_answer_that_was_cut_off():
    assert interpret("B.", "choice", True, ASKED) == ("B", "")
    assert interpret("A", "choice", True, ASKED) == ("A", "cut_off")


def test_tasks_are_parts_of_one_type():
    assert official_type("choice/Count") == "choice/Count"
    assert official_type("Multiple choice") == "choice"
    assert type_named("choice/Count").has_options
    assert not type_named("count/Choice").has_options
    assert protocol("official").to_class("B. 3", "choice/Count", "LR", "?\nA. 2\nB. 3") == "B"


def test_each_question_has_candidates_of_its_own():
    assert question_answer_set("choice/x", ASKED).texts == ("A", "B", "C", "D", "E")
    assert question_answer_set("choice/x", "Which?") is None
    assert question_answer_set("presence", "Is there a road?") is None
    taught = [Sample(str(n), "a", f"?\nA. x\nB. {n}", "B", "choice/x") for n in range(3)]
    assert "choice/x" not in answer_sets(taught, "CHOICE")


def test_a_model_chooses_among_the_options_of_the_question(small_base, tmp_path):
    write_image(tmp_path / "a.tif", 56, 1)
    session = Session.open(small_base)
    questions = ["Which?\nA. road\nB. park\nC. pond", "Is there a road?", ASKED]
    ((first, second, third),) = session.ask(
        [(session.read(tmp_path / "a.tif"), questions)], closed=True
    )
    assert list(first.shares) == ["A", "B", "C"]
    assert set(second.shares) == {"no", "yes"}
    assert list(third.shares) == ["A", "B", "C", "D", "E"]
    for one in (first, third):
        assert sum(one.shares.values()) == pytest.approx(1)
        assert one.text == max(one.shares, key=one.shares.get)
        assert one.confidence == max(one.shares.values())
