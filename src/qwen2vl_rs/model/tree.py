"""The question tree: one image, many questions, each seen as if it stood alone.

    root      chat header + image                 (encoded once)
    ├── question 1
    │   └── answer 1      (training: carries loss; closed scoring: one of several candidates)
    ├── question 2
    …

A token sees its own node up to itself, and all of its ancestors: never a sibling. Positions go
on from the parent's. So every root-to-leaf path has exactly the attention and the positions of
an ordinary sequence, and the loss of a tree is the loss of its paths.

Trees are laid out in preorder, where the subtree of a node is a stretch of neighbours. The
whole attention rule is then one integer per token: token k is seen by the tokens q with
``k <= q < end[k]``, `end` being where the subtree of k's node ends. Trees laid one after another
(a pack) need no further rule.

The idea of branches over a shared image is Molmo's multi-annotated images and Molmo 2's message
trees; here branches are not reweighted, so that the loss stays the plain mean over tokens.

Shapes: T tokens of a layout, P tokens of a root, L loss-carrying tokens; 3 = the temporal,
height and width axes of Qwen-VL's rotary positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
        then: tokens to be predicted from the last of ``ids`` that nothing continues, such as
            the end of an answer; they are never fed, so they cost nothing.
    """

    ids: Sequence[int]
    children: Sequence[Node] = ()
    loss: bool = False
    then: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A root with its branches.

    Attributes:
        ids: (P,) token ids of chat header and image.
        positions: (3, P) rotary positions of the root, as the model gives them.
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
        positions: (3, T) rotary positions.
        end: (T,) token k is seen by tokens q with ``k <= q < end[k]``.
        predictors: (L,) index of the token from whose output each loss token is predicted.
        targets: (L,) id of each loss token.
        leaves: index of the last token of every leaf, in order of the leaves.
    """

    ids: Ints
    positions: Ints
    end: Ints
    predictors: Ints
    targets: Ints
    leaves: Ints

    @property
    def size(self) -> int:
        """Number of tokens T."""
        return len(self.ids)

    def visible(self) -> NDArray[np.bool_]:
        """(T, T) the attention rule written out: row q, column k."""
        index = np.arange(self.size)
        return (index[None, :] <= index[:, None]) & (index[:, None] < self.end[None, :])


@dataclass(slots=True)
class _Builder:
    ids: list[int] = field(default_factory=list)
    positions: list[Ints] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    predictors: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)

    def add_tree(self, tree: Tree) -> None:
        start = len(self.ids)
        self.ids += tree.ids.tolist()
        self.end += [0] * len(tree.ids)
        self.positions.append(tree.positions)
        self._add_children(tree.children, int(tree.positions.max()) + 1)
        self.end[start : start + len(tree.ids)] = [len(self.ids)] * len(tree.ids)

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
            self.end += [0] * length
            run = np.arange(position, position + length)
            self.positions.append(np.broadcast_to(run, (3, length)))
            self.predictors += [start + length - 1] * len(node.then)
            self.targets += node.then
            self._add_children(node.children, position + length)
            self.end[start : start + length] = [len(self.ids)] * length


def lay_out(trees: Sequence[Tree]) -> Layout:
    """Lay trees out as one sequence, in preorder, one tree after another."""
    builder = _Builder()
    for tree in trees:
        builder.add_tree(tree)
    return Layout(
        ids=np.array(builder.ids, dtype=np.int64),
        positions=np.concatenate(builder.positions, axis=1),
        end=np.array(builder.end, dtype=np.int64),
        predictors=np.array(builder.predictors, dtype=np.int64),
        targets=np.array(builder.targets, dtype=np.int64),
        leaves=np.array(builder.leaves, dtype=np.int64),
    )
