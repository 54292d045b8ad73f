"""Whose classes apply: the data set that a question belongs to, and who says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DataError
from ..known_datasets import all_datasets
from ..system.files import read_json
from ..types import UNKNOWN, Prediction, Sample
from .grammar import KIND, counted
from .registry import type_named

_FIRST = "LR"  # the only one, before runs recorded theirs
How = Literal["setting", "files", "inferred", "unknown"]


@dataclass(frozen=True, slots=True)
class DatasetName:
    """A data set.

    Attributes:
        name: ``LR``, ``HR`` or ``xBEN``; ``unknown``: counts and areas are compared exactly.
        how: who says so: a setting, the files of the questions, or nobody: inferred from the
            types of the questions, as runs were before they recorded it.
    """

    name: str = UNKNOWN
    how: How = "unknown"

    @property
    def written(self) -> str:
        """Its name as it stands with questions and predictions; empty where nobody says it."""
        return self.name if self.how in ("setting", "files") else ""


def settle(
    rows: Iterable[Sample | Prediction],
    given: str | None = None,
    *,
    otherwise: str | None = None,
    old: bool = False,
) -> DatasetName:
    """The data set of some questions.

    Args:
        rows: the questions.
        given: its name by a setting, which wins.
        otherwise: its name by the setting of a run of which these are not the own questions: it
            counts where the files say nothing.
        old: whether they are those of a run that was made before it was recorded.
    """
    if given:
        return DatasetName(given, "setting")
    said = counted(rows, "dataset", KIND)
    names = {name for name, _ in said}
    if len(names) == 1 and (name := names.pop()) in all_datasets():
        return DatasetName(name, "files")
    if otherwise:
        return DatasetName(otherwise, "setting")
    return DatasetName(_inferred(kind for _, kind in said), "inferred") if old else DatasetName()


def of_predictions(
    file: Path, rows: Sequence[Prediction], given: str | None = None, *, old: bool = False
) -> DatasetName:
    """The data set of a file of predictions: as `settle`, else as the file was scored before.

    Args:
        file: where the predictions are; ``results.json`` beside it says how they were scored.
        rows: the predictions.
        given: its name by a setting, which wins.
        old: whether they are those of a run that was made before it was recorded.

    Raises:
        DataError: they are of several data sets, and none is given.
    """
    if not given:
        require_one(file, rows, f"or name one for all lines: --dataset {_named(rows)}")
    found = settle(rows, given, old=old)
    if found.how in ("setting", "files"):
        return found
    scored = read_json(file.with_name("results.json"))
    if isinstance(scored, dict) and scored.get("n") == len(rows):
        name, how = scored.get("dataset"), scored.get("dataset_from", "inferred")
        if name in all_datasets() and how in ("setting", "files", "inferred"):
            return DatasetName(name, how)
    return found


def require_one(file: Path, rows: Sequence[Sample | Prediction], otherwise: str) -> None:
    """See that the lines of a file, where they name data sets, all name the same one.

    Args:
        file: where they stand.
        rows: the lines.
        otherwise: end of the hint: what helps but to part them.

    Raises:
        DataError: they name several, or some name one and some none.
    """
    said = {name: n for (name,), n in counted(rows, "dataset").items()}
    if len(said) < 2:
        return
    names = ", ".join(f"{name or 'none'} ({n:,} lines)" for name, n in sorted(said.items())[::-1])
    part = _named(rows)
    raise DataError(
        f"{file}: its lines name several data sets, and each has classes of its own: {names}",
        hint=f"take one at a time, such as {part} alone (of JSON Lines: jq -c "
        f"'select(.dataset==\"{part}\")' FILE > {part}.jsonl), {otherwise}",
    )


def _named(rows: Iterable[Sample | Prediction]) -> str:
    """The data set that most lines name; an example where none names any."""
    said = {name: n for (name,), n in counted(rows, "dataset").items() if name}
    return max(said, key=lambda name: (said[name], name)) if said else _FIRST


def is_scored_by(types: Iterable[str]) -> bool:
    """Whether the classes of any of these question types depend on the data set."""
    return any(type_named(name).by_dataset for name in set(types))


def _inferred(types: Iterable[str]) -> str:
    """By a type that only one has (HR's areas, xBEN's land cover); else it was taken for LR."""
    present = set(types)
    return next((one.name for one in all_datasets().values() if one.own_type in present), _FIRST)
