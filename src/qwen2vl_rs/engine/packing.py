"""Batching: sequence packing of question trees, and the order of an epoch.

An optimizer step has questions of several images. It is cut into packs (packed sequences) that fit
a token budget. The loss of a step is the mean over all of its loss tokens, so the cut affects
memory only.

Shapes: T tokens of a pack, L loss tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..models.images import ImageInput
from ..models.prompt import PromptFormat
from ..question_tree.tree import Ints, Layout, Node, Tree, flatten, merge_prefixes, shared

T = TypeVar("T")
ImageTurn = tuple[int, Ints]  # an image and some of its questions, both by index


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """One image with its branches."""

    pixels: ImageInput
    branches: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Pack:
    """A packed sequence: trees laid out one after another, with their images.

    Attributes:
        layout: tokens, positions and attention rule.
        images: one per tree, in the same order.
    """

    layout: Layout
    images: Sequence[ImageInput]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of an epoch as arrays; indexing builds a step's list of turns.

    Attributes:
        images: of each turn.
        starts, stops: range of each turn's questions in ``order``.
        order: the questions of each image, shuffled, by their index within the image.
        per_step: turns per step.
    """

    images: Ints
    starts: Ints
    stops: Ints
    order: Ints
    per_step: int

    def __len__(self) -> int:
        return -(-len(self.images) // self.per_step)

    def __getitem__(self, step: int) -> list[ImageTurn]:
        first = range(len(self))[step] * self.per_step
        turns = range(first, min(first + self.per_step, len(self.images)))
        return [(int(self.images[k]), self.order[self.starts[k] : self.stops[k]]) for k in turns]

    def questions(self, step: int) -> int:
        """Return the number of questions in a step."""
        turns = slice(step * self.per_step, (step + 1) * self.per_step)
        return int((self.stops[turns] - self.starts[turns]).sum())


def plan_epoch(
    questions: Sequence[int] | Ints, images_per_step: int, per_image: int, seed: int, epoch: int
) -> Plan:
    """Order one epoch: every question exactly once, several images in every step.

    The questions of each image are shuffled and cut into turns of nearly equal size, at most
    ``per_image`` long. All images have their first turn before any has its second. A step that
    spans two such rounds may contain an image twice.

    Args:
        questions: number of questions per image.
        images_per_step: turns per step (the last step may have fewer).
        per_image: maximum questions per turn.
        seed: fixes the order of all epochs.
        epoch: counted from 0; each has its own order.
    """
    random = np.random.default_rng([seed, epoch])
    sizes = np.asarray(questions, dtype=np.int64)
    order = np.zeros(sizes.sum(), dtype=np.int64)
    ends = np.cumsum(sizes)
    for start, n in zip((ends - sizes).tolist(), sizes.tolist(), strict=True):
        if n:
            order[start : start + n] = random.permutation(n)
    turns = -(-sizes // per_image)  # of each image
    images = [
        random.permutation(np.flatnonzero(turns > round_)) for round_ in range(turns.max(initial=0))
    ]
    image = np.concatenate([np.zeros(0, np.int64), *images])
    round_ = np.repeat(np.arange(len(images)), list(map(len, images)))
    # like `np.array_split`: the first turns of an image have one question more
    least, more = np.divmod(sizes[image], turns[image])
    starts = (ends - sizes)[image] + round_ * least + np.minimum(round_, more)
    return Plan(image, starts, starts + least + (round_ < more), order, images_per_step)


def prefix_order(asks: Sequence[ImageQuery]) -> tuple[list[ImageQuery], list[list[int]]]:
    """Sort the branches of each query so that they share the most; return that order, too."""
    orders = [sorted(range(len(a.branches)), key=lambda i: tuple(a.branches[i].ids)) for a in asks]
    ordered = [
        ImageQuery(a.pixels, [a.branches[i] for i in order])
        for a, order in zip(asks, orders, strict=True)
    ]
    return ordered, orders


def unsort(found: Iterator[T], orders: Sequence[Sequence[int]]) -> list[list[T]]:
    """Return the results of all branches in the order before `prefix_order`."""
    rows = []
    for order in orders:
        by_place = {place: next(found) for place in order}
        rows.append([by_place[i] for i in range(len(order))])
    return rows


def pack(
    asks: Sequence[ImageQuery], prompts: PromptFormat, merge: int, budget: int
) -> Iterator[Pack]:
    """Pack queries into sequences of at most ``budget`` tokens.

    Neighbouring branches share their common prefix (`tree.merge_prefixes`). An image whose branches
    do not fit occurs in several packs. If an image alone takes more than three quarters of the
    budget, its branches may exceed the budget by a quarter. A branch that is longer than that gets
    a pack of its own: nothing is truncated.
    """
    trees: list[Tree] = []
    shown: list[ImageInput] = []
    used = 0
    for ask in asks:
        ids = prompts.root_ids(ask.pixels.tokens)
        positions = prompts.root_positions(ask.pixels.grid, merge)
        waiting = list(ask.branches)
        while waiting:
            # a large image must not leave one question per pack
            room = budget - used - len(ids) if trees else max(budget - len(ids), budget // 4)
            taken, size = _fit(waiting, room, at_least=0 if trees else 1)
            if not taken:
                yield Pack(flatten(trees), shown)
                trees, shown, used = [], [], 0
                continue
            trees.append(Tree(ids, positions, merge_prefixes(waiting[:taken])))
            shown.append(ask.pixels)
            used += len(ids) + size
            del waiting[:taken]
    if trees:
        yield Pack(flatten(trees), shown)


def _size(node: Node) -> int:
    return len(node.ids) + sum(map(_size, node.children))


def _fit(branches: Sequence[Node], room: int, at_least: int) -> tuple[int, int]:
    """Return how many branches fit into ``room`` tokens after sharing, and their size."""
    used = 0
    for n, branch in enumerate(branches):
        more = _size(branch) - (shared(branches[n - 1].ids, branch.ids) if n else 0)
        if used + more > room and n >= at_least:
            return n, used
        used += more
    return len(branches), used
