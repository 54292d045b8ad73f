"""A run's questions as columns: an Arrow file beside the JSON, made once and mapped into memory.

``data/train.json`` is what counts. ``data/train.arrow`` holds the same; its metadata carry the
SHA-256 of the JSON it was made of and the digest of its own columns, and where either is another
it is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import RunError
from ..run import Run
from ..system.files import atomic_write, sha256
from ..types import Sample
from .base import SCHEMA, Dataset
from .reading import read_samples

_MADE_OF, _CONTENT = b"sha256", b"content"


def read_stored(path: Path) -> Dataset:
    """The questions of a file that a run keeps.

    Args:
        path: conversations, as `tables.write_conversations` writes them.

    Raises:
        DataError: see `reading.read_samples`.
    """
    known = sha256(path) if path.is_file() else ""
    if (found := _mapped(path.with_suffix(".arrow"), known)) is not None:
        return found
    data = read_samples(path)
    if known and sha256(path) == known:  # else it was replaced while it was read
        store(path, data, known)
    return data


def read_run(run: Run, name: str) -> Dataset:
    """The training or test questions of a run; those it keeps itself as `read_stored`.

    Args:
        run: the run.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.

    Raises:
        NoQuestions: they are not there, or not those of the run.
    """
    path = run.questions_file(name)
    return read_stored(path) if path == run.questions_copy(name) else read_samples(path)


def store(path: Path, samples: Iterable[Sample], made_of: str | None = None) -> None:
    """Write the columns of conversations, where that is possible: the JSON alone is enough.

    Args:
        path: the conversations.
        samples: what they hold.
        made_of: their SHA-256; None to take it.
    """
    table = Dataset.of(samples).compact().table
    facts = {_MADE_OF: made_of or sha256(path), _CONTENT: _digest(table)}
    with (
        contextlib.suppress(RunError),  # a full disk, or a folder that may only be read
        atomic_write(path.with_suffix(".arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema.with_metadata(facts)) as writer,
    ):
        writer.write_table(table)  # its columns are whole: one batch


def _mapped(place: Path, made_of: str) -> Dataset | None:
    """The columns in a file; None where they are not there, not whole, or of another content."""
    if not place.is_file():  # a pipe would wait for a writer
        return None
    try:
        with place.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
        facts = table.schema.metadata or {}
        if facts.get(_MADE_OF) != made_of.encode() or not table.schema.equals(SCHEMA):
            return None
        if facts.get(_CONTENT) != _digest(table).encode():
            return None
        return None if any(column.null_count for column in table.columns) else Dataset(table)
    except (OSError, ValueError, pa.ArrowException):  # an empty file cannot be mapped
        return None


def _digest(table: pa.Table) -> str:
    """Digest of what the columns hold.

    Raises:
        pa.ArrowInvalid: they are damaged.
    """
    table.validate(full=True)
    found = hashlib.sha256()
    for column in table.columns:
        for chunk in column.chunks:
            for part in _parts(chunk):
                found.update(part)
    return found.hexdigest()


def _parts(array: Any) -> list[memoryview]:
    """The bytes of an array: of codes and their values, or of the ends of texts and the texts."""
    if pa.types.is_dictionary(array.type):
        return [_cut(array.indices, 1, 0, 4 * len(array)), *_parts(array.dictionary)]
    size = 8 * (len(array) + 1) if len(array) else 0
    ends = _cut(array, 1, 0, size)
    return [ends, _cut(array, 2, 0, int.from_bytes(ends[-8:], "little"))] if size else []


def _cut(array: Any, number: int, start: int, stop: int) -> memoryview:
    buffer = array.buffers()[number]
    return memoryview(b"" if buffer is None else buffer)[start:stop]
