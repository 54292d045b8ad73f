import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qwen2vl_rs.engine.packing import ImageQuery, pack, plan_epoch, prefix_order, unsort
from qwen2vl_rs.models.images import ImageInput
from qwen2vl_rs.models.prompt import PromptFormat
from qwen2vl_rs.models.qwen_vl import QWEN2_VL
from qwen2vl_rs.question_tree.tree import Node

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=12)


@given(SIZES, st.integers(1, 5), st.integers(1, 12), st.integers(0, 99), st.integers(0, 3))
def test_an_epoch_asks_every_question_once(sizes, images, per_image, seed, epoch):
    plan = plan_epoch(sizes, images, per_image, seed, epoch)
    asked = sorted((image, int(q)) for step in plan for image, chosen in step for q in chosen)
    assert asked == [(image, q) for image, n in enumerate(sizes) for q in range(n)]
    assert all(len(step) <= images for step in plan)
    assert all(0 < len(chosen) <= per_image for step in plan for _, chosen in step)
    assert all(len(step) == images for step in list(plan)[:-1])


def test_a_step_holds_different_images_and_epochs_differ():
    plans = [plan_epoch([100] * 8, 4, 25, 0, epoch) for epoch in (0, 1)]
    for plan in plans:
        assert len(plan) == 8
        assert all(len({image for image, _ in step}) == 4 for step in plan)
    first, second = ([[i for i, _ in step] for step in plan] for plan in plans)
    assert first != second
    again = plan_epoch([100] * 8, 4, 25, 0, 1)
    assert all((a[1] == b[1]).all() for s, t in zip(plans[1], again, strict=True)
               for a, b in zip(s, t, strict=True))  # fmt: skip


def test_every_epoch_puts_the_questions_of_an_image_in_a_new_order():
    turns = [plan_epoch([12], 1, 4, seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    orders = [tuple(int(i) for ((_, chosen),) in plan for i in chosen) for plan in turns]
    assert len(set(orders)) == 6
    # not only the order within a turn, which a step does not show
    assert len({tuple(map(frozenset, zip(*[iter(one)] * 4, strict=True))) for one in orders}) == 6


FORMAT = PromptFormat(QWEN2_VL, None, (1, 2), (3,), (4,), 99, 5, frozenset({5}))


def asks(draws):
    pixels = ImageInput((1, 4, 4), 4, patches=torch.zeros(16, 6))
    return [ImageQuery(pixels, [Node([n] * n) for n in lengths]) for lengths in draws]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=5),
       st.integers(8, 60))  # fmt: skip
def test_packs_hold_every_branch_within_the_budget(draws, budget):
    packs = list(pack(asks(draws), FORMAT, 2, budget))
    leaves = [int(p.layout.ids[leaf]) for p in packs for leaf in p.layout.leaves]
    assert leaves == [n for lengths in draws for n in lengths]  # in order, none lost
    root = 2 + 4 + 1
    for one in packs:
        if one.layout.size > budget:  # only for an image that is large by itself
            assert len(one.images) == 1
            below = one.layout.size - root
            assert below <= budget // 4 or len(one.layout.leaves) == 1
        assert (one.layout.ids == 99).sum() == 4 * len(one.images)


def test_images_share_a_pack_when_they_fit():
    (one,) = pack(asks([[3, 4], [3]]), FORMAT, 2, 100)
    assert len(one.images) == 2
    assert one.layout.size == 2 * 7 + 10
    first = one.layout.visible(np.arange(7 + 7, one.layout.size))[:, : 7 + 7]
    assert not first.any()  # the second image's tokens see nothing of the first
    assert np.diff(one.layout.positions[0]).min() < 0  # positions start anew


def test_questions_that_begin_alike_are_packed_by_what_they_take_together():
    pixels = ImageInput((1, 4, 4), 4, patches=torch.zeros(16, 6))
    branches = [Node([8, 8, 8, n]) for n in range(6)]
    (one,) = pack([ImageQuery(pixels, branches)], FORMAT, 2, 7 + 3 + 6)
    assert one.layout.size == 7 + 3 + 6
    assert [int(one.layout.ids[leaf]) for leaf in one.layout.leaves] == [*range(6)]


@given(st.lists(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=8)))
def test_what_was_found_goes_back_to_where_it_was_asked(draws):
    pixels = ImageInput((1, 4, 4), 4, patches=torch.zeros(16, 6))
    ordered, orders = prefix_order([ImageQuery(pixels, [Node(i) for i in ids]) for ids in draws])
    for ask in ordered:
        assert [*ask.branches] == sorted(ask.branches, key=lambda b: b.ids)
    assert unsort((b.ids for ask in ordered for b in ask.branches), orders) == draws


@pytest.mark.parametrize("budget", [1, 7, 8])
def test_a_budget_that_is_too_small_still_loses_nothing(budget):
    packs = list(pack(asks([[5, 5]]), FORMAT, 2, budget))
    assert [p.layout.size for p in packs] == [12, 12]
