"""Run all checks (`check_questions`), or those that cost little before training (`quick_check`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..config import Config
from ..datasets.base import Dataset
from ..errors import DataError
from ..questions.class_sets import resolve_dataset
from ..system.console import Progress
from .answers import (
    TypeBalance,
    balance,
    blank_texts,
    contradictions,
    duplicate_ids,
    duplicates,
    unknown_types,
    unreadable_answers,
)
from .baseline import TextOnly, text_only
from .findings import Finding
from .images import ImageFacts, image_faults
from .leaks import official_ids, shared_images, shared_pictures, shared_questions
from .lengths import Lengths, Ruler, lengths
from .parts import TRAIN, Part, Parts
from .sources import Questions


@dataclass(frozen=True, slots=True)
class PartFacts:
    """A part and its size.

    Attributes:
        name: ``train``, ``val``, ``test``, …
        file: its file; empty if the questions are not from a file.
        questions, images: their numbers.
    """

    name: str
    file: str
    questions: int
    images: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found.

    Attributes:
        dataset: the data set whose classes apply, or ``unknown``.
        parts: the parts and their sizes.
        left_out: number of skipped questions by reason, by part.
        findings: one or more per check, also of checks that found nothing.
        answers: distribution of the answers of each question type.
        images: sizes and formats; None if there are no questions.
        tokens: lengths in tokens; None without a base model.
        text_only: the question-only baseline on each part but the training part.
        not_checked: what was not checked, and why.
    """

    dataset: str
    parts: list[PartFacts]
    left_out: Mapping[str, Mapping[str, int]]
    findings: list[Finding]
    answers: list[TypeBalance]
    images: ImageFacts | None
    tokens: Lengths | None
    text_only: list[TextOnly]
    not_checked: Mapping[str, str]

    def number(self, verdict: str) -> int:
        """Return the number of findings with a verdict."""
        return sum(one.verdict == verdict for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as ``check --json`` prints it."""
        found = asdict(self)
        if self.images:
            found["images"]["sizes"] = [
                {"width": width, "height": height, "count": n}
                for (width, height), n in self.images.sizes.items()
            ]
        verdicts = {"errors": self.number("error"), "warnings": self.number("warning")}
        return {"ok": not verdicts["errors"], **verdicts, **found}


def quick_check(train: Dataset, test: Dataset, val: Dataset | None = None) -> list[Finding]:
    """Find the faults that cost no more than a look at each question.

    These are contradictory answers, and images and questions that are in several parts.

    Args:
        train: the training questions.
        test: the test questions.
        val: the validation questions; None if there are none.

    Returns:
        The faults, without checks that found nothing; none has the verdict ``ok``.
    """
    given = {TRAIN: train, "val": val, "test": test}
    parts = Parts([Part(name, data) for name, data in given.items() if data is not None])
    found = [contradictions(parts), shared_images(parts), shared_questions(parts)]
    return [one for one in found if one.verdict != "ok"]


def check_questions(
    read: Questions, config: Config, ruler: Ruler | None, no_ruler: str = ""
) -> Report:
    """Run all checks.

    Args:
        read: the questions.
        config: settings of images and prompt.
        ruler: counts tokens; None if there is no base model.
        no_ruler: why there is none.
    """
    unchecked: dict[str, str] = {}
    if not read.parts:
        unchecked["questions and images"] = "no question could be read"
        return Report("unknown", [], read.left_out, read.findings, [], None, None, [], unchecked)
    parts = Parts(read.parts)
    dataset = resolve_dataset(parts.all, config.data.dataset).name
    findings = list(read.findings)
    found, images, pictures = image_faults(parts, config.view)
    findings += found
    shown = {path: one.digest for path, one in pictures.items() if not one.blank}
    findings += _of_questions(parts, shown)
    if len(parts.parts) > 1:
        findings += _official(parts, read, unchecked)
    else:
        unchecked["leaks"] = "there is only one part"
    tokens = None
    if ruler is None:
        unchecked["token lengths"] = no_ruler
    else:
        tokens, more = lengths(parts, ruler, pictures, config.training.max_tokens_per_pack)
        findings += more
    sizes = [
        PartFacts(p.name, p.file, len(p.questions), len(p.questions.images)) for p in parts.parts
    ]
    blind = _text_only(parts, dataset, unchecked)
    return Report(
        dataset, sizes, read.left_out, findings, balance(parts), images, tokens, blind, unchecked
    )


def _of_questions(parts: Parts, digests: Mapping[str, str]) -> list[Finding]:
    """Run the checks that compare questions and images; one after another, with progress."""
    checks: list[Callable[[Parts], Finding]] = [
        blank_texts,
        duplicate_ids,
        unknown_types,
        unreadable_answers,
        contradictions,
        duplicates,
    ]
    if len(parts.parts) > 1:
        checks += [shared_images, shared_questions]
    checks.append(lambda parts: shared_pictures(parts, digests))
    findings = []
    with Progress("checking questions", len(checks), "checks") as progress:
        for check in checks:
            findings.append(check(parts))
            progress.advance()
    return findings


def _official(parts: Parts, read: Questions, unchecked: dict[str, str]) -> list[Finding]:
    """Compare the ids of official files; other files have no ids that mean anything elsewhere."""
    if TRAIN not in read.official or len(read.official) < 2:
        return []
    try:
        return [official_ids(parts, read.official)]
    except DataError as error:  # replaced since it was read
        unchecked["official ids"] = error.message
        return []


def _text_only(parts: Parts, dataset: str, unchecked: dict[str, str]) -> list[TextOnly]:
    train = next((part.questions for part in parts.parts if part.name == TRAIN), None)
    if train is None or len(parts.parts) < 2:
        unchecked["what the text alone answers"] = "it needs training and evaluation questions"
        return []
    others = (part for part in parts.parts if part.name != TRAIN)
    return [text_only(train, part.questions, part.name, dataset) for part in others]
