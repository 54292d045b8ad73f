"""Both kinds of attention against a dense mask, written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factory import make_samples
from qwen2vl_rs.config import ViewConfig
from qwen2vl_rs.data.split import group_by_image
from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.model import attention
from qwen2vl_rs.model.answer import forward
from qwen2vl_rs.model.attention import block_mask, branches, choose
from qwen2vl_rs.model.loader import load_base
from qwen2vl_rs.model.packing import Ask, pack
from qwen2vl_rs.model.trainer import pack_loss
from qwen2vl_rs.model.tree import Node, Tree, lay_out, share
from test_model import gradients, tree_loss, with_adapter
from test_tree import trees

CPU = torch.device("cpu")


@pytest.fixture
def eager(monkeypatch):
    """FlexAttention uncompiled, where it also has a backward pass on a CPU."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    monkeypatch.setattr(
        "torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True
    )
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def states(size, heads=4, keys=2, width=8):
    torch.manual_seed(0)
    shapes = [(1, n, size, width) for n in (heads, keys, keys)]
    return [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]


def dense(layout, query, key, value, scale):
    """Softmax over all pairs, those that are not visible set to minus infinity."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    visible = torch.from_numpy(layout.visible(np.arange(layout.size)))
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~visible, -math.inf)
    return scores.softmax(-1) @ value


def close(layout):
    """Output and gradients of the two."""
    inputs = states(layout.size)
    rule = branches(layout, CPU, torch.float64)
    results = []
    for out in (dense(layout, *inputs, 0.3), rule.attend(*inputs, 0.3)):
        grads = torch.autograd.grad((out * torch.arange(8)).square().sum(), inputs)
        results.append([out.detach(), *grads])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(st.lists(trees(), min_size=1, max_size=3))
def test_branches_equal_a_dense_mask_on_any_forest(forest):
    close(lay_out(forest))


def test_branches_equal_a_dense_mask_on_trees_too_large_for_a_block():
    random = np.random.default_rng(0)
    root = (np.arange(30), np.zeros((3, 30), dtype=np.int64))
    questions = [Node([int(i) for i in random.integers(0, 2, n)], (Node([7, 8]),))
                 for n in random.integers(1, 20, 60)]  # fmt: skip
    questions.sort(key=lambda q: q.ids)
    long = Node(range(100), (Node(range(50)), Node([1], (Node(range(40)),) * 3)))
    layout = lay_out([Tree(*root, share(questions)), Tree(*root, [long, Node([3])])])
    blocks = branches(layout, CPU, torch.float64).trees[0][2]
    rows = sum(g.rows.numel() for g in blocks)
    columns = sum(g.rows.numel() * g.columns.shape[1] for g in blocks)
    assert len(blocks) > 1
    assert rows < 1.5 * layout.roots[1, 0]  # little padding,
    assert columns < 0.15 * layout.roots[1, 0] ** 2  # and a small share of all pairs
    close(layout)


@pytest.fixture
def asked(tmp_path):
    return make_samples(tmp_path, images=2, side=150)[::2]


def test_both_kinds_give_the_same_loss_and_gradients(family_base, asked, eager):
    found = {}
    for kind in ("branches", "flex"):
        base = load_base(family_base, ViewConfig(), CPU, torch.float32, kind)
        model = with_adapter(base)
        loss, _ = tree_loss(base, model, asked, 300)
        loss.backward()
        found[kind] = loss.item(), gradients(model)
    (one, grads), (other, other_grads) = found.values()
    assert other == pytest.approx(one, rel=1e-6)
    scale = max(g.abs().max() for g in grads.values())
    assert max((grads[n] - other_grads[n]).abs().max() for n in grads) < 1e-5 * scale


def test_a_base_works_in_plain_transformers_whatever_its_attention(small_base, asked):
    plain = type(load_base(small_base, ViewConfig(), CPU).model).from_pretrained(small_base).eval()
    ours = load_base(small_base, ViewConfig(), CPU).model
    ids = torch.tensor([[5, 6, 7, 8], [9, 9, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])  # padded batches
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits
        found = ours(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()])


def test_the_choice_is_explained_and_flex_refused_on_a_cpu():
    assert choose(CPU) == ("branches", "FlexAttention has no backward pass on a CPU")
    assert choose(CPU, "branches")[0] == "branches"
    with pytest.raises(ConfigError, match="no backward pass") as caught:
        choose(CPU, "flex")
    assert caught.value.hint


def plain_causal(layout, device):
    root = Tree(np.arange(layout.size), np.zeros((3, layout.size), dtype=np.int64), ())
    return block_mask(lay_out([root]), device)


def test_the_probe_passes_flex_and_sees_a_wrong_one(eager, monkeypatch):
    assert attention._flex_problem(CPU) is None
    monkeypatch.setattr(attention, "block_mask", plain_causal)
    assert attention._flex_problem(CPU) == "its results differ"

    def broken(*_, **__):
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(attention, "flex_attention_forward", broken)
    assert attention._flex_problem(CPU) == "no compiler"


@pytest.mark.gpu
def test_on_a_gpu_flex_is_chosen_and_equals_branches(family_base, asked):
    device = torch.device("cuda")
    assert choose(device)[0] == "flex"
    logits = []
    for kind in ("branches", "flex"):
        base = load_base(family_base, ViewConfig(), device, torch.float32, kind)
        asks = [Ask(base.images.read(g[0].image),
                    [base.prompts.branch(s.question, s.answer) for s in g])
                for g in group_by_image(asked)]  # fmt: skip
        (batch,) = pack(asks, base.prompts, 2, 10_000)
        model = with_adapter(base)
        pack_loss(model, batch).backward()
        grads = torch.cat([g.flatten() for g in gradients(model).values()])
        rows = torch.from_numpy(batch.layout.predictors)
        logits.append((forward(model, batch, rows).detach(), grads / grads.abs().max()))
    torch.testing.assert_close(*logits, rtol=1e-2, atol=1e-2)
