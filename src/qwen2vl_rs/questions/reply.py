r"""Extract the answer from a model's reply: remove reasoning and answer tags.

Reasoning models write their reasoning first (``<think>…</think>``; if the chat template opens the
tag, the reply contains only the end tag) and mark the answer (``<answer>…</answer>``,
``\boxed{…}``). Reasoning is never read as an answer; two different marked answers are unclear.
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
"""Why a reply cannot be read: truncated at the length limit; empty; reasoning without an answer;
not a single clear answer of the question type."""

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
class ExtractedAnswer:
    """The answer extracted from a reply.

    Attributes:
        text: the answer; empty if there is none.
        cause: why there is no answer, one of `CAUSES`; else empty.
    """

    text: str
    cause: str = ""


def extract_answer(reply: str) -> ExtractedAnswer:
    """Return the answer in a reply, without reasoning and tags."""
    if not any(sign in reply for sign in "<[◁\\$"):  # fast path: most replies have no markup
        return ExtractedAnswer(reply) if reply.strip() else ExtractedAnswer("", EMPTY)
    rest, thoughts = _after_thoughts(reply)
    found = _marked(rest)
    if found.cause or found.text.strip():
        return found
    return ExtractedAnswer("", NO_ANSWER if thoughts else EMPTY)


def _after_thoughts(reply: str) -> tuple[str, bool]:
    """Return the text after the reasoning, and whether there was any; unclosed tags never end."""
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


def _marked(text: str) -> ExtractedAnswer:
    """Return the text inside the answer tags; the whole text if there are none."""
    marks = list(_ANSWER.finditer(text))
    if marks:
        inside = list(_between(text, marks))
        if inside:
            found = _only(inside)
        elif _ends(marks[-1]):  # the opening tag is in the prompt
            found = ExtractedAnswer(text[: marks[0].start()])
        else:  # the end tag was a stop word, or the reply was truncated
            found = ExtractedAnswer(text[marks[-1].end() :])
    else:
        found = ExtractedAnswer(text)
    if boxed := boxes(text):  # also outside the tags: two different answers are unclear
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


def _only(answers: list[str]) -> ExtractedAnswer:
    """Return the marked answer if all marked answers are the same."""
    different = {" ".join(answer.split()).casefold() for answer in answers}
    return ExtractedAnswer(answers[-1]) if len(different) == 1 else ExtractedAnswer("", UNCLEAR)
