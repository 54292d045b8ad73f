"""Question type ``choice``: multiple choice with lettered options; the answer is a letter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase as LETTERS

from .clean import clean, is_hedged, is_negated, words_of
from .question_type import QuestionType

NAME = "choice"
_USUAL = 8  # letters, if the options are unknown
_LINE = re.compile(r"^[ \t]*(?:\(([A-Z])\)|([A-Z])[ \t]*[.):：、])[ \t]*(\S.*?)\s*$", re.MULTILINE)
_LOWER_LINE = re.compile(
    r"^[ \t]*(?:\(([a-z])\)|([a-z])[.)])[ \t]+(\S.*?)\s*$", re.MULTILINE
)  # without a blank: a.m., e.g.
_INLINE = re.compile(r"(?<!\S)(?:\(([A-Z])\)|([A-Z])[.)])\s*(?=\S)")
_LINES = (_LINE, _LOWER_LINE)
_BEFORE = re.compile(r"(?:\A|\n|[^\w\s])\s*\Z")  # the start, or a punctuation mark
_LEAD = re.compile(
    r"^(?:(?:so|therefore|thus|i (?:think|believe)(?: that)?"
    r"|(?:based on|according to) (?:the|this) (?:image|picture|scene)(?: provided)?),? )?"
    r"(?:(?:the )?(?:best |correct |right |final )*(?:answer|option|choice)(?: is)?:? ?\(?"
    r"|i (?:would )?(?:choose|pick|select) (?:option )?\(?"
    r"|(?:it|this|that|the (?:image|scene|picture)) (?:is|shows|depicts) "
    r"|(?:正确)?答案(?:是|为|应为)?[:：]? ?|我?(?:应该?)?选择?项? ?)"
)
_BEHIND = re.compile(
    r" (?:is|would be) (?:the )?(?:best|correct|right)(?: (?:answer|option|choice))?$"
)
_ARTICLE = re.compile(r"^(?:an?|the) (?=.)")
_LETTER = re.compile(r"([a-z])(?:(?P<mark> ?[.):,：、-]+) ?| |$)(?P<rest>.*)")
_LETTERS = re.compile(r"\(?[a-z]\)?(?:(?: ?[,;&] ?| and |, and | ?)\(?[a-z]\)?)*")


def options(question: str) -> dict[str, str]:
    """Return the options of a question by letter, from A; empty if it has none.

    Options are one per line (``A. road``, ``A.road``, ``(A) road``, ``A: road``, ``a. road``), or
    all in one line after a punctuation mark (``Which? A. road B. park``).
    """
    lines = ([((m[1] or m[2]).upper(), m[3]) for m in line.finditer(question)] for line in _LINES)
    return next(filter(None, map(_run, lines)), None) or _run(list(_inline(question)))


def _inline(question: str) -> Iterator[tuple[str, str]]:
    marks: list[re.Match[str]] = []
    for mark in _INLINE.finditer(question):
        if not marks and not _BEFORE.search(question, 0, mark.start()):
            continue  # in a sentence: is it in area A. or …
        if (mark[1] or mark[2]) == LETTERS[len(marks) % len(LETTERS)]:
            marks.append(mark)
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    for mark, end in zip(marks, ends, strict=False):
        yield mark[1] or mark[2], question[mark.end() : end].strip()


def _run(found: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the last sequence of letters in order from A, if it has at least two."""
    start = max((i for i, (letter, _) in enumerate(found) if letter == "A"), default=len(found))
    run: dict[str, str] = {}
    for letter, text in found[start:]:
        if letter == LETTERS[len(run) % len(LETTERS)] and letter not in run:
            run[letter] = text
    return run if len(run) > 1 else {}


@dataclass(frozen=True)
class Choice(QuestionType):
    """One letter, or several that are compared as a set; ``choice/TASK`` is scored separately.

    Attributes:
        texts: texts of the options, in letter order; empty if unknown.
    """

    name: str = NAME
    other_names: tuple[str, ...] = ("multiplechoice", "multichoice", "mcq")
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r".+? (?:\(a\)|a[.):]) ?.+? (?:\(b\)|b[.):]) ?.+"),
    )
    has_options: bool = True
    has_subtypes: bool = True
    texts: tuple[str, ...] = ()

    def of_question(self, question: str) -> QuestionType:
        """Return the type with the letters of the question's options as choices."""
        found = options(question)
        return replace(self, choices=tuple(found), texts=tuple(map(clean, found.values())))

    def normalise(self, answer: str) -> str | None:
        """Return ``B``, or ``A,C`` for several letters; None if the answer is ambiguous.

        Accepted are the letter, alone or with punctuation; the letter with the text of its option,
        or with words that name no other option; and the text of one option alone.
        """
        if len(answer) == 1 and self._offers(answer):  # wins over the texts of the options
            return answer.upper()
        shorter = _BEHIND.sub("", _LEAD.sub("", answer, count=1).strip(" ()."))
        for text in dict.fromkeys((answer, shorter)):
            if exact := self._by_text(text):
                return exact if self._by_letter(text) in (None, exact) else None
            if found := self._several(text) or self._by_letter(text):
                return found
        return None

    def may_continue(self, answer: str) -> bool:
        """Return False for a lone letter that is not also a word."""
        return not re.fullmatch(r"\W*(?:[A-Z]\W+|[B-HJ-Z])", answer.strip())

    def _by_text(self, answer: str) -> str | None:
        """Return the letter of the option with this text, with or without an article."""
        for change in (str, _without_article):
            found = [i for i, text in enumerate(self.texts) if change(text) == change(answer)]
            if found:
                return LETTERS[found[0]] if len(found) == 1 else None
        return None

    def _by_letter(self, answer: str) -> str | None:
        found = _LETTER.fullmatch(answer)
        if not found or not self._offers(found[1]):
            return None
        letter, rest = found[1].upper(), found["rest"].strip(" ()")
        if not rest:
            return letter
        own = self.texts[LETTERS.index(letter)] if self.texts else ""
        if rest == own or _without_article(rest) == _without_article(own):
            return letter
        return letter if found["mark"] and self._names_no_other(rest, own) else None

    def _names_no_other(self, rest: str, own: str) -> bool:
        """Whether the text after a letter names no other option and is not negated or hedged."""
        others = [text for text in self.texts if text and text != own]
        longer = any(own in text and _within(text).search(rest) for text in others)
        rest = _within(own).sub(" ", rest) if own else rest
        words = words_of(rest)
        if longer or is_hedged(rest, words) or is_negated(words):
            return False
        named = any(_within(text).search(rest) for text in others)
        return not named and not re.search(
            r"(?<![\w'])(?:[b-hj-z](?![\w'])|a(?=[.):,;]| and\b|$))", rest
        )

    def _several(self, answer: str) -> str | None:
        if not _LETTERS.fullmatch(answer):
            return None
        letters = re.findall(r"[a-z]", answer.replace(" and ", ","))
        word = answer.isalpha() and letters != sorted(set(letters))  # such as "bad"
        if word or not all(map(self._offers, letters)):
            return None
        return ",".join(sorted({letter.upper() for letter in letters}))

    def _offers(self, letter: str) -> bool:
        return letter.upper() in (self.choices or LETTERS[:_USUAL])


def _within(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")


def _without_article(text: str) -> str:
    return _ARTICLE.sub("", text)
