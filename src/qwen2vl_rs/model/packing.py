"""What the model is given at once: which questions of which images, in which order.

An optimizer step holds some questions of each of several images. It is cut into packs that fit
a token budget; the loss of a step is the mean over all of its loss tokens, so the cut changes
nothing but memory.

Shapes: T tokens of a pack, L loss tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .images import Pixels, root_positions
from .prompt import PromptFormat
from .tree import Ints, Layout, Node, Tree, lay_out

# Tokens in a pack. Attention with a dense mask costs their square: on two CPU cores an 82 M model
# trained 1.4 times as fast with 1,024 as with 4,096; on a GPU fewer, larger kernels count more.
BUDGETS = {"cpu": 1024, "cuda": 2048}
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


def pack(asks: Sequence[Ask], prompts: PromptFormat, merge: int, budget: int) -> Iterator[Pack]:
    """Lay asks out in packs of at most ``budget`` tokens.

    An image whose branches do not fit stands in several packs. Where an image alone takes more
    than three quarters of the budget, its branches may take a quarter on top; a branch that
    exceeds even that makes a pack of its own: nothing is cut off.
    """
    trees: list[Tree] = []
    shown: list[Pixels] = []
    used = 0
    for ask in asks:
        ids = prompts.root_ids(ask.pixels.tokens)
        head, tail = len(prompts.head), len(prompts.tail)
        positions = root_positions(head, ask.pixels.grid, merge, tail)
        waiting = list(ask.branches)
        while waiting:
            # a large image must not leave its questions one to a pack
            room = budget - used - len(ids) if trees else max(budget - len(ids), budget // 4)
            taken = _fit(waiting, room)
            if not taken and trees:
                yield Pack(lay_out(trees), shown)
                trees, shown, used = [], [], 0
                continue
            taken = taken or 1
            trees.append(Tree(ids, positions, waiting[:taken]))
            shown.append(ask.pixels)
            used += len(ids) + sum(map(_size, waiting[:taken]))
            del waiting[:taken]
    if trees:
        yield Pack(lay_out(trees), shown)


def _size(node: Node) -> int:
    return len(node.ids) + sum(map(_size, node.children))


def _fit(branches: Sequence[Node], room: int) -> int:
    """How many of the branches fit into ``room`` tokens."""
    for n, branch in enumerate(branches):
        room -= _size(branch)
        if room < 0:
            return n
    return len(branches)
