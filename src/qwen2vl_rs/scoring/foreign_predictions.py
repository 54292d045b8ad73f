"""Results of other programs under our names: LLaMA-Factory, ms-swift, lmms-eval, VLMEvalKit."""

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
    at,
    is_nothing,
    prediction_form,
    with_options,
)
from ..datasets.tabular import PARQUET, table
from ..instruction import bare_question
from ..system.named_files import open_named

_HEAD = 1 << 16
_MARKS = re.compile(r"<image>|<\|(?:vision_start|vision_end|image_pad)\|>")
# the last turn of a user in a prompt of Qwen's, whose marks may have been left out
_ASKED = re.compile(
    r"(?:<\|im_start\|>|^|\n)user\n((?:(?!<\|im_start\|>|\nuser\n).)*?)(?:<\|im_end\|>\n?|\n)"
    r"(?:<\|im_start\|>)?assistant\n?\Z",
    re.DOTALL,
)


def records(path: Path, hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a file of predictions, each with its line or row: JSON Lines, or a table.

    Args:
        path: the file.
        hint: what a line looks like.

    Raises:
        DataError: it cannot be read, or is neither.
    """
    if _is_table(path):
        found = table(path)
        for number, row in found.records(found.columns):
            yield number, {k: None if is_nothing(v) else v for k, v in row.items()}
    else:
        yield from json_lines(path, hint)


def _is_table(path: Path) -> bool:
    """Whether a file is a table of predictions; what cannot be read is none."""
    if is_workbook(path):
        return True
    try:
        with open_named(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # said where it is read
    names = head.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf")
    columns = {name.strip(b' \r"') for name in re.split(rb"[\t,]", names)}
    return head.startswith(PARQUET) or (b"prediction" in columns and b"{" not in names)


def ours(record: dict[str, Any]) -> tuple[dict[str, Any], PredictionForm | None]:
    """A record under our names, and whose form it has; None where it has no other than ours."""
    form = prediction_form(record)
    if form is None:
        return record, None
    found: dict[str, Any] = {}
    for name, places in form.fields.items():
        values = (_value(at(record, place), name) for place in places)
        found[name] = next((value for value in values if not is_nothing(value)), None)
    question = found.get("question")
    if not question and (question := asked_in(found.get("prompt"))):
        del found["prompt"]  # the question is known, and nothing else is compared
    if isinstance(question, str):
        found["question"] = with_options(question, record)
    if found.get("image") is not None and not isinstance(found["image"], str):
        found["image"] = None  # some name it by a number, or not at all
    return found, form


def _value(value: Any, name: str) -> Any:
    """What is in lists of one and in objects of an image; of turns the last question."""
    while isinstance(value, list) and len(value) == 1 and not isinstance(value[0], Mapping):
        value = value[0]
    if name == "image":
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        return value.get("path") if isinstance(value, Mapping) else value
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        asked = [one.get("content") for one in value if one.get("role") in tuple(ASKING)]
        value = asked[-1] if asked else None
        if isinstance(value, list):  # a text beside an image
            value = "".join(text for one in value if isinstance(text := at(one, "text"), str))
    return _bare(value) if name == "question" and isinstance(value, str) else value


def asked_in(prompt: Any) -> str:
    """The question in a prompt as Qwen's models are given it; empty where it is written otherwise.

    Args:
        prompt: with its marks for turns, or without them as ``skip_special_tokens`` leaves it.
    """
    found = _ASKED.search(prompt) if isinstance(prompt, str) else None
    return _bare(found[1]) if found else ""


def _bare(question: str) -> str:
    return bare_question(_MARKS.sub("", question), InputConfig().instruction)
