"""Asking: all questions of a set put to a base or a checkpoint, and kept when interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..config import EvalConfig, TrainingSettings, ViewConfig
from ..console import Progress, say
from ..data.raster import image_size
from ..data.split import group_by_image
from ..files import appending, atomic_write, read_json, sha256, sweep, write_json
from ..records import Prediction, Sample
from ..scoring.answers import normalise
from ..scoring.answersets import AnswerSet, answer_sets
from ..scoring.controls import shuffle_images
from ..scoring.grammar import type_of
from ..scoring.predictions import read_predictions, write_predictions
from ..scoring.protocols import dataset_of
from .adapter_files import ADAPTER
from .ahead import ahead
from .answer import answer
from .attention import choose
from .closed import choose as choose_answers
from .closed import pick_class
from .fingerprint import fingerprint
from .images import Pixels
from .loader import (
    Base,
    attach_adapter,
    choose_device,
    load_base,
    processes,
    read_config,
    weights_dtype,
)
from .memory import explained_shortage, token_budget
from .trainer import share_out
from .vision import encoded

QUESTIONS_AT_ONCE = 200  # asked between two writes to disk
_QUESTION_TOKENS = 16  # of a question with its answer, on average
Batch = list[list[Sample]]  # questions of some images, by image


class Evaluator:
    """Asks a base or a checkpoint a set of questions; keeps what was answered when interrupted.

    The network is loaded when the first question has to be asked, so that an evaluation that
    exists already costs nothing.

    Args:
        folder: of the base.
        view: what is shown with every question.
        settings: how answers are given.
        training: gives the most tokens of one pass and the seed of the shuffled control.
        taught: the training questions, from which answer sets take their candidates.
    """

    def __init__(
        self,
        folder: Path,
        view: ViewConfig,
        settings: EvalConfig,
        training: TrainingSettings,
        taught: Iterable[Sample] = (),
    ) -> None:
        self._folder, self._view = folder, view
        self._settings, self._training = settings, training
        self._taught = list(taught) if settings.answers == "closed" else []
        self._sets: Mapping[str, AnswerSet] = {}
        read_config(folder)
        self._fingerprint = fingerprint(folder)
        self._base: Base | None = None

    def run(
        self, checkpoint: Path | None, samples: Sequence[Sample], folder: Path, salt: str = ""
    ) -> list[Prediction]:
        """Answers to all samples, from ``folder/predictions.jsonl`` where they are there.

        Args:
            checkpoint: whose adapter is put on; None asks the untouched base.
            samples: the questions.
            folder: of this evaluation.
            salt: further text that identifies the evaluation.
        """
        if self._settings.answers == "closed":
            types = Counter(map(type_of, samples))
            self._sets = answer_sets(self._taught, dataset_of(types))
            _describe(self._sets, types)
        key = self._key(checkpoint, samples, salt)
        done = folder / "predictions.jsonl"
        if done.is_file() and read_json(folder / "inputs.json") == _inputs(key, done):
            say(f"{folder.name}: {done} is up to date")
            _tidy(folder)  # a kill may have come between
            return read_predictions(done)
        team = processes()
        folder.mkdir(parents=True, exist_ok=True)
        batches = _batches(samples)
        shares = share_out([self._weight(b) for b in batches], team.num_processes)
        mine = [batches[i] for i in shares[team.process_index]]
        self._answer(checkpoint, mine, _partial(folder, team.process_index), key)
        team.wait_for_everyone()
        partials = [_partial(folder, rank) for rank in range(team.num_processes)]
        known = {p.id: p for path in partials for p in _read_partial(path, key)}
        predictions = [known[s.id] for s in samples]
        team.wait_for_everyone()
        if team.is_main_process:
            write_predictions(done, predictions)
            write_json(folder / "inputs.json", _inputs(key, done))
            _tidy(folder)
        team.wait_for_everyone()
        return predictions

    def _weight(self, batch: Batch) -> int:
        """About how many tokens a batch takes."""
        token = 28 * 28  # pixels
        sizes = (image_size(group[0].image) for group in batch)
        images = sum(min(width * height, self._view.max_pixels) // token for width, height in sizes)
        return images + _QUESTION_TOKENS * sum(map(len, batch))

    def _answer(
        self, checkpoint: Path | None, batches: list[Batch], partial: Path, key: str
    ) -> None:
        """Ask batch after batch, writing down each; what ``partial`` holds is not asked again."""
        known = {p.id: p for p in _read_partial(partial, key)}
        with atomic_write(partial) as file:  # without what was cut short
            file.write(json.dumps({"key": key}) + "\n")
            file.writelines(_line(p) for p in known.values())
        total = sum(len(group) for groups in batches for group in groups)
        # A batch is asked as a whole or not at all: packed otherwise, rounding differs.
        missing = [b for b in batches if not all(s.id in known for group in b for s in group)]
        with (
            self._model(checkpoint) as (base, model),
            appending(partial) as file,
            Progress(f"asking ({partial.parent.name})", total, "questions", len(known)) as bar,
        ):
            start, asked = time.monotonic(), 0
            pixels = ahead(lambda batch: [base.images.read(g[0].image) for g in batch], missing)
            for groups, images in zip(missing, pixels, strict=True):
                found = [p for p in self._ask(base, model, groups, images) if p.id not in known]
                file.writelines(map(_line, found))
                file.flush()
                asked += len(found)
                bar.advance(len(found))
        if asked and processes().is_main_process:
            seconds = round(time.monotonic() - start, 3)
            write_json(partial.with_name("timing.json"), {"questions": asked, "seconds": seconds})

    def run_shuffled(
        self, checkpoint: Path | None, samples: Sequence[Sample], folder: Path
    ) -> list[Prediction] | None:
        """The same questions asked of other images; None where there is only one image.

        The predictions name the image the question belongs to, so that they pair with the others.
        """
        images = list(dict.fromkeys(s.image for s in samples))
        if len(images) < 2:
            return None
        other = shuffle_images(images, self._training.seed)
        own = {s.id: s.image for s in samples}
        moved = [replace(s, image=other[s.image]) for s in samples]
        found = self.run(checkpoint, moved, folder, salt="shuffled")
        return [replace(p, image=own[p.id]) for p in found]

    @contextlib.contextmanager
    def _model(self, checkpoint: Path | None) -> Iterator[tuple[Base, Any]]:
        """The base, with a checkpoint's adapter in place while the context lasts."""
        if self._base is None:
            device = choose_device()
            kind, why = choose(device, self._training.attention)
            say(f"attention: {kind} ({why})")
            dtype = weights_dtype(device, self._training.bf16)
            self._base = load_base(self._folder, self._view, device, dtype, kind)
        if checkpoint is None:
            yield self._base, self._base.model
            return
        adapted = attach_adapter(self._base, checkpoint)
        try:
            yield self._base, adapted
        finally:
            adapted.unload()

    def _ask(
        self, base: Base, model: Any, groups: Batch, images: Sequence[Pixels]
    ) -> Iterator[Prediction]:
        """Answers to a batch: chosen where the type has an answer set, else written."""
        budget = token_budget(model, self._training.max_tokens_per_pack)
        with explained_shortage(budget):
            images = [encoded(model, pixels) for pixels in images]
            open_, shut = (
                [[s for s in group if (type_of(s) in self._sets) is closed] for group in groups]
                for closed in (False, True)
            )
            written = answer(
                base,
                model,
                [(px, [s.question for s in some]) for px, some in zip(images, open_, strict=True)],
                max_new_tokens=self._settings.max_new_tokens,
                budget=budget,
            )
            asked = [
                (px, [(s.question, self._sets[type_of(s)].texts) for s in some])
                for px, some in zip(images, shut, strict=True)
            ]
            chosen = choose_answers(base, model, asked, budget=budget)
        for sample, said in zip(chain(*open_), chain(*written), strict=True):
            yield _predict(sample, said.text, said.confidence)
        for sample, choice in zip(chain(*shut), chain(*chosen), strict=True):
            yield _predict(sample, *pick_class(choice, self._sets[type_of(sample)]))

    def _key(self, checkpoint: Path | None, samples: Sequence[Sample], salt: str) -> str:
        """Digest of all that decides the answers."""
        adapter = sha256(checkpoint / ADAPTER) if checkpoint else "none"
        parts = [self._fingerprint, adapter, salt, self._view.model_dump_json()]
        parts += [str(self._settings.max_new_tokens), repr(sorted(self._sets.items()))]
        parts.append(str(self._training.bf16))
        for image in dict.fromkeys(s.image for s in samples):  # another picture of the same name
            if os.path.isfile(image):  # else reading it will say so
                facts = os.stat(image)
                parts.append(f"{facts.st_size} {facts.st_mtime_ns}")
        digest = hashlib.sha256()
        for part in (*parts, *map(repr, samples)):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


def _describe(sets: Mapping[str, AnswerSet], types: Counter[str]) -> None:
    """Say what is not among the candidates, and which questions have none."""
    for kind in types:
        if kind not in sets:
            say(f"no answer set for {kind}: {types[kind]:,} questions are answered freely")
        elif sets[kind].covered < 1:
            one = sets[kind]
            say(f"{kind}: {len(one.texts):,} candidates, {one.covered:.1%} of the training answers")


def _inputs(key: str, predictions: Path) -> dict[str, str]:
    """What tells whether predictions are there, whole, and from the same inputs."""
    return {"key": key, "sha256": sha256(predictions)}


def _partial(folder: Path, rank: int) -> Path:
    """Where a process writes its answers until the evaluation is complete."""
    return folder / f"predictions.partial-{rank}.jsonl"


def _line(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction), ensure_ascii=False) + "\n"


def _batches(samples: Sequence[Sample]) -> list[list[list[Sample]]]:
    """Samples grouped by image, some images at a time."""
    batches: list[list[list[Sample]]] = [[]]
    for group in group_by_image(samples):
        batches[-1].append(group)
        if sum(map(len, batches[-1])) >= QUESTIONS_AT_ONCE:
            batches.append([])
    return [b for b in batches if b]


def _predict(sample: Sample, text: str, confidence: float) -> Prediction:
    kind = type_of(sample)
    found = normalise(text, kind)
    return Prediction(
        id=sample.id,
        image=sample.image,
        question=sample.question,
        type=kind,
        answer=sample.answer,
        prediction=text if found is None else found,
        text=text,
        confidence=round(confidence, 6),
    )


def _tidy(folder: Path) -> None:
    """Remove what a complete evaluation needs no more."""
    for path in folder.glob("predictions.partial-*.jsonl"):
        path.unlink(missing_ok=True)  # several processes may do so
    sweep(folder / "timing.json")


def _read_partial(path: Path, key: str) -> list[Prediction]:
    """What an interrupted evaluation with the same inputs had answered; a torn line ends it."""
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    first, *lines = whole.split("\n")
    if first != json.dumps({"key": key}):
        return []
    return [Prediction(**json.loads(line)) for line in lines]
