"""Whoever answers questions, and how it is evaluated: its answers, its control, its scores."""

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
from ..system.console import say
from ..system.files import run_lock, write_json
from ..types import Prediction, Sample
from .job import Job

Batch = list[Sample]  # asked as a whole or not at all: packed otherwise, rounding differs


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


Replies = Iterator[Iterable[tuple[Sample, Reply]]]  # as they come, some at a time


class Team(Protocol):
    """The processes that work together."""

    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True

    def wait_for_everyone(self) -> None:
        """Return when all have called it."""
        return


class Alone(Team):
    """One process without others."""


class Predictor(Protocol):
    """A model that answers questions about images, on this machine or elsewhere."""

    @property
    def checkpoint(self) -> str:
        """Its name, as written beside the predictions; empty where it is none."""

    @property
    def team(self) -> Team:
        """The processes that share the questions."""

    def made_by(self, shuffled: bool) -> Sequence[str]:
        """All that decides its answers beside questions and images; see `job.Job`."""

    def batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """The questions that this process asks."""

    def answering(self, batches: Sequence[Batch]) -> AbstractContextManager[Replies]:
        """The replies to the questions of batches, in any order."""


def predict(sample: Sample, reply: Reply) -> Prediction:
    """The prediction that a reply is."""
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


def predictions(
    predictor: Predictor,
    samples: Sequence[Sample],
    folder: Path,
    dataset: DatasetName,
    *,
    shuffled: bool = False,
) -> list[Prediction]:
    """Answers to all samples, from ``folder/predictions.jsonl`` where they are there.

    Args:
        predictor: who is asked.
        samples: the questions.
        folder: of the answers.
        dataset: whose classes apply.
        shuffled: whether the images are not the questions' own.
    """
    team, made_by = predictor.team, predictor.made_by(shuffled)
    job = Job(samples, folder, made_by, dataset.stored_name, predictor.checkpoint)
    if (found := job.ready()) is not None:
        team.wait_for_everyone()  # until all have read it
        if team.is_main_process:
            job.keep(found)
        return found
    own, process = predictor.batches(samples), team.process_index
    known = job.answered(process)
    if missing := [batch for batch in own if not all(s.id in known for s in batch)]:
        total = sum(map(len, own))
        with predictor.answering(missing) as replies, job.asking(total, process) as log:
            for some in replies:
                log.add(predict(sample, reply) for sample, reply in some)
    team.wait_for_everyone()
    done = job.collected(team.num_processes)
    team.wait_for_everyone()
    if team.is_main_process:
        job.finish(team.num_processes)
    team.wait_for_everyone()
    return done


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What a model is evaluated on.

    Attributes:
        test: the questions, as they are asked and scored.
        train: training questions, for the baselines; None where there are none.
        dataset: whose classes apply.
        seed: of the shuffled control.
    """

    test: Sequence[Sample]
    train: Sequence[Sample] | None
    dataset: DatasetName
    seed: int


def evaluated(
    predictor: Predictor, questions: EvaluationSet, folder: Path, control: Path | None = None
) -> tuple[list[Prediction], Results]:
    """Ask a model all questions, and score it beside its controls.

    Writes ``predictions.jsonl`` and ``results.json``.

    Args:
        predictor: the model.
        questions: what it is asked.
        folder: of the evaluation.
        control: folder of the same questions about other images; None for no such control.
    """
    test, dataset = questions.test, questions.dataset
    answers, wrong = predictions(predictor, test, folder, dataset), None
    shuffled = with_other_images(test, questions.seed) if control else None
    if control and shuffled:
        told = predictions(predictor, shuffled, control, dataset, shuffled=True)
        own = {s.id: s.image for s in test}  # so that they pair with the others
        wrong = [replace(p, image=own[p.id]) for p in told]
    found = results(answers, train=questions.train, shuffled=wrong, dataset=dataset)
    if predictor.team.is_main_process:
        write_json(folder / "results.json", found, changed=True)
    return answers, found


def evaluate_into(
    predictor: Predictor, questions: EvaluationSet, output: Path, most: int
) -> Results | None:
    """Evaluate a model with all its controls into a folder, and say where that is.

    Args:
        predictor: the model.
        questions: what it is asked.
        output: the folder.
        most: tokens of the longest answer.

    Returns:
        What ``results.json`` holds; None in all processes but the first.

    Raises:
        Qwen2VLRSError: model, images or folder cannot be used.
    """
    main = predictor.team.is_main_process
    lock = run_lock(output, read_only="choose another folder: --output")
    with lock if main else contextlib.nullcontext():
        _, found = evaluated(predictor, questions, output, output / "shuffled")
    say(f"predictions and all protocols: {output}/")
    if n := found["unreadable"]["causes"].get(CUT_OFF):
        say(f"{n:,} answers were cut off at {most} tokens: --set eval.max_new_tokens={16 * most}")
    return found if main else None


def asked_samples(
    samples: Sequence[Sample], view: InputConfig, config: Config, images: str | Path | None = None
) -> Table:
    """Test questions as they are asked: as many as wanted, their images where they are now."""
    samples = limit_by_image(samples, config.eval.max_eval)
    return bare_samples(relocate_images(samples, images or config.data.images), view)


def bare_samples(samples: Iterable[Sample], view: InputConfig) -> Table:
    """The questions without the run's own instruction, as they are asked and scored."""
    return Table.of(samples).changed("question", view.bare)


def with_other_images(samples: Sequence[Sample], seed: int) -> Table | None:
    """The same questions about other images; None where there is only one image."""
    data = Table.of(samples)
    images = data.distinct("image")
    if len(images) < 2:
        return None
    return data.changed("image", shuffle_images(images, seed).__getitem__)
