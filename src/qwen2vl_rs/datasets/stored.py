"""Cache of a run's questions: an Arrow file beside the JSON, which is memory-mapped.

``data/train.json`` is authoritative. ``data/train.arrow`` has the same content; its metadata
contain the SHA-256 of the JSON and the digest of its own columns. If either differs, it is written
again.
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
    """Read the questions of a file in a run, from the cache if it is valid.

    Args:
        path: conversations in the format of `tables.write_conversations`.

    Raises:
        DataError: see `reading.read_samples`.
    """
    known = sha256(path) if path.is_file() else ""
    if (found := _mapped(path.with_suffix(".arrow"), known)) is not None:
        return found
    data = read_samples(path)
    if known and sha256(path) == known:  # not replaced while it was read
        store(path, data, known)
    return data


def read_run(run: Run, name: str) -> Dataset:
    """Read the training or test questions of a run; its own copies with `read_stored`.

    Args:
        run: the run.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.

    Raises:
        NoQuestions: the questions are missing, or belong to another run.
    """
    path = run.questions_file(name)
    return read_stored(path) if path == run.questions_copy(name) else read_samples(path)


def store(path: Path, samples: Iterable[Sample], made_of: str | None = None) -> None:
    """Write the Arrow cache of conversations; failures are ignored, because the JSON suffices.

    Args:
        path: the conversations.
        samples: their content.
        made_of: their SHA-256; None to compute it.
    """
    table = Dataset.of(samples).compact().table
    facts = {_MADE_OF: made_of or sha256(path), _CONTENT: _digest(table)}
    with (
        contextlib.suppress(RunError),  # a full disk, or a read-only folder
        atomic_write(path.with_suffix(".arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema.with_metadata(facts)) as writer,
    ):
        writer.write_table(table)  # one batch, because its columns have one chunk


def _mapped(place: Path, made_of: str) -> Dataset | None:
    """Map the columns of a file; None if it is missing, damaged, or of another JSON file."""
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
    """Return the digest of the columns.

    Raises:
        pa.ArrowInvalid: the columns are damaged.
    """
    table.validate(full=True)
    found = hashlib.sha256()
    for column in table.columns:
        for chunk in column.chunks:
            for part in _parts(chunk):
                found.update(part)
    return found.hexdigest()


def _parts(array: Any) -> list[memoryview]:
    """Return the bytes of an array: indices and dictionary, or offsets and texts."""
    if pa.types.is_dictionary(array.type):
        return [_cut(array.indices, 1, 0, 4 * len(array)), *_parts(array.dictionary)]
    size = 8 * (len(array) + 1) if len(array) else 0
    ends = _cut(array, 1, 0, size)
    return [ends, _cut(array, 2, 0, int.from_bytes(ends[-8:], "little"))] if size else []


def _cut(array: Any, number: int, start: int, stop: int) -> memoryview:
    buffer = array.buffers()[number]
    return memoryview(b"" if buffer is None else buffer)[start:stop]
