"""The forms of files that hold questions, each told by how such a file begins.

The file of a data set in ``datasets/`` registers the form in which it is published, where that is
none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError
from ..known_datasets import known
from ..types import Sample
from . import foreign_prompts as foreign
from . import rsvqa, tables
from .base import Row, rows_of
from .file_opening import Opening, opening
from .left_out import LeftOut
from .table_notes import Note, official_note, read_note

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


def form_of(start: Opening) -> FileForm | None:
    """The form of a file that begins so; None where it is of none."""
    known()  # their files register forms
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
    return start.kind == "text" or start.key == "questions" or start.has("conversations")


def rows(path: Path, with_images: bool, counts: LeftOut, dataset: str = "") -> Iterator[Row]:
    """The questions of a file of any form; see `FileForm.rows`.

    Args:
        path: the file.
        with_images: see `FileForm`.
        counts: see `FileForm`.
        dataset: whose file it is, by name: its form is taken where none is recognised.

    Raises:
        DataError: it is of no form, or of another data set, or cannot be used.
    """
    start = opening(path)
    form = form_of(start)
    published = next((one for one in _registered if dataset in one.datasets), None)
    if published and form is not published and not _is_ours(start):
        if form in _registered:
            raise _of_another(path, " or ".join(form.datasets), dataset)
        form = published
    if form and dataset and form.datasets:
        return _named(path, form.rows(path, with_images, counts), dataset)
    if form:
        return form.rows(path, with_images, counts)
    other = foreign.of_object(start.key)
    what = f"{other}; " if other else ""
    raise DataError(
        f"{path} holds no questions ({what}a JSON object, its first key is {start.key!r})",
        hint="accepted are conversations (data_vl.json), a CSV table "
        "(image_path,question,answer), RSVQA's own *_questions.json, and the published files of "
        "other data sets (docs/data.md); where its form does not tell, name whose it is: "
        "--dataset NAME",
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


def _conversations(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    return tables.conversation_rows(path)


def _rsvqa(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    try:
        images = rsvqa.images_beside(path)
    except DataError:
        if with_images:
            raise
        images = None
    found = rsvqa.read_split(path, rsvqa.answers_beside(path), images, counts=counts)
    return rows_of(noted(found, official_note(path, images)))


def _csv(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    return rows_of(noted(tables.read_csv(path), read_note(path)))


_GENERAL = (
    FileForm(lambda start: start.kind == "list", _conversations),
    FileForm(lambda start: start.key == "questions", _rsvqa),
    FileForm(lambda start: start.kind == "text", _csv),
)
