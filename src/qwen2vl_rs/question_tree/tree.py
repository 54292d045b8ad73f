"""The question tree: one image, many questions, each seen as if it stood alone.

    root      chat header + image                 (encoded once)
    ├── question 1
    │   └── answer 1      (training: carries loss; closed scoring: one of several candidates)
    ├── what questions 2 and 3 begin with alike
    │   ├── the rest of question 2
    …

A token sees its own node up to itself, and all of its ancestors: never a sibling. Positions go
on from the parent's. So every root-to-leaf path has exactly the attention and the positions of
an ordinary sequence, and the loss of a tree is the loss of its paths.

Trees are laid out in preorder, where the subtree of a node is a stretch of neighbours. The
whole attention rule is then one integer per token: token k is seen by the tokens q with
``k <= q < subtree_end[k]``, the place where the subtree of k's node ends. Trees laid one after
another (a pack) need no further rule.

The idea of branches over a shared image is Molmo's multi-annotated images and Molmo 2's message
trees; here branches are not reweighted, so that the loss stays the plain mean over tokens.

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
    """A run of tokens below the root.

    Attributes:
        ids: token ids, at least one.
        children: the nodes that continue this one.
        loss: whether these tokens are to be predicted (from the token before each).
        extra_targets: tokens to be predicted from the last of ``ids`` that nothing continues, such
            as the end of an answer; they are never fed, so they cost nothing.
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
        positions: (A, P) rotary positions of the root, as the model gives them.
        children: the questions.
    """

    ids: Ints
    positions: Ints
    children: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Layout:
    """Trees laid out as one sequence.

    Attributes:
        ids: (T,) token ids.
        positions: (A, T) rotary positions.
        subtree_end: (T,) token k is seen by tokens q with ``k <= q < subtree_end[k]``.
        predictors: (L,) index of the token from whose output each loss token is predicted.
        targets: (L,) id of each loss token.
        leaves: index of the last token of every leaf, in order of the leaves.
        roots: (trees, 2) where the root of each tree starts and stops.
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
        """Number of tokens T."""
        return len(self.ids)

    def visible(self, rows: Ints) -> NDArray[np.bool_]:
        """(R, T) the attention rule written out: which tokens are seen by those of ``rows``."""
        q = rows[:, None]
        return (np.arange(self.size) <= q) & (q < self.subtree_end)


@dataclass
class _Builder:
    """A `Layout` as it grows."""

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
    """Number of tokens at the beginning that two nodes can share: all alike but the last of each.

    The last ones stay apart, so that every branch keeps an end of its own.
    """
    most = min(len(left), len(right)) - 1
    return next((i for i in range(most) if left[i] != right[i]), max(most, 0))


def merge_prefixes(branches: Sequence[Node]) -> tuple[Node, ...]:
    """Let neighbours that begin alike share their beginning, so that it is fed once.

    ``Is there a road?`` and ``Is there a lake?`` become one node with two children. Paths and
    their order stay the same; branches in the order of their ids share most: on RSVQA a third of
    all question tokens at 100 questions an image, a sixth at 25.

    Args:
        branches: nodes that carry no loss on their own tokens.
    """
    ids = [tuple(b.ids) for b in branches]
    common = [shared(a, b) for a, b in pairwise(ids)]
    return _share(branches, ids, common, 0)


def _share(
    branches: Sequence[Node], ids: Sequence[tuple[int, ...]], common: Sequence[int], depth: int
) -> tuple[Node, ...]:
    """`share` of branches whose first ``depth`` tokens stand above them already."""
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
    """Lay trees out as one sequence, in preorder, one tree after another."""
    builder = _Builder()
    for tree in trees:
        builder.add_tree(tree)
    lists = vars(builder) | {"positions": np.concatenate(builder.positions, axis=1)}
    return Layout(**{name: np.asarray(value, dtype=np.int64) for name, value in lists.items()})
