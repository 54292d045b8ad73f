"""Questions put to a model: what is there already, what is missing, and the end of it.

Only this module decides whether answers are up to date. While it runs, a job's folder holds
``predictions.partial-<process>.jsonl``; complete, ``predictions.jsonl``, ``inputs.json`` (what
they were made from) and ``timing.json``. Maps keep their windows in an `AnswerFile` likewise.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar

from ..datasets.image_paths import require_image
from ..errors import DataError
from ..raster import image_digest, image_facts
from ..scoring.predictions import as_record, read_predictions, write_predictions
from ..system.console import Progress, say
from ..system.files import append_to, atomic_write, read_json, remove_stale, sha256, write_json
from ..system.jsonl import read_jsonl, to_line
from ..system.named_files import read_bytes
from ..system.oserrors import unreadable
from ..types import Prediction, Sample

QUESTIONS_AT_ONCE = 200  # asked between two writes
_PARTIAL = "predictions.partial*.jsonl"
_OTHERS = "of another model, settings, questions or images"
_T = TypeVar("_T")


def batched(groups: Iterable[Sequence[_T]]) -> Iterator[list[Sequence[_T]]]:
    """Groups of questions (of one image each), some at a time: as many as make a batch."""
    batch: list[Sequence[_T]] = []
    for group in groups:
        batch.append(group)
        if sum(map(len, batch)) >= QUESTIONS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def digest_of(parts: Iterable[str]) -> str:
    """The key that texts make, one behind the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer file holds.

    Attributes:
        key: of what was asked; None where nothing is there yet.
        known: the answers by id.
        torn: whether more stands behind them, which is no answer.
        foreign: whether it does not begin as an answer file does.
    """

    key: object = None
    known: dict[Any, Any] = field(default_factory=dict)
    torn: bool = False
    foreign: bool = False


@dataclass
class Log:
    """The answers so far.

    Attributes:
        known: by id.
        new: number of those that were added.
    """

    known: dict[Any, Any]
    _of: AnswerFile
    _file: IO[str]
    _bar: Progress
    new: int = 0

    def add(self, answers: Iterable[Any]) -> None:
        """Write answers down; those that are known already stay as they are."""
        records = ((self._of.record(answer), answer) for answer in answers)
        found = [(r, answer) for r, answer in records if r[self._of.name] not in self.known]
        self._file.write("".join(to_line(r) for r, _ in found))
        self._file.flush()
        self.known |= {r[self._of.name]: answer for r, answer in found}
        self.new += len(found)
        self._bar.advance(len(found))


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A file of answers that grows: a first line with the key, then a line for each answer.

    Args:
        path: the file.
        head: its first line; ``key`` in it says what is asked of which model, and how.
        older: keys by which earlier versions mean the same.
        name: of the field that tells lines apart.
        parse: makes an answer of a line; raises where it is none.
        record: the line of an answer.
    """

    path: Path
    head: Mapping[str, Any]
    older: tuple[str, ...] = ()
    name: str = "id"
    parse: Callable[[dict[str, Any]], Any] = dict
    record: Callable[[Any], dict[str, Any]] = dict

    def accepts(self, key: object) -> bool:
        """Whether what has this key is the same."""
        return key in (self.head["key"], *self.older)

    def read(self) -> Found:
        """What is there, whatever it was made from.

        Raises:
            RunError: the file cannot be read.
        """
        try:
            values, end = read_jsonl(self.path)
            if not self.path.exists():
                return Found()
            if not values:  # empty, zeros, or the beginning of our first line
                begin = to_line({"key": self.head["key"]}).encode()[:-2]
                known = begin.startswith(read_bytes(self.path).strip(b"\0"))
                return Found(torn=True, foreign=not known)
            torn = end < self.path.stat().st_size
        except OSError as error:
            raise unreadable(self.path, error) from error
        first, *lines = values
        if "key" not in first:
            return Found(foreign=True)
        found: dict[Any, Any] = {}
        for line in lines:
            try:
                found[line[self.name]] = self.parse(line)
            except (TypeError, KeyError):  # no line of ours: as one that is cut short
                torn = True
                break
        return Found(first["key"], found, torn)

    def say_torn(self, found: Found) -> None:
        """Say how much of the file is used, where that is not all of it."""
        if found.torn and found.key is not None:
            say(f"{self.path}: not used behind its {len(found.known):,} sound lines")

    @contextlib.contextmanager
    def adding(self, found: Found, bar: Progress) -> Iterator[Log]:
        """Where answers are written down; what is in ``found`` is kept, all else is removed."""
        if found.torn or found.key != self.head["key"]:  # older keys are renewed
            with atomic_write(self.path) as file:
                file.write(to_line(self.head))
                file.writelines(to_line(self.record(answer)) for answer in found.known.values())
        with append_to(self.path) as file, bar:
            yield Log(found.known, self, file, bar)


@dataclass(frozen=True)
class Job:
    """Questions for a model.

    Args:
        samples: the questions.
        folder: of the evaluation.
        made_by: all that decides the answers beside questions and images: which model, what it is
            shown with a question, how it answers.
        dataset: whose classes apply, as written with the predictions; empty where unknown.
        checkpoint: name of the one that answers, as written beside the predictions.

    Raises:
        DataError: two questions have the same id, or an image is not there.
    """

    samples: Sequence[Sample]
    folder: Path
    made_by: Sequence[str]
    dataset: str = ""
    checkpoint: str = ""
    key: str = field(init=False)
    _older: str = field(init=False)

    def __post_init__(self) -> None:
        if len({s.id for s in self.samples}) < len(self.samples):
            raise DataError("several questions have the same id")
        images = dict.fromkeys(s.image for s in self.samples)
        contents: dict[str, str] = {}
        with Progress("checking images", len(images), "images") as bar:
            for image in images:
                contents[image] = _content(image)
                bar.advance()
        object.__setattr__(self, "key", self._digest(contents.__getitem__))
        # as versions wrote it in which the paths of the images counted
        object.__setattr__(self, "_older", self._digest(str, *contents.values()))

    def _digest(self, named: Callable[[str], str], *more: str) -> str:
        """Digest of all that decides the answers; where the images lie does not."""
        facts = ((s.id, named(s.image), s.question, s.answer, s.type) for s in self.samples)
        return digest_of(f"{part}\0" for part in (*self.made_by, *more, *map(repr, facts)))

    @property
    def done(self) -> Path:
        """The file of all predictions."""
        return self.folder / "predictions.jsonl"

    def ready(self) -> list[Prediction] | None:
        """The predictions, where they are there, whole, and from the same inputs."""
        if not self.done.is_file():
            return None
        known = read_json(self.folder / "inputs.json")
        known = known if isinstance(known, dict) else {}
        same = known.get("key") in (self.key, self._older)
        if not same or known.get("sha256") != sha256(self.done):
            why = "changed or damaged since" if same else _OTHERS
            say(f"{self.done}: {why}; asking anew")
            return None
        say(f"{self.folder.name}: {self.done} is up to date")
        self._tidy()  # a kill may have come between
        return self._named(read_predictions(self.done))

    def keep(self, predictions: list[Prediction]) -> None:
        """Write down what `ready` gave, where classes or places of images are other than before."""
        if predictions != read_predictions(self.done):
            self._write(predictions)

    @contextlib.contextmanager
    def asking(self, total: int, process: int = 0) -> Iterator[Log]:
        """Where a process writes its answers down; what it finds there is not asked again.

        Args:
            total: number of questions that this process asks.
            process: its number.
        """
        file, found = self._partial(process), self._usable(process, aloud=True)
        bar = Progress(f"asking ({self.folder.name})", total, "questions", len(found.known))
        with file.adding(found, bar) as log:
            start = time.monotonic()
            yield log
        if log.new and not process:
            seconds = round(time.monotonic() - start, 3)
            write_json(self.folder / "timing.json", {"questions": log.new, "seconds": seconds})

    def answered(self, process: int = 0) -> dict[str, Prediction]:
        """What an interrupted job with the same inputs had answered, by id."""
        return self._usable(process).known

    def _usable(self, process: int, *, aloud: bool = False) -> Found:
        file = self._partial(process)
        found = file.read()
        if not file.accepts(found.key):
            if aloud and (found.foreign or found.key is not None):
                say(f"{file.path}: {_OTHERS}; not used")
            return Found()
        if aloud:
            file.say_torn(found)
        return replace(found, known={p.id: p for p in self._named(found.known.values())})

    def finish(self, processes: int = 1) -> list[Prediction]:
        """Write the predictions of all processes."""
        known = self.collected(processes)
        self._write(known)
        self._tidy()
        return known

    def collected(self, processes: int) -> list[Prediction]:
        """The predictions of all processes, in the order of the questions."""
        known: dict[str, Prediction] = {}
        for process in range(processes):
            known |= self.answered(process)
        return [replace(known[s.id], dataset=self.dataset) for s in self.samples]

    def _named(self, predictions: Iterable[Prediction]) -> list[Prediction]:
        """Predictions of the same questions, with the images where they are now."""
        images = {s.id: s.image for s in self.samples}
        return [
            replace(p, image=images.get(p.id, p.image), dataset=self.dataset) for p in predictions
        ]

    def _write(self, predictions: Sequence[Prediction]) -> None:
        write_predictions(self.done, predictions)
        named = {"checkpoint": self.checkpoint} if self.checkpoint else {}
        inputs = {"key": self.key, "sha256": sha256(self.done), **named}
        write_json(self.folder / "inputs.json", inputs)

    def _partial(self, process: int) -> AnswerFile:
        path = self.folder / f"predictions.partial-{process}.jsonl"
        return AnswerFile(path, {"key": self.key}, (self._older,), "id", _prediction, as_record)

    def _tidy(self) -> None:
        """Remove what a complete evaluation needs no more."""
        for path in self.folder.glob(_PARTIAL):
            path.unlink(missing_ok=True)  # several processes may do so
        remove_stale(self.folder / "timing.json")


def _prediction(line: dict[str, Any]) -> Prediction:
    return Prediction(**line)


def _content(image: str) -> str:
    """Digest of an image file; of one that cannot be read, nothing: reading it will say so.

    Raises:
        DataError: it is not there.
    """
    require_image(image)
    try:
        return _digest(image, image_facts(image)) if os.path.isfile(image) else ""
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=1 << 17)
def _digest(image: str, facts: tuple[tuple[int, int], ...]) -> str:
    """The digest of an image, read once while its files have the same sizes and times."""
    return image_digest(image)
