"""Registry of question file formats, which are detected by how a file begins.

A data set in ``datasets/`` registers its published format here if it is not a general one.
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
from .file_opening import FileStart, sniff
from .foreign_records import Records
from .image_paths import resolve_image
from .json_lines import json_lines
from .left_out import LeftOut
from .table_notes import Note, official_note, read_note
from .tabular import Table, table, with_columns

Rows = Callable[[Path, bool, LeftOut], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class FileForm:
    """A file format.

    Attributes:
        recognises: whether a file with this start has the format.
        rows: (path, whether the images are needed, counter of skipped questions) → rows. Without
            images, the image folder may be missing. Duplicate ids and empty texts are checked
            later.
        datasets: names of the data sets published in this format; empty for general formats.
    """

    recognises: Callable[[FileStart], bool]
    rows: Rows
    datasets: tuple[str, ...] = ()


_registered: list[FileForm] = []


def register_form(form: FileForm) -> FileForm:
    """Register a format; it is tried before the general ones."""
    _registered.append(form)
    return form


@dataclass(frozen=True, slots=True)
class FileOptions:
    """User options for reading a file.

    Attributes:
        columns: for our fields (`record_forms.COLUMNS`), the column names of the file.
        folder: output folder of embedded images; None for a folder beside the file.
        dataset: name of the data set; empty if not given.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    dataset: str = ""


def form_of(start: FileStart) -> FileForm | None:
    """Return the format of a file with this start; None if it is unknown."""
    all_datasets()  # their files register forms
    return next((one for one in (*_registered, *_GENERAL) if one.recognises(start)), None)


def is_published(path: Path, dataset: str | None = None) -> bool:
    """Whether a file has the published format of a data set other than RSVQA.

    Args:
        path: the file.
        dataset: name given by the user; decides if the format is not recognised.
    """
    start = with_columns(path, sniff(path))
    named = any(dataset in one.datasets for one in _registered)
    return form_of(start) in _registered or (named and not _is_ours(start))


def _is_ours(start: FileStart) -> bool:
    """Whether a file is a table, conversations, predictions, or RSVQA's own format."""
    ours = any(map(start.has, ("conversations", "messages", "prediction")))
    return start.kind == "text" or start.key == "questions" or ours


def rows(
    path: Path, with_images: bool, counts: LeftOut, given: FileOptions | None = None
) -> Iterator[Row]:
    """Yield the questions of a file in any supported format; see `FileForm.rows`.

    Args:
        path: the file.
        with_images: whether the images are needed.
        counts: counter of skipped questions.
        given: user options. With columns, the file is read as records or a table; with a data set,
            its format is the fallback if none is recognised.

    Raises:
        DataError: the format is unknown or of another data set, or the file cannot be read.
    """
    start, given = with_columns(path, sniff(path)), given or FileOptions()
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
    other = foreign.describe_object(start.key)
    what = f"{other}; " if other else ""
    raise DataError(
        f"{path} contains no questions ({what}a JSON object, its first key is {start.key!r})",
        hint="supported are conversations (data_vl.json, or of LLaMA-Factory, ms-swift and LLaVA), "
        "tables (image_path,question,answer), RSVQA's own *_questions.json, and the published "
        "files of other data sets (docs/data.md); if the format is not recognised, name the data "
        "set: --dataset NAME",
    )


def _named(path: Path, rows: Iterator[Row], dataset: str) -> Iterator[Row]:
    """Set the data set of the rows, unless they name another one."""
    for row in rows:
        if row[5] and row[5] != dataset:
            raise _of_another(path, row[5], dataset)
        yield (*row[:5], dataset, row[6])


def _of_another(path: Path, found: str, dataset: str) -> DataError:
    return DataError(
        f"{path} has the format of {found}, not of {dataset}",
        hint=f"name a file of {dataset}, or omit --dataset: the format identifies it",
    )


def apply_note(samples: Iterator[Sample], note: Note) -> Iterator[Sample]:
    """Set the data set and manner of a note on all samples."""
    if not note.dataset:
        return samples
    return (replace(one, dataset=note.dataset, manner=note.manner) for one in samples)


def _records(
    path: Path, with_images: bool, counts: LeftOut, given: FileOptions | None = None
) -> Iterator[Row]:
    """Yield the questions of records of any tool: conversations, JSON Lines, tables."""
    given = given or FileOptions()
    start = sniff(path)
    records: Iterable[tuple[int, dict[str, Any]]]
    if start.kind == "list":
        unit, records = "record", enumerate(json_records.records(path, None), 1)
    elif start.kind == "object":
        unit, records = "line", json_lines(path, _LINE)
    else:
        found = table(path)
        if _is_our_csv(found, given):
            samples = apply_note(tables.read_csv(path), read_note(path))
            yield from rows_of(
                one
                if os.path.isabs(one.image)
                else replace(one, image=resolve_image(path, one.image))
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
            f"{path} contains no usable question" + (f": left out {why}" if why else ""),
            hint="a question needs one image, a text and an answer",
        )


def _of_record(read: Records, n: int, record: dict[str, Any], name: str) -> Iterable[Row]:
    """Return the questions of a record; formats may be mixed in one file."""
    if not read.columns and (row := tables.plain_row(record)):
        return (row,)
    if read.accepts(record):
        return read.rows(n, record, name)
    if "conversations" in record:
        return (tables.conversation_row(read.path, n, record),)
    return read.rows(n, record, name)  # raises the error


def _is_our_csv(found: Table, given: FileOptions) -> bool:
    """Whether a table has the format of `data2csv`, or no other known format."""
    if given.columns or not found.is_csv:
        return False
    return {*tables.COLUMNS} <= {*found.columns} or not record_forms.question_form(found.columns)


def _columns(found: Table, given: FileOptions) -> frozenset[str]:
    """Return the columns of a table that are read.

    Raises:
        DataError: a required column is missing.
    """
    _check_columns(found.path, found.columns, given)
    form = record_forms.question_form(found.columns, given.columns)
    names = record_forms.COLUMNS | {k: (name,) for k, name in given.columns.items()}
    lacking = [k for k in _NEEDED if {*names[k]}.isdisjoint(found.columns)]
    if lacking and form in (None, record_forms.PLAIN):
        raise DataError(
            f"{found.path} lacks a column for the {', '.join(lacking)}; "
            f"it has {record_forms.list_names(found.columns)}",
            hint=record_forms.NAMED_HINT,
        )
    return record_forms.KNOWN | frozenset(given.columns.values())


def _check_columns(path: Path, there: Iterable[str], given: FileOptions) -> None:
    """Check that the columns named by the user exist.

    Raises:
        DataError: a column is missing; the message names the closest match.
    """
    if problem := record_forms.missing_column(given.columns, there):
        raise DataError(f"{path}: {problem}", hint="use the file's names: --columns image=NAME")


def _rsvqa(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    try:
        images = rsvqa.images_beside(path)
    except DataError:
        if with_images:
            raise
        images = None
    found = rsvqa.read_split(path, rsvqa.answers_beside(path), images, counts=counts)
    return rows_of(apply_note(found, official_note(path, images)))


def _holds_records(start: FileStart) -> bool:
    if start.kind == "object":
        return record_forms.question_form(start.record) is not None
    return True


_NEEDED = ("image", "question", "answer")
_LINE = 'each line must be an object with a question, its answer and "image"'
_OF_RECORDS = FileForm(_holds_records, _records)
_GENERAL = (FileForm(lambda start: start.key == "questions", _rsvqa), _OF_RECORDS)
