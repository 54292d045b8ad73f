"""The forms of files that hold questions, each told by how such a file begins.

The file of a data set in ``datasets/`` registers the form in which it is published, where that is
none of these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..known_datasets import all_datasets
from ..types import Sample
from . import foreign_prompts as foreign
from . import json_records, record_forms, rsvqa, tables
from .base import Row, rows_of
from .file_opening import Opening, opening
from .foreign_records import Records
from .image_paths import located
from .json_lines import json_lines
from .left_out import LeftOut
from .table_notes import Note, official_note, read_note
from .tabular import Table, table

Rows = Callable[[Path, bool, LeftOut], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class FileForm:
    """A form of files.

    Attributes:
        recognises: whether a file that begins so has it.
        rows: the questions of a file; told whether the images are needed (if not, the questions
            may stand without their folder), and where to count what is left out. They are checked
            afterwards: ids that stand twice, empty texts.
        datasets: the names of the data sets that are published so; none of a general form.
    """

    recognises: Callable[[Opening], bool]
    rows: Rows
    datasets: tuple[str, ...] = ()


_registered: list[FileForm] = []


def register_form(form: FileForm) -> FileForm:
    """Make a form known; it is tried before the general ones."""
    _registered.append(form)
    return form


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody says of a file.

    Attributes:
        columns: for our fields (`record_forms.COLUMNS`) the names of its own.
        folder: where images that stand in it are written; None: beside it.
        dataset: whose file it is, by name; empty where nobody says it.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    dataset: str = ""


def form_of(start: Opening) -> FileForm | None:
    """The form of a file that begins so; None where it is of none."""
    all_datasets()  # their files register forms
    return next((one for one in (*_registered, *_GENERAL) if one.recognises(start)), None)


def is_published(path: Path, dataset: str | None = None) -> bool:
    """Whether a file has the form in which a data set is published that is not RSVQA.

    Args:
        path: the file.
        dataset: its name by a person, which tells it where the form is not recognised.
    """
    start = opening(path)
    named = any(dataset in one.datasets for one in _registered)
    return form_of(start) in _registered or (named and not _is_ours(start))


def _is_ours(start: Opening) -> bool:
    """Whether a file is a table, conversations, or RSVQA's."""
    ours = start.has("conversations") or start.has("messages")
    return start.kind == "text" or start.key == "questions" or ours


def rows(
    path: Path, with_images: bool, counts: LeftOut, given: Given | None = None
) -> Iterator[Row]:
    """The questions of a file of any form; see `FileForm.rows`.

    Args:
        path: the file.
        with_images: whether the images are needed.
        counts: where to count what is left out.
        given: what is said of the file. Where it names columns, these are records or a table; the
            form of the data set that it names is taken where none is recognised.

    Raises:
        DataError: it is of no form, or of another data set, or cannot be used.
    """
    start, given = opening(path), given or Given()
    form, dataset = form_of(start), given.dataset
    published = next((one for one in _registered if dataset in one.datasets), None)
    if published and form is not published and not _is_ours(start) and not given.columns:
        if form in _registered:
            raise _of_another(path, " or ".join(form.datasets), dataset)
        form = published
    if given.columns or form is _OF_RECORDS:
        return _records(path, with_images, counts, given)
    if form and dataset and form.datasets:
        return _named(path, form.rows(path, with_images, counts), dataset)
    if form:
        return form.rows(path, with_images, counts)
    other = foreign.of_object(start.key)
    what = f"{other}; " if other else ""
    raise DataError(
        f"{path} holds no questions ({what}a JSON object, its first key is {start.key!r})",
        hint="accepted are conversations (data_vl.json, or as LLaMA-Factory, ms-swift and LLaVA "
        "write them), tables (image_path,question,answer), RSVQA's own *_questions.json, and the "
        "published files of other data sets (docs/data.md); where its form does not tell, name "
        "whose it is: --dataset NAME",
    )


def _named(path: Path, rows: Iterator[Row], dataset: str) -> Iterator[Row]:
    """The rows of a data set that was named; it must be the one that they name themselves."""
    for row in rows:
        if row[5] and row[5] != dataset:
            raise _of_another(path, row[5], dataset)
        yield (*row[:5], dataset, row[6])


def _of_another(path: Path, found: str, dataset: str) -> DataError:
    return DataError(
        f"{path} has the form of {found}, not of {dataset}",
        hint=f"name the file of {dataset}, or leave the data set out: the form tells it",
    )


def noted(samples: Iterator[Sample], note: Note) -> Iterator[Sample]:
    """The samples with what a note says of them all."""
    if not note.dataset:
        return samples
    return (replace(one, dataset=note.dataset, manner=note.manner) for one in samples)


def _records(
    path: Path, with_images: bool, counts: LeftOut, given: Given | None = None
) -> Iterator[Row]:
    """The questions of records, whoever wrote them: conversations, JSON Lines, any table."""
    given = given or Given()
    start = opening(path)
    records: Iterable[tuple[int, dict[str, Any]]]
    if start.kind == "list":
        unit, records = "record", enumerate(json_records.records(path, None), 1)
    elif start.kind == "object":
        unit, records = "line", json_lines(path, _LINE)
    else:
        found = table(path)
        if _is_our_csv(found, given):
            samples = noted(tables.read_csv(path), read_note(path))
            yield from rows_of(
                one if os.path.isabs(one.image) else replace(one, image=located(path, one.image))
                for one in samples
            )
            return
        unit, records = found.unit, found.records(_columns(found, given))
    read = Records(path, unit, with_images, counts, given.columns, given.folder)
    count = 0
    for k, (n, record) in enumerate(records, 1):
        if k == 1:
            _check_columns(path, record, given)
        for row in _of_record(read, n, record, f"rsvqa_{k}"):
            count += 1
            yield row
    if not count:
        why = "; ".join(counts.lines())
        raise DataError(
            f"{path} holds no question that can be used" + (f": left out {why}" if why else ""),
            hint="a question needs one image, a text and an answer",
        )


def _of_record(read: Records, n: int, record: dict[str, Any], name: str) -> Iterable[Row]:
    """The questions of a record, whose form may differ from that of its neighbours."""
    if not read.columns and (row := tables.plain_row(record)):
        return (row,)
    if read.takes(record):
        return read.rows(n, record, name)
    if "conversations" in record:
        return (tables.conversation_row(read.path, n, record),)
    return read.rows(n, record, name)  # which says what is wrong


def _is_our_csv(found: Table, given: Given) -> bool:
    """Whether a table is the one that `data2csv` writes, or no other either."""
    if given.columns or not found.is_csv:
        return False
    return {*tables.COLUMNS} <= {*found.columns} or not record_forms.question_form(found.columns)


def _columns(found: Table, given: Given) -> frozenset[str]:
    """The columns of a table that are read.

    Raises:
        DataError: one that is needed is not there.
    """
    _check_columns(found.path, found.columns, given)
    form = record_forms.question_form(found.columns, given.columns)
    names = record_forms.COLUMNS | {k: (name,) for k, name in given.columns.items()}
    lacking = [k for k in _NEEDED if {*names[k]}.isdisjoint(found.columns)]
    if lacking and form in (None, record_forms.PLAIN):
        raise DataError(
            f"{found.path} lacks a column for the {', '.join(lacking)}; "
            f"it has {record_forms.listed(found.columns)}",
            hint=record_forms.NAMED_HINT,
        )
    return record_forms.KNOWN | frozenset(given.columns.values())


def _check_columns(path: Path, there: Iterable[str], given: Given) -> None:
    """See that the columns that somebody named are there.

    Raises:
        DataError: one is not; the nearest is named.
    """
    if said := record_forms.missing_column(given.columns, there):
        raise DataError(f"{path}: {said}", hint="name them as the file does: --columns image=NAME")


def _rsvqa(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    try:
        images = rsvqa.images_beside(path)
    except DataError:
        if with_images:
            raise
        images = None
    found = rsvqa.read_split(path, rsvqa.answers_beside(path), images, counts=counts)
    return rows_of(noted(found, official_note(path, images)))


def _holds_records(start: Opening) -> bool:
    if start.kind == "object":
        return record_forms.question_form(start.record) is not None
    return True


_NEEDED = ("image", "question", "answer")
_LINE = 'each line is an object with a question, its answer and "image", as other lines are'
_OF_RECORDS = FileForm(_holds_records, _records)
_GENERAL = (FileForm(lambda start: start.key == "questions", _rsvqa), _OF_RECORDS)
