"""Normal forms of answers, strict: an answer that is not clear has none, and counts as wrong.

Parsing depends on the question type, so that ``no`` never matches ``urban``. Sentences are accepted
if only one reading is possible; whole words are compared, never substrings. The question itself is
not considered: ``There is a road.`` is ``yes`` to any presence question.
"""

from __future__ import annotations

from .clean import LONGEST, clean
from .registry import cached_by_types, type_named
from .reply import CUT_OFF, UNCLEAR, extract_answer


def normalise(text: str, type: str, question: str = "") -> str | None:
    """Return the normal form of an answer.

    ========================  =====================================================
    ``presence``, ``comp``    ``yes`` or ``no``
    ``rural_urban``           ``rural`` or ``urban``
    ``count``                 an integer (``47``) or an official bucket
    ``area``                  square metres (``624m2``) or an official bucket
    any other                 ``yes`` or ``no`` if it begins so, else the cleaned text
    ========================  =====================================================

    Reasoning and the markup around the answer are removed first, see `reply.extract_answer`. The
    function is idempotent. ``none`` is not a number: a missing answer may be printed so, and a
    quarter to a half of all counts are zero.

    Args:
        text: answer of a model, or ground truth.
        type: question type, see `questions.grammar.question_type`.
        question: the question, for types whose questions contain the options.

    Returns:
        The normal form, or None if the text is not a single, clear answer of that type.
    """
    return _normalise(text, type, question if type_named(type).has_options else "")


@cached_by_types
def _normalise(text: str, type: str, question: str) -> str | None:
    text = extract_answer(text).text
    if len(text) > LONGEST:
        return None
    return type_named(type).of_question(question).normalise(clean(text))


def interpret(reply: str, type: str, cut: bool = False, question: str = "") -> tuple[str, str]:
    """Read a model's reply.

    Args:
        reply: output of the model.
        type: question type.
        cut: whether the reply was truncated at the length limit.
        question: see `normalise`.

    Returns:
        The normal form, or the extracted text if there is none; and why the reply cannot be read,
        one of `reply.CAUSES`, empty if it can.
    """
    answer, normal = extract_answer(reply), normalise(reply, type, question)
    if normal is None:
        return answer.text[:LONGEST], CUT_OFF if cut else answer.cause or UNCLEAR
    return normal, CUT_OFF if cut and type_named(type).may_continue(answer.text) else ""
