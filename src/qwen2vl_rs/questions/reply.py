r"""A model's reply: its answer apart from its thinking, and why there is none.

Reasoning models write their thoughts first (``<think>…</think>``; where the chat template opens
the tag, only its end is in the reply), and mark the answer (``<answer>…</answer>``,
``\boxed{…}``). Thoughts are never read as an answer, and two different marked answers are none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .latex import boxes, plain

CUT_OFF = "cut_off"
EMPTY = "empty"
NO_ANSWER = "no_answer"
UNCLEAR = "unclear"
CAUSES = (CUT_OFF, EMPTY, NO_ANSWER, UNCLEAR)
"""Why a reply cannot be read: it ended at the bound on its length; nothing was said; there are
thoughts, but no answer after them; what is said is not one clear answer of the question's type."""

_THOUGHTS = r"think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad"
_THINKING = re.compile(
    rf"<(?P<end>/?)(?:seed:)?(?:{_THOUGHTS})>"
    r"|\[(?P<end2>/?)think\]|◁(?P<end3>/?)think▷"
    r"|<\|(?:(?:begin_of_thought|start_thinking)|(?P<end4>end_of_thought|end_thinking))\|>",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>")  # OpenAI's harmony format
_TAG = r"(?:final_?|final )?answer|final|conclusion|response|output|solution"
_ANSWER = re.compile(
    rf"<(?P<end>/?)(?:{_TAG})>|\[(?P<end2>/?)answer\]"
    r"|<\|(?:(?:begin_of_box|begin_of_solution|start_response)"
    r"|(?P<end3>end_of_box|end_of_solution|end_response))\|>",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The answer in a reply.

    Attributes:
        text: the answer; empty where there is none.
        cause: why there is none, one of `CAUSES`; else empty.
    """

    text: str
    cause: str = ""


def spoken(reply: str) -> Spoken:
    """The answer in a reply, without thoughts and without the marks around it."""
    if not any(sign in reply for sign in "<[◁\\$"):  # most replies have no mark at all
        return Spoken(reply) if reply.strip() else Spoken("", EMPTY)
    rest, thoughts = _after_thoughts(reply)
    found = _marked(rest)
    if found.cause or found.text.strip():
        return found
    return Spoken("", NO_ANSWER if thoughts else EMPTY)


def _after_thoughts(reply: str) -> tuple[str, bool]:
    """What is said after the last thoughts, and whether there are any; open ones never end."""
    thoughts = False
    if channels := list(_CHANNEL.finditer(reply)):
        last = channels[-1]
        reply, thoughts = (reply[last.end() :] if last[1] == "final" else ""), True
    marks = list(_THINKING.finditer(reply))
    if not marks:
        return reply, thoughts
    if not _ends(marks[-1]):
        return "", True
    return reply[marks[-1].end() :], True


def _ends(mark: re.Match[str]) -> bool:
    return any(mark.groupdict().values())


def _marked(text: str) -> Spoken:
    """The text inside the marks of an answer; all of it where there are none."""
    marks = list(_ANSWER.finditer(text))
    if marks:
        inside = list(_between(text, marks))
        if inside:
            found = _only(inside)
        elif _ends(marks[-1]):  # the opening stands in the prompt
            found = Spoken(text[: marks[0].start()])
        else:  # the end was a stop word, or the reply was cut off
            found = Spoken(text[marks[-1].end() :])
    else:
        found = Spoken(text)
    if boxed := boxes(text):  # also outside the tags: two that differ are no answer
        answers = [plain(box) for box in boxed]
        if marks and not boxes(found.text):
            answers.append(plain(found.text))
        return _only(answers)
    if "\\" in found.text or "$" in found.text:
        return replace(found, text=plain(found.text))
    return found


def _between(text: str, marks: list[re.Match[str]]) -> Iterator[str]:
    for first, second in itertools.pairwise(marks):
        if not _ends(first) and _ends(second):
            yield text[first.end() : second.start()]


def _only(answers: list[str]) -> Spoken:
    """The answer that is marked once, or each time alike."""
    different = {" ".join(answer.split()).casefold() for answer in answers}
    return Spoken(answers[-1]) if len(different) == 1 else Spoken("", UNCLEAR)
