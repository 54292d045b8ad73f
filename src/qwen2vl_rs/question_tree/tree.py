"""The question tree: one image and many questions, each with the attention of a single question.

    root      chat header + image                 (encoded once)
    ├── question 1
    │   └── answer 1      (training: carries loss; closed scoring: one of several candidates)
    ├── common prefix of questions 2 and 3
    │   ├── the rest of question 2
    …

A token sees the earlier tokens of its own node and all of its ancestors, never a sibling.
Positions continue from the parent's. Every root-to-leaf path therefore has exactly the attention
and the positions of an ordinary sequence, and the loss of a tree is the loss of its paths.

Trees are flattened in preorder, so the tokens of a subtree are contiguous. The whole attention
rule is then one integer per token: token k is seen by the tokens q with
``k <= q < subtree_end[k]``, where the subtree of k's node ends. Several trees in one sequence (a
pack) need no further rule.

The idea of branches over a shared image is from Molmo's multi-annotated images and Molmo 2's
message trees. Branches are not reweighted here: the loss is the plain mean over tokens.

Shapes: T tokens of a layout, P tokens of a root, L loss-carrying tokens; A axes of rotary
positions (1 for text alone; time, height and width where images have them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Node:
    """A stretch of tokens below the root.

    Attributes:
        ids: token ids, at least one.
        children: the nodes that continue this one.
        loss: whether the model is to predict these tokens (each from the token before it).
        extra_targets: further tokens to predict from the last of ``ids``, such as the end token
            of an answer. They are never fed, so they cost nothing.
    """

    ids: Sequence[int]
    children: Sequence[Node] = ()
    loss: bool = False
    extra_targets: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A root with its branches.

    Attributes:
        ids: (P,) token ids of chat header and image.
        positions: (A, P) rotary positions of the root, as computed by the model's family.
        children: the questions.
    """

    ids: Ints
    positions: Ints
    children: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Layout:
    """Trees as one sequence.

    Attributes:
        ids: (T,) token ids.
        positions: (A, T) rotary positions.
        subtree_end: (T,) token k is seen by tokens q with ``k <= q < subtree_end[k]``.
        predictors: (L,) index of the token whose output predicts each loss token.
        targets: (L,) id of each loss token.
        leaves: index of the last token of every leaf, in order.
        roots: (trees, 2) start and stop of the root of each tree.
    """

    ids: Ints
    positions: Ints
    subtree_end: Ints
    predictors: Ints
    targets: Ints
    leaves: Ints
    roots: Ints

    @property
    def size(self) -> int:
        """Return the number of tokens T."""
        return len(self.ids)

    def visible(self, rows: Ints) -> NDArray[np.bool_]:
        """Return the attention mask (R, T): the tokens that each of ``rows`` sees."""
        q = rows[:, None]
        return (np.arange(self.size) <= q) & (q < self.subtree_end)


@dataclass
class _Builder:
    """A `Layout` under construction."""

    ids: list[int] = field(default_factory=list)
    positions: list[Ints] = field(default_factory=list)
    subtree_end: list[int] = field(default_factory=list)
    predictors: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    roots: list[tuple[int, int]] = field(default_factory=list)

    def add_tree(self, tree: Tree) -> None:
        start = len(self.ids)
        self.roots.append((start, start + len(tree.ids)))
        self.ids += tree.ids.tolist()
        self.subtree_end += [0] * len(tree.ids)
        self.positions.append(tree.positions)
        self._add_children(tree.children, int(tree.positions.max()) + 1)
        self.subtree_end[start : start + len(tree.ids)] = [len(self.ids)] * len(tree.ids)

    def _add_children(self, children: Sequence[Node], position: int) -> None:
        parent_last = len(self.ids) - 1
        if not children:
            self.leaves.append(parent_last)
        for node in children:
            start, length = len(self.ids), len(node.ids)
            if node.loss:
                self.predictors += [parent_last, *range(start, start + length - 1)]
                self.targets += node.ids
            self.ids += node.ids
            self.subtree_end += [0] * length
            run = np.arange(position, position + length)
            self.positions.append(np.broadcast_to(run, (len(self.positions[0]), length)))
            self.predictors += [start + length - 1] * len(node.extra_targets)
            self.targets += node.extra_targets
            self._add_children(node.children, position + length)
            self.subtree_end[start : start + length] = [len(self.ids)] * length


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of two nodes' common prefix, without the last token of either.

    Every branch thus keeps a last token of its own.
    """
    most = min(len(left), len(right)) - 1
    return next((i for i in range(most) if left[i] != right[i]), max(most, 0))


def merge_prefixes(branches: Sequence[Node]) -> tuple[Node, ...]:
    """Let neighbouring branches share their common prefix, so that it is fed once.

    ``Is there a road?`` and ``Is there a lake?`` become one node with two children. Paths and
    their order stay the same. Branches sorted by their ids share most: on RSVQA a third of all
    question tokens at 100 questions per image, a sixth at 25.

    Args:
        branches: nodes without loss on their own tokens.
    """
    ids = [tuple(b.ids) for b in branches]
    common = [shared(a, b) for a, b in pairwise(ids)]
    return _share(branches, ids, common, 0)


def _share(
    branches: Sequence[Node], ids: Sequence[tuple[int, ...]], common: Sequence[int], depth: int
) -> tuple[Node, ...]:
    """`merge_prefixes` for branches whose first ``depth`` tokens already precede them."""
    found = []
    start = 0
    for stop in range(1, len(branches) + 1):
        if stop < len(branches) and common[stop - 1] > depth:
            continue
        if stop - start == 1:
            found.append(replace(branches[start], ids=ids[start][depth:]))
        else:
            deep = min(common[start : stop - 1])
            part = slice(start, stop)
            below = _share(branches[part], ids[part], common[start : stop - 1], deep)
            found.append(Node(ids[start][depth:deep], below))
        start = stop
    return tuple(found)


def flatten(trees: Sequence[Tree]) -> Layout:
    """Lay trees out as one sequence, in preorder, one after another."""
    builder = _Builder()
    for tree in trees:
        builder.add_tree(tree)
    lists = vars(builder) | {"positions": np.concatenate(builder.positions, axis=1)}
    return Layout(**{name: np.asarray(value, dtype=np.int64) for name, value in lists.items()})
