"""An adapter of the vision tower: features with and without it are never confused."""

import json
from pathlib import Path

import pytest

from adapters import CPU, VIEW, adapted, saved
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import Config
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.predict.local import LocalBase
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.predict.settings import answer_settings
from serving import ask, serving

QUESTIONS = ["Is there a road?", "Is it a rural or an urban area?"]


@pytest.fixture(scope="module")
def checkpoint(small_base, tmp_path_factory):
    base = load_base(small_base, VIEW, CPU)
    folder = tmp_path_factory.mktemp("adapted") / "checkpoint-1"
    return saved(base, adapted(base, "DoRA-lora-full"), folder)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("images"), images=1, side=160)[0].image


@pytest.fixture(scope="module")
def answers(small_base, checkpoint, image):
    """Of the base model and of the adapted one, each loaded alone: the truth."""
    base = load_base(small_base, VIEW, CPU)
    plain = Session(base, base.model, VIEW, None, "", "")
    found = {}
    for name, session in (("before", plain), ("after", Session.open(checkpoint))):
        (said,) = session.ask([(session.read(image), QUESTIONS)], closed=True)
        found[name] = [round(one.confidence, 6) for one in said]
    assert found["before"] != found["after"]
    assert not plain.adapts_vision
    return found


def test_one_loaded_model_answers_with_and_without_its_adapter(checkpoint, image, answers):
    session = Session.open(checkpoint)
    assert session.adapts_vision
    for name, use in (("after", True), ("before", False), ("after", True)):
        for pixels in (session.read(image), session.encode(session.read(image), use_adapter=use)):
            (said,) = session.ask([(pixels, QUESTIONS)], closed=True, use_adapter=use)
            assert [one.confidence for one in said] == pytest.approx(answers[name], abs=1e-5)


def test_an_adapter_that_was_evaluated_leaves_nothing_behind(
    small_base, checkpoint, image, answers
):
    base = LocalBase(small_base, VIEW, Config())
    for name, folder in (("before", None), ("after", checkpoint), ("before", None)):
        with base.session(folder) as session:
            (said,) = session.ask([(session.read(image), QUESTIONS)], closed=True)
        assert [one.confidence for one in said] == pytest.approx(answers[name], abs=1e-5)
    opened = Session.open(checkpoint)
    base = LocalBase(small_base, VIEW, Config(), opened=lambda: opened)
    for name, folder in (("after", checkpoint), ("before", None), ("after", checkpoint)):
        with base.session(folder) as session:
            assert session.settings == answer_settings(Config())
            (said,) = session.ask([(session.read(image), QUESTIONS)], closed=True)
        assert [one.confidence for one in said] == pytest.approx(answers[name], abs=1e-5)


def test_before_stands_beside_at_the_command_line(checkpoint, image, answers, capsys):
    words = ["ask", str(checkpoint), image, *QUESTIONS, "--answers", "closed", "--before", "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["confidence"] for row in rows] == pytest.approx(answers["after"], abs=1e-5)
    before = [row["before"]["confidence"] for row in rows]
    assert before == pytest.approx(answers["before"], abs=1e-5)


def test_the_server_keeps_features_of_each_model_apart(checkpoint, image, answers):
    """Also when they are cached: the second request finds them."""
    content = Path(image).read_bytes()
    with serving(Session.open(checkpoint)) as server:
        for _ in range(2):
            rows = ask(server, content, QUESTIONS)["answers"]
            for model, name in (("small", "after"), ("base", "before")):
                said = [row["answers"][model]["confidence"] for row in rows]
                assert said == pytest.approx(answers[name], abs=1e-4)
