"""Format an inspected question for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..scoring.tables import aligned
from ..system.terminal import printable_lines

if TYPE_CHECKING:
    from ..engine.inspection import Branch, InspectedSample, SharedPrefix, Token


def inspection_text(found: InspectedSample, tree: bool = False) -> str:
    """Return the tokens of a question as a table, with the image and the shared prefix.

    Args:
        found: the question.
        tree: whether to show the tree of the questions in its training step.
    """
    sample = found.sample
    head = [
        f"id        {sample.id}",
        f"question  {sample.question}",
        f"answer    {sample.answer}",
        f"image     {sample.image}",
        f"          {_size(found.size)} pixels, resized to {_size(found.resized)}: "
        f"{found.visual_tokens:,} visual tokens",
    ]
    if found.part not in ("train", "data"):
        head.append(f"part      {found.part}, which is not trained on: shown as if it were")
    rows = [["index", "id", "positions (t, h, w)", "loss", "part", "text"]]
    rows += [_row(token) for token in found.tokens]
    lost = sum(token.loss for token in found.tokens)
    total = sum(token.count for token in found.tokens if token.index is not None)
    sums = [f"{total:,} tokens are fed, {lost:,} carry loss; the end token is only predicted"]
    blocks = [head, _left(rows), sums, _prefix(found.prefix)]
    if tree:
        blocks.append([_branch(one) for one in found.prefix.branches])
    return "\n\n".join(map(printable_lines, blocks))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]:,} × {size[1]:,}"


def _row(token: Token) -> list[str]:
    index = "–" if token.index is None else str(token.index)
    if token.count > 1 and token.index is not None:
        index = f"{token.index}–{token.index + token.count - 1}"
    places = " to ".join(", ".join(map(str, one)) for one in token.positions) or "–"
    text = repr(token.text) + (f" × {token.count:,}" if token.count > 1 else "")
    return [index, str(token.id), places, "loss" if token.loss else "", token.part, text]


def _left(rows: list[list[str]]) -> list[str]:
    """Align columns; the last two to the left."""
    width = max(len(row[4]) for row in rows)
    numbers = aligned([row[:4] for row in rows])
    longest = max(map(len, numbers))
    return [
        f"{line:<{longest}}  {row[4]:<{width}}  {row[5]}"
        for line, row in zip(numbers, rows, strict=True)
    ]


def _prefix(one: SharedPrefix) -> list[str]:
    less = one.separate / one.tokens
    return [
        f"In step {one.step:,} of the first epoch, {one.questions:,} questions about this image "
        "share one sequence:",
        f"  {one.tokens:,} tokens instead of {one.separate:,} ({less:.1f} × fewer), of these "
        f"{one.loss:,} targets with loss",
        f"  saved: {one.image:,} of the image and what is before it, {one.wording:,} of common "
        "beginnings of questions",
    ]


def _branch(one: Branch) -> str:
    return f"{'  ' * one.depth}{'→ ' if one.loss else ''}{one.text!r}  ({one.tokens})"
