"""Read tables as records: CSV, TSV, Parquet, and spreadsheets."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..system.console import Progress
from ..system.named_files import open_named
from .file_opening import AGAIN, FileStart, is_workbook, open_questions, sniff
from .json_lines import json_lines
from .json_records import records
from .tables import csv_table

PARQUET = b"PAR1"
_AT_ONCE = {False: 1 << 12, True: 8}  # batch size of Parquet, without and with possible images
_BUFFER = 1 << 20
_HEAD = 1 << 16
LINE_HINT = 'each line is an object such as {"image": "a.tif", "question": "…", "answer": "…"}'
Records = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        path: the file.
        columns: the column names.
        unit: name of a row in messages: ``line`` or ``row``.
        is_csv: whether it is a text file with comma-separated columns.
        read: (columns needed) → numbers and records.
    """

    path: Path
    columns: tuple[str, ...]
    unit: str
    read: Callable[[frozenset[str]], Records]
    is_csv: bool = False

    def records(self, wanted: Iterable[str]) -> Records:
        """Yield the records with their numbers, from 1 (line numbers for text files).

        Args:
            wanted: the columns that are needed.

        Raises:
            DataError: one of the columns is a duplicate, or a row cannot be read.
        """
        columns = frozenset(wanted)
        if twice := sorted(name for name in columns if self.columns.count(name) > 1):
            raise DataError(f"{self.path}: duplicate column {twice[0]}", hint="rename one")
        return self.read(columns)


def table(path: Path) -> Table:
    """Open the table in a file; the format is detected by content, with CSV as the default.

    Raises:
        DataError: the file is missing, empty, damaged, or cannot be read.
    """
    if is_workbook(path):
        return _workbook(path)
    with open_questions(path) as file:
        head = file.read(_HEAD)
    if head.startswith(PARQUET):
        return _parquet(path)
    return _text(path, head)


def with_columns(path: Path, start: FileStart) -> FileStart:
    """Add the names of the columns to the start of a table.

    Raises:
        DataError: see `table`.
    """
    return start._replace(columns=table(path).columns) if start.kind == "text" else start


def file_records(path: Path) -> tuple[str, Records]:
    """The records of a JSON list, of JSON Lines, or of a table with all its columns.

    Returns:
        What a record is called (``record``, ``line`` or ``row``), and records with their numbers.

    Raises:
        DataError: the file cannot be read.
    """
    start = sniff(path)
    if start.kind == "list":
        return "record", enumerate(records(path, None), 1)
    if start.kind == "object":
        return "line", json_lines(path, LINE_HINT)
    found = table(path)
    return found.unit, found.records(found.columns)


def _text(path: Path, head: bytes) -> Table:
    line = head.partition(b"\n")[0]
    separator = "\t" if line.count(b"\t") > line.count(b",") else ","
    header, rows = csv_table(path, separator)

    def read(wanted: frozenset[str]) -> Records:
        places = [(name, k) for k, name in enumerate(header) if name in wanted]
        return ((line, {name: row[k] for name, k in places}) for line, row in rows)

    return Table(path, tuple(header), "line", read, separator == ",")


def _parquet(path: Path) -> Table:
    """Open a Parquet file; it is read in batches, independent of its row groups."""
    with _as_parquet(path):
        schema = pq.read_schema(path)
    names = _class_names(schema)

    def read(wanted: frozenset[str]) -> Records:
        columns = [name for name in schema.names if name in wanted]
        at_once = _AT_ONCE[any(map(_may_be_images, schema.types))]
        # memory is bounded by the pages of the file: about 100 images
        with (
            _as_parquet(path),
            pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file,
            Progress(f"reading {path.name}", file.metadata.num_rows, "rows") as bar,
        ):
            number = 0
            for batch in file.iter_batches(at_once, columns=columns, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield number, {k: _named(v, names.get(k)) for k, v in record.items()}
                bar.advance(len(batch))

    return Table(path, tuple(schema.names), "row", read)


def _may_be_images(kind: Any) -> bool:
    return bool(
        pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the class names of ``ClassLabel`` columns (Hugging Face)."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {k: f["names"] for k, f in features.items() if f.get("_type") == "ClassLabel"}
    return {}


def _named(value: Any, names: list[str] | None) -> Any:
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return value


@contextlib.contextmanager
def _as_parquet(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not in UTF-8
        why = str(error).partition("\n")[0][:200]
        raise DataError(f"{path} cannot be read as Parquet: {why}", hint=AGAIN) from error


def _workbook(path: Path) -> Table:
    """Open the first sheet of a spreadsheet."""
    try:
        from openpyxl import load_workbook  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise DataError(
            f"{path} is a spreadsheet, and openpyxl, which reads it, is not installed",
            hint="pip install openpyxl; or save it as CSV UTF-8",
        ) from error

    def rows() -> Iterator[tuple[Any, ...]]:
        with open_named(path, "rb") as file:  # openpyxl refuses paths with other extensions
            try:
                book = load_workbook(file, read_only=True, data_only=True)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise DataError(
                    f"{path} cannot be read as a spreadsheet: {error}", hint=AGAIN
                ) from error
            with contextlib.closing(book):
                yield from book.worksheets[0].iter_rows(values_only=True)

    found = rows()
    header = ["" if name is None else str(name).strip() for name in next(found, ())]

    def read(wanted: frozenset[str]) -> Records:
        for number, row in enumerate(found, 2):
            if any(value is not None for value in row):
                yield number, {k: v for k, v in zip(header, row, strict=False) if k in wanted}

    return Table(path, tuple(header), "row", read)
