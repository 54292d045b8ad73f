"""Candidate ranking: the exact probability of every candidate answer of a question.

The candidates of a question form a trie: common prefixes are fed once, and end tokens are not fed
at all. One pass gives the log-likelihood of all candidates.

Shapes: L scored tokens of a pack, R tokens whose output scores them, V vocabulary size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.finite import require_finite_scores
from ..models.images import ImageInput
from ..models.loader import Base
from ..models.prompt import PromptFormat
from ..question_tree.tree import Node
from ..questions.answer_sets import AnswerSet
from .forward import forward
from .inputs import make_inputs
from .packing import ImageQuery, Pack, pack, prefix_order, unsort
from .vision import with_features

Rests = list[tuple[int, Sequence[int]]]  # candidates by number, with their remaining tokens
_ROWS = 256  # rows of logits converted to float32 at a time


@dataclass(frozen=True, slots=True)
class Choice:
    """The model's choice among candidate answers.

    Attributes:
        text: the most probable candidate.
        logs: log-likelihood of every candidate with its end token, in the given order.
    """

    text: str
    logs: tuple[float, ...]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Return the probability of every candidate, normalised over all of them."""
        weights = np.exp(np.array(self.logs) - max(self.logs))
        return weights / weights.sum()


@torch.inference_mode()
def choose_candidates(
    base: Base,
    model: Any,
    groups: Sequence[tuple[ImageInput, Sequence[tuple[str, tuple[str, ...]]]]],
    *,
    budget: int = 4096,
) -> list[list[Choice]]:
    """Choose an answer to every question from its candidate answers.

    Args:
        base: provides prompt format and image grid.
        model: ``base.model``, possibly with an adapter.
        groups: images with their questions, each with its candidates (without duplicates).
        budget: maximum tokens per pack.

    Returns:
        For each image the choices in the order of its questions.

    Raises:
        ModelError: the model's output contains NaN or infinity.
    """
    tries = {c: _trie(base.prompts, c) for _, questions in groups for _, c in questions}
    images = with_features(model, [pixels for pixels, _ in groups])
    asks, orders = prefix_order(
        [
            ImageQuery(pixels, [_question(base.prompts, q, tries[c]) for q, c in questions])
            for pixels, (_, questions) in zip(images, groups, strict=True)
        ]
    )
    packs = pack(asks, base.prompts, base.images.merge_size, budget)
    # log-probabilities of all scored tokens, in the order of the layouts
    logs = itertools.chain.from_iterable(_score(model, one) for one in packs)
    choices = (
        _choose(questions[i], pixels.name, tries[questions[i][1]], logs)
        for (pixels, questions), order in zip(groups, orders, strict=True)
        for i in order
    )
    return unsort(choices, orders)


def pick_class(choice: Choice, answers: AnswerSet) -> tuple[str, float]:
    """Return the official class of the most probable candidate, and that class's probability."""
    shares = choice.shares
    members = np.unique(answers.classes, return_inverse=True)[1]
    sums = np.bincount(members, weights=shares)
    best = int(sums.argmax())
    text = int(np.where(members == best, shares, -1).argmax())
    return answers.texts[text], min(1.0, float(sums[best]))


@dataclass(frozen=True, slots=True)
class _Trie:
    """The token trie of some candidates.

    Attributes:
        empty: whether the empty text is a candidate, which ends at the question.
        nodes: the first tokens, with their continuations.
        paths: for each candidate, the indices of its scored tokens.
        size: number of scored tokens.
    """

    empty: bool
    nodes: tuple[Node, ...]
    paths: tuple[tuple[int, ...], ...]
    size: int


def _trie(prompts: PromptFormat, candidates: Sequence[str]) -> _Trie:
    paths: dict[int, tuple[int, ...]] = {}
    number = itertools.count()  # scored tokens in the order of `flatten`

    def grow(rests: Rests, above: tuple[int, ...]) -> tuple[bool, tuple[Node, ...]]:
        """Return whether a candidate ends here, and the nodes below, by first appearance."""
        ending = [i for i, rest in rests if len(rest) == 1]  # only the end token is left
        if ending:
            paths.update(dict.fromkeys(ending, (*above, next(number))))
        by_first: dict[int, Rests] = {}
        for i, rest in rests:
            if len(rest) > 1:
                by_first.setdefault(rest[0], []).append((i, rest[1:]))
        nodes = []
        for first, below in by_first.items():
            ends, children = grow(below, (*above, next(number)))
            then = (prompts.end_id,) if ends else ()
            nodes.append(Node((first,), children, loss=True, extra_targets=then))
        return bool(ending), tuple(nodes)

    empty, nodes = grow([(i, prompts.answer_ids(c)) for i, c in enumerate(candidates)], ())
    return _Trie(empty, nodes, tuple(paths[i] for i in range(len(candidates))), next(number))


def _question(prompts: PromptFormat, question: str, trie: _Trie) -> Node:
    then = (prompts.end_id,) if trie.empty else ()
    return Node(prompts.question_ids(question), trie.nodes, extra_targets=then)


def _score(model: Any, batch: Pack) -> list[float]:
    rows, row_of = np.unique(batch.layout.predictors, return_inverse=True)
    inputs = make_inputs(batch, model, rows)
    logits = forward(model, inputs)  # (R, V)
    total = torch.cat([part.float().logsumexp(dim=1) for part in logits.split(_ROWS)])  # (R,)
    row = torch.from_numpy(row_of).to(logits.device)  # (L,)
    word = torch.from_numpy(batch.layout.targets).to(logits.device)  # (L,)
    found: list[float] = (logits[row, word].float() - total[row]).tolist()
    return found


def _choose(
    asked: tuple[str, tuple[str, ...]], image: str, trie: _Trie, logs: Iterator[float]
) -> Choice:
    """Sum the log-probabilities of one question's trie along every candidate's path."""
    question, candidates = asked
    mine = list(itertools.islice(logs, trie.size))
    sums = [sum(mine[i] for i in path) for path in trie.paths]
    require_finite_scores(sums, question, image)
    return Choice(candidates[int(np.argmax(sums))], tuple(sums))
