"""Read samples from any supported file (`read_samples`); convert with `data2csv`, `csv2json`."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..system.console import counted, say, warn
from ..system.oserrors import mode_of
from ..types import Sample
from . import file_forms, rsvqa, tables
from . import foreign_prompts as foreign
from .base import Builder, Dataset, Row, rows_of
from .file_opening import sniff
from .foreign_records import Records
from .image_paths import relocate_images
from .left_out import LeftOut
from .record_forms import NAMED_HINT
from .table_notes import note_with_dataset, official_note, published_note, read_note, write_note

_LOOKED_AT = 10_000  # conversations of a file to be replaced
_PUBLISHED = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv", ".xlsx")


@dataclass(frozen=True, slots=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        path: the output file.
        written: number of questions written.
        images: number of their images.
        left_out: skipped questions, with reasons.
        absent: missing images.
        split: split of the input, if known.
    """

    path: Path
    written: int
    images: int
    left_out: LeftOut = field(default_factory=LeftOut)
    absent: tuple[str, ...] = ()
    split: str = ""


def read_samples(path: Path, *, with_images: bool = True, dataset: str | None = None) -> Dataset:
    """Read the samples of a file in any of the `file_forms`.

    Supported are conversations and tables (also of other tools), official RSVQA question files,
    with answers and images beside them, and the published formats of other data sets. Skipped
    questions are reported.

    Args:
        path: the file.
        with_images: whether the images are needed; if not, the image folder of official questions
            may be missing.
        dataset: name of the data set, if the format does not identify it; checked if it does.

    Raises:
        DataError: the format is unknown, or the file cannot be read; an id is a duplicate; a
            question or an answer is empty.
    """
    return _checked(path, _rows(path, with_images, dataset))


def read_official(files: rsvqa.SplitFiles) -> Dataset:
    """Read the samples of a split of RSVQA; see `read_samples`."""

    def rows() -> Iterator[Row]:
        counts = LeftOut()
        yield from _official_rows(files, counts)
        _say_left_out(counts)

    return _checked(files.questions, rows())


def _official_rows(files: rsvqa.SplitFiles, counts: LeftOut) -> Iterator[Row]:
    found = rsvqa.read_split(files.questions, files.answers, files.images, counts=counts)
    return rows_of(file_forms.apply_note(found, official_note(files.questions, files.images)))


@dataclass(frozen=True, slots=True)
class Unchecked:
    """The questions of a file as far as it can be read, for a report on all of its faults.

    Attributes:
        questions: the questions; duplicate ids and empty texts are among them.
        left_out: skipped questions, with reasons.
        error: why reading stopped before the end of the file; None if it did not.
    """

    questions: Dataset
    left_out: LeftOut
    error: DataError | None


def read_unchecked(
    path: Path, *, dataset: str | None = None, files: rsvqa.SplitFiles | None = None
) -> Unchecked:
    """Read the samples of a file like `read_samples`, without stopping at faults.

    Args:
        path: the file.
        dataset: see `read_samples`.
        files: the three files of a split of RSVQA, of which ``path`` holds the questions.
    """
    counts, builder, error = LeftOut(), Builder(), None
    try:
        if files:
            builder.extend(_official_rows(files, counts))
        else:
            given = file_forms.FileOptions(dataset=dataset or "")
            builder.extend(file_forms.rows(path, True, counts, given))
    except DataError as found:
        error = found
    return Unchecked(builder.build(), counts, error)


def first_sample(path: Path, dataset: str | None = None, with_images: bool = True) -> Dataset:
    """Read only the first sample of a file; see `read_samples`."""
    return _checked(path, itertools.islice(_rows(path, with_images, dataset), 1))


def _rows(path: Path, with_images: bool, dataset: str | None) -> Iterator[Row]:
    counts = LeftOut()
    yield from file_forms.rows(
        path, with_images, counts, file_forms.FileOptions(dataset=dataset or "")
    )
    _say_left_out(counts)


def _checked(path: Path, rows: Iterable[Row]) -> Dataset:
    builder = Builder()
    try:
        builder.extend(rows)
    except DataError:
        _check(path, builder.build())  # errors before it come first
        raise
    data = builder.build()
    _check(path, data)
    return data


def _check(path: Path, data: Dataset) -> None:
    """Reject duplicate ids and empty texts; report the first error."""
    blanks = [data.where(name, lambda text: not text.strip()) for name in ("question", "answer")]
    blank = next(iter(np.flatnonzero(blanks[0] | blanks[1]).tolist()), None)
    twice = data.first_duplicate()
    if twice is not None and (blank is None or twice <= blank):
        raise _repeated(path, data[twice].id)
    if blank is not None:
        what = "answer" if data[blank].question.strip() else "question"
        raise DataError(
            f"{path}: the {what} of {data[blank].id!r} is empty", hint="leave the record out"
        )


def data2csv(
    questions: Path,
    answers: Path,
    images: Path,
    out: Path,
    with_type: bool = False,
    dataset: str | None = None,
) -> Conversion:
    """Join RSVQA's questions, answers and images into a CSV table.

    Args:
        questions: official RSVQA file.
        answers: official RSVQA file.
        images: folder with ``<img_id>.tif`` (or .tiff, .png, .jpg, .jpeg).
        out: the table; written atomically.
        with_type: also write the question types.
        dataset: name of the data set, if the files do not identify it.

    Raises:
        DataError: an input cannot be read, no question is left to write, or the output is one of
            the inputs.
        RunError: the output cannot be written.
    """
    inputs = [questions, answers]
    if out.suffix.lower() in rsvqa.SUFFIXES:
        inputs.append(images / out.name)
    _protect(out, *inputs)
    note = note_with_dataset(official_note(questions, images), questions, dataset)
    counts = LeftOut()
    seen: dict[str, None] = {}
    samples = rsvqa.read_split(questions, answers, images, counts=counts)
    written = tables.write_csv(out, _record_images(samples, seen), with_type)
    write_note(out, note)
    return _announce(Conversion(out, written, len(seen), counts))


def published2csv(
    questions: Path, out: Path, images: Path | None = None, dataset: str | None = None
) -> Conversion:
    """Convert the published file of a data set other than RSVQA to a CSV table, with types.

    Args:
        questions: the file.
        out: the table; written atomically.
        images: image folder; None to search beside the file.
        dataset: see `read_samples`.

    Raises:
        DataError: the file cannot be read, contains no question, or is the output itself.
        RunError: the output cannot be written.
    """
    _protect(out, questions)
    data = relocate_images(read_samples(questions, dataset=dataset), images)
    written = tables.write_csv(out, data, with_type=True)
    note = published_note(questions, data.distinct("dataset"))
    write_note(out, note)
    return _announce(_report(out, written, data.distinct("image"), note.split))


def published_in(folder: Path, split: str | None = None, dataset: str | None = None) -> Path | None:
    """Find the published file of a data set other than RSVQA in a folder; None if there is none.

    Raises:
        DataError: there are several files, or none of the split.
    """
    found = published_files(folder, dataset)
    chosen = [path for path, own in found.items() if split in (None, own)]
    if found and len(chosen) != 1:
        what = f"no file of the split {split!r}, but" if split and not chosen else "several files:"
        names = [path.name for path in chosen or found]
        raise DataError(
            f"{folder} contains {what} {', '.join(names)}",
            hint=f"name one: --questions {shlex.quote(str(folder / names[0]))}",
        )
    return chosen[0] if found else None


def published_files(folder: Path, dataset: str | None = None) -> dict[Path, str]:
    """Return the published files of data sets other than RSVQA in a folder, with their splits."""
    found: dict[Path, str] = {}
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() in _PUBLISHED):
        with contextlib.suppress(DataError):  # another format, or unreadable
            if file_forms.is_published(path, dataset):
                names = first_sample(path, dataset, with_images=False).distinct("dataset")
                found[path] = published_note(path, names).split
    return found


def csv2json(
    table: Path,
    out: Path,
    images: Path | None = None,
    dataset: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Conversion:
    """Convert a table, conversations of another tool, or a published file to conversations.

    Args:
        table: the input file.
        out: the output file; written atomically. Embedded images are written to a folder beside it.
        images: folder that contains the images; None to use the paths in the table.
        dataset: see `read_samples`.
        columns: for ``image``, ``question``, …, the column names of the table.

    Raises:
        DataError: the table cannot be read or has no rows, or is the output itself.
        RunError: the output cannot be written.
    """
    _protect(out, table)
    seen: dict[str, None] = {}
    before, counts = _images_of(out), LeftOut()
    samples: Iterable[Sample]
    if not columns and file_forms.is_published(table, dataset):
        samples = read_samples(table, dataset=dataset)
        note = published_note(table, samples.distinct("dataset"))
    else:
        if not columns:
            _require_table(table)
        note = note_with_dataset(read_note(table), table, dataset)
        given = file_forms.FileOptions(
            columns or {}, out.with_name(f"{out.stem}_images"), dataset or ""
        )
        rows = _unique_ids(table, file_forms.rows(table, True, counts, given))
        samples = file_forms.apply_note((Sample(*row) for row in rows), note)
    if images:
        samples = relocate_images(samples, images)
    written = tables.write_conversations(out, _record_images(samples, seen))
    if others := [image for image in before if image not in seen]:
        warn(f"{out} contained questions about other images, e.g. {others[0]}: it is replaced")
    return _announce(_report(out, written, seen, note.split, counts))


def _report(
    out: Path, written: int, images: Collection[str], split: str, counts: LeftOut | None = None
) -> Conversion:
    absent = tuple(image for image in images if mode_of(image) is None)
    return Conversion(out, written, len(images), counts or LeftOut(), absent, split)


def _repeated(path: Path, name: str, other: str = "create the file with csv2json") -> DataError:
    return DataError(
        f"{path}: the id {name!r} is a duplicate",
        hint=f"give each record a unique id, or {other}",
    )


def _unique_ids(path: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """Check that the ids of a file, if it has any, are unique."""
    seen: set[str] = set()
    for k, row in enumerate(rows, 1):
        if row[0] != f"rsvqa_{k}":  # not a default id
            if row[0] in seen:
                raise _repeated(path, row[0], "remove the ids")
            seen.add(row[0])
        yield row


def _require_table(path: Path) -> None:
    """Reject JSON that already contains our conversations, or no questions.

    Raises:
        DataError: the file is such JSON.
    """
    start = sniff(path)
    kind, key, *_ = start
    read = Records(path, "record", False, LeftOut())
    # the first record may be too long to sniff
    if read.accepts(start.record) or (kind == "list" and start.first is None):
        return
    if kind == "list":
        ready = f"qwen2vl-rs train --data {shlex.quote(str(path))}"
        hint = f"if it already contains conversations: {ready}"
        if start.record and "conversations" not in start.record:
            hint = NAMED_HINT
        raise DataError(f"{path} is a JSON list, not a CSV table", hint=hint)
    if kind == "object":
        asked = key == "questions"
        raise DataError(
            f"{path} is {foreign.describe_object(key) or 'JSON'}, not a CSV table",
            hint="convert it to a table: qwen2vl-rs data2csv" if asked else foreign.HINT,
        )


def _images_of(path: Path) -> list[str]:
    """Return the images of the first conversations of a file; none if it has another format."""
    if not path.is_file():
        return []
    found: dict[str, None] = {}
    with contextlib.suppress(DataError):
        for sample in itertools.islice(tables.read_conversations(path), _LOOKED_AT):
            found[sample.image] = None
    return list(found)


def _protect(out: Path, *inputs: Path) -> None:
    """Refuse to overwrite an input, whatever path or link names it."""
    for path in inputs:
        with contextlib.suppress(OSError):  # missing files are reported when opened
            if os.path.samefile(out, path):
                raise DataError(
                    f"the output {out} would overwrite an input ({path})",
                    hint="choose another file: --output FILE",
                )


def _record_images(samples: Iterable[Sample], seen: dict[str, None]) -> Iterator[Sample]:
    for sample in samples:
        seen[sample.image] = None
        yield sample


def _announce(report: Conversion) -> Conversion:
    questions, images = counted(report.written, "question"), counted(report.images, "image")
    say(f"wrote {questions} about {images} to {report.path}")
    _say_left_out(report.left_out)
    return report


def _say_left_out(counts: LeftOut) -> None:
    for note, times in counts.notes.items():
        say(f"{times:,} {note}")
    for line in counts.lines():
        say(f"left out: {line}")
