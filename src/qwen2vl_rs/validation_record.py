"""Record of the validations of a run, stored in each checkpoint: the best one, and patience.

``validation.json`` belongs to its checkpoint: a run that is resumed from it continues with its best
value and its number of validations without improvement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import RunError
from .system.files import read_json, write_json

VALIDATION = "validation.json"
Metric = Literal["OA", "AA", "loss"]
_LOWER_IS_BETTER = {"OA": False, "AA": False, "loss": True}


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """The validations of a run up to a checkpoint.

    Attributes:
        step: step of the last validation.
        metric: the score that decides, see `Metric`.
        scores: the scores at this step, by name; see `Validator.run`.
        best_step: step with the best value; the first of equal ones.
        best_value: its value.
        count: number of validations so far, with this one.
        since_best: number of validations after the best one.
    """

    step: int
    metric: Metric
    scores: Mapping[str, Any]
    best_step: int
    best_value: float
    count: int
    since_best: int

    @property
    def is_best(self) -> bool:
        """Whether this is the best validation so far."""
        return self.best_step == self.step

    def stops(self, patience: int | None) -> bool:
        """Whether ``patience`` validations in a row have brought no better value."""
        return patience is not None and self.since_best >= patience

    def describe(self) -> str:
        """Describe the best checkpoint, e.g. ``checkpoint-40, best of 6 by validation OA``."""
        return f"checkpoint-{self.best_step}, best of {self.count:,} by validation {self.metric}"


def next_record(
    before: ValidationRecord | None, step: int, metric: Metric, scores: Mapping[str, Any]
) -> ValidationRecord:
    """Return the record with one more validation.

    Args:
        before: the record of the last validation, if any.
        step: step of the new one.
        metric: the score that decides.
        scores: the new scores.
    """
    value = float(scores[metric])
    if before is None:
        return ValidationRecord(step, metric, scores, step, value, count=1, since_best=0)
    sign = -1 if _LOWER_IS_BETTER[metric] else 1
    better = sign * value > sign * before.best_value
    return ValidationRecord(
        step=step,
        metric=metric,
        scores=scores,
        best_step=step if better else before.best_step,
        best_value=value if better else before.best_value,
        count=before.count + 1,
        since_best=0 if better else before.since_best + 1,
    )


def write_record(checkpoint: Path, record: ValidationRecord) -> None:
    """Write a record into the folder of its checkpoint."""
    write_json(checkpoint / VALIDATION, asdict(record))


def read_record(checkpoint: Path) -> ValidationRecord | None:
    """Read the record of a checkpoint; None for a run without validation.

    Raises:
        RunError: the file is damaged or cannot be read.
    """
    path = checkpoint / VALIDATION
    found = read_json(path)
    if found is None:
        return None
    try:
        record = ValidationRecord(**found)
        numbers = (record.step, record.best_step, record.count, record.since_best)
        sound = all(type(n) is int for n in numbers) and isinstance(record.best_value, float)
        sound = sound and record.metric in get_args(Metric) and isinstance(record.scores, dict)
    except TypeError:
        sound = False
    if not sound:
        raise RunError(
            f"{path} is damaged", hint="restore a copy of the checkpoint, or name another one"
        )
    return record
