"""Read RSVQA's published files: questions, answers and images, joined by id."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import sqlite3
from collections import ChainMap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..known_datasets import all_datasets
from ..system.oserrors import reading_hint
from ..types import Sample
from . import json_records as jsonstream
from .file_opening import require
from .left_out import INACTIVE, NO_ANSWER, NO_IMAGE, NO_TEXT, LeftOut

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""Image extensions in order of preference (RSVQA-HR has every image as .tif and .png)."""

WHOLE = "all"
"""Name of the split for the whole data set."""

SPLIT_NAME = re.compile(r"(?P<prefix>.+)_split_(?P<split>\w+)_questions\.json")
WHOLE_NAME = re.compile(r"(?P<prefix>all_|rsvqa_|USGS|LRBEN|)questions\.json")
_FOLDERS = ("Images_LR", "Data", "Images", "rsvqa_images", "data", "images", "dataUSGS")
_BATCH = 500  # below SQLite's oldest limit of 999 parameters in one statement


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Paths of one split of a data set."""

    questions: Path
    answers: Path
    images: Path


class _Question(NamedTuple):
    id: int
    image: int
    text: str
    type: str
    answer: int | None


def find_split(folder: Path, split: str | None = None, images: Path | None = None) -> SplitFiles:
    """Find the files of one split in a folder with RSVQA's published layout.

    Args:
        folder: folder with ``<prefix>_split_<split>_{questions,answers}.json`` or the whole data
            set (``all_questions.json``, ``USGSquestions.json``, ``questions.json``, …), and the
            image folder.
        split: ``train``, ``val``, ``test``, ``test_phili``, or ``all`` for the whole data set;
            None if the folder contains only one split.
        images: image folder; None for the one beside the questions.

    Raises:
        DataError: no such split, several to choose from, files of several data sets, or no
            image folder.
    """
    found = _splits(folder)
    if not found:  # some tools extract archives into a subfolder of the same name
        inner = [path for path in _listed(folder) if path.is_dir() and _splits(path)]
        if len(inner) == 1:
            return find_split(inner[0], split, images)
    if not found:
        raise DataError(
            f"no questions in {folder}",
            hint="expected a file such as LR_split_train_questions.json or rsvqa_questions.json",
        )
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split not in found:
        problem = "contains several splits" if split is None else f"contains no split {split!r}"
        choice = "|".join(sorted(found))
        raise DataError(f"{folder} {problem}", hint=f"choose one of its splits: --split {choice}")
    if len(found[split]) > 1:
        names = ", ".join(path.name for _, path in found[split])
        raise DataError(
            f"{folder} contains several data sets: {names}",
            hint="name the files: --questions FILE --answers FILE --images FOLDER",
        )
    prefix, questions = found[split][0]
    images = images or _image_folder(folder, prefix)
    return SplitFiles(questions, answers_beside(questions), images)


def split_names(folder: Path) -> list[str]:
    """Return the splits in a folder with RSVQA's published layout; empty if it has another.

    Raises:
        DataError: the folder cannot be listed.
    """
    if found := _splits(folder):
        return list(found)
    inner = [found for path in _listed(folder) if path.is_dir() and (found := _splits(path))]
    return list(inner[0]) if len(inner) == 1 else []


def _splits(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    """Return prefix and question file of each split in a folder."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for path in _listed(folder):
        if match := SPLIT_NAME.fullmatch(path.name) or WHOLE_NAME.fullmatch(path.name):
            parts = match.groupdict()
            found.setdefault(parts.get("split", WHOLE), []).append((parts["prefix"], path))
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"no folder {folder}",
            hint="download RSVQA-LR or -HR from Zenodo and extract it, or check the name",
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot list the folder {folder}: {error.strerror}",
            hint=reading_hint(error, "name a folder that you may read"),
        ) from error


def answers_beside(questions: Path) -> Path:
    """Return the path of the answers file of a question file.

    Raises:
        DataError: the question file is not named ``…questions.json``.
    """
    stem = questions.name.removesuffix("questions.json")
    if stem == questions.name:
        raise DataError(
            f"cannot tell which answers belong to {questions}",
            hint="name them: qwen2vl-rs data2csv --questions FILE --answers FILE --images FOLDER",
        )
    return questions.with_name(f"{stem}answers.json")


def images_beside(questions: Path) -> Path:
    """Find the image folder beside a question file.

    Raises:
        DataError: there is none, or there are several candidates.
    """
    match = SPLIT_NAME.fullmatch(questions.name) or WHOLE_NAME.fullmatch(questions.name)
    return _image_folder(questions.parent, match["prefix"] if match else "")


def _image_folder(folder: Path, prefix: str) -> Path:
    hint = "name the image folder: --images FOLDER"
    places = [{"rsvqa": ("rsvqa_images",)}, *(one.image_folders for one in all_datasets().values())]
    own = ChainMap(*map(dict, places)).get(prefix.rstrip("_"), ())
    for name in own:
        if (folder / name).is_dir():
            return folder / name
    found = [folder / name for name in _FOLDERS if (folder / name).is_dir()]
    if not found:
        raise DataError(
            f"no image folder in {folder} (looked for {', '.join(_FOLDERS)})", hint=hint
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"several image folders in {folder}: {names}", hint=hint)
    return found[0]


def read_split(
    questions: Path, answers: Path, images: Path | None, *, counts: LeftOut
) -> Iterator[Sample]:
    """Yield the answered questions of a split, in the order of the question file.

    Full lists with stubs for the records of other splits, compact lists, and dumps of the whole
    data set are supported: answers are found by id, never by position. Memory does not grow with
    the number of questions; the index of the answers (about 30 bytes per question) is an anonymous
    temporary file.

    Args:
        questions: ``{"questions": [...]}``.
        answers: ``{"answers": [...]}``.
        images: folder with ``<img_id>.tif``, or else .tiff, .png, .jpg, .jpeg; None if the images
            are not needed: the id is then used as image name.
        counts: counter of skipped questions.

    Raises:
        DataError: a file or the folder is missing or malformed, a field is missing or of a wrong
            type, an id is a duplicate, the two files do not match, or no question is left.
    """
    require(questions, "questions")
    images = None if images is None else image_subfolder(images)
    names = {} if images is None else _list_images(images)
    prefix = "" if images is None else os.path.join(os.path.abspath(images), "")
    active = answered = written = 0
    with _Index() as index:
        index.add_answers(answers)
        todo = _read_questions(questions, counts)
        while batch := list(itertools.islice(todo, _BATCH)):
            active += len(batch)
            index.add_questions(questions, batch)
            for question, answer in zip(batch, index.answers(batch), strict=True):
                if answer is None:
                    counts.add(NO_ANSWER, question.id)
                    continue
                answered += 1
                if not (question.text.strip() and answer.strip()):
                    counts.add(NO_TEXT, question.id)
                    continue
                name = str(question.image) if images is None else names.get(question.image)
                if name is None:
                    counts.add(NO_IMAGE, question.image)
                    continue
                written += 1
                image = prefix + name
                yield Sample(f"rsvqa_{written}", image, question.text, answer, question.type)
    if active and not answered:
        raise DataError(
            f"none of the {active:,} questions in {questions} has an answer in {answers}",
            hint="the two files do not match: use both from one split",
        )
    if not written:
        foreign = NO_IMAGE in counts.numbers
        raise DataError(
            f"no usable question in {questions}: {'; '.join(counts.lines())}",
            hint=f"is {images} the right image folder?" if foreign else "use another split",
        )


def image_subfolder(folder: Path) -> Path:
    """Return the folder with the images: itself, or its only subfolder with images.

    Raises:
        DataError: the folder cannot be listed.
    """
    if _list_images(folder):
        return folder
    inner = [path for path in _listed(folder) if path.is_dir() and _list_images(path)]
    return inner[0] if len(inner) == 1 else folder


def _list_images(folder: Path) -> dict[int, str]:
    """Return the file name of each image id."""
    try:
        listed = os.listdir(folder)
    except OSError as error:
        raise DataError(
            f"cannot list the image folder {folder}: {error.strerror}",
            hint=reading_hint(error, "name the folder with <img_id>.tif: --images FOLDER"),
        ) from error
    best: dict[int, tuple[int, str]] = {}
    ranks = {suffix: rank for rank, suffix in enumerate(SUFFIXES)}
    for name in listed:
        stem, suffix = os.path.splitext(name)
        rank = ranks.get(suffix.lower())
        if rank is not None and re.fullmatch(r"0|[1-9][0-9]*", stem):
            key = int(stem)
            best[key] = min(best.get(key, (rank, name)), (rank, name))
    return {key: name for key, (_, name) in best.items()}


def _read_questions(path: Path, counts: LeftOut) -> Iterator[_Question]:
    for n, record in enumerate(jsonstream.records(path, "questions"), 1):
        if not _is_active(path, n, record):
            counts.add(INACTIVE, record.get("id"))
            continue
        links = record.get("answers_ids")
        if links is not None and (
            type(links) is not list or any(type(k) is not int for k in links)
        ):
            jsonstream.fail(path, n, record, '"answers_ids" is not a list of whole numbers')
        if links and abs(links[0]) >> 63:
            jsonstream.fail(path, n, record, f'"answers_ids" contains {jsonstream.BEYOND}')
        yield _Question(
            jsonstream.field(path, n, record, "id", int),
            jsonstream.field(path, n, record, "img_id", int),
            jsonstream.field(path, n, record, "question", str),
            jsonstream.field(path, n, record, "type", str) if "type" in record else "",
            links[0] if links else None,
        )


def _read_answers(path: Path) -> Iterator[tuple[int, int | None, str]]:
    for n, record in enumerate(jsonstream.records(path, "answers"), 1):
        if not _is_active(path, n, record):
            continue
        answer = record.get("answer")
        if type(answer) is float:
            if math.isinf(answer):
                jsonstream.fail(path, n, record, f'"answer" contains {jsonstream.BEYOND}')
            answer = str(answer)
        elif type(answer) is int:
            answer = str(jsonstream.field(path, n, record, "answer", int))
        else:
            answer = jsonstream.field(path, n, record, "answer", str)
        question = None
        if "question_id" in record:
            question = jsonstream.field(path, n, record, "question_id", int)
        yield jsonstream.field(path, n, record, "id", int), question, answer


def _is_active(path: Path, n: int, record: dict[str, Any]) -> bool:
    """Return False for a stub ``{"id": …, "active": false}`` of another split."""
    active = record.get("active", True)
    if type(active) is not bool:
        active = jsonstream.field(path, n, record, "active", bool)
    return bool(active)


class _Index:
    """Answers by id, and the ids seen, in an anonymous temporary database.

    SQLite unlinks the file as soon as it is open, so that a kill leaves nothing behind.
    """

    def __enter__(self) -> _Index:
        self._db = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA cache_size=-65536",  # KiB
            "CREATE TABLE answer (id INTEGER PRIMARY KEY, question INTEGER, text TEXT)",
            "CREATE TABLE question (id INTEGER PRIMARY KEY)",
            "BEGIN",
        ):
            self._db.execute(statement)
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add_answers(self, path: Path) -> None:
        self._insert(path, "INSERT INTO answer VALUES (?, ?, ?)", _read_answers(path))

    def add_questions(self, path: Path, batch: list[_Question]) -> None:
        self._insert(path, "INSERT INTO question VALUES (?)", ((q.id,) for q in batch))

    def answers(self, batch: list[_Question]) -> list[str | None]:
        """Return the answer of each question: the one it names, else the first that names it."""
        by_id = "SELECT id, text FROM answer WHERE id IN"
        named = self._select(by_id, [q.answer for q in batch if q.answer is not None])
        naming: dict[int, str] = {}
        if nameless := [q.id for q in batch if q.answer is None]:
            self._execute("CREATE INDEX IF NOT EXISTS naming ON answer (question, id)")
            # descending, so that the lowest id overwrites the others
            by_question = "SELECT question, text FROM answer WHERE question IN"
            naming = self._select(by_question, nameless, "ORDER BY id DESC")
        return [naming.get(q.id) if q.answer is None else named.get(q.answer) for q in batch]

    def _select(self, what: str, ids: list[int], order: str = "") -> dict[int, str]:
        marks = ", ".join("?" * len(ids))
        return dict(self._execute(f"{what} ({marks}) {order}", ids))

    def _insert(self, path: Path, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        last: tuple[Any, ...] = ()

        def watched() -> Iterator[tuple[Any, ...]]:
            nonlocal last
            for row in rows:
                last = row
                yield row

        try:
            with _disk():
                self._db.executemany(statement, watched())
        except sqlite3.IntegrityError as error:
            raise DataError(
                f"{path}: the id {last[0]} is a duplicate", hint="ids must be unique in a file"
            ) from error

    def _execute(self, statement: str, values: Iterable[int] = ()) -> list[tuple[int, str]]:
        with _disk():
            return self._db.execute(statement, tuple(values)).fetchall()


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise DataError(
            f"cannot write the temporary index of the answers: {error}",
            hint="set TMPDIR to a folder with space for 30 bytes per question",
        ) from error
