"""What the model is given at once: which questions of which images, in which order.

An optimizer step holds some questions of each of several images. It is cut into packs that fit
a token budget; the loss of a step is the mean over all of its loss tokens, so the cut changes
nothing but memory.

Shapes: T tokens of a pack, L loss tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..models.images import Pixels
from ..models.prompt import PromptFormat
from ..question_tree.tree import Ints, Layout, Node, Tree, lay_out, share, shared

T = TypeVar("T")
Turn = tuple[int, Ints]  # an image and the questions asked of it, both by index


@dataclass(frozen=True, slots=True)
class Ask:
    """One image with the branches to hang below it."""

    pixels: Pixels
    branches: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Pack:
    """Trees laid out as one sequence, with their images in the same order.

    Attributes:
        layout: tokens, positions and attention rule.
        images: one for every tree.
    """

    layout: Layout
    images: Sequence[Pixels]


def plan_epoch(
    questions: Sequence[int], images_per_step: int, per_image: int, seed: int, epoch: int
) -> list[list[Turn]]:
    """Order one epoch: every question exactly once, several images in every step.

    The questions of each image are shuffled and cut into turns of nearly equal size, at most
    ``per_image`` long. All images have their first turn before any has its second; a step that
    spans two such rounds may hold an image twice.

    Args:
        questions: number of questions of each image.
        images_per_step: turns in a step (the last step may have fewer).
        per_image: most questions in a turn.
        seed: fixes the order of all epochs.
        epoch: counted from 0; each has its own order.
    """
    random = np.random.default_rng([seed, epoch])
    turns = [
        np.array_split(random.permutation(n), -(-n // per_image)) if n else [] for n in questions
    ]
    order: list[Turn] = []
    for round_ in range(max(map(len, turns), default=0)):
        images = np.array([i for i, cut in enumerate(turns) if round_ < len(cut)])
        order += [(int(i), turns[i][round_]) for i in random.permutation(images)]
    return [order[i : i + images_per_step] for i in range(0, len(order), images_per_step)]


def sharing_order(asks: Sequence[Ask]) -> tuple[list[Ask], list[list[int]]]:
    """Asks with their branches in the order in which they share most, and that order."""
    orders = [sorted(range(len(a.branches)), key=lambda i: tuple(a.branches[i].ids)) for a in asks]
    ordered = [
        Ask(a.pixels, [a.branches[i] for i in order]) for a, order in zip(asks, orders, strict=True)
    ]
    return ordered, orders


def put_back(found: Iterator[T], orders: Sequence[Sequence[int]]) -> list[list[T]]:
    """What was found for every branch, in the order from which `sharing_order` took them."""
    rows = []
    for order in orders:
        by_place = {place: next(found) for place in order}
        rows.append([by_place[i] for i in range(len(order))])
    return rows


def pack(asks: Sequence[Ask], prompts: PromptFormat, merge: int, budget: int) -> Iterator[Pack]:
    """Lay asks out in packs of at most ``budget`` tokens.

    Neighbouring branches share what they begin with alike (`tree.share`). An image whose branches
    do not fit stands in several packs. Where an image alone takes more than three quarters of the
    budget, its branches may take a quarter on top; a branch that exceeds even that makes a pack
    of its own: nothing is cut off.
    """
    trees: list[Tree] = []
    shown: list[Pixels] = []
    used = 0
    for ask in asks:
        ids = prompts.root_ids(ask.pixels.tokens)
        positions = prompts.root_positions(ask.pixels.grid, merge)
        waiting = list(ask.branches)
        while waiting:
            # a large image must not leave its questions one to a pack
            room = budget - used - len(ids) if trees else max(budget - len(ids), budget // 4)
            taken, size = _fit(waiting, room, at_least=0 if trees else 1)
            if not taken:
                yield Pack(lay_out(trees), shown)
                trees, shown, used = [], [], 0
                continue
            trees.append(Tree(ids, positions, share(waiting[:taken])))
            shown.append(ask.pixels)
            used += len(ids) + size
            del waiting[:taken]
    if trees:
        yield Pack(lay_out(trees), shown)


def _size(node: Node) -> int:
    return len(node.ids) + sum(map(_size, node.children))


def _fit(branches: Sequence[Node], room: int, at_least: int) -> tuple[int, int]:
    """How many of the branches fit into ``room`` tokens once they share, and what they take."""
    used = 0
    for n, branch in enumerate(branches):
        more = _size(branch) - (shared(branches[n - 1].ids, branch.ids) if n else 0)
        if used + more > room and n >= at_least:
            return n, used
        used += more
    return len(branches), used
