"""Which kind of attention is chosen: FlexAttention only where it is shown to be right."""

import numpy as np
import pytest
import torch

from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.models.loader import read_config
from qwen2vl_rs.question_tree import attention, attention_check
from qwen2vl_rs.question_tree.attention import block_mask
from qwen2vl_rs.question_tree.attention_check import Heads, choose_attention, flex_problem
from qwen2vl_rs.question_tree.tree import Tree, flatten

CPU, HEADS = torch.device("cpu"), Heads(4, 2, 16)


def test_the_choice_is_explained_and_flex_refused_on_a_cpu():
    why = "FlexAttention has no backward pass on a CPU"
    assert choose_attention(CPU, torch.float32, HEADS) == ("branches", why)
    assert choose_attention(CPU, torch.float32, HEADS, "branches")[0] == "branches"
    with pytest.raises(ConfigError, match="no backward pass") as caught:
        choose_attention(CPU, torch.float32, HEADS, "flex")
    assert caught.value.hint


def test_heads_are_read_off_a_base_of_any_family(family_base):
    assert Heads.of(read_config(family_base)) == Heads(2, 1, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [HEADS, Heads(6, 1, 32)])  # six are not a power of two
def test_the_check_passes_a_right_flex(uncompiled, dtype, heads):
    assert flex_problem(CPU, dtype, heads) is None


def plain_causal(kind, layout, dtype):
    if kind == "branches":
        return attention.branches(layout, dtype)
    root = Tree(np.arange(layout.size), np.zeros((3, layout.size), dtype=np.int64), ())
    return block_mask(flatten([root]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_sees_a_wrong_mask(uncompiled, monkeypatch, dtype):
    monkeypatch.setattr(attention_check, "make_rule", plain_causal)
    assert flex_problem(CPU, dtype, HEADS) == "its results differ"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_sees_a_mask_that_is_right_only_the_first_time(uncompiled, monkeypatch, dtype):
    seen = []

    def once(kind, layout, dtype):
        seen.append(kind)
        return (plain_causal if seen.count("flex") > 1 else attention.make_rule)(
            kind, layout, dtype
        )

    monkeypatch.setattr(attention_check, "make_rule", once)
    assert flex_problem(CPU, dtype, HEADS) == "its results differ"


@pytest.mark.parametrize("part", ["output", "gradient"])
def test_the_check_sees_what_is_no_number(uncompiled, monkeypatch, part):
    real = attention.flex_attention_forward

    class NoGradient(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * torch.nan

    def broken(module, query, *rest, **more):
        if part == "gradient":
            return real(module, NoGradient.apply(query), *rest, **more)
        out, more = real(module, query, *rest, **more)
        return out * torch.nan, more

    monkeypatch.setattr(attention, "flex_attention_forward", broken)
    assert flex_problem(CPU, torch.float32, HEADS) == "its results differ"


def test_the_check_survives_a_device_without_a_compiler(uncompiled, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(attention, "flex_attention_forward", broken)
    assert flex_problem(CPU, torch.float32, HEADS) == "no compiler"
