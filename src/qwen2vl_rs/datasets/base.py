"""A data set: a table of questions, of which a record is made when one is asked for.

The table is Arrow's. All columns but the ids hold codes into their distinct values, so that what
is true of a question, an image or an answer is found out once for each distinct one, and a million
questions take some 50 MB.
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
from ..system.jsonl import to_line
from ..system.notebook import data_frame, html_table
from ..types import Sample

if TYPE_CHECKING:
    from .picture import SampleFigure

Codes = NDArray[Any]
Row = tuple[str, str, str, str, str, str, str]

COLUMNS = ("id", "image", "question", "answer", "type", "dataset", "manner")
"""The columns, in the order of `types.Sample`."""
_TEXT = pa.large_string()  # an array of plain strings ends at 2 GiB
_CODED = pa.dictionary(pa.int32(), _TEXT)
SCHEMA = pa.schema([("id", _TEXT), *((name, _CODED) for name in COLUMNS[1:])])
_SHOWN = 5  # rows in a notebook
_AT_ONCE = 1 << 13  # rows that are held as Python's texts


class Dataset(Sequence[Sample]):
    """Questions as a table; a sequence of `Sample` for whoever wants records.

    Args:
        table: with the columns of `SCHEMA`.

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
        """The table of some records; a table is its own.

        Raises:
            DataError: a text cannot be written as UTF-8.
        """
        if isinstance(samples, Dataset):
            return samples
        builder = Builder()
        builder.extend(rows_of(samples))
        return builder.built()

    @property
    def table(self) -> pa.Table:
        """Arrow's table."""
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
        return f"<{len(self):,} questions about {len(self.images):,} images: {self.types}>"

    @property
    def types(self) -> list[str]:
        """The question types that occur, by name."""
        return sorted(name for (name,) in self.counts(KIND))

    @property
    def images(self) -> list[str]:
        """The paths of the images, in the order of their first questions."""
        return self.distinct("image")

    def to_pandas(self) -> Any:
        """The questions as a pandas DataFrame, with the columns of `types.Sample`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame({name: _texts(column) for name, column in self._columns.items()})

    def _repr_html_(self) -> str:
        caption = f"{len(self):,} questions about {len(self.images):,} images"
        names = COLUMNS[1:5]
        first = [dict(zip(names, row[1:5], strict=True)) for row in self[:_SHOWN].rows()]
        return html_table(first, caption)

    def plot(self, index: int) -> SampleFigure:
        """A question with its image, to be shown in a notebook.

        Args:
            index: of the question.

        Raises:
            ImageError: the image cannot be used.
        """
        from .picture import SampleFigure

        return SampleFigure(self[index])

    def rows(self) -> Iterator[Row]:
        """Row after row, in the order of `COLUMNS`; some thousands are held at once."""
        for start in range(0, len(self), _AT_ONCE):
            parts = (column.slice(start, _AT_ONCE) for column in self._columns.values())
            yield from zip(*map(_texts, parts), strict=True)

    def take(self, places: Codes) -> Dataset:
        """Some rows, in the order in which they are named."""
        rows = pa.array(places, pa.int64())
        return _of(column.take(rows) for column in self._columns.values())

    def codes(self, name: str) -> tuple[Codes, list[str]]:
        """A column as numbers of its distinct values, which are counted by their first row."""
        column = self._column(name)
        found = column.indices.dictionary_encode()
        return found.indices.to_numpy(), column.dictionary.take(found.dictionary).to_pylist()

    def distinct(self, name: str) -> list[str]:
        """The values that occur in a column, in the order of their first rows."""
        column = self._column(name)
        found: list[str] = column.dictionary.take(column.indices.unique()).to_pylist()
        return found

    def compact(self) -> Dataset:
        """The same without values that no row has."""
        columns = [self._columns["id"]]
        for name in COLUMNS[1:]:
            codes, values = self.codes(name)
            columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(values, _TEXT)))
        return _of(columns)

    def counts(self, *names: str) -> dict[tuple[str, ...], int]:
        """How often each combination of values occurs, in the order of their first rows.

        Args:
            names: of coded columns, and `grammar.KIND`, which is not stored.
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
        """Whether the value of a column is such, row by row; each is looked at once."""
        codes, values = self.codes(name)
        return np.array([holds(value) for value in values], dtype=np.bool_)[codes]

    def without(self, name: str, holds: Callable[[str], bool]) -> Dataset:
        """The rows whose value in a column is not such."""
        such = self.where(name, holds)
        return self.take(np.flatnonzero(~such)) if such.any() else self

    def first_repeated(self) -> int | None:
        """The first row whose id an earlier row has; None where all differ."""
        ids = self._columns["id"]
        # as numbers, which takes a tenth of the memory of comparing them
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
        """The data set with every distinct value of a column changed."""
        codes, values = self.codes(name)
        new = pa.array(list(map(change, values)), _TEXT).dictionary_encode()
        coded = pa.DictionaryArray.from_arrays(new.indices.take(pa.array(codes)), new.dictionary)
        return _of({**self._columns, name: coded}.values())

    def digest(self) -> str:
        """SHA-256 of all rows, in their order."""
        found = hashlib.sha256()
        for row in self.rows():
            found.update(to_line(row).encode())
        return found.hexdigest()

    @cached_property
    def groups(self) -> Groups:
        """The rows of each image, images in the order of their first rows."""
        codes, _ = self.codes("image")
        ends = np.cumsum(np.bincount(codes))
        return Groups(np.argsort(codes, kind="stable").astype(np.int32), ends)

    def _column(self, name: str) -> Any:
        return self._kinds if name == KIND else self._columns[name]

    @cached_property
    def _kinds(self) -> Any:
        """The official type of each question; a wording is looked at once."""
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
    """Rows by image, without a list for each.

    Args:
        order: the rows, image after image.
        ends: where in it the rows of each image end.
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
        """Number of rows of each image."""
        return np.diff(self.ends, prepend=0)


class Builder:
    """A data set that grows row by row, kept as columns."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._batches: list[Any] = []

    def extend(self, rows: Iterable[Row]) -> None:
        """Append rows; those before one that cannot be read are kept.

        Raises:
            DataError: a row cannot be written as UTF-8.
        """
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == _AT_ONCE:
                self._close()

    def built(self) -> Dataset:
        """The data set so far."""
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
    """Row after row, of a table or of records."""
    if isinstance(samples, Dataset):
        return samples.rows()
    return ((s.id, s.image, s.question, s.answer, s.type, s.dataset, s.manner) for s in samples)


def no_text(name: str, image: str) -> DataError:
    """The error for half a surrogate pair: JSON may hold one, and so may a file name."""
    return DataError(
        f"sample {name} cannot be written as UTF-8 (image {image!a})",
        hint="rename files and folders whose names are not UTF-8",
    )


def _not_utf8(row: Row) -> DataError | None:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return no_text(row[0], row[1])
    return None


def _of(columns: Iterable[Any]) -> Dataset:
    return Dataset(pa.table(list(columns), schema=SCHEMA))


def _whole(column: Any) -> Any:
    """A column in one piece."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _texts(column: Any) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    found: list[str] = column.to_pylist()
    return found
