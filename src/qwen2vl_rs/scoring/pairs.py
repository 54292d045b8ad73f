"""Questions with the answers of two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..questions.grammar import type_of
from ..questions.protocols import judge, protocol
from ..types import Prediction


@dataclass(frozen=True, slots=True)
class Pair:
    """One question, the truth, and what was said before and after.

    Attributes:
        id, image, question, type, answer: of the question.
        before, after: the answers as the model gave them.
        before_right, after_right: by the official protocol.
        before_confidence, after_confidence: probability of the answer; None where unknown.
    """

    id: str
    image: str
    question: str
    type: str
    answer: str
    before: str
    after: str
    before_right: bool
    after_right: bool
    before_confidence: float | None = None
    after_confidence: float | None = None

    @property
    def change(self) -> str:
        """``fixed``, ``broken``, ``right`` (both times) or ``wrong`` (both times)."""
        if self.before_right != self.after_right:
            return "fixed" if self.after_right else "broken"
        return "right" if self.after_right else "wrong"

    def is_(self, kind: str) -> bool:
        """Whether it belongs to ``all``, ``fixed``, ``broken`` or ``wrong`` (wrong after)."""
        return kind in ("all", self.change) or (kind == "wrong" and not self.after_right)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "change": self.change}


def pairs(before: Sequence[Prediction], after: Sequence[Prediction], dataset: str) -> list[Pair]:
    """Put two runs on the same questions, in the same order, side by side.

    Args:
        before: the answered questions of one run.
        after: those of the other.
        dataset: whose classes apply.
    """
    by = protocol("official")
    right = [judge(run, by, dataset).right.tolist() for run in (before, after)]
    return [
        Pair(
            id=new.id,
            image=new.image,
            question=new.question,
            type=type_of(new),
            answer=new.answer,
            before=old.text or old.prediction,
            after=new.text or new.prediction,
            before_right=was,
            after_right=now,
            before_confidence=old.confidence,
            after_confidence=new.confidence,
        )
        for old, new, was, now in zip(before, after, *right, strict=True)
    ]
