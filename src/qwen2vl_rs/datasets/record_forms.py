"""Record formats of other tools: the keys that identify each format, and its fields.

`QUESTIONS` lists the formats of training data, `PREDICTIONS` those of results; a new tool is one
entry in one of these tables.
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
"""Our fields, and their possible names in files, in order of preference."""
OPTIONS: Final = tuple("ABCDEFGH")
"""Columns with the options of a question (VLMEvalKit)."""
OTHER_MEDIA: Final = ("videos", "video", "audios", "audio")
NAMED_HINT: Final = "name the columns: qwen2vl-rs csv2json --columns image=A,question=B,answer=C"


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """A format of records with questions and answers.

    Attributes:
        keys: keys that such a record must have.
        turns: keys of lists of turns, in order.
        asked: without turns: keys of the texts that form the question.
        answered: without turns: key of the answer.
        marked: whether the text must contain an ``<image>`` for the image.
        plain: whether texts are verbatim, without image marks and instruction.
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
    # ms-swift, LLaMA-Factory's openai; ms-swift prepends images without a mark
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
"""All keys that are read from a record."""


def question_form(keys: Iterable[str], columns: Mapping[str, str] | None = None) -> Any:
    """Return the format of a record with these keys; None if it is not a question on an image.

    Args:
        keys: keys of the record.
        columns: column names given by the user.
    """
    there = frozenset(keys)
    if columns:
        return PLAIN
    if {"response", "labels"} <= there:  # results of ms-swift: the answers are a model's
        return None
    if found := next((form for form in QUESTIONS if form.keys <= there), None):
        return found
    is_plain = {"question", "answer"} <= there and not there.isdisjoint(IMAGES)
    return PLAIN if is_plain else None


@dataclass(frozen=True, slots=True)
class PredictionForm:
    """A format of records with a model's answer.

    Attributes:
        name: name of the tool, for messages.
        keys: keys that such a record must have.
        either: keys of which it must have one, if any are listed.
        fields: for each of our fields, possible paths (``doc.question``, ``arguments.0.0``); the
            first non-empty one is used.
        by_number: whether ``id`` is the index of the question in the test set, from 0.
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
    """Return the format of a record with these keys; None if it is ours or unknown."""
    there = frozenset(keys)
    ours = {"question", "answer", "prediction"} <= there
    if ours and ("id" in there or "index" not in there):
        return None  # other keys do not matter
    for form in PREDICTIONS:
        if form.keys <= there and (not form.either or form.either & there):
            return form
    return None


def value_at(record: Any, place: str) -> Any:
    """Return the value at a path in nested objects and lists; None if there is none."""
    for part in place.split("."):
        if isinstance(record, Mapping):
            record = record.get(part)
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return None
    return record


def first_value(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first non-empty field; None if all are empty."""
    found = (record.get(name) for name in names)
    return next((value for value in found if not is_empty(value)), None)


def is_empty(value: Any) -> bool:
    """Whether a value is null, NaN (a gap in a table) or an empty list."""
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))


def plain_text(value: Any) -> str | None:
    """Return a text, or a number as text; None if empty. Lists of one item are unwrapped.

    Raises:
        TypeError: the value has another type.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if is_empty(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise TypeError(f"{value!r:.40}")
    return str(int(value)) if value % 1 == 0 else repr(value)


def with_options(question: str, record: Mapping[str, Any]) -> str:
    """Append the options in separate columns to a question, if there are at least two."""
    texts = {k: record[k] for k in OPTIONS if isinstance(record.get(k), str | int | float)}
    found = {k: str(text) for k, text in texts.items() if not is_empty(text)}
    shown = [f"{k}. {text}" for k, text in found.items() if text.strip()]
    return "\n".join([question, *shown]) if len(shown) > 1 else question


def missing_column(names: Mapping[str, str], there: Iterable[str]) -> str:
    """Return a message about column names that do not exist; empty if all exist."""
    columns = list(there)
    for given in names.values():
        if given not in columns:
            near = difflib.get_close_matches(given, columns, n=1, cutoff=0.5)
            guess = f" (did you mean {short(near[0])}?)" if near else ""
            return (
                f"there is no column {short(given)}{guess}; the columns are {list_names(columns)}"
            )
    return ""


def list_names(columns: Iterable[str]) -> str:
    """List column names for one line of a message."""
    shown = [short(name) for name in columns]
    return ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "") if shown else "none"
