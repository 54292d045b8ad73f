"""Read prediction files of other tools: LLaMA-Factory, ms-swift, lmms-eval, VLMEvalKit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import InputConfig
from ..datasets.file_opening import is_workbook
from ..datasets.json_lines import json_lines
from ..datasets.record_forms import (
    ASKING,
    PredictionForm,
    is_empty,
    prediction_form,
    value_at,
    with_options,
)
from ..datasets.tabular import PARQUET, table
from ..instruction import bare_question
from ..system.named_files import open_named

_HEAD = 1 << 16
_MARKS = re.compile(r"<image>|<\|(?:vision_start|vision_end|image_pad)\|>")
# the last user turn in a Qwen prompt, with or without special tokens
_ASKED = re.compile(
    r"(?:<\|im_start\|>|^|\n)user\n((?:(?!<\|im_start\|>|\nuser\n).)*?)(?:<\|im_end\|>\n?|\n)"
    r"(?:<\|im_start\|>)?assistant\n?\Z",
    re.DOTALL,
)


def records(path: Path, hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line or row numbers and records of a prediction file: JSON Lines or a table.

    Args:
        path: the file.
        hint: example of a line, for errors.

    Raises:
        DataError: the file cannot be read, or has another format.
    """
    if _is_table(path):
        found = table(path)
        for number, row in found.records(found.columns):
            yield number, {k: None if is_empty(v) else v for k, v in row.items()}
    else:
        yield from json_lines(path, hint)


def _is_table(path: Path) -> bool:
    """Whether a file is a table of predictions; False if it cannot be read."""
    if is_workbook(path):
        return True
    try:
        with open_named(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # the reader raises the error
    names = head.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf")
    columns = {name.strip(b' \r"') for name in re.split(rb"[\t,]", names)}
    return head.startswith(PARQUET) or (b"prediction" in columns and b"{" not in names)


def to_our_fields(record: dict[str, Any]) -> tuple[dict[str, Any], PredictionForm | None]:
    """Convert a record to our field names; also return its format, None if it is ours."""
    form = prediction_form(record)
    if form is None:
        return record, None
    found: dict[str, Any] = {}
    for name, places in form.fields.items():
        values = (_value(value_at(record, place), name) for place in places)
        found[name] = next((value for value in values if not is_empty(value)), None)
    question = found.get("question")
    if not question and (question := question_in_prompt(found.get("prompt"))):
        del found["prompt"]  # the question is known: the prompt is not compared
    if isinstance(question, str):
        found["question"] = with_options(question, record)
    if found.get("image") is not None and not isinstance(found["image"], str):
        found["image"] = None  # some tools write a number
    return found, form


def _value(value: Any, name: str) -> Any:
    """Unwrap lists of one item and image objects; return the last question of turns."""
    while isinstance(value, list) and len(value) == 1 and not isinstance(value[0], Mapping):
        value = value[0]
    if name == "image":
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        return value.get("path") if isinstance(value, Mapping) else value
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        asked = [one.get("content") for one in value if one.get("role") in tuple(ASKING)]
        value = asked[-1] if asked else None
        if isinstance(value, list):  # a text beside an image
            value = "".join(text for one in value if isinstance(text := value_at(one, "text"), str))
    return _bare(value) if name == "question" and isinstance(value, str) else value


def question_in_prompt(prompt: Any) -> str:
    """Extract the question from a prompt in Qwen's chat format; empty for other formats.

    Args:
        prompt: with special tokens, or without them (``skip_special_tokens``).
    """
    found = _ASKED.search(prompt) if isinstance(prompt, str) else None
    return _bare(found[1]) if found else ""


def _bare(question: str) -> str:
    return bare_question(_MARKS.sub("", question), InputConfig().instruction)
