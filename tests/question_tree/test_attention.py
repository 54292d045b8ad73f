"""Both kinds of attention against a dense mask, written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import trees
from torch.nn.attention.flex_attention import create_block_mask

from factory import make_samples
from plain import gradients, tree_loss, with_adapter
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.question_tree import attention
from qwen2vl_rs.question_tree.attention import MASK_BLOCK, block_mask, branches
from qwen2vl_rs.question_tree.tree import Node, Tree, flatten, merge_prefixes

CPU = torch.device("cpu")


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
    rule = branches(layout, torch.float64)
    results = []
    for out in (dense(layout, *inputs, 0.3), rule.attend(*inputs, 0.3)):
        grads = torch.autograd.grad((out * torch.arange(8)).square().sum(), inputs)
        results.append([out.detach(), *grads])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=50)
@given(st.lists(trees(), min_size=1, max_size=3))
def test_branches_equal_a_dense_mask_on_any_forest(forest):
    close(flatten(forest))


def test_branches_equal_a_dense_mask_on_trees_too_large_for_a_block():
    random = np.random.default_rng(0)
    root = (np.arange(30), np.zeros((3, 30), dtype=np.int64))
    questions = [Node([int(i) for i in random.integers(0, 2, n)], (Node([7, 8]),))
                 for n in random.integers(1, 20, 60)]  # fmt: skip
    questions.sort(key=lambda q: q.ids)
    long = Node(range(100), (Node(range(50)), Node([1], (Node(range(40)),) * 3)))
    layout = flatten([Tree(*root, merge_prefixes(questions)), Tree(*root, [long, Node([3])])])
    tree = branches(layout, torch.float64).trees[0]
    rows = tree.rows.numel()
    columns = sum(bias.numel() for bias in tree.biases)
    assert len(tree.biases) > 1
    assert rows < 1.5 * layout.roots[1, 0]  # little padding,
    assert columns < 0.15 * layout.roots[1, 0] ** 2  # and a small share of all pairs
    close(layout)


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, False)],
)
def test_large_scores_keep_their_differences_in_half_precision(dtype, autocast):
    """Scores of some hundreds: rounded to bfloat16, these would be off by one and more."""
    zeros = np.zeros((3, 20), dtype=np.int64)
    questions = [Node([n] * 5, (Node([n, 7]),)) for n in range(12)]
    layout = flatten([Tree(np.arange(20), zeros, questions)])
    query, key, value = (x.detach().to(dtype) for x in states(layout.size))
    query = query * 64
    exact = [x.double() for x in (query, key, value)]
    expected = dense(layout, *exact, 1.0)
    # what it would be with scores of this type, to see that these inputs can tell
    pairs = (one.repeat_interleave(2, dim=1).transpose(2, 3) for one in (key, exact[1]))
    rounded, scores = (q @ k for q, k in zip((query, exact[0]), pairs, strict=True))
    assert (rounded - scores).abs().max() > (0.5 if dtype is torch.bfloat16 else 0.05)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = branches(layout, dtype).attend(query, key, value, 1.0)
    assert (found.double() - expected).abs().max() < (0.03 if dtype is torch.bfloat16 else 0.01)


def assert_same_mask(layout):
    """As ``create_block_mask`` makes it from the rule itself, for all pairs."""
    ours = block_mask(layout).mask()
    theirs = create_block_mask(ours.mask_mod, None, None, layout.size, layout.size, device="cpu")
    assert ours.shape == theirs.shape
    assert ours.seq_lengths == theirs.seq_lengths
    for name in ("kv", "full_kv", "q", "full_q"):
        numbers = getattr(theirs, f"{name}_num_blocks")
        assert torch.equal(getattr(ours, f"{name}_num_blocks"), numbers), name
        places, expected = (getattr(m, f"{name}_indices") for m in (ours, theirs))
        for row in range(numbers.shape[-1]):
            n = numbers[0, 0, row]
            assert torch.equal(places[0, 0, row, :n], expected[0, 0, row, :n]), name


@settings(max_examples=20)
@given(st.lists(trees(), min_size=1, max_size=3))
def test_a_block_mask_is_the_rule_written_out_on_any_forest(forest):
    assert_same_mask(flatten(forest))


@pytest.mark.parametrize("root", [1, 127, 128, 129, 400])
@pytest.mark.parametrize("long", [1, 128, 300])
def test_a_block_mask_is_the_rule_written_out_over_many_blocks(root, long):
    zeros = np.zeros((3, root), dtype=np.int64)
    few = [Node([n, 7], (Node([1, 2]), Node(range(long), (Node([3]),) * 60))) for n in range(4)]
    trees = [Tree(np.arange(root), zeros, few), Tree(np.arange(root), zeros, few[:1])]
    layout = flatten(trees)
    assert layout.size > 2 * MASK_BLOCK
    assert_same_mask(layout)


@pytest.fixture
def asked(tmp_path):
    return make_samples(tmp_path, images=2, side=150)[::2]


def test_both_kinds_give_the_same_loss_and_gradients(family_base, asked, uncompiled):
    found = {}
    for kind in ("branches", "flex"):
        base = load_base(family_base, InputConfig(), CPU, torch.float32, kind)
        model = with_adapter(base)
        loss, _ = tree_loss(base, model, asked, 300)
        loss.backward()
        found[kind] = loss.item(), gradients(model)
    (one, grads), (other, other_grads) = found.values()
    assert other == pytest.approx(one, rel=1e-6)
    scale = max(g.abs().max() for g in grads.values())
    assert max((grads[n] - other_grads[n]).abs().max() for n in grads) < 1e-5 * scale


def test_a_base_works_in_plain_transformers_whatever_its_attention(small_base, asked):
    plain = type(load_base(small_base, InputConfig(), CPU).model).from_pretrained(small_base).eval()
    ours = load_base(small_base, InputConfig(), CPU).model
    ids = torch.tensor([[5, 6, 7, 8], [9, 9, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])  # padded batches
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits
        found = ours(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()])


@pytest.mark.parametrize("before", [True, False])
def test_the_attention_of_cudnn_is_never_chosen_here_and_the_choice_of_others_stays(
    small_base, asked, monkeypatch, before
):
    cuda, seen = torch.backends.cuda, []
    work = torch.nn.functional.scaled_dot_product_attention

    def watched(*args, **more):
        kernels = (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled())
        seen.append((cuda.cudnn_sdp_enabled(), *kernels))
        return work(*args, **more)

    for place in (torch.nn.functional, attention):
        monkeypatch.setattr(place, "scaled_dot_product_attention", watched)
    allowed = cuda.cudnn_sdp_enabled()
    cuda.enable_cudnn_sdp(before)
    try:
        base = load_base(small_base, InputConfig(), CPU)  # text and image alike
        tree_loss(base, base.model, asked, budget=1000)
        assert cuda.cudnn_sdp_enabled() is before
    finally:
        cuda.enable_cudnn_sdp(allowed)
    layers = base.model.config.text_config.num_hidden_layers
    assert len(seen) > layers
    assert set(seen) == {(False, True, True)}
