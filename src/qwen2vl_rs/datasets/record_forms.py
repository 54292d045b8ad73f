"""Records as other programs write them: by which keys each form is told, and what stands where.

A record of questions is read by `QUESTIONS`, one of answers by `PREDICTIONS`; a new program is a
line in one of these tables.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .file_opening import short

ASKING: Final = frozenset({"user", "human"})
ANSWERING: Final = frozenset({"assistant", "gpt"})
LEADING: Final = frozenset({"system", "developer"})
IMAGES: Final = (
    "image_path",
    "images",
    "image",
    "file_name",
    "images_file_names",
    "img_path",
    "image_file",
)
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "image": IMAGES,
    "question": ("question",),
    "answer": ("answer",),
    "type": ("type", "question_type", "category"),
    "id": ("id", "question_id", "index"),
}
"""What a question has, and the names under which it is looked for, the likeliest first."""
OPTIONS: Final = tuple("ABCDEFGH")
"""Columns of the choices that go with a question (VLMEvalKit)."""
OTHER_MEDIA: Final = ("videos", "video", "audios", "audio")
NAMED_HINT: Final = "say which they are: qwen2vl-rs csv2json --columns image=A,question=B,answer=C"


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """A form of records that hold questions with their answers.

    Attributes:
        keys: all of them stand in such a record.
        turns: keys of lists of turns, which follow each other.
        asked: where there are no turns: keys of the texts that make the question.
        answered: key of the answer to it.
        marked: whether an ``<image>`` must stand in the text for the image; else it may.
        plain: whether the texts are as they are: nothing in them is a mark or an instruction.
    """

    keys: frozenset[str]
    turns: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    answered: str = ""
    marked: bool = False
    plain: bool = False


QUESTIONS: Final = (
    # TRL
    QuestionForm(frozenset({"prompt", "completion"}), turns=("prompt", "completion")),
    # LLaMA-Factory's sharegpt, LLaVA
    QuestionForm(frozenset({"conversations"}), turns=("conversations",), marked=True),
    # ms-swift, LLaMA-Factory's openai: the former puts an image first that no mark stands for
    QuestionForm(frozenset({"messages"}), turns=("messages",)),
    # ms-swift
    QuestionForm(frozenset({"query", "response"}), asked=("query",), answered="response"),
    # LLaMA-Factory's alpaca
    QuestionForm(
        frozenset({"instruction", "output"}),
        asked=("instruction", "input"),
        answered="output",
        marked=True,
    ),
)
PLAIN: Final = QuestionForm(frozenset(), asked=("question",), answered="answer", plain=True)


KNOWN: Final = frozenset({"dataset", "system", "history", *OTHER_MEDIA, *OPTIONS}).union(
    *COLUMNS.values(), *(form.keys.union(form.asked) for form in QUESTIONS)
)
"""All keys that are read of a record."""


def question_form(keys: Iterable[str], columns: Mapping[str, str] | None = None) -> Any:
    """The form of a record with these keys; None where it holds no question about an image.

    Args:
        keys: of the record.
        columns: the names of its fields, where somebody says them.
    """
    there = frozenset(keys)
    if columns:
        return PLAIN
    if {"response", "labels"} <= there:  # results of ms-swift: what is said in them is a model's
        return None
    if found := next((form for form in QUESTIONS if form.keys <= there), None):
        return found
    is_plain = {"question", "answer"} <= there and not there.isdisjoint(IMAGES)
    return PLAIN if is_plain else None


@dataclass(frozen=True, slots=True)
class PredictionForm:
    """A form of records that hold a model's answer.

    Attributes:
        name: of the program, for messages.
        keys: all of them stand in such a record.
        either: one of these too, where there are any.
        fields: for each of our fields the places where it may stand; the first that holds
            something counts. A place is a path: ``doc.question``, ``arguments.0.0``.
        by_number: whether ``id`` numbers the questions of the test set from 0.
    """

    name: str
    keys: frozenset[str]
    fields: Mapping[str, tuple[str, ...]]
    either: frozenset[str] = frozenset()
    by_number: bool = False


_PROMPTS = ("input", "arguments.0.0", "arguments.gen_args_0.arg_0")
_DOC_TYPES = tuple(f"doc.{name}" for name in COLUMNS["type"])
PREDICTIONS: Final = (
    PredictionForm(
        "LLaMA-Factory",
        frozenset({"predict", "label"}),
        {"prediction": ("predict",), "answer": ("label",), "prompt": ("prompt",)},
    ),
    PredictionForm(
        "lmms-eval",
        frozenset({"doc_id"}),
        {
            "id": ("doc_id",),
            "prediction": ("filtered_resps", "resps"),
            "answer": ("target", "doc.answer"),
            "question": ("doc.question", *_PROMPTS),
            "prompt": _PROMPTS,
            "image": ("doc.image_path", "doc.image", "doc.image_id", "doc.img_id"),
            "type": _DOC_TYPES,
        },
        either=frozenset({"filtered_resps", "resps"}),
        by_number=True,
    ),
    PredictionForm(
        "VLMEvalKit",
        frozenset({"index", "prediction"}),
        {
            "id": ("index",),
            "prediction": ("prediction",),
            "answer": ("answer",),
            "question": ("question",),
            "image": ("image_path",),
            "type": COLUMNS["type"],
        },
        by_number=True,
    ),
    PredictionForm(
        "ms-swift",
        frozenset({"response"}),
        {
            "prediction": ("response",),
            "answer": ("labels", "label"),
            "question": ("messages", "query"),
            "image": ("images", "image"),
        },
        either=frozenset({"labels", "label", "messages"}),
    ),
)


def prediction_form(keys: Iterable[str]) -> PredictionForm | None:
    """The form of a record with these keys; None where it is ours or of nobody."""
    there = frozenset(keys)
    ours = {"question", "answer", "prediction"} <= there
    if ours and ("id" in there or "index" not in there):
        return None  # whatever else stands beside them
    for form in PREDICTIONS:
        if form.keys <= there and (not form.either or form.either & there):
            return form
    return None


def at(record: Any, place: str) -> Any:
    """What stands at a path in nested objects and lists; None where nothing does."""
    for part in place.split("."):
        if isinstance(record, Mapping):
            record = record.get(part)
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return None
    return record


def first_of(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first field that holds something; None where none does."""
    found = (record.get(name) for name in names)
    return next((value for value in found if not is_nothing(value)), None)


def is_nothing(value: Any) -> bool:
    """Whether a field holds nothing: null, NaN as tables have it, or an empty list."""
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))


def plain_text(value: Any) -> str | None:
    """A text, or a number as text; None for nothing, and of a list of one, what is in it.

    Raises:
        TypeError: it is something else.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if is_nothing(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise TypeError(f"{value!r:.40}")
    return str(int(value)) if value % 1 == 0 else repr(value)


def with_options(question: str, record: Mapping[str, Any]) -> str:
    """A question with the choices that stand in columns of their own, where there are two."""
    texts = {k: record[k] for k in OPTIONS if isinstance(record.get(k), str | int | float)}
    found = {k: str(text) for k, text in texts.items() if not is_nothing(text)}
    shown = [f"{k}. {text}" for k, text in found.items() if text.strip()]
    return "\n".join([question, *shown]) if len(shown) > 1 else question


def missing_column(names: Mapping[str, str], there: Iterable[str]) -> str:
    """What is wrong with names that somebody gave for columns; empty where all are there."""
    columns = list(there)
    for given in names.values():
        if given not in columns:
            near = difflib.get_close_matches(given, columns, n=1, cutoff=0.5)
            guess = f" (did you mean {short(near[0])}?)" if near else ""
            return f"there is no column {short(given)}{guess}; there are {listed(columns)}"
    return ""


def listed(columns: Iterable[str]) -> str:
    """The names of columns, for one line of a message."""
    shown = [short(name) for name in columns]
    return ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "") if shown else "none"
