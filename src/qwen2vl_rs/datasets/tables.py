"""Read and write this project's two data files: CSV tables, and conversations in JSON.

CSV, RFC 4180, UTF-8, header ``image_path,question,answer[,type]``::

    /abs/2.tif,Is there a road?,yes

Conversations, a list with one object per line::

    {"id": "rsvqa_1", "conversations": [
        {"from": "user", "value": "Is there a road? <|vision_start|>/abs/2.tif<|vision_end|>"},
        {"from": "assistant", "value": "yes"}]}

If the question or the path contains one of the two marks, the record repeats the path as
``"image"``, so that it is read back exactly. ``"dataset"`` and ``"manner"`` are those of
`types.Sample`; a CSV has them in the note beside it, see `datasets.table_notes`.
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
from ..system.scopes import SharedChange
from ..types import Sample, canonical_manner
from . import json_records as jsonstream
from .base import Row, not_utf8_error, rows_of
from .file_opening import open_questions, short

Lines = Iterator[tuple[int, list[str]]]
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
COLUMNS = ("image_path", "question", "answer")
_ASKING = frozenset({"user", "human"})
_ANSWERING = frozenset({"assistant", "gpt"})
FIELD_LIMIT = 1_000_000
"""Most characters of a CSV field; also detects an unclosed quotation mark."""

_PLAIN = {"id", "conversations", "type", "dataset", "manner"}
_quoted = json.encoder.encode_basestring  # as `jsonl.to_json`

_TOO_LONG = f"is longer than {FIELD_LIMIT:,} characters"
_TOO_LONG_HINT = "shorten the text or remove the question"
_NUL_HINT = "remove the NUL from the text, or remove the question"
_FORMULA = ("=", "+", "-", "@")
_EMPTY_HINT = "use another file: all of its questions are left out"
_HEADER_HINT = (
    f"the first line must name the columns {','.join(COLUMNS)}; or map other names: "
    "qwen2vl-rs csv2json --columns image=A,question=B,answer=C"
)


def write_csv(path: Path, samples: Iterable[Sample], with_type: bool) -> int:
    """Write samples as a CSV table; return their number.

    Args:
        path: the file; written atomically.
        samples: consumed one at a time.
        with_type: also write the column ``type``.

    Raises:
        DataError: there are no samples, or a text contains a character that CSV does not support
            or is longer than `FIELD_LIMIT`.
        RunError: the file cannot be written.
    """
    n = formulas = 0
    with atomic_write(path) as file:
        plain = csv.writer(file, lineterminator="\n")
        # otherwise a lone carriage return would be read as the end of the row
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
                    f"sample {sample.id} contains a NUL, which CSV does not support", hint=_NUL_HINT
                )
            if len(text) > FIELD_LIMIT and max(map(len, row)) > FIELD_LIMIT:
                raise DataError(f"sample {sample.id}: a field {_TOO_LONG}", hint=_TOO_LONG_HINT)
            try:
                (quoted if "\r" in text else plain).writerow(row)
            except UnicodeEncodeError as error:
                raise not_utf8_error(sample.id, sample.image) from error
        if n == 0:
            raise DataError(f"nothing to write to {path}: there are no samples", hint=_EMPTY_HINT)
    if formulas:
        say(
            f"{formulas:,} rows contain a text that begins with =, +, - or @, written verbatim: a "
            "spreadsheet may read it as a formula"
        )
    return n


def read_csv(path: Path) -> Iterator[Sample]:
    """Read the samples of a CSV table; ids are ``rsvqa_<row>``, rows counted from 1.

    Columns may be in any order; other columns, a byte order mark and CRLF are accepted.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or lacks a column; or a row has too few or
            too many fields, an empty required field, a NUL, an unclosed quotation mark or an
            overlong field. Messages give the first line of the row, from 1.
    """
    header, rows = csv_table(path)
    listed = short(", ".join(header))
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(
            f"{path} lacks the column {', '.join(missing)}; it has {listed or 'none'}",
            hint=_separated(header) or _HEADER_HINT,
        )
    if twice := sorted({name for name in header if header.count(name) > 1} & {*COLUMNS, "type"}):
        raise DataError(f"{path}: duplicate column {', '.join(twice)}", hint=_HEADER_HINT)
    image, question, answer = (header.index(name) for name in COLUMNS)
    kind = header.index("type") if "type" in header else None
    n = 0
    for n, (line, row) in enumerate(rows, 1):
        for name, k in zip(COLUMNS, (image, question, answer), strict=True):
            if not (row[k] if k == image else row[k].strip()):  # a path may be a space
                raise DataError(
                    f"{path}, line {line}: {name} is empty", hint="fill it in, or remove the row"
                )
        yield Sample(
            f"rsvqa_{n}", row[image], row[question], row[answer], "" if kind is None else row[kind]
        )
    if n == 0:
        raise DataError(f"{path} has a header, but no rows", hint="write it again with data2csv")


def _separated(header: list[str]) -> str:
    """Return the hint for a table with another separator than commas; else empty."""
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
    """Return the column names, and the rows with the number of their first line.

    Args:
        path: a CSV file (RFC 4180) in UTF-8.
        separator: the field separator.

    Raises:
        DataError: see `read_csv`, also during iteration; any column names are accepted.
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
                hint='put a field that contains a comma in "quotation marks"',
            )
        yield line, [field.strip() for field in row] if padded else row


_AT_ONCE = 64  # rows that are read under our limit of their fields
_long_fields = SharedChange((csv.field_size_limit, csv.field_size_limit, FIELD_LIMIT))


def _rows(path: Path, separator: str) -> Lines:
    """Yield the non-blank rows with the number of their first line."""
    with (
        open_questions(path) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="") as text,
    ):
        reader = csv.reader(text, strict=True, delimiter=separator)
        line, stopped = 1, None
        while stopped is None:
            some: list[tuple[int, list[str]]] = []
            try:
                with _long_fields:
                    for _ in range(_AT_ONCE):
                        line = reader.line_num + 1
                        some.append((line, next(reader)))
            except (StopIteration, csv.Error, UnicodeDecodeError) as error:
                stopped = error
            for number, row in some:
                if "\0" in "".join(row):
                    said = f"{path}, line {number}: the text contains a NUL"
                    raise DataError(said, hint=_NUL_HINT)
                if row:
                    yield number, row
        if not isinstance(stopped, StopIteration):
            raise _unread(path, line, stopped) from stopped


def _unread(path: Path, line: int, error: Exception) -> DataError:
    """The error for a row that cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return DataError(
            f"{path} is not UTF-8" + (f" after line {line - 1:,}" if line > 1 else ""),
            hint="save it as UTF-8 (in a spreadsheet: CSV UTF-8)",
        )
    problem, hint = str(error), "is a quotation mark unclosed?"
    if problem.startswith("field larger than"):
        problem, hint = f"a field {_TOO_LONG}", f"{_TOO_LONG_HINT}; or {hint}"
    return DataError(f"{path}, line {line}: {problem}", hint=hint)


def write_conversations(path: Path, samples: Iterable[Sample]) -> int:
    """Write samples as conversations; return their number.

    A record has the keys of the original format, plus ``type``, ``dataset`` and ``manner`` if the
    sample has them, and ``image`` if question or path contain image marks.

    Args:
        path: the file; written atomically.
        samples: consumed in batches.

    Raises:
        DataError: there are no samples, or a text cannot be encoded as UTF-8.
        RunError: the file cannot be written.
    """
    n = 0
    with atomic_write(path) as file:
        for n, row in enumerate(rows_of(samples), 1):
            try:
                file.write(f"{'[' if n == 1 else ','}\n{_conversation(*row)}")
            except UnicodeEncodeError as error:
                raise not_utf8_error(row[0], row[1]) from error
        if n == 0:
            raise DataError(f"nothing to write to {path}: there are no samples", hint=_EMPTY_HINT)
        file.write("\n]\n")
    return n


def read_conversations(path: Path) -> Iterator[Sample]:
    """Read the samples of a conversations file; the roles human and gpt are accepted as well.

    Raises:
        DataError: the file is missing or not a list of objects, or a record is not one question
            about one image followed by one answer; records are counted from 1.
    """
    return (Sample(*row) for row in conversation_rows(path))


def conversation_rows(path: Path) -> Iterator[Row]:
    """Read conversations as rows; see `read_conversations`."""
    for n, record in enumerate(jsonstream.records(path, None), 1):
        yield plain_row(record) or conversation_row(path, n, record)


def plain_row(record: dict[str, Any]) -> Row | None:
    """Return the row of a record in the common format of `write_conversations`; else None."""
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
    """Return the row of any record that `read_conversations` accepts.

    Raises:
        DataError: see `read_conversations`.
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
        jsonstream.fail(path, n, record, "the image path is empty or contains a NUL")
    name = record["id"] if type(record.get("id")) is int else None
    if name is None:
        name = jsonstream.field(path, n, record, "id", str)
    kind = jsonstream.field(path, n, record, "type", str) if "type" in record else ""
    return str(name), image, question.removesuffix(" "), answer, kind, *_origin(record)


def _origin(record: dict[str, Any]) -> tuple[str, str]:
    """Return data set and manner; without a known data set, these keys are another tool's."""
    dataset = dataset_name(record.get("dataset"))
    return dataset, canonical_manner(str(record.get("manner", ""))) if dataset else ""


def _conversation(
    id: str, image: str, question: str, answer: str, type: str, dataset: str, manner: str
) -> str:
    """Format a record; several times as fast as ``json.dumps``, with the same bytes."""
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
    """Return the texts of question (with image) and answer."""
    turns = jsonstream.field(path, n, record, "conversations", list)
    if len(turns) != 2 or any(type(turn) is not dict for turn in turns):
        jsonstream.fail(path, n, record, '"conversations" must be one question and one answer')
    texts = []
    for turn, roles in zip(turns, (_ASKING, _ANSWERING), strict=True):
        role = turn.get("from")
        if type(role) is not str or role not in roles:
            wanted = " or ".join(sorted(roles))
            jsonstream.fail(path, n, record, f'a turn is not "from" {wanted}')
        if type(turn.get("value")) is not str:
            jsonstream.fail(path, n, record, f'the "value" of the {turn["from"]} turn is not text')
        texts.append(turn["value"])
    return texts[0], texts[1]


def _parts(path: Path, n: int, record: dict[str, Any], asked: str) -> tuple[str, str]:
    """Split question and image path; the space between them stays with the question."""
    starts, ends = asked.count(VISION_START), asked.count(VISION_END)
    if (starts, ends) == (1, 1) and asked.endswith(VISION_END):
        question, _, rest = asked.partition(VISION_START)
        return question, rest.removesuffix(VISION_END)
    if starts > 1 or ends > 1:
        problem = 'the question contains several image marks, but the record has no "image"'
    elif starts and ends:
        problem = f"the question continues after {VISION_END}"
    else:
        problem = "the question names no image"
    hint = f"expected: QUESTION {VISION_START}PATH{VISION_END}"
    jsonstream.fail(path, n, record, problem, hint)
