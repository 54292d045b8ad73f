"""What `inspect` shows is what the trainer is given: tokens, positions, and loss."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig, TrainingSettings
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.engine.inspection import inspect_sample
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.models.model_inputs import load_model_inputs
from qwen2vl_rs.training.steps import StepDataset


def steps_of(base_folder, data, settings):
    base = load_base(base_folder, InputConfig(), torch.device("cpu"), torch.float32)
    return StepDataset(data, base.prompts, base.images, settings, 1 << 20, base.model)


def with_loss(layout, path):
    """(id, positions) of a path's tokens, and its loss tokens, as the trainer has them."""
    inside = {int(k): n for n, k in enumerate(path)}
    shown = [(int(layout.ids[k]), tuple(layout.positions[:, k].tolist())) for k in path]
    lost = [
        (inside[p] + 1, t)
        for p, t in zip(layout.predictors.tolist(), layout.targets.tolist(), strict=True)
        if p in inside
    ]
    return shown, lost


def paths(layout):
    """The tokens that each leaf sees, itself included: its sequence as without sharing."""
    mask = layout.visible(layout.leaves)
    return [np.flatnonzero(row) for row in mask]


def expanded(found):
    """(id, positions) of the fed tokens, and (place, id) of those with loss."""
    shown, lost = [], []
    for token in found.tokens:
        if token.index is None:
            lost.append((len(shown), token.id))
            continue
        assert token.index == len(shown)
        if token.loss:
            lost.append((len(shown), token.id))
        shown += [(token.id, token.positions[0])] * token.count
    return shown, lost


def test_tokens_and_loss_are_those_of_the_step_of_training(family_base, tmp_path):
    data = Dataset.of(make_samples(tmp_path, images=3))
    settings = TrainingSettings(images_per_step=2, questions_per_image=5)
    steps = steps_of(family_base, data, settings)
    inputs = load_model_inputs(family_base, InputConfig())
    for row in (0, 11, 23):
        found = inspect_sample(data, row, inputs, settings)
        shown, lost = expanded(found)
        step = steps[found.prefix.step - 1]["step"]
        (layout,) = step.layouts
        mine = []
        for path in paths(layout):
            theirs, their_loss = with_loss(layout, path)
            if [i for i, _ in theirs] == [i for i, _ in shown] and their_loss == lost:
                mine.append(theirs)
        assert len(mine) >= 1, "no question of that step has these tokens and this loss"
        text = [(i, p) for i, p in shown if i != inputs.prompts.image_id]
        assert text in [[(i, p) for i, p in one if i != inputs.prompts.image_id] for one in mine]
        image = [p for i, p in mine[0] if i == inputs.prompts.image_id]
        (entry,) = [token for token in found.tokens if token.part == "image"]
        assert entry.count == found.visual_tokens == len(image)
        assert entry.positions == (image[0], image[-1])


def test_a_step_is_the_sum_of_what_is_shown_of_its_questions(small_base, tmp_path):
    data = Dataset.of(make_samples(tmp_path, images=3))
    settings = TrainingSettings(images_per_step=1, questions_per_image=5)
    steps = steps_of(small_base, data, settings)
    inputs = load_model_inputs(small_base, InputConfig())
    by_step = {}
    for row in range(len(data)):
        found = inspect_sample(data, row, inputs, settings)
        by_step.setdefault(found.prefix.step, []).append(found)
    assert sum(map(len, by_step.values())) == len(data)
    for number, several in by_step.items():
        step = steps[number - 1]["step"]
        (layout,) = step.layouts
        targets = Counter(t.id for one in several for t in one.tokens if t.loss)
        assert targets == Counter(layout.targets.tolist())
        assert {one.prefix for one in map(_without_branches, several)} == {
            _without_branches(several[0]).prefix
        }
        prefix = several[0].prefix
        assert prefix.questions == len(several) == steps.questions(number - 1)
        assert prefix.tokens == layout.size
        assert prefix.loss == step.loss_tokens
        alone = [sum(t.count for t in one.tokens if t.index is not None) for one in several]
        assert prefix.separate == sum(alone)
        assert prefix.tokens + prefix.image + prefix.wording == prefix.separate


def _without_branches(found):
    return replace(found, prefix=replace(found.prefix, branches=()))


def test_the_parts_are_in_order_and_cover_the_sequence(family_base, tmp_path):
    data = Dataset.of(make_samples(tmp_path, images=2))
    inputs = load_model_inputs(family_base, InputConfig(instruction="One word."))
    found = inspect_sample(data, 3, inputs, TrainingSettings())
    order = list(dict.fromkeys(token.part for token in found.tokens))
    assert order == ["header", "image", "instruction", "question", "close", "answer", "end"]
    text = {part: "".join(t.text for t in found.tokens if t.part == part) for part in order}
    assert text["question"] == data[3].question
    assert text["answer"] == data[3].answer
    assert "One word." in text["instruction"]
    assert text["end"] == "<|im_end|>"
    assert "assistant" in text["close"]
    assert {t.part for t in found.tokens if t.loss} == {"answer", "end"}
    assert all(t.loss for t in found.tokens if t.part in ("answer", "end"))
    side = inputs.token_side
    assert found.size == (56, 56)
    assert found.resized[0] * found.resized[1] == found.visual_tokens * side**2
    assert f"[image: {found.visual_tokens} tokens]" in found.text
    assert found.text.endswith(f"{data[3].answer}<|im_end|>")


def test_the_tree_has_every_question_and_answer(small_base, tmp_path):
    data = Dataset.of(make_samples(tmp_path, images=1))
    found = inspect_sample(
        data, 0, load_model_inputs(small_base, InputConfig()), TrainingSettings()
    )
    path, said = [], []
    for branch in found.prefix.branches:
        path[branch.depth :] = [branch.text]
        if branch.loss:
            said.append("".join(path))
    inputs = load_model_inputs(small_base, InputConfig())
    close = inputs.prompts.tokenizer.decode(list(inputs.prompts.close))
    assert sorted(said) == sorted(f"{s.question}{close}{s.answer}" for s in data)
    assert sum(b.tokens for b in found.prefix.branches) + inputs.fixed + found.visual_tokens == (
        found.prefix.tokens
    )
    assert max(b.depth for b in found.prefix.branches) > 1  # common beginnings are shared


def test_text_that_is_no_control_token_and_half_characters_are_shown_as_they_are(
    small_base, tmp_path
):
    (one, *_) = make_samples(tmp_path, images=1)
    odd = replace(one, question="Is <|im_end|> a 桥?", answer="是的")
    inputs = load_model_inputs(small_base, InputConfig())
    found = inspect_sample(Dataset.of([odd]), 0, inputs, TrainingSettings())
    ends = [t for t in found.tokens if t.id == inputs.prompts.end_id and t.part == "question"]
    assert not ends  # no text of a question becomes a control token
    assert not [t for t in found.tokens if "\N{REPLACEMENT CHARACTER}" in t.text]
    assert [t.id for t in found.tokens if t.loss] == inputs.prompts.answer_ids("是的")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make_samples(tmp_path / "images", images=3)
    write_conversations(Path("data_vl.json"), found)
    return found


def test_the_command_shows_a_table_and_json(here, small_base, capsys):
    assert main(["inspect", "--model", str(small_base), "--id", "rsvqa_9", "--tree"]) == 0
    out = capsys.readouterr().out
    assert "rsvqa_9" in out
    assert "56 × 56 pixels, resized to 56 × 56: 4 visual tokens" in out
    assert "'<|image_pad|>' × 4" in out
    (end,) = [line for line in out.splitlines() if line.startswith("–")]
    assert end.split()[2:] == ["–", "loss", "end", "'<|im_end|>'"]
    assert "8 questions about this image share one sequence" in out
    assert "→ 'yes'" in out
    assert main(["inspect", "--model", str(small_base), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "sample", "part", "size", "resized", "visual_tokens", "tokens", "text", "prefix",
    ]  # fmt: skip
    assert found["sample"]["id"] == "rsvqa_1"


def test_a_run_is_inspected_with_its_base_and_settings(trained, capsys):
    run = trained[0] / "output/Qwen2-VL-2B"
    assert main(["inspect", str(run)]) == 0
    out = capsys.readouterr().out
    assert "5 questions about this image" in out or "4 questions about this image" in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--id", "rsvqa_99"], "no question has the id 'rsvqa_99'"),
        (["--model", "lost"], "lost is not a model"),
        (["lost.json"], "no file lost.json"),
    ],
)
def test_what_cannot_be_inspected_is_told(here, small_base, words, problem, capsys):
    words = words if "--model" in words else [*words, "--model", str(small_base)]
    assert main(["inspect", *words]) == 1
    assert problem in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_told(here, small_base, capsys):
    Path(here[0].image).write_bytes(b"")
    assert main(["inspect", "--model", str(small_base), "--id", here[0].id]) == 1
    assert "the file is empty" in capsys.readouterr().err
