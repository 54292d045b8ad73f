"""`Dataset`: an Arrow table of questions that creates `Sample` records on access.

All columns except the ids are dictionary-encoded, so that work on questions, images or answers is
done once per distinct value, and a million questions take about 50 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError
from ..questions.grammar import KIND, question_type
from ..questions.registry import official_type
from ..system.console import counted
from ..system.jsonl import to_line
from ..system.notebook import data_frame, html_table
from ..types import Sample

if TYPE_CHECKING:
    from .picture import SampleFigure

Codes = NDArray[Any]
Row = tuple[str, str, str, str, str, str, str]

COLUMNS = ("id", "image", "question", "answer", "type", "dataset", "manner")
"""The columns, in the order of `types.Sample`."""
_TEXT = pa.large_string()  # the limit of pa.string() is 2 GiB per array
_CODED = pa.dictionary(pa.int32(), _TEXT)
SCHEMA = pa.schema([("id", _TEXT), *((name, _CODED) for name in COLUMNS[1:])])
_SHOWN = 5  # rows in a notebook
_AT_ONCE = 1 << 13  # rows held as Python strings


class Dataset(Sequence[Sample]):
    """A table of questions; behaves as a sequence of `Sample`.

    Args:
        table: Arrow table with the columns of `SCHEMA`.

    Examples:
        >>> data = rs.datasets.read("data.json")
        >>> len(data), len(data.images), data[0].answer
        (32, 4, '...')
        >>> data.plot(0).image.size
        (56, 56)
        >>> list(data.to_pandas().columns[:4])
        ['id', 'image', 'question', 'answer']
    """

    def __init__(self, table: pa.Table) -> None:
        table = table.unify_dictionaries()
        self._columns = {name: _whole(table.column(name)) for name in COLUMNS}

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Dataset:
        """Create a data set from records; return a `Dataset` unchanged.

        Raises:
            DataError: a text cannot be encoded as UTF-8.
        """
        if isinstance(samples, Dataset):
            return samples
        builder = Builder()
        builder.extend(rows_of(samples))
        return builder.build()

    @property
    def table(self) -> pa.Table:
        """The questions as an Arrow table."""
        return pa.table(list(self._columns.values()), schema=SCHEMA)

    def __len__(self) -> int:
        return len(self._columns["id"])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice | list[int] | Codes) -> Dataset: ...
    def __getitem__(self, index: Any) -> Sample | Dataset:
        if isinstance(index, slice | list | np.ndarray):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return Sample(*(column[place].as_py() for column in self._columns.values()))

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(*row) for row in self.rows())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._caption()}: {self.types}>"

    def _caption(self) -> str:
        return f"{counted(len(self), 'question')} about {counted(len(self.images), 'image')}"

    @property
    def types(self) -> list[str]:
        """The names of the question types that occur, sorted."""
        return sorted(name for (name,) in self.counts(KIND))

    @property
    def images(self) -> list[str]:
        """The paths of the images, in order of first occurrence."""
        return self.distinct("image")

    def to_pandas(self) -> Any:
        """The questions as a pandas DataFrame, with the columns of `types.Sample`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame({name: _texts(column) for name, column in self._columns.items()})

    def _repr_html_(self) -> str:
        names = COLUMNS[1:5]
        first = [dict(zip(names, row[1:5], strict=True)) for row in self[:_SHOWN].rows()]
        return html_table(first, self._caption())

    def plot(self, index: int) -> SampleFigure:
        """Show a question with its image in a notebook.

        Args:
            index: index of the question.

        Raises:
            ImageError: the image cannot be read.
        """
        from .picture import SampleFigure

        return SampleFigure(self[index])

    def rows(self) -> Iterator[Row]:
        """Yield the rows, with values in the order of `COLUMNS`; decodes them in batches."""
        for start in range(0, len(self), _AT_ONCE):
            parts = (column.slice(start, _AT_ONCE) for column in self._columns.values())
            yield from zip(*map(_texts, parts), strict=True)

    def take(self, places: Codes) -> Dataset:
        """Return the rows at some indices, in the order given."""
        rows = pa.array(places, pa.int64())
        return _of(column.take(rows) for column in self._columns.values())

    def codes(self, name: str) -> tuple[Codes, list[str]]:
        """Return a column as codes and its distinct values, in order of first occurrence."""
        column = self._column(name)
        found = column.indices.dictionary_encode()
        return found.indices.to_numpy(), column.dictionary.take(found.dictionary).to_pylist()

    def distinct(self, name: str) -> list[str]:
        """Return the distinct values of a column, in order of first occurrence."""
        column = self._column(name)
        found: list[str] = column.dictionary.take(column.indices.unique()).to_pylist()
        return found

    def compact(self) -> Dataset:
        """Return the same rows without unused dictionary values."""
        columns = [self._columns["id"]]
        for name in COLUMNS[1:]:
            codes, values = self.codes(name)
            columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(values, _TEXT)))
        return _of(columns)

    def counts(self, *names: str) -> dict[tuple[str, ...], int]:
        """Count each combination of values, in order of first occurrence.

        Args:
            names: names of dictionary-encoded columns, or the virtual column `grammar.KIND`.
        """
        columns = [self._column(name) for name in names]
        key = np.zeros(len(self), dtype=np.int64)
        for column in columns:
            key = np.unique(key, return_inverse=True)[1] * max(len(column.dictionary), 1)
            key += column.indices.to_numpy()
        _, first, numbers = np.unique(key, return_index=True, return_counts=True)
        order = np.argsort(first)
        at = pa.array(first[order])
        texts = zip(*(_texts(column.take(at)) for column in columns), strict=True)
        return dict(zip(texts, numbers[order].tolist(), strict=True))

    def where(self, name: str, holds: Callable[[str], bool]) -> NDArray[np.bool_]:
        """Return a mask of the rows where a predicate holds; evaluates it once per value."""
        codes, values = self.codes(name)
        return np.array([holds(value) for value in values], dtype=np.bool_)[codes]

    def without(self, name: str, holds: Callable[[str], bool]) -> Dataset:
        """Return the rows where a predicate on a column does not hold."""
        such = self.where(name, holds)
        return self.take(np.flatnonzero(~such)) if such.any() else self

    def first_duplicate(self) -> int | None:
        """Return the first row with a duplicate id; None if all ids are unique."""
        ids = self._columns["id"]
        # comparing hashes takes a tenth of the memory of comparing ids
        hashes = np.empty(len(ids), dtype=np.int64)
        for start in range(0, len(ids), _AT_ONCE):
            part = ids.slice(start, _AT_ONCE).to_pylist()
            hashes[start : start + len(part)] = list(map(hash, part))
        hashes.sort()
        if not (hashes[1:] == hashes[:-1]).any():
            return None
        places = ids.dictionary_encode().indices.to_numpy()
        first = np.unique(places, return_index=True)[1]
        return next(iter(np.flatnonzero(first[places] < np.arange(len(ids))).tolist()), None)

    def changed(self, name: str, change: Callable[[str], str]) -> Dataset:
        """Apply a function to every distinct value of a column."""
        codes, values = self.codes(name)
        new = pa.array(list(map(change, values)), _TEXT).dictionary_encode()
        coded = pa.DictionaryArray.from_arrays(new.indices.take(pa.array(codes)), new.dictionary)
        return _of({**self._columns, name: coded}.values())

    def digest(self) -> str:
        """Return the SHA-256 of all rows, in order."""
        found = hashlib.sha256()
        for row in self.rows():
            found.update(to_line(row).encode())
        return found.hexdigest()

    @cached_property
    def groups(self) -> Groups:
        """The rows of each image, images in order of first occurrence."""
        codes, _ = self.codes("image")
        ends = np.cumsum(np.bincount(codes))
        return Groups(np.argsort(codes, kind="stable").astype(np.int32), ends)

    def _column(self, name: str) -> Any:
        return self._kinds if name == KIND else self._columns[name]

    @cached_property
    def _kinds(self) -> Any:
        """The official type of each question; parses each distinct wording once."""
        stored, questions = self._columns["type"], self._columns["question"]
        numbers: dict[str, int] = {}
        known = [official_type(text) for text in stored.dictionary.to_pylist()]
        known_as = np.array([numbers.setdefault(t, len(numbers)) if t else -1 for t in known])
        kinds = known_as[stored.indices.to_numpy()] if len(self) else np.zeros(0, np.int64)
        missing = np.flatnonzero(kinds < 0)
        asked, back = np.unique(questions.indices.to_numpy()[missing], return_inverse=True)
        texts = questions.dictionary.take(pa.array(asked)).to_pylist()
        by_wording = [numbers.setdefault(question_type(q), len(numbers)) for q in texts]
        kinds[missing] = np.array(by_wording, dtype=np.int64)[back]
        return pa.DictionaryArray.from_arrays(
            pa.array(kinds, pa.int32()), pa.array(list(numbers), _TEXT)
        )


class Groups(Sequence[Codes]):
    """Row indices by image, in one array.

    Args:
        order: row indices, sorted by image.
        ends: end of the rows of each image in ``order``.
    """

    def __init__(self, order: Codes, ends: Codes) -> None:
        self.order, self.ends = order, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]
        return self.order[self.ends[index - 1] if index else 0 : self.ends[index]]

    @property
    def sizes(self) -> Codes:
        """Number of rows per image."""
        return np.diff(self.ends, prepend=0)


class Builder:
    """Build a data set row by row, in columnar batches."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._batches: list[Any] = []

    def extend(self, rows: Iterable[Row]) -> None:
        """Append rows; if an error occurs, the rows before it are kept.

        Raises:
            DataError: a row cannot be encoded as UTF-8.
        """
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == _AT_ONCE:
                self._close()

    def build(self) -> Dataset:
        """Return the data set and start a new one."""
        self._close()
        batches, self._batches = self._batches, []
        data = Dataset(pa.Table.from_batches(batches, SCHEMA))
        del batches
        pa.default_memory_pool().release_unused()
        return data

    def _close(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [[]] * len(COLUMNS)
        try:
            arrays = [pa.array(column, _TEXT) for column in columns]
        except UnicodeEncodeError as error:
            raise next(filter(None, map(_not_utf8, self._rows))) from error
        coded = [array.dictionary_encode() for array in arrays[1:]]
        self._batches.append(pa.RecordBatch.from_arrays([arrays[0], *coded], schema=SCHEMA))
        self._rows = []


def rows_of(samples: Iterable[Sample]) -> Iterator[Row]:
    """Yield the rows of a table or of records."""
    if isinstance(samples, Dataset):
        return samples.rows()
    return ((s.id, s.image, s.question, s.answer, s.type, s.dataset, s.manner) for s in samples)


def not_utf8_error(name: str, image: str) -> DataError:
    """Return the error for a lone surrogate, which JSON and file names may contain."""
    return DataError(
        f"sample {name} cannot be encoded as UTF-8 (image {image!a})",
        hint="rename files and folders whose names are not UTF-8",
    )


def _not_utf8(row: Row) -> DataError | None:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return not_utf8_error(row[0], row[1])
    return None


def _of(columns: Iterable[Any]) -> Dataset:
    return Dataset(pa.table(list(columns), schema=SCHEMA))


def _whole(column: Any) -> Any:
    """Return a column as a single chunk."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _texts(column: Any) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    found: list[str] = column.to_pylist()
    return found
