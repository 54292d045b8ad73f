"""One set of questions put to one model: what is there already, what is missing, and the end of it.

Only this module decides whether predictions are up to date. A job's folder holds, while it runs,
``predictions.partial-<process>.jsonl``; complete, ``predictions.jsonl``, ``inputs.json`` (what
they were made from) and ``timing.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO

from ..config import ViewConfig
from ..datasets.base import Dataset
from ..datasets.image_paths import require_image
from ..errors import DataError
from ..questions.grammar import type_of
from ..questions.normal_forms import understood
from ..questions.reply import CUT_OFF
from ..raster import image_digest, image_facts
from ..scoring.baselines import shuffle_images
from ..scoring.predictions import as_record, read_predictions, write_predictions
from ..scoring.results import Results
from ..system.console import Progress, say
from ..system.files import appending, atomic_write, read_json, sha256, sweep, write_json
from ..system.jsonl import read_jsonl, to_line
from ..system.oserrors import unreadable
from ..types import Prediction, Sample

_PARTIAL = "predictions.partial*.jsonl"
_OTHERS = "of another model, settings, questions or images"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model gave to one question.

    Attributes:
        text: all of it.
        cut: whether it ended at the bound on its length, and not by itself.
        confidence: probability of the text; None where unknown.
    """

    text: str
    cut: bool = False
    confidence: float | None = None


def predict(sample: Sample, reply: Reply) -> Prediction:
    """The prediction that a reply is."""
    kind = type_of(sample)
    prediction, unreadable = understood(reply.text, kind, reply.cut)
    return Prediction(
        id=sample.id,
        image=sample.image,
        question=sample.question,
        type=kind,
        answer=sample.answer,
        prediction=prediction,
        text=reply.text,
        confidence=None if reply.confidence is None else round(reply.confidence, 6),
        unreadable=unreadable,
    )


def say_cut_off(found: Results, most: int) -> None:
    """Say what to set where answers were cut off at so many tokens."""
    if n := found["unreadable"]["causes"].get(CUT_OFF):
        say(f"{n:,} answers were cut off at {most} tokens: --set eval.max_new_tokens={16 * most}")


def bare_samples(samples: Iterable[Sample], view: ViewConfig) -> Dataset:
    """The questions without the run's own instruction, as they are asked and scored."""
    return Dataset.of(samples).changed("question", view.bare)


def with_other_images(samples: Sequence[Sample], seed: int) -> Dataset | None:
    """The same questions about other images; None where there is only one image."""
    data = Dataset.of(samples)
    images = data.distinct("image")
    if len(images) < 2:
        return None
    return data.changed("image", shuffle_images(images, seed).__getitem__)


def with_own_images(
    predictions: Sequence[Prediction], samples: Sequence[Sample]
) -> list[Prediction]:
    """Predictions about other images, under the image that each question belongs to."""
    own = {s.id: s.image for s in samples}
    return [replace(p, image=own[p.id]) for p in predictions]


@dataclass
class Log:
    """The answers so far.

    Attributes:
        known: by id.
    """

    known: dict[str, Prediction]
    _file: IO[str]
    _bar: Progress
    _new: int = 0

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Write answers down."""
        found = [p for p in predictions if p.id not in self.known]
        self._file.writelines(to_line(as_record(p)) for p in found)
        self._file.flush()
        self.known |= {p.id: p for p in found}
        self._new += len(found)
        self._bar.advance(len(found))


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
        object.__setattr__(self, "key", self._key(contents))
        object.__setattr__(self, "_older", self._older_key(contents))

    def _key(self, contents: Mapping[str, str]) -> str:
        """Digest of all that decides the answers; where the images lie does not."""
        facts = ((s.id, contents[s.image], s.question, s.answer, s.type) for s in self.samples)
        return _digested([*self.made_by, *map(repr, facts)])

    def _older_key(self, contents: Mapping[str, str]) -> str:
        """The key that versions wrote in which the paths of the images counted."""
        facts = ((s.id, s.image, s.question, s.answer, s.type) for s in self.samples)
        return _digested([*self.made_by, *contents.values(), *map(repr, facts)])

    def _is_own(self, key: object) -> bool:
        return key in (self.key, self._older)

    @property
    def done(self) -> Path:
        """The file of all predictions."""
        return self.folder / "predictions.jsonl"

    def ready(self) -> list[Prediction] | None:
        """The predictions, where they are there, whole, and from the same inputs."""
        inputs = self.folder / "inputs.json"
        if not self.done.is_file():
            return None
        known = read_json(inputs)
        known = known if isinstance(known, dict) else {}
        same = self._is_own(known.get("key"))
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
        path = self._partial(process)
        known = self.answered(process, aloud=True)
        with atomic_write(path) as file:  # without what was cut short
            file.write(to_line({"key": self.key}))
            file.writelines(to_line(as_record(p)) for p in known.values())
        with (
            appending(path) as file,
            Progress(f"asking ({self.folder.name})", total, "questions", len(known)) as bar,
        ):
            log, start = Log(known, file, bar), time.monotonic()
            yield log
        if log._new and not process:
            seconds = round(time.monotonic() - start, 3)
            write_json(self.folder / "timing.json", {"questions": log._new, "seconds": seconds})

    def answered(self, process: int = 0, *, aloud: bool = False) -> dict[str, Prediction]:
        """What an interrupted job with the same inputs had answered, by id."""
        path = self._partial(process)
        try:
            values, end = read_jsonl(path)
            torn = bool(end) and end < path.stat().st_size
        except OSError as error:
            raise unreadable(path, error) from error
        if not values:
            return {}
        head, *lines = values
        if head.keys() != {"key"} or not self._is_own(head["key"]):
            if aloud:
                say(f"{path}: {_OTHERS}; not used")
            return {}
        known = {}
        for line in lines:
            try:
                known[line["id"]] = Prediction(**line)
            except (TypeError, KeyError):  # no line of ours: as one that is cut short
                torn = True
                break
        if torn and aloud:
            say(f"{path}: not used behind its {len(known):,} sound answers")
        return {p.id: p for p in self._named(known.values())}

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
        write_json(self.folder / "inputs.json", self._inputs())

    def _inputs(self) -> dict[str, str]:
        named = {"checkpoint": self.checkpoint} if self.checkpoint else {}
        return {"key": self.key, "sha256": sha256(self.done), **named}

    def _partial(self, process: int) -> Path:
        return self.folder / f"predictions.partial-{process}.jsonl"

    def _tidy(self) -> None:
        """Remove what a complete evaluation needs no more."""
        for path in self.folder.glob(_PARTIAL):
            path.unlink(missing_ok=True)  # several processes may do so
        sweep(self.folder / "timing.json")


def _digested(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


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
