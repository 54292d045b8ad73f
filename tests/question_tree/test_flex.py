"""Both kinds of attention against a dense mask in float64 and against plain transformers.

On a CPU, uncompiled and small; on a GPU (marker ``gpu``) compiled, at full width and at the
lengths of training. Each test records its figures, which `benchmarks/gpu` keeps.
"""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.utils import send_to_device

from factory import make_samples
from plain import gradients, plain_loss, tree_loss, with_adapter
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.split import group_by_image
from qwen2vl_rs.engine.decoding import answer
from qwen2vl_rs.models.adapter import without_casts
from qwen2vl_rs.models.loader import load_base
from qwen2vl_rs.question_tree.attention import attention_args, block_mask, make_rule, tree_attention
from qwen2vl_rs.question_tree.attention_check import Heads, choose_attention, flex_problem
from qwen2vl_rs.question_tree.tree import Node, Tree, flatten, merge_prefixes
from random_base import Size, write_random_base

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LENGTHS = (100, 128, 300, 700, 1312, 2944, 4096)
WIDE = Heads(12, 2, 128)  # of Qwen2-VL-2B
BOUNDS = {torch.bfloat16: 5e-2, torch.float32: 5e-3}  # relative to the largest value


def layout(tokens, seed):
    """Trees of RSVQA's shape, two in a pack, of about so many tokens."""
    random = np.random.default_rng(seed)
    trees = []
    for _ in range(2):
        root = min(int(random.integers(60, 110)), tokens // 3)
        zeros = np.zeros((3, root), dtype=np.int64)
        left = tokens // 2 - root
        questions = []
        while left > 0:
            n = int(random.integers(8, 20))
            ids = [int(i) for i in random.integers(0, 3, n)]
            questions.append(Node(ids, (Node([7] * int(random.integers(1, 4))),)))
            left -= n + 2
        questions.sort(key=lambda q: q.ids)
        trees.append(Tree(np.arange(root), zeros, merge_prefixes(questions)))
    return flatten(trees)


def attend(kind, one, states, upstream):
    """Output and gradients of one kind, in float32."""
    tree = attention_args(send_to_device(make_rule(kind, one, states[0].dtype), states[0].device))
    query, key, value = (x.clone().requires_grad_() for x in states)
    module = torch.nn.Module().train()
    scale = query.shape[-1] ** -0.5
    out, _ = tree_attention(module, query, key, value, None, scaling=scale, tree=tree["tree"])
    grads = torch.autograd.grad(out, (query, key, value), upstream)
    return [x.detach().float() for x in (out, *grads)]


def dense(one, states, upstream):
    """Output and gradients by a dense mask in float64, with a key's heads repeated."""
    query, key, value = (x.double().requires_grad_() for x in states)
    shared = query.shape[1] // key.shape[1]
    repeated = [x.repeat_interleave(shared, dim=1) for x in (key, value)]
    at = np.arange(one.size)
    seen = torch.from_numpy(one.visible(at)).to(query.device)
    scores = query @ repeated[0].transpose(-1, -2) * query.shape[-1] ** -0.5
    out = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ repeated[1]
    out = out.transpose(1, 2)
    grads = torch.autograd.grad(out, (query, key, value), upstream.double())
    return [x.detach().float() for x in (out, *grads)]


def differences(device, dtype, heads, tokens, seed):
    """Of each kind the largest relative differences to ``dense``: output and three gradients."""
    one = layout(tokens, seed)
    random = torch.Generator(device).manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, device=device, dtype=dtype, generator=random)

    states = [normal(1, n, one.size, heads.width) for n in (heads.query, heads.key, heads.key)]
    upstream = normal(1, one.size, heads.query, heads.width)
    right = dense(one, states, upstream)
    return {
        kind: [
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(attend(kind, one, states, upstream), right, strict=True)
        ]
        for kind in ("branches", "flex")
    }


@pytest.mark.parametrize("dtype", BOUNDS)
def test_both_kinds_equal_a_dense_mask_in_float64(uncompiled, dtype):
    # at 128 the two differ in nothing but the room that the second tree takes
    for tokens, seed in ((300, 0), (300, 1), (128, 0), (128, 1)):
        found = differences(CPU, dtype, Heads(6, 1, 16), tokens, seed)
        assert all(gap < BOUNDS[dtype] for gaps in found.values() for gap in gaps), found


@pytest.fixture(autouse=True)
def many_compilations():
    """These tests together see more widths and dtypes than a training does."""
    import torch._dynamo

    with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        yield


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_compiled_flex_equals_a_dense_mask_at_every_length(dtype, record_property):
    from torch._dynamo.utils import counters

    compiled, found = counters["stats"]["unique_graphs"], {}
    for tokens in LENGTHS:
        for seed in (0, 1):
            found[f"{tokens}/{seed}"] = differences(CUDA, dtype, WIDE, tokens, seed)
    record_property("largest_relative_differences", json.dumps(found))
    compiled = counters["stats"]["unique_graphs"] - compiled
    record_property("compilations", json.dumps(compiled))
    # NaN is no less than any bound
    wrong = {
        (at, kind): gaps
        for at, kinds in found.items()
        for kind, gaps in kinds.items()
        if not all(gap < BOUNDS[dtype] for gap in gaps)
    }
    assert not wrong
    assert compiled <= 8


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"])
def test_which_kernel_of_torch_is_wrong(kernel, record_property):
    """Not a test of ours: it says whether cuDNN's attention may be used again."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend[kernel], SDPBackend.MATH], set_priority=True):
        found = [differences(CUDA, torch.bfloat16, WIDE, 128, seed)["branches"] for seed in (0, 1)]
    record_property("largest_relative_differences", json.dumps(found))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_flex_is_chosen(dtype, record_property):
    record_property("problem", json.dumps(flex_problem(CUDA, dtype, WIDE)))
    assert choose_attention(CUDA, dtype, WIDE)[0] == "flex"


@pytest.mark.gpu
def test_what_a_mask_costs(record_property):
    """Ours on the host and moved, beside ``create_block_mask`` on the device, in milliseconds."""
    from torch.nn.attention.flex_attention import create_block_mask

    found = {}
    for tokens in (1312, 2944, 4096):
        one = layout(tokens, 0)

        def ours(one=one):
            return send_to_device(block_mask(one), CUDA).mask()

        def theirs(one=one):
            mask = send_to_device(block_mask(one), CUDA).mask()
            return create_block_mask(mask.mask_mod, None, None, one.size, one.size, device="cuda")

        found[tokens] = [milliseconds(work) for work in (ours, theirs)]
    record_property("ours_and_create_block_mask_ms", json.dumps(found))


def milliseconds(work, times=5):
    work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return round((time.perf_counter() - began) / times * 1e3, 3)


def against_plain(base, folder, device, checkpointing):
    """Relative differences of loss and gradients to one question a sequence, with an adapter."""
    samples = make_samples(folder, images=2, side=150)[::2]
    model = with_adapter(base)
    if checkpointing:
        model.train()
        model.activation_checkpointing_enable({"use_reentrant": False})
    plain, _ = plain_loss(base, model, samples)
    plain.backward()
    expected = gradients(model)
    loss, _ = tree_loss(base, model, samples, 100_000)
    loss.backward()
    found = gradients(model)
    scale = max(g.abs().max() for g in expected.values())
    gaps = torch.stack([(found[n] - expected[n]).abs().max() / scale for n in found])
    return abs(loss.item() / plain.item() - 1), float(gaps.max())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_flex_gives_the_loss_of_plain_transformers(uncompiled, small_base, tmp_path, checkpointing):
    base = load_base(small_base, InputConfig(), CPU, torch.float32, "flex")
    loss, gradient = against_plain(base, tmp_path, CPU, checkpointing)
    assert loss < 1e-5
    assert gradient < 1e-5


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory) -> Path:
    """Two layers as wide as those of Qwen2-VL-2B: twelve heads of 128 values, two of keys."""
    size = Size(hidden=1536, layers=2, vision_hidden=64, kv_heads=2, head=128, intermediate=512)
    return write_random_base(tmp_path_factory.mktemp("wide") / "base", size)


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["flex", "branches"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_on_a_gpu_the_loss_is_that_of_plain_transformers(
    wide_base, tmp_path, dtype, kind, checkpointing, record_property
):
    base = load_base(wide_base, InputConfig(), CUDA, dtype, kind)
    loss, gradient = against_plain(base, tmp_path, CUDA, checkpointing)
    record_property("loss", json.dumps(loss))
    record_property("gradient", json.dumps(gradient))
    assert loss < (1e-2 if dtype is torch.bfloat16 else 1e-4)
    assert gradient < BOUNDS[dtype]


@pytest.mark.gpu
def test_on_a_gpu_both_kinds_answer_alike_in_inference_mode(wide_base, tmp_path, record_property):
    samples = make_samples(tmp_path, images=2, side=150)
    said = {}
    for kind in ("flex", "branches"):
        base = load_base(wide_base, InputConfig(), CUDA, torch.float32, kind)
        groups = [
            (base.images.read(g[0].image), [s.question for s in g]) for g in group_by_image(samples)
        ]
        found = answer(base, base.model, groups, max_new_tokens=4)
        said[kind] = [one.ids for row in found for one in row]
    same = sum(a == b for a, b in zip(*said.values(), strict=True))
    record_property("same_answers", json.dumps([same, len(samples)]))
    assert same == len(samples)


@pytest.mark.gpu
def test_on_a_gpu_the_copies_that_are_left_out_change_nothing(wide_base, tmp_path, record_property):
    base = load_base(wide_base, InputConfig(), CUDA, torch.bfloat16, "flex")
    samples = make_samples(tmp_path, images=2, side=150)[::2]
    model = with_adapter(base).train()
    found = []
    for mixed in (False, True):
        with without_casts(model, mixed), torch.autocast("cuda", torch.bfloat16):
            loss, _ = tree_loss(base, model, samples, 100_000)
        loss.backward()
        found.append((loss.item(), gradients(model)))
        model.zero_grad()
    (before, old), (after, new) = found
    scale = max(g.abs().max() for g in old.values())
    gap = max(float((old[n] - new[n]).abs().max() / scale) for n in old)
    record_property("loss_and_gradient", json.dumps([abs(after / before - 1), gap]))
    assert abs(after / before - 1) < 1e-3
    assert gap < 1e-2
