"""Balanced questions give nothing away."""

from collections import Counter

import numpy as np
import pytest

from qwen2vl_rs.questions.protocols import protocol
from qwen2vl_rs.vqa_generation.balance import balance
from qwen2vl_rs.vqa_generation.questions import Question, QuestionGenerator
from worlds import question_only, view_of


def question(key, answer, type_="presence"):
    return Question(type_, f"Is there a {key}?", answer, (type_, key))


def test_each_question_has_its_answers_equally_often():
    pools = [
        QuestionGenerator("balanced").questions(np.random.default_rng(k), view_of(2, k), 120)
        for k in range(30)
    ]
    chosen = balance(np.random.default_rng(0), pools, 30, "LR")
    assert sum(map(len, chosen)) > 400
    assert max(map(len, chosen)) <= 30
    to_class = protocol("official").to_class
    count: dict = {}
    for q in (q for questions in chosen for q in questions):
        count.setdefault(q.key, Counter())[to_class(q.answer, q.type, "LR")] += 1
    for key, answers in count.items():
        (_, first), (_, second), *_ = answers.most_common()
        assert first == second, key
    for pool, questions in zip(pools, chosen, strict=True):
        assert [q for q in pool if q in questions] == questions


def test_what_has_one_answer_only_is_left_out():
    pools = [[question("road", "yes"), question("zoo", a)] for a in ("no", "no", "yes")]
    chosen = balance(np.random.default_rng(0), pools, 10, "LR")
    assert sorted(q.answer for questions in chosen for q in questions) == ["no", "yes"]
    assert balance(np.random.default_rng(0), [[], []], 10, "LR") == [[], []]


def test_the_same_seed_chooses_the_same():
    pools = [[question(k, "yes" if (k + n) % 3 else "no") for k in range(40)] for n in range(9)]
    first, again, other = (balance(np.random.default_rng(s), pools, 20, "LR") for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.slow  # CI runs it
def test_a_table_that_never_sees_the_image_knows_nothing():
    found = question_only("balanced", 80, 30)
    assert found["OA"] <= 0.6
    assert found["per image"] > 15
    assert question_only("corrected", 40, 30)["OA"] > found["OA"] + 0.08


@pytest.mark.slow
@pytest.mark.parametrize("like", ["lr", "hr"])
def test_a_table_that_never_sees_one_of_many_images_knows_nothing(like):
    found = question_only("balanced", 400, 50, like)
    assert all(v <= 0.6 for k, v in found.items() if k != "per image"), found
    assert found["per image"] > 25
