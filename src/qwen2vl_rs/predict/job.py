"""Resumable inference with cached predictions.

Only this module decides whether predictions are up to date. During a job its folder holds
``predictions.partial-<process>.jsonl``; afterwards ``predictions.jsonl``, ``inputs.json`` (the
cache key and the checksum) and ``timing.json``. Maps store their windows in an `AnswerFile`, too.
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

QUESTIONS_AT_ONCE = 200  # between two writes
_PARTIAL = "predictions.partial*.jsonl"
_OTHERS = "of another model, settings, questions or images"
_T = TypeVar("_T")


def batched(groups: Iterable[Sequence[_T]]) -> Iterator[list[Sequence[_T]]]:
    """Yield groups of questions (one image each) in batches of about `QUESTIONS_AT_ONCE`."""
    batch: list[Sequence[_T]] = []
    for group in groups:
        batch.append(group)
        if sum(map(len, batch)) >= QUESTIONS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def digest_of(parts: Iterable[str]) -> str:
    """Return the cache key of some texts, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """The content of an answer file.

    Attributes:
        key: the file's cache key; None for a file that does not exist yet.
        known: the answers by id.
        torn: whether the file ends in something that is not an answer.
        foreign: whether the file does not begin like an answer file.
    """

    key: object = None
    known: dict[Any, Any] = field(default_factory=dict)
    torn: bool = False
    foreign: bool = False


@dataclass
class Log:
    """The file that answers are appended to.

    Attributes:
        known: all answers by id.
        new: number of answers added.
    """

    known: dict[Any, Any]
    _of: AnswerFile
    _file: IO[str]
    _bar: Progress
    new: int = 0

    def add(self, answers: Iterable[Any]) -> None:
        """Append answers; those with a known id are ignored."""
        records = ((self._of.record(answer), answer) for answer in answers)
        found = [(r, answer) for r, answer in records if r[self._of.name] not in self.known]
        self._file.write("".join(to_line(r) for r, _ in found))
        self._file.flush()
        self.known |= {r[self._of.name]: answer for r, answer in found}
        self.new += len(found)
        self._bar.advance(len(found))


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A growing file of answers: a first line with the cache key, then one line per answer.

    Args:
        path: the file.
        head: its first line; ``key`` in it is the cache key of model, settings and inputs.
        older: keys that earlier versions wrote for the same inputs.
        name: the field that identifies a line.
        parse: makes an answer of a line; raises if the line is not one.
        record: makes the line of an answer.
    """

    path: Path
    head: Mapping[str, Any]
    older: tuple[str, ...] = ()
    name: str = "id"
    parse: Callable[[dict[str, Any]], Any] = dict
    record: Callable[[Any], dict[str, Any]] = dict

    def accepts(self, key: object) -> bool:
        """Return whether ``key`` means the same inputs."""
        return key in (self.head["key"], *self.older)

    def read(self) -> StoredAnswers:
        """Read the file, whatever its key.

        Raises:
            RunError: the file is not readable.
        """
        try:
            values, end = read_jsonl(self.path)
            if not self.path.exists():
                return StoredAnswers()
            if not values:  # empty, zeros, or a part of our first line
                begin = to_line({"key": self.head["key"]}).encode()[:-2]
                known = begin.startswith(read_bytes(self.path).strip(b"\0"))
                return StoredAnswers(torn=True, foreign=not known)
            torn = end < self.path.stat().st_size
        except OSError as error:
            raise unreadable(self.path, error) from error
        first, *lines = values
        if "key" not in first:
            return StoredAnswers(foreign=True)
        found: dict[Any, Any] = {}
        for line in lines:
            try:
                found[line[self.name]] = self.parse(line)
            except (TypeError, KeyError):  # not a line of ours: treated as an incomplete one
                torn = True
                break
        return StoredAnswers(first["key"], found, torn)

    def report_torn(self, found: StoredAnswers) -> None:
        """Print how many lines are used, if not all."""
        if found.torn and found.key is not None:
            say(f"{self.path}: ignored after its {len(found.known):,} valid lines")

    @contextlib.contextmanager
    def appending(self, found: StoredAnswers, bar: Progress) -> Iterator[Log]:
        """Open the file for appending; keep what is in ``found`` and remove the rest."""
        if found.torn or found.key != self.head["key"]:  # older keys are replaced
            with atomic_write(self.path) as file:
                file.write(to_line(self.head))
                file.writelines(to_line(self.record(answer)) for answer in found.known.values())
        with append_to(self.path) as file, bar:
            yield Log(found.known, self, file, bar)


@dataclass(frozen=True)
class Job:
    """Questions to a model.

    Args:
        samples: the questions.
        folder: the evaluation's folder.
        key_parts: the parts of the cache key beside questions and images: the model, its input and
            its answer settings.
        dataset: name of the dataset as written with the predictions; empty if unknown.
        checkpoint: name of the checkpoint, as written with the predictions.

    Raises:
        DataError: two questions have the same id, or an image is missing.
    """

    samples: Sequence[Sample]
    folder: Path
    key_parts: Sequence[str]
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
        # the key of earlier versions, in which image paths counted
        object.__setattr__(self, "_older", self._digest(str, *contents.values()))

    def _digest(self, named: Callable[[str], str], *more: str) -> str:
        """Return the cache key; it does not depend on the images' folder."""
        facts = ((s.id, named(s.image), s.question, s.answer, s.type) for s in self.samples)
        return digest_of(f"{part}\0" for part in (*self.key_parts, *more, *map(repr, facts)))

    @property
    def done(self) -> Path:
        """The file of the complete predictions."""
        return self.folder / "predictions.jsonl"

    def ready(self) -> list[Prediction] | None:
        """Return the predictions if they are complete and from the same inputs."""
        if not self.done.is_file():
            return None
        known = read_json(self.folder / "inputs.json")
        known = known if isinstance(known, dict) else {}
        same = known.get("key") in (self.key, self._older)
        if not same or known.get("sha256") != sha256(self.done):
            why = "changed or damaged since" if same else _OTHERS
            say(f"{self.done}: {why}; asking again")
            return None
        say(f"{self.folder.name}: {self.done} is up to date")
        self._tidy()  # in case the job was killed before
        return self._named(read_predictions(self.done))

    def keep(self, predictions: list[Prediction]) -> None:
        """Update predictions from `ready` if label set or image paths have changed."""
        if predictions != read_predictions(self.done):
            self._write(predictions)

    @contextlib.contextmanager
    def appending(self, total: int, process: int = 0) -> Iterator[Log]:
        """Open a process's answer file for appending; existing answers are kept.

        Args:
            total: number of questions of this process.
            process: its rank.
        """
        file, found = self._partial(process), self._usable(process, aloud=True)
        bar = Progress(f"asking ({self.folder.name})", total, "questions", len(found.known))
        with file.appending(found, bar) as log:
            start = time.monotonic()
            yield log
        if log.new and not process:
            seconds = round(time.monotonic() - start, 3)
            write_json(self.folder / "timing.json", {"questions": log.new, "seconds": seconds})

    def partial(self, process: int = 0) -> dict[str, Prediction]:
        """Return the answers of an interrupted job with the same inputs, by id."""
        return self._usable(process).known

    def _usable(self, process: int, *, aloud: bool = False) -> StoredAnswers:
        file = self._partial(process)
        found = file.read()
        if not file.accepts(found.key):
            if aloud and (found.foreign or found.key is not None):
                say(f"{file.path}: {_OTHERS}; not used")
            return StoredAnswers()
        if aloud:
            file.report_torn(found)
        return replace(found, known={p.id: p for p in self._named(found.known.values())})

    def finish(self, processes: int = 1) -> list[Prediction]:
        """Write the predictions of all processes."""
        known = self.collect(processes)
        self._write(known)
        self._tidy()
        return known

    def collect(self, processes: int) -> list[Prediction]:
        """Return the predictions of all processes, in the order of the questions."""
        known: dict[str, Prediction] = {}
        for process in range(processes):
            known |= self.partial(process)
        return [replace(known[s.id], dataset=self.dataset) for s in self.samples]

    def _named(self, predictions: Iterable[Prediction]) -> list[Prediction]:
        """Return the predictions with the label set and the image paths of this job."""
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
        """Remove the temporary files of a complete evaluation."""
        for path in self.folder.glob(_PARTIAL):
            path.unlink(missing_ok=True)  # another process may have removed it
        remove_stale(self.folder / "timing.json")


def _prediction(line: dict[str, Any]) -> Prediction:
    return Prediction(**line)


def _content(image: str) -> str:
    """Return the checksum of an image file, or "" if unreadable: decoding it reports the error.

    Raises:
        DataError: the file is missing.
    """
    require_image(image)
    try:
        return _digest(image, image_facts(image)) if os.path.isfile(image) else ""
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=1 << 17)
def _digest(image: str, facts: tuple[tuple[int, int], ...]) -> str:
    """Return the checksum of an image; cached as long as sizes and times of its files are equal."""
    return image_digest(image)
