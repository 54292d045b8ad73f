from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qwen2vl_rs.question_tree.tree import Node, Tree, flatten, merge_prefixes, shared

IDS = st.lists(st.integers(0, 999), min_size=1, max_size=4)
LEAVES = st.builds(Node, IDS, st.just(()), st.booleans())
NODES = st.recursive(
    LEAVES,
    lambda below: st.builds(Node, IDS, st.lists(below, max_size=3), st.booleans()),
    max_leaves=8,
)


@st.composite
def trees(draw):
    ids = draw(IDS)
    # roots hold images, so their positions need not count up by one
    positions = np.array([draw(st.lists(st.integers(0, 9), min_size=len(ids), max_size=len(ids)))
                          for _ in range(3)])  # fmt: skip
    return Tree(np.array(ids), positions, draw(st.lists(NODES, max_size=4)))


def paths(tree):
    """Every root-to-leaf path as a list of nodes, in preorder of the leaves."""

    def below(nodes, prefix):
        for node in nodes:
            if node.children:
                yield from below(node.children, [*prefix, node])
            else:
                yield [*prefix, node]

    return list(below(tree.children, [])) or [[]]


@given(st.lists(trees(), min_size=1, max_size=3))
def test_every_path_is_an_ordinary_sequence(forest):
    layout = flatten(forest)
    visible = layout.visible(np.arange(layout.size))
    expected = [(tree, path) for tree in forest for path in paths(tree)]
    assert len(layout.leaves) == len(expected)
    for leaf, (tree, path) in zip(layout.leaves, expected, strict=True):
        seen = np.flatnonzero(visible[leaf])  # what the last token of the path sees
        ids = [*tree.ids, *(i for node in path for i in node.ids)]
        assert layout.ids[seen].tolist() == ids
        # on the path, attention is causal
        assert (visible[np.ix_(seen, seen)] == np.tri(len(seen), dtype=bool)).all()
        # positions: the root's own, then counting up
        root = len(tree.ids)
        assert (layout.positions[:, seen[:root]] == tree.positions).all()
        start = tree.positions.max() + 1
        assert (layout.positions[:, seen[root:]] == start + np.arange(len(seen) - root)).all()


@given(st.lists(trees(), min_size=1, max_size=3))
def test_loss_tokens_are_predicted_from_the_token_before(forest):
    layout = flatten(forest)
    visible = layout.visible(np.arange(layout.size))
    losses = []
    for tree in forest:
        stack = list(reversed(tree.children))
        while stack:
            node = stack.pop()
            losses += node.ids if node.loss else []
            stack += reversed(node.children)
    assert layout.targets.tolist() == losses
    for predictor, target in zip(layout.predictors, layout.targets, strict=True):
        # some token right behind the predictor on a path is the target
        later = np.flatnonzero(visible[:, predictor])[1:]
        depth = visible.sum(axis=1)
        following = later[depth[later] == depth[predictor] + 1]
        assert target in layout.ids[following]


def test_layout_of_a_small_tree_by_hand():
    tree = Tree(
        np.array([1, 2]),
        np.array([[0, 1], [0, 1], [0, 4]]),
        [Node([3], [Node([4, 5], loss=True)]), Node([6], [Node([7], loss=True)])],
    )
    layout = flatten([tree])
    assert layout.ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert layout.positions[2].tolist() == [0, 4, 5, 6, 7, 5, 6]
    assert layout.subtree_end.tolist() == [7, 7, 5, 5, 5, 7, 7]
    assert layout.predictors.tolist() == [2, 3, 5]
    assert layout.targets.tolist() == [4, 5, 7]
    assert layout.leaves.tolist() == [4, 6]


ALIKE = st.lists(st.integers(0, 1), min_size=1, max_size=6)  # few words: much is shared
QUESTIONS = st.lists(
    st.builds(Node, ALIKE, st.lists(st.builds(Node, IDS, loss=st.just(True)), max_size=2)),
    max_size=9,
)


@given(QUESTIONS)
def test_sharing_changes_no_path_and_no_order(branches):
    root = (np.array([7]), np.zeros((3, 1), dtype=int))
    apart, together = Tree(*root, branches), Tree(*root, merge_prefixes(branches))

    def words(tree):
        return [[i for node in path for i in node.ids] for path in paths(tree)]

    assert words(together) == words(apart)
    one, other = flatten([apart]), flatten([together])
    assert other.targets.tolist() == one.targets.tolist()
    saved = sum(shared(a.ids, b.ids) for a, b in pairwise(branches))
    assert one.size - other.size == saved


def test_questions_share_their_beginning_but_never_their_end():
    alike, other = merge_prefixes([Node([1, 2, 3, 9]), Node([1, 2, 4, 9]), Node([5, 9])])
    assert (alike.ids, [n.ids for n in alike.children]) == ((1, 2), [(3, 9), (4, 9)])
    assert (other.ids, other.children) == ((5, 9), ())
    twice = merge_prefixes([Node([1, 2]), Node([1, 2])])
    assert (twice[0].ids, [n.ids for n in twice[0].children]) == ((1,), [(2,), (2,)])
