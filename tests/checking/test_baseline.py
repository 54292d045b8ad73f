"""What the text alone answers: the same figures as the baseline beside a model."""

from dataclasses import replace

import pytest

from factory import make_samples
from qwen2vl_rs.checking.baseline import text_only
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.scoring.results import results
from qwen2vl_rs.types import Prediction, Sample


def beside_a_model(train, test, dataset):
    said = [
        Prediction(s.id, s.image, s.question, s.type, s.answer, "", dataset=dataset) for s in test
    ]
    return results(said, train=train, protocols=["official"])["controls"]["question_only"][
        "official"
    ]


@pytest.mark.parametrize("dataset", ["LR", "HR"])
def test_the_figures_are_those_beside_a_model(tmp_path, dataset):
    samples = [
        replace(s, dataset=dataset, answer="12" if s.answer == "21" else s.answer)
        for s in make_samples(tmp_path, images=9)
    ]
    train, test = samples[:45], samples[45:]
    found = text_only(Dataset.of(train), Dataset.of(test), "test", dataset)
    assert found.score == beside_a_model(train, test, dataset)
    assert 0 < found.score["OA"] < 1
    assert (found.part, found.train, found.unknown) == ("test", 40, 0)
    assert found.dropped == 5  # about an image of the test part


def test_lists_and_types_without_training_questions_are_as_beside_a_model():
    land = "What land covers are in the image?"
    train = [Sample(str(k), f"{k}", land, "forest and water", "LC") for k in range(4)]
    test = [Sample(f"t{k}", f"t{k}", land, "water and forest", "LC") for k in range(4)]
    test += [Sample("x", "t0", "Is there a road?", "yes", "presence")]
    found = text_only(Dataset.of(train), Dataset.of(test), "val", "xBEN")
    assert found.unknown == 1
    assert found.score == beside_a_model(train, test, "xBEN")
    assert found.score["types"].keys() == {"LC"}


def test_without_usable_training_questions_there_is_no_score(tmp_path):
    samples = Dataset.of(make_samples(tmp_path, images=1))
    found = text_only(samples, samples, "test", "LR")
    assert (found.score, found.dropped, found.unknown) == (None, 8, 8)
    other = Dataset.of([Sample("a", "b.tif", "Is it?", "well", "mood")])
    assert text_only(samples, other, "test", "LR").score is None
