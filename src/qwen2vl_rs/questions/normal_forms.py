"""Normal forms of answers, strict: what is not one clear answer is no answer, and so wrong.

An answer is judged by the type of its question, so that ``no`` can never stand for ``urban``.
Sentences are read where only one reading is left; the words decide, not the letters. Only the
answer is seen here, not the question: ``There is a road.`` is ``yes`` to any presence question.
"""

from __future__ import annotations

from .clean import LONGEST, clean
from .registry import remembered, type_named
from .reply import CUT_OFF, UNCLEAR, spoken


def normalise(text: str, type: str, question: str = "") -> str | None:
    """The normal form of an answer to a question of a type.

    ========================  =====================================================
    ``presence``, ``comp``    ``yes`` or ``no``
    ``rural_urban``           ``rural`` or ``urban``
    ``count``                 an integer (``47``) or an official bucket
    ``area``                  square metres (``624m2``) or an official bucket
    any other                 ``yes`` or ``no`` where it opens so, else the cleaned text
    ========================  =====================================================

    Thoughts and the marks around an answer are taken off first, see `reply.spoken`. Normal forms
    are their own normal forms. ``none`` is no number: it is what a missing answer
    looks like once printed, and a quarter to a half of all counts are zero.

    Args:
        text: the answer as given or as stored.
        type: the question's type, see `questions.grammar.question_type`.
        question: the question, for types whose questions say what they can be answered with.

    Returns:
        The normal form, or None where the text is no single, clear answer of that type.
    """
    return _normalise(text, type, question if type_named(type).by_question else "")


@remembered
def _normalise(text: str, type: str, question: str) -> str | None:
    text = spoken(text).text
    if len(text) > LONGEST:
        return None
    return type_named(type).of_question(question).normalise(clean(text))


def understood(reply: str, type: str, cut: bool = False, question: str = "") -> tuple[str, str]:
    """How a reply is read.

    Args:
        reply: what the model gave.
        type: of the question.
        cut: whether it ended at the bound on its length, and not by itself.
        question: see `normalise`.

    Returns:
        Its normal form, or else the answer in it as it stands; and why it cannot be read, one of
        `reply.CAUSES`, empty where it can.
    """
    answer, normal = spoken(reply), normalise(reply, type, question)
    if normal is None:
        return answer.text[:LONGEST], CUT_OFF if cut else answer.cause or UNCLEAR
    return normal, CUT_OFF if cut and type_named(type).may_go_on(answer.text) else ""
