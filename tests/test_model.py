"""The engine against plain Hugging Face, one question at a time: loss, gradients, answers."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from factory import make_samples
from family import few
from qwen2vl_rs.config import ViewConfig
from qwen2vl_rs.data.split import group_by_image
from qwen2vl_rs.model.answer import answer, forward
from qwen2vl_rs.model.images import root_positions
from qwen2vl_rs.model.inputs import Target, make_inputs
from qwen2vl_rs.model.loader import load_base, quiet_peft
from qwen2vl_rs.model.packing import Ask, pack, put_back, sharing_order
from qwen2vl_rs.model.trainer import pack_loss
from qwen2vl_rs.model.vision import encode_all


@pytest.fixture
def base(family_base):
    return load_base(family_base, ViewConfig(), torch.device("cpu"), torch.float32)


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path, images=2, side=150)[::2]


def with_adapter(base):
    """An adapter whose both halves are random, so that it matters."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj", "down_proj"],
                        exclude_modules=r".*visual\..*", init_lora_weights=False)  # fmt: skip
    with quiet_peft():
        return get_peft_model(base.model, config)


def plain_inputs(base, pixels, ids):
    ids = torch.tensor(np.array(ids))[None]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == base.prompts.image_id).int(),
        "pixel_values": pixels.patches,
        "image_grid_thw": torch.tensor([pixels.grid]),
    }
    return {name: value.to(base.model.device) for name, value in inputs.items()}


def plain_loss(base, model, samples):
    """Summed loss and its number of tokens, one ordinary sequence a question."""
    total, count = torch.zeros((), device=base.model.device), 0
    for s in samples:
        pixels = base.images.read(s.image)
        prompt = [*base.prompts.root_ids(pixels.tokens), *base.prompts.question_ids(s.question)]
        target = base.prompts.answer_ids(s.answer)
        logits = model(**plain_inputs(base, pixels, prompt + target)).logits[0]
        total = total + cross_entropy(
            logits[len(prompt) - 1 : -1].float(),
            torch.tensor(target, device=logits.device),
            reduction="sum",
        )
        count += len(target)
    return total, count


def tree_loss(base, model, samples, budget, images=None):
    asks = [
        Ask(
            (images or base.images).read(group[0].image),
            [base.prompts.branch(s.question, s.answer) for s in group],
        )
        for group in group_by_image(samples)
    ]
    packs = list(pack(asks, base.prompts, 2, budget))
    losses = (pack_loss(model, make_inputs(p, Target.of(model))) for p in packs)
    total = sum(losses, torch.zeros((), device=base.model.device))
    return total, sum(len(p.layout.targets) for p in packs)


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


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
    asks, orders = sharing_order(
        [
            Ask(base.images.read(g[0].image), [base.prompts.branch(s.question) for s in g])
            for g in group_by_image(samples)
        ]
    )
    rows = (
        row
        for batch in pack(asks, base.prompts, 2, budget)
        for row in forward(model, make_inputs(batch, Target.of(model), batch.layout.leaves))
    )
    for group, found in zip(group_by_image(samples), put_back(rows, orders), strict=True):
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
        ours = root_positions(len(prompts.head), grid, 2, len(prompts.tail))
        assert (own[:, 0].numpy() == ours).all()
