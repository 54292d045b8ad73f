"""Closed answers: the exact probability of every answer in a question's answer set.

The candidates hang below their question as a trie: what two of them have in common is fed once,
and end tokens are not fed at all. One pass gives the log-likelihood of all candidates.

Shapes: L scored tokens of a pack, R tokens whose output they are read from, V words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .answer import forward
from .images import Pixels
from .loader import Base
from .packing import Ask, Pack, pack, put_back, sharing_order
from .prompt import PromptFormat
from .tree import Node
from .vision import encoded


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model chose from an answer set.

    Attributes:
        text: the most probable candidate.
        confidence: its probability among the candidates.
        mass: probability that the model gives to all candidates together, among all texts.
        logs: log-likelihood of every candidate with its end token, in the order given.
    """

    text: str
    confidence: float
    mass: float
    logs: tuple[float, ...]


@torch.inference_mode()
def choose(
    base: Base,
    model: Any,
    groups: Sequence[tuple[Pixels, Sequence[tuple[str, Sequence[str]]]]],
    *,
    budget: int = 4096,
) -> list[list[Choice]]:
    """Choose an answer to every question from its own answer set.

    Args:
        base: gives prompt format and image grid.
        model: ``base.model``, or the same with an adapter.
        groups: images with their questions, each with its candidates (all different).
        budget: most tokens in a pack.

    Returns:
        For each image the choices in the order of its questions.
    """
    asks, orders = sharing_order(
        [
            Ask(encoded(model, pixels), [_question(base.prompts, q, c) for q, c in questions])
            for pixels, questions in groups
        ]
    )
    logs = _token_logs(base, model, asks, budget)
    choices = (
        _choose(base.prompts, questions[i][1], logs)
        for (_, questions), order in zip(groups, orders, strict=True)
        for i in order
    )
    return put_back(choices, orders)


def _question(prompts: PromptFormat, question: str, candidates: Sequence[str]) -> Node:
    ends, children = _trie([prompts.answer_ids(c) for c in candidates], prompts.end_id)
    return Node(prompts.question_ids(question), children, then=(prompts.end_id,) if ends else ())


def _trie(rests: Sequence[Sequence[int]], end: int) -> tuple[bool, tuple[Node, ...]]:
    """Whether a candidate ends here, and the nodes of what follows, by first appearance."""
    by_first: dict[int, list[Sequence[int]]] = {}
    for rest in rests:
        if len(rest) > 1:
            by_first.setdefault(rest[0], []).append(rest[1:])
    nodes = []
    for first, below in by_first.items():
        ends, children = _trie(below, end)
        nodes.append(Node((first,), children, loss=True, then=(end,) if ends else ()))
    return any(len(rest) == 1 for rest in rests), tuple(nodes)


def _token_logs(base: Base, model: Any, asks: Sequence[Ask], budget: int) -> Iterator[float]:
    """Log-probabilities of all scored tokens, in the order of the layouts."""
    for batch in pack(asks, base.prompts, base.images.merge, budget):
        yield from _score(model, batch)


def _score(model: Any, batch: Pack) -> list[float]:
    rows, row_of = np.unique(batch.layout.predictors, return_inverse=True)
    logits = forward(model, batch, torch.from_numpy(rows)).float()  # (R, V)
    total = torch.logsumexp(logits, dim=1)  # (R,)
    row = torch.from_numpy(row_of).to(logits.device)  # (L,)
    word = torch.from_numpy(batch.layout.targets).to(logits.device)  # (L,)
    found: list[float] = (logits[row, word] - total[row]).tolist()
    return found


def _choose(prompts: PromptFormat, candidates: Sequence[str], logs: Iterator[float]) -> Choice:
    """Sum the logs of one question's trie along the path of every candidate."""
    rests = {c: tuple(prompts.answer_ids(c)) for c in candidates}
    found: dict[tuple[int, ...], float] = {}

    def walk(prefix: tuple[int, ...], so_far: float) -> None:
        # the same order as in `lay_out`: a node's own token, its end, then its children
        here = [r for r in rests.values() if r[: len(prefix)] == prefix]
        if any(len(r) == len(prefix) + 1 for r in here):
            found[(*prefix, prompts.end_id)] = so_far + next(logs)
        firsts = dict.fromkeys(r[len(prefix)] for r in here if len(r) > len(prefix) + 1)
        for first in firsts:
            walk((*prefix, first), so_far + next(logs))

    walk((), 0.0)
    scores = torch.tensor([found[rests[c]] for c in candidates], dtype=torch.float64)
    shares = torch.softmax(scores, dim=0)
    best = int(shares.argmax())
    return Choice(
        text=candidates[best],
        confidence=float(shares[best]),
        mass=float(scores.exp().sum()),
        logs=tuple(scores.tolist()),
    )
