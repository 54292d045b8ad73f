import math

import pytest
import torch

from factory import make_samples
from plain import log_likelihood, with_adapter
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.engine.candidates import Choice, choose_candidates, pick_class
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.questions.answer_sets import AnswerSet, answer_sets
from qwen2vl_rs.types import Sample

SETS = {
    "presence": ("yes", "no"),
    "rural_urban": ("rural", "urban"),
    "count": ("0", "between 0 and 10", "between 10 and 100", "between 100 and 1000",
              "more than 1000"),
    "area": tuple(map(str, range(90))),
    "prefix": ("1", "12", "123", "", "13", "yes", "yes yes"),
    "one": ("yes",),
}  # fmt: skip


@pytest.mark.parametrize("vocabulary", ["small", pytest.param("real", marks=pytest.mark.slow)])
def test_probabilities_are_those_of_every_answer_alone(vocabulary, request, tmp_path):
    folder = request.getfixturevalue(f"{vocabulary}_base")
    base = load_base(folder, InputConfig(), torch.device("cpu"), torch.float32)
    model = with_adapter(base)
    pixels = [base.images.read(s.image) for s in make_samples(tmp_path, images=2)[::8]]
    questions = [(f"What is the {name} of roads?", SETS[name]) for name in SETS]
    groups = [(pixels[0], questions), (pixels[1], questions[:2])]
    found = choose_candidates(base, model, groups, budget=400)
    assert [len(f) for f in found] == [6, 2]
    for (image, asked), choices in zip(groups, found, strict=True):
        for (question, candidates), choice in zip(asked, choices, strict=True):
            expected = [log_likelihood(base, model, image, question, c) for c in candidates]
            assert choice.logs == pytest.approx(expected, abs=1e-4)
            shares = torch.softmax(torch.tensor(expected, dtype=torch.float64), 0)
            assert choice.text == candidates[int(shares.argmax())]
            assert max(choice.shares) == pytest.approx(float(shares.max()), abs=1e-4)


def test_a_class_has_the_probability_of_all_its_numbers(small_base, tmp_path):
    base = load_base(small_base, InputConfig(), torch.device("cpu"), torch.float32)
    model = with_adapter(base)
    numbers = [str(n) for n in (0, *range(3, 30, 2), 100, 101, 117, 2000)]
    question = "How many roads are there?"
    taught = [Sample("", "", question, n) for n in numbers]
    answers = answer_sets(taught, "LR")["count"]
    pixels = base.images.read(make_samples(tmp_path, images=1)[0].image)
    ((choice,),) = choose_candidates(base, model, [(pixels, [(question, answers.texts)])])
    each = {t: log_likelihood(base, model, pixels, question, t) for t in answers.texts}
    total = torch.logsumexp(torch.tensor([*each.values()]), 0)
    sums = {}
    for text, name in zip(answers.texts, answers.classes, strict=True):
        sums[name] = sums.get(name, 0) + math.exp(each[text] - total)
    best = max(sums, key=sums.get)
    text, confidence = pick_class(choice, answers)
    assert confidence == pytest.approx(sums[best], abs=1e-4)
    members = [t for t, c in zip(answers.texts, answers.classes, strict=True) if c == best]
    assert text == max(members, key=each.get)


def test_a_class_answers_with_its_own_best_candidate():
    """The class of many candidates wins, though the best single candidate is of another."""
    answers = AnswerSet(("0", "3", "7", "20"), ("none", "few", "few", "some"), 1.0)
    choice = Choice("0", tuple(map(math.log, (0.4, 0.25, 0.3, 0.05))))
    text, share = pick_class(choice, answers)
    assert (text, share) == ("7", pytest.approx(0.55))
    # log-likelihoods of long answers, whose probabilities are 0 in any float
    far = Choice("0", tuple(log - 2000 for log in choice.logs))
    assert pick_class(far, answers) == ("7", pytest.approx(0.55))
