"""Which data set's official classes apply to some questions, and how that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DataError
from ..known_datasets import all_datasets
from ..system.files import read_json
from ..types import UNKNOWN, Prediction, Sample
from .grammar import KIND, count_by
from .registry import type_named

_FIRST = "LR"  # the only one when runs did not record their data set
How = Literal["setting", "files", "inferred", "unknown"]


@dataclass(frozen=True, slots=True)
class DatasetName:
    """The name of a data set and its source.

    Attributes:
        name: ``LR``, ``HR``, ``xBEN``, …; with ``unknown``, counts and areas are compared exactly.
        how: the source: a setting, the questions' files, or inferred from the question types (for
            old runs, which did not record it).
    """

    name: str = UNKNOWN
    how: How = "unknown"

    @property
    def stored_name(self) -> str:
        """The name to store with predictions; empty if it is inferred or unknown."""
        return self.name if self.how in ("setting", "files") else ""


def resolve_dataset(
    rows: Iterable[Sample | Prediction],
    given: str | None = None,
    *,
    otherwise: str | None = None,
    old: bool = False,
) -> DatasetName:
    """Determine the data set of some questions.

    Args:
        rows: the questions.
        given: name from a setting; takes precedence.
        otherwise: fallback name, used if the files do not name one: the setting of a run, for
            questions that are not its own.
        old: whether the questions belong to a run that did not record its data set.
    """
    if given:
        return DatasetName(given, "setting")
    counts = count_by(rows, "dataset", KIND)
    names = {name for name, _ in counts}
    if len(names) == 1 and (name := names.pop()) in all_datasets():
        return DatasetName(name, "files")
    if otherwise:
        return DatasetName(otherwise, "setting")
    return DatasetName(_inferred(kind for _, kind in counts), "inferred") if old else DatasetName()


def dataset_of_predictions(
    file: Path, rows: Sequence[Prediction], given: str | None = None, *, old: bool = False
) -> DatasetName:
    """Determine the data set of predictions: see `resolve_dataset`, else from ``results.json``.

    Args:
        file: the predictions; ``results.json`` beside it records how they were scored.
        rows: the predictions.
        given: name from a setting; takes precedence.
        old: whether the predictions belong to a run that did not record its data set.

    Raises:
        DataError: the rows name several data sets, and no name is given.
    """
    if not given:
        require_one_dataset(file, rows, f"or name one for all lines: --dataset {_named(rows)}")
    found = resolve_dataset(rows, given, old=old)
    if found.how in ("setting", "files"):
        return found
    scored = read_json(file.with_name("results.json"))
    if isinstance(scored, dict) and scored.get("n") == len(rows):
        name, how = scored.get("dataset"), scored.get("dataset_from", "inferred")
        if name in all_datasets() and how in ("setting", "files", "inferred"):
            return DatasetName(name, how)
    return found


def require_one_dataset(file: Path, rows: Sequence[Sample | Prediction], otherwise: str) -> None:
    """Check that all rows of a file name the same data set, or none.

    Args:
        file: the file.
        rows: its rows.
        otherwise: end of the hint: the alternative to splitting the file.

    Raises:
        DataError: the rows name several data sets, or only some rows name one.
    """
    counts = {name: n for (name,), n in count_by(rows, "dataset").items()}
    if len(counts) < 2:
        return
    names = ", ".join(f"{name or 'none'} ({n:,} lines)" for name, n in sorted(counts.items())[::-1])
    part = _named(rows)
    raise DataError(
        f"{file} names several data sets, which have different classes: {names}",
        hint=f"use one at a time, for example {part} (from JSON Lines: jq -c "
        f"'select(.dataset==\"{part}\")' FILE > {part}.jsonl), {otherwise}",
    )


def _named(rows: Iterable[Sample | Prediction]) -> str:
    """Return the data set that most rows name; an example if no row names one."""
    counts = {name: n for (name,), n in count_by(rows, "dataset").items() if name}
    return max(counts, key=lambda name: (counts[name], name)) if counts else _FIRST


def depends_on_dataset(types: Iterable[str]) -> bool:
    """Whether the classes of any of these question types depend on the data set."""
    return any(type_named(name).by_dataset for name in set(types))


def _inferred(types: Iterable[str]) -> str:
    """Infer the data set from a type unique to it (HR: area, xBEN: land cover); else LR."""
    present = set(types)
    return next((one.name for one in all_datasets().values() if one.unique_type in present), _FIRST)
