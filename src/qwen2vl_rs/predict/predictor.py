"""The interface of a model that answers questions, and the evaluation loop over it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..config import Config, InputConfig
from ..datasets.base import Dataset as Table
from ..datasets.image_paths import relocate_images
from ..datasets.split import limit_by_image
from ..questions.class_sets import DatasetName
from ..questions.grammar import type_of
from ..questions.normal_forms import interpret
from ..questions.reply import CUT_OFF
from ..scoring.baselines import shuffle_images
from ..scoring.results import Results, results
from ..system.console import say, warn
from ..system.files import run_lock, write_json
from ..types import Prediction, Sample
from .job import Job

Batch = list[Sample]  # computed as a whole or not at all: other packs round differently


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer to one question.

    Attributes:
        text: the complete text.
        cut: whether it was cut off at the maximum number of tokens.
        confidence: probability of the text; None if unknown.
    """

    text: str
    cut: bool = False
    confidence: float | None = None


Replies = Iterator[Iterable[tuple[Sample, Reply]]]  # in parts, as they become available


class Team(Protocol):
    """The processes of a distributed evaluation."""

    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True

    def wait_for_everyone(self) -> None:
        """Wait until all processes have called this."""
        return


class SingleProcess(Team):
    """A single process."""


class Predictor(Protocol):
    """A model that answers questions about images, on this machine or behind an endpoint."""

    @property
    def checkpoint(self) -> str:
        """Its name, as written with the predictions; empty for a base model."""

    @property
    def team(self) -> Team:
        """The processes that share the questions."""

    def key_parts(self, shuffled: bool) -> Sequence[str]:
        """Return its parts of the cache key; see `job.Job`."""

    def batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """Return this process's questions, in batches."""

    def answer_batches(self, batches: Sequence[Batch]) -> AbstractContextManager[Replies]:
        """Yield the replies to all questions of the batches, in any order."""


def to_prediction(sample: Sample, reply: Reply) -> Prediction:
    """Make a prediction of a reply."""
    kind = type_of(sample)
    prediction, unreadable = interpret(reply.text, kind, reply.cut, sample.question)
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


def predict_samples(
    predictor: Predictor,
    samples: Sequence[Sample],
    folder: Path,
    dataset: DatasetName,
    *,
    shuffled: bool = False,
) -> list[Prediction]:
    """Return the predictions for all samples; only missing ones are computed.

    Args:
        predictor: the model.
        samples: the questions.
        folder: folder of ``predictions.jsonl``.
        dataset: the dataset that gives the label sets.
        shuffled: whether the images are shuffled.
    """
    team, key_parts = predictor.team, predictor.key_parts(shuffled)
    job = Job(samples, folder, key_parts, dataset.stored_name, predictor.checkpoint)
    if (found := job.ready()) is not None:
        team.wait_for_everyone()  # all have to read it before it is written
        if team.is_main_process:
            job.keep(found)
        return found
    if team.is_main_process:  # the results of other answers
        (folder / "results.json").unlink(missing_ok=True)
    own, process = predictor.batches(samples), team.process_index
    known = job.partial(process)
    if missing := [batch for batch in own if not all(s.id in known for s in batch)]:
        total = sum(map(len, own))
        with predictor.answer_batches(missing) as replies, job.appending(total, process) as log:
            for some in replies:
                log.add(to_prediction(sample, reply) for sample, reply in some)
    team.wait_for_everyone()
    done = job.collect(team.num_processes)
    team.wait_for_everyone()
    if team.is_main_process:
        job.finish(team.num_processes)
    team.wait_for_everyone()
    return done


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """The questions of an evaluation.

    Attributes:
        test: the test questions, as asked and scored.
        train: training questions for the baselines, if any.
        dataset: the dataset that gives the label sets.
        seed: of the shuffled-image baseline.
    """

    test: Sequence[Sample]
    train: Sequence[Sample] | None
    dataset: DatasetName
    seed: int


def evaluate_predictor(
    predictor: Predictor, questions: EvaluationSet, folder: Path, control: Path | None = None
) -> tuple[list[Prediction], Results]:
    """Evaluate a model and its baselines.

    Writes ``predictions.jsonl`` and ``results.json``.

    Args:
        predictor: the model.
        questions: its questions.
        folder: the evaluation's folder.
        control: folder of the shuffled-image predictions; None to leave them out.
    """
    test, dataset = questions.test, questions.dataset
    answers, wrong = predict_samples(predictor, test, folder, dataset), None
    shuffled = with_shuffled_images(test, questions.seed) if control else None
    if control and shuffled:
        told = predict_samples(predictor, shuffled, control, dataset, shuffled=True)
        own = {s.id: s.image for s in test}  # they are paired by the original image
        wrong = [replace(p, image=own[p.id]) for p in told]
    found = results(answers, train=questions.train, shuffled=wrong, dataset=dataset)
    if predictor.team.is_main_process:
        write_json(folder / "results.json", found, changed=True)
    return answers, found


def evaluate_into(
    predictor: Predictor, questions: EvaluationSet, output: Path, most: int
) -> Results | None:
    """Evaluate a model and its baselines into a folder, and print the folder.

    Args:
        predictor: the model.
        questions: its questions.
        output: the folder.
        most: maximum tokens per answer.

    Returns:
        The content of ``results.json``; None in all processes but the first.

    Raises:
        Qwen2VLRSError: model, images or folder are not usable.
    """
    main = predictor.team.is_main_process
    if len({one.image for one in questions.test}) == 1:
        warn(
            "all questions are about one image: no interval between images and no shuffled image",
            "take questions about several images",
        )
    lock = run_lock(output, read_only="choose another folder: --output")
    with lock if main else contextlib.nullcontext():
        _, found = evaluate_predictor(predictor, questions, output, output / "shuffled")
    say(f"predictions and all protocols: {output}/")
    if n := found["unreadable"]["causes"].get(CUT_OFF):
        say(f"{n:,} answers were cut off at {most} tokens: --set eval.max_new_tokens={16 * most}")
    return found if main else None


def eval_samples(
    samples: Sequence[Sample], view: InputConfig, config: Config, images: str | Path | None = None
) -> Table:
    """Return the test questions to ask: limited in number, with resolved image paths."""
    samples = limit_by_image(samples, config.eval.max_eval)
    return bare_samples(relocate_images(samples, images or config.data.images), view)


def bare_samples(samples: Iterable[Sample], view: InputConfig) -> Table:
    """Return the questions without the run's instruction, as asked and scored."""
    return Table.of(samples).changed("question", view.bare)


def with_shuffled_images(samples: Sequence[Sample], seed: int) -> Table | None:
    """Return the same questions about shuffled images; None if there is only one image."""
    data = Table.of(samples)
    images = data.distinct("image")
    if len(images) < 2:
        return None
    return data.changed("image", shuffle_images(images, seed).__getitem__)
