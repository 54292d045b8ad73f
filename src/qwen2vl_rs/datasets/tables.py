"""The two tables of the original description: a CSV, and conversations in JSON.

CSV, RFC 4180, UTF-8, header ``image_path,question,answer[,type]``::

    /abs/2.tif,Is there a road?,yes

Conversations, one object a line inside a list::

    {"id": "rsvqa_1", "conversations": [
        {"from": "user", "value": "Is there a road? <|vision_start|>/abs/2.tif<|vision_end|>"},
        {"from": "assistant", "value": "yes"}]}

Where question or path hold one of the two marks themselves, the record carries the path once
more, as ``"image"``, so that it is read back exactly. ``"dataset"`` and ``"manner"`` say what
`types.Sample` says; a CSV has them in the note beside it, see `datasets.table_notes`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..known_datasets import dataset_name
from ..system.console import say
from ..system.files import atomic_write
from ..system.scopes import Shared
from ..types import Sample, canonical_manner
from . import json_records as jsonstream
from .base import Row, no_text, rows_of
from .file_opening import opened, short

Lines = Iterator[tuple[int, list[str]]]
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
COLUMNS = ("image_path", "question", "answer")
_ASKING = frozenset({"user", "human"})
_ANSWERING = frozenset({"assistant", "gpt"})
FIELD_LIMIT = 1_000_000
"""The most characters a field of the CSV may have; an open quotation mark is noticed by it."""

_PLAIN = {"id", "conversations", "type", "dataset", "manner"}
_quoted = json.encoder.encode_basestring  # as `jsonl.to_json`

_TOO_LONG = f"is longer than {FIELD_LIMIT:,} characters"
_TOO_LONG_HINT = "questions and answers are sentences: shorten it or leave the question out"
_NUL_HINT = "take the NUL out of the text or leave the question out"
_FORMULA = ("=", "+", "-", "@")
_EMPTY_HINT = "take another file: all of its questions are left out"
_HEADER_HINT = (
    f"the first line must name the columns {','.join(COLUMNS)}, or say which they are: "
    "qwen2vl-rs csv2json --columns image=A,question=B,answer=C"
)


def write_csv(path: Path, samples: Iterable[Sample], with_type: bool) -> int:
    """Write samples as a CSV table; returns their number.

    Args:
        path: the file; it appears whole, or, on any error, not at all.
        samples: consumed one at a time.
        with_type: also write the column ``type``.

    Raises:
        DataError: there are no samples, or a text holds a character that a CSV cannot hold or
            is longer than `FIELD_LIMIT`.
        RunError: the folder cannot be written to.
    """
    n = formulas = 0
    with atomic_write(path) as file:
        plain = csv.writer(file, lineterminator="\n")
        # without this, a lone carriage return would be read back as the end of the row
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow([*COLUMNS, "type"] if with_type else COLUMNS)
        for n, sample in enumerate(samples, 1):  # noqa: B007 - the number is returned
            row = [sample.image, sample.question, sample.answer]
            if with_type:
                row.append(sample.type)
            formulas += any(text.startswith(_FORMULA) for text in row)
            text = "".join(row)
            if "\0" in text:
                raise DataError(
                    f"sample {sample.id} holds a NUL, which no CSV can hold", hint=_NUL_HINT
                )
            if len(text) > FIELD_LIMIT and max(map(len, row)) > FIELD_LIMIT:
                raise DataError(f"sample {sample.id}: a field {_TOO_LONG}", hint=_TOO_LONG_HINT)
            try:
                (quoted if "\r" in text else plain).writerow(row)
            except UnicodeEncodeError as error:
                raise no_text(sample.id, sample.image) from error
        if n == 0:
            raise DataError(f"nothing to write to {path}: there are no samples", hint=_EMPTY_HINT)
    if formulas:
        say(
            f"{formulas:,} rows hold a text that begins with =, +, - or @, written as it is: a "
            "spreadsheet may take it for a formula"
        )
    return n


def read_csv(path: Path) -> Iterator[Sample]:
    """The samples of a CSV table; ids are ``rsvqa_<row>``, rows counted from 1.

    Columns may stand in any order and others beside them; byte order mark and CRLF are fine.

    Raises:
        DataError: the file is missing, empty, no UTF-8, lacks a column, or a row has too few
            or too many fields, an empty one of the three, a NUL, an open quotation mark or an
            overlong field; the line number counts from 1 and is that of the row's first line.
    """
    header, rows = csv_table(path)
    listed = short(", ".join(header))
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(
            f"{path} lacks the column {', '.join(missing)}; it has {listed or 'none'}",
            hint=_separated(header) or _HEADER_HINT,
        )
    if twice := sorted({name for name in header if header.count(name) > 1} & {*COLUMNS, "type"}):
        raise DataError(f"{path} has the column {', '.join(twice)} twice", hint=_HEADER_HINT)
    image, question, answer = (header.index(name) for name in COLUMNS)
    kind = header.index("type") if "type" in header else None
    n = 0
    for n, (line, row) in enumerate(rows, 1):
        for name, k in zip(COLUMNS, (image, question, answer), strict=True):
            if not (row[k] if k == image else row[k].strip()):  # a path may be a space
                raise DataError(
                    f"{path}, line {line}: {name} is empty", hint="fill it in, or leave the row out"
                )
        yield Sample(
            f"rsvqa_{n}", row[image], row[question], row[answer], "" if kind is None else row[kind]
        )
    if n == 0:
        raise DataError(f"{path} has a header, but no rows", hint="write it again with data2csv")


def _separated(header: list[str]) -> str:
    """What to do with a table whose columns are not separated by commas; else empty."""
    line = ",".join(header)
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        if line.startswith("sep=") or line.count(separator) >= len(COLUMNS) - 1:
            known = name if separator in line else "something else"
            return (
                f"its columns are separated by {known}: save it with commas, and without a line "
                "sep= (LibreOffice: Save as, Text CSV, Edit filter settings, field delimiter ,)"
            )
    return ""


def csv_table(
    path: Path, separator: str = ","
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, and the rows, each with the number of its first line.

    Args:
        path: a file of rows (RFC 4180) in UTF-8.
        separator: between two fields.

    Raises:
        DataError: as `read_csv`, also while rows are read; but columns may have any names.
    """
    rows = _rows(path, separator)
    found = next(rows, (1, []))[1]
    header = [name.strip() for name in found]
    return header, _whole_rows(path, rows, len(header), header != found)


def _whole_rows(path: Path, rows: Lines, size: int, padded: bool) -> Lines:
    for line, row in rows:
        if len(row) != size:
            raise DataError(
                f"{path}, line {line}: {len(row)} fields, but the header has {size}",
                hint='put a field that holds a comma in "quotation marks"',
            )
        yield line, [field.strip() for field in row] if padded else row  # as the header is


_long_fields = Shared((csv.field_size_limit, csv.field_size_limit, FIELD_LIMIT))


def _rows(path: Path, separator: str) -> Lines:
    """Rows that are not blank, each with the number of its first line."""
    with (
        opened(path) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="") as text,
    ):
        reader = csv.reader(text, strict=True, delimiter=separator)
        while True:
            line = reader.line_num + 1
            try:
                with _long_fields:
                    row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem, hint = str(error), "is a quotation mark left open?"
                if problem.startswith("field larger than"):
                    problem, hint = f"a field {_TOO_LONG}", f"{_TOO_LONG_HINT}; or {hint}"
                raise DataError(f"{path}, line {line}: {problem}", hint=hint) from error
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8" + (f" after line {line - 1:,}" if line > 1 else ""),
                    hint="save it as UTF-8 (in a spreadsheet: CSV UTF-8)",
                ) from error
            if "\0" in "".join(row):
                raise DataError(f"{path}, line {line}: there is a NUL in the text", hint=_NUL_HINT)
            if row:
                yield line, row


def write_conversations(path: Path, samples: Iterable[Sample]) -> int:
    """Write samples as conversations; returns their number.

    A record has the keys of the original format; ``type``, ``dataset`` and ``manner`` join them
    where the sample has them, and ``image`` where question or path hold image marks of their own.

    Args:
        path: the file; it appears whole, or, on any error, not at all.
        samples: consumed some at a time.

    Raises:
        DataError: there are no samples, or a text is no UTF-8.
        RunError: the folder cannot be written to.
    """
    n = 0
    with atomic_write(path) as file:
        for n, row in enumerate(rows_of(samples), 1):
            try:
                file.write(f"{'[' if n == 1 else ','}\n{_conversation(*row)}")
            except UnicodeEncodeError as error:
                raise no_text(row[0], row[1]) from error
        if n == 0:
            raise DataError(f"nothing to write to {path}: there are no samples", hint=_EMPTY_HINT)
        file.write("\n]\n")
    return n


def read_conversations(path: Path) -> Iterator[Sample]:
    """The samples of a conversations file; roles may also be named human and gpt.

    Raises:
        DataError: the file is missing or no list of objects, or a record is not one question
            about one image followed by one answer; records are counted from 1.
    """
    return (Sample(*row) for row in conversation_rows(path))


def conversation_rows(path: Path) -> Iterator[Row]:
    """As `read_conversations`, without making records."""
    for n, record in enumerate(jsonstream.records(path, None), 1):
        yield plain_row(record) or conversation_row(path, n, record)


def plain_row(record: dict[str, Any]) -> Row | None:
    """What a record holds that is just as `write_conversations` writes most; None of any other."""
    try:
        asked, answered = record["conversations"]
        name, kind = record["id"], record.get("type", "")
        if not (
            record.keys() <= _PLAIN
            and asked["from"] == "user"
            and answered["from"] == "assistant"
            and type(name) is type(kind) is type(answered["value"]) is str
        ):
            return None
        question, image = asked["value"].split(VISION_START)
        image, rest = image.split(VISION_END)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if rest or not image or VISION_END in question or "\0" in f"{image}{name}{kind}":
        return None
    dataset, manner = _origin(record)
    return name, image, question.removesuffix(" "), answered["value"], kind, dataset, manner


def conversation_row(path: Path, n: int, record: dict[str, Any]) -> Row:
    """The row of any record that `read_conversations` takes.

    Raises:
        DataError: as `read_conversations`.
    """
    asked, answer = _turns(path, n, record)
    if "image" in record:
        image = jsonstream.field(path, n, record, "image", str)
        question = asked.removesuffix(f"{VISION_START}{image}{VISION_END}")
        if question == asked:
            jsonstream.fail(path, n, record, 'the question does not end with the path in "image"')
    else:
        question, image = _parts(path, n, record, asked)
    if not image or "\0" in image:
        jsonstream.fail(path, n, record, "the image path is empty or holds a NUL")
    name = record["id"] if type(record.get("id")) is int else None
    if name is None:
        name = jsonstream.field(path, n, record, "id", str)
    kind = jsonstream.field(path, n, record, "type", str) if "type" in record else ""
    return str(name), image, question.removesuffix(" "), answer, kind, *_origin(record)


def _origin(record: dict[str, Any]) -> tuple[str, str]:
    """Data set and manner; others may mean something else by these keys."""
    dataset = dataset_name(record.get("dataset"))
    return dataset, canonical_manner(str(record.get("manner", ""))) if dataset else ""


def _conversation(
    id: str, image: str, question: str, answer: str, type: str, dataset: str, manner: str
) -> str:
    """A record; built by hand, which is several times as fast and gives the same bytes."""
    value = f"{question} {VISION_START}{image}{VISION_END}"
    more = {"type": type, "dataset": dataset, "manner": manner}
    if (value.count(VISION_START), value.count(VISION_END)) != (1, 1):
        more["image"] = image
    rest = "".join(f', "{key}": {_quoted(text)}' for key, text in more.items() if text)
    return (
        f'{{"id": {_quoted(id)}, "conversations": [{{"from": "user", "value": {_quoted(value)}}}, '
        f'{{"from": "assistant", "value": {_quoted(answer)}}}]{rest}}}'
    )


def _turns(path: Path, n: int, record: dict[str, Any]) -> tuple[str, str]:
    """What is asked, image included, and what is answered."""
    turns = jsonstream.field(path, n, record, "conversations", list)
    if len(turns) != 2 or any(type(turn) is not dict for turn in turns):
        jsonstream.fail(path, n, record, '"conversations" must be one question and one answer')
    said = []
    for turn, roles in zip(turns, (_ASKING, _ANSWERING), strict=True):
        role = turn.get("from")
        if type(role) is not str or role not in roles:
            wanted = " or ".join(sorted(roles))
            jsonstream.fail(path, n, record, f'a turn is not "from" {wanted}')
        if type(turn.get("value")) is not str:
            jsonstream.fail(path, n, record, f'the "value" of the {turn["from"]} turn is no text')
        said.append(turn["value"])
    return said[0], said[1]


def _parts(path: Path, n: int, record: dict[str, Any], asked: str) -> tuple[str, str]:
    """Question and image path; the space between them stays with the question."""
    starts, ends = asked.count(VISION_START), asked.count(VISION_END)
    if (starts, ends) == (1, 1) and asked.endswith(VISION_END):
        question, _, rest = asked.partition(VISION_START)
        return question, rest.removesuffix(VISION_END)
    if starts > 1 or ends > 1:
        problem = 'the question holds several image marks and the record no "image"'
    elif starts and ends:
        problem = f"the question goes on after {VISION_END}"
    else:
        problem = "the question names no image"
    hint = f"expected: QUESTION {VISION_START}PATH{VISION_END}"
    jsonstream.fail(path, n, record, problem, hint)
