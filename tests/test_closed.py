import pytest
import torch

from factory import make_samples
from qwen2vl_rs.config import ViewConfig
from qwen2vl_rs.model.closed import choose
from qwen2vl_rs.model.loader import load_base
from test_model import plain_inputs, with_adapter

SETS = {
    "presence": ("yes", "no"),
    "rural_urban": ("rural", "urban"),
    "count": ("0", "between 0 and 10", "between 10 and 100", "between 100 and 1000",
              "more than 1000"),
    "area": tuple(map(str, range(90))),
    "prefix": ("1", "12", "123", "", "13", "yes", "yes yes"),
    "one": ("yes",),
}  # fmt: skip


@pytest.mark.parametrize("vocabulary", ["small", "real"])
def test_probabilities_are_those_of_every_answer_alone(vocabulary, small_base, real_base, tmp_path):
    folder = small_base if vocabulary == "small" else real_base
    base = load_base(folder, ViewConfig(), torch.device("cpu"), torch.float32)
    model = with_adapter(base)
    pixels = [base.images.read(s.image) for s in make_samples(tmp_path, images=2)[::8]]
    questions = [(f"What is the {name} of roads?", SETS[name]) for name in SETS]
    groups = [(pixels[0], questions), (pixels[1], questions[:2])]
    found = choose(base, model, groups, budget=400)
    assert [len(f) for f in found] == [6, 2]
    for (image, asked), choices in zip(groups, found, strict=True):
        for (question, candidates), choice in zip(asked, choices, strict=True):
            expected = [log_likelihood(base, model, image, question, c) for c in candidates]
            assert choice.logs == pytest.approx(expected, abs=1e-4)
            shares = torch.softmax(torch.tensor(expected, dtype=torch.float64), 0)
            assert choice.text == candidates[int(shares.argmax())]
            assert choice.confidence == pytest.approx(float(shares.max()), abs=1e-4)
            assert 0 < choice.mass <= 1


@torch.no_grad()
def log_likelihood(base, model, pixels, question, answer):
    prompt = [*base.prompts.root_ids(pixels.tokens), *base.prompts.question_ids(question)]
    target = base.prompts.answer_ids(answer)
    logits = model(**plain_inputs(base, pixels, prompt + target)).logits[0]
    logs = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
    return sum(logs[i, t].item() for i, t in enumerate(target))
