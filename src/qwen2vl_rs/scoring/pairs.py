"""Pair the answers of two runs question by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..questions.grammar import type_of
from ..questions.protocols import judge, protocol
from ..types import Prediction


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with its ground truth and the answers before and after.

    Attributes:
        id, image, question, type, answer: see `types.Sample`.
        before, after: verbatim answers of the model.
        before_score, after_score: scores under the official protocol, from 0 to 1.
        before_confidence, after_confidence: probability of the answer; None if unknown.
    """

    id: str
    image: str
    question: str
    type: str
    answer: str
    before: str
    after: str
    before_score: float
    after_score: float
    before_confidence: float | None = None
    after_confidence: float | None = None

    @property
    def before_right(self) -> bool:
        """Whether the answer before has the full score."""
        return self.before_score == 1

    @property
    def after_right(self) -> bool:
        """Whether the answer after has the full score."""
        return self.after_score == 1

    @property
    def change(self) -> str:
        """``fixed`` (higher score), ``broken`` (lower), ``right`` or ``wrong`` (both times)."""
        if self.before_score != self.after_score:
            return "fixed" if self.after_score > self.before_score else "broken"
        return "right" if self.after_right else "wrong"

    def is_(self, kind: str) -> bool:
        """Whether the pair is in ``all``, ``fixed``, ``broken`` or ``wrong`` (wrong after)."""
        return kind in ("all", self.change) or (kind == "wrong" and not self.after_right)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        facts: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name not in ("before_score", "after_score"):
                facts[name] = value
                continue
            facts[name.replace("score", "right")] = value == 1
            if value not in (0, 1):  # types with partial credit
                facts[name] = value
        return {**facts, "change": self.change}


def pairs(before: Sequence[Prediction], after: Sequence[Prediction], dataset: str) -> list[Pair]:
    """Pair two runs on the same questions, in the same order.

    Args:
        before: predictions of one run.
        after: predictions of the other run.
        dataset: data set that defines the classes.
    """
    by = protocol("official")
    scores = [judge(run, by, dataset).scores.tolist() for run in (before, after)]
    return [
        Pair(
            id=new.id,
            image=new.image,
            question=new.question,
            type=type_of(new),
            answer=new.answer,
            before=old.text or old.prediction,
            after=new.text or new.prediction,
            before_score=was,
            after_score=now,
            before_confidence=old.confidence,
            after_confidence=new.confidence,
        )
        for old, new, was, now in zip(before, after, *scores, strict=True)
    ]
