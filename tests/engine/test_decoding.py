"""The engine against plain Hugging Face, one question at a time: loss, gradients, answers."""

import pytest
import torch

from factory import make_samples
from family import few
from plain import gradients, plain_inputs, plain_loss, tree_loss, with_adapter
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.split import group_by_image
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.engine.forward import forward
from qwen2vl_rs.engine.inputs import make_inputs
from qwen2vl_rs.engine.packing import ImageQuery, pack, prefix_order, unsort
from qwen2vl_rs.engine.vision import encode_all
from qwen2vl_rs.models.loader import load_base


@pytest.fixture
def base(family_base):
    return load_base(family_base, InputConfig(), torch.device("cpu"), torch.float32)


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path, images=2, side=150)[::2]


@pytest.mark.parametrize("budget", few([120, 100_000], 0))
def test_loss_and_gradients_equal_one_question_per_sample(base, samples, budget):
    model = with_adapter(base)
    slow, n_slow = plain_loss(base, model, samples)
    (slow / n_slow).backward()
    expected = gradients(model)
    fast, n_fast = tree_loss(base, model, samples, budget)
    (fast / n_fast).backward()
    found = gradients(model)
    assert n_fast == n_slow
    assert abs(fast.item() / n_fast - slow.item() / n_slow) < 1e-5
    assert found.keys() == expected.keys()
    assert all("language_model" in name and "lora" in name for name in found)
    scale = max(g.abs().max() for g in expected.values())
    assert max((found[n] - expected[n]).abs().max() for n in found) < 1e-5 * scale


def test_encoded_images_change_nothing(base, samples, tmp_path):
    model = with_adapter(base)
    plain, _ = tree_loss(base, model, samples, 400)
    plain.backward()
    expected = gradients(model)
    paths = list(dict.fromkeys(s.image for s in samples))
    for _ in range(2):  # the second time they are there already
        cached = encode_all(base, paths, tmp_path / "cache", 10**9, torch.float32)
    found, _ = tree_loss(base, model, samples, 400, cached)
    found.backward()
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)
    scale = max(g.abs().max() for g in expected.values())
    ours = gradients(model)
    assert max((ours[n] - expected[n]).abs().max() for n in ours) < 1e-5 * scale


@pytest.mark.parametrize("budget", few([120, 100_000], 0))
@torch.no_grad()
def test_logits_of_the_first_token_equal_one_question_alone(base, samples, budget):
    model = with_adapter(base)
    asks, orders = prefix_order(
        [
            ImageQuery(base.images.read(g[0].image), [base.prompts.branch(s.question) for s in g])
            for g in group_by_image(samples)
        ]
    )
    rows = (
        row
        for batch in pack(asks, base.prompts, 2, budget)
        for row in forward(model, make_inputs(batch, model, batch.layout.leaves))
    )
    for group, found in zip(group_by_image(samples), unsort(rows, orders), strict=True):
        pixels = base.images.read(group[0].image)
        for sample, logits in zip(group, found, strict=True):
            ids = [*base.prompts.root_ids(pixels.tokens),
                   *base.prompts.question_ids(sample.question)]  # fmt: skip
            alone = model(**plain_inputs(base, pixels, ids)).logits[0, -1]
            assert (logits - alone).abs().max() < 1e-4


@pytest.mark.parametrize("adapted", few([False, True], 1))
def test_answers_equal_generate(base, samples, adapted):
    model = with_adapter(base) if adapted else base.model
    groups = [
        (base.images.read(g[0].image), [s.question for s in g]) for g in group_by_image(samples)
    ]
    found = answer(base, model, groups, max_new_tokens=6, budget=200)
    for (pixels, questions), answers in zip(groups, found, strict=True):
        for question, one in zip(questions, answers, strict=True):
            prompt = [*base.prompts.root_ids(pixels.tokens), *base.prompts.question_ids(question)]
            out = model.generate(
                **plain_inputs(base, pixels, prompt), max_new_tokens=6, do_sample=False,
                return_dict_in_generate=True, output_logits=True, pad_token_id=base.prompts.end_id,
            )  # fmt: skip
            ids = out.sequences[0, len(prompt) :].tolist()
            assert one.ids == tuple(i for i in ids if i not in base.prompts.stop_ids)
            scores = [
                torch.log_softmax(x[0].float(), -1)[i] for x, i in zip(out.logits, ids, strict=True)
            ]
            assert one.confidence == pytest.approx(sum(scores).exp().item(), rel=1e-3)


def test_positions_of_the_root_are_the_models_own(base):
    prompts = base.prompts
    for grid in ((1, 4, 4), (1, 18, 18), (1, 6, 20), (1, 20, 6)):
        ids = prompts.root_ids(grid[1] * grid[2] // 4)
        own, _ = base.model.model.get_rope_index(
            torch.tensor(ids)[None],
            mm_token_type_ids=torch.tensor(ids == prompts.image_id).int()[None],
            image_grid_thw=torch.tensor([grid]),
        )
        ours = prompts.root_positions(grid, 2)
        assert (own[:, 0].numpy() == ours).all()
