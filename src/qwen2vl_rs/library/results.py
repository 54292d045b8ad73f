"""Evaluations and comparisons, as a notebook shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigError
from ..types import Prediction
from .rows import Rows

if TYPE_CHECKING:
    from ..scoring.comparison import Comparison
    from ..scoring.results import Results

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """An accuracy, as a fraction, with its 95 % interval.

    Attributes:
        n: questions.
        value: from 0 to 1.
        interval: low and high, clustered by image.
        se: standard error, clustered by image; None where there is only one image.
    """

    n: int
    value: float
    interval: tuple[float, float]
    se: float | None

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class ProtocolScore:
    """The accuracies under one protocol.

    Attributes:
        n: questions that count.
        OA: accuracy over all questions.
        AA: mean of the accuracies of the question types.
        interval: 95 % interval of OA.
        types: accuracy of each question type.
        controls: OA of each control: ``constant`` (majority baseline), ``question_only``,
            ``shuffled_image``.
    """

    n: int
    OA: float
    AA: float
    interval: tuple[float, float]
    types: dict[str, Accuracy]
    controls: dict[str, float]


class Evaluation(Rows):
    """The scores of a model's answers, with all controls.

    Attributes:
        results: what ``results.json`` holds.
        folder: where the answers are; None where they were given.
        predictions: the answered questions.
    """

    def __init__(
        self, results: Results, folder: Path | None, predictions: Sequence[Prediction]
    ) -> None:
        self.results, self.folder, self.predictions = results, folder, list(predictions)

    @classmethod
    def read(cls, results: Results, folder: Path) -> Evaluation:
        """With the predictions in a folder as they are now: another evaluation may replace them."""
        from ..scoring.predictions import read_predictions

        return cls(results, folder, read_predictions(folder / PREDICTIONS))

    @property
    def file(self) -> Path:
        """The file of the predictions.

        Raises:
            ConfigError: there is none, or a later evaluation has replaced it.
        """
        from ..scoring.predictions import read_predictions

        if self.folder is None:
            raise ConfigError("these scores have no file", hint="write the predictions first")
        file = self.folder / PREDICTIONS
        if read_predictions(file) != self.predictions:
            raise ConfigError(
                f"a later evaluation has replaced {file}", hint="give each its folder: output=..."
            )
        return file

    def protocol(self, name: str) -> ProtocolScore:
        """The accuracies under a protocol.

        Raises:
            ConfigError: no question counts under it, or there is none of this name.
        """
        if name not in self.results["protocols"]:
            known = ", ".join(self.results["protocols"])
            raise ConfigError(f"there is no score under the protocol {name}", hint=known)
        score = self.results["protocols"][name]
        types = {
            kind: Accuracy(one["n"], one["accuracy"], _pair(one["ci"]), one["se"])
            for kind, one in score["types"].items()
        }
        controls = {
            control: scores[name]["OA"]
            for control, scores in self.results["controls"].items()
            if name in scores
        }
        return ProtocolScore(
            score["n"], score["OA"], score["AA"], _pair(score["OA_ci"]), types, controls
        )

    @property
    def official(self) -> ProtocolScore:
        """Counts and areas in the official buckets, all types."""
        return self.protocol("official")

    @property
    def geochat(self) -> ProtocolScore:
        """Without counts and areas."""
        return self.protocol("geochat")

    @property
    def raw(self) -> ProtocolScore:
        """Answers compared as they are stored."""
        return self.protocol("raw")

    @property
    def original(self) -> ProtocolScore:
        """The normalisation of the original description."""
        return self.protocol("original")

    def to_dict(self) -> dict[str, Any]:
        """What ``results.json`` holds."""
        return cast("dict[str, Any]", self.results)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each question type, AA and OA of every protocol."""
        found = []
        for name, score in self.results["protocols"].items():
            controls = {k: s[name] for k, s in self.results["controls"].items() if name in s}
            for kind, one in score["types"].items():
                row = _row(name, kind, one["n"], one["accuracy"], one["ci"])
                known = {k: c["types"][kind] for k, c in controls.items() if kind in c["types"]}
                found.append(row | {k: c["accuracy"] for k, c in known.items()})
            found.append(
                _row(name, "AA", score["n"], score["AA"], score["AA_ci"])
                | {k: c["AA"] for k, c in controls.items()}
            )
            found.append(
                _row(name, "OA", score["n"], score["OA"], score["OA_ci"])
                | {k: c["OA"] for k, c in controls.items()}
            )
        return found

    def shown(self) -> tuple[str, list[dict[str, Any]]]:
        """The first protocol in percent; `to_pandas` has all."""
        name = next(iter(self.results["protocols"]))
        by = self.results["clustered_by"]
        caption = f"{name} protocol, {self.results['n']:,} questions: percent, 95 % by {by}"
        return caption, [_percent(row) for row in self.rows() if row["protocol"] == name]

    def __repr__(self) -> str:
        from ..scoring.tables import render_results

        return render_results(self.results)


class PairedComparison(Rows):
    """Two evaluations of the same questions, with paired intervals.

    Attributes:
        comparison: what ``compare.json`` holds.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def to_dict(self) -> dict[str, Any]:
        """What ``compare.json`` holds."""
        return cast("dict[str, Any]", self.comparison)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each question type, AA and OA of every protocol."""
        found = []
        for name, score in self.comparison["protocols"].items():
            lines: dict[str, Any] = {**score["types"], "AA": score["AA"], "OA": score["OA"]}
            for kind, one in lines.items():
                facts = {k: v for k, v in one.items() if k not in ("ci", "se")}
                low, high = one["ci"]
                found.append({"protocol": name, "type": kind, **facts, "low": low, "high": high})
        return found

    def shown(self) -> tuple[str, list[dict[str, Any]]]:
        """The first protocol in percent; `to_pandas` has all."""
        name = next(iter(self.comparison["protocols"]), "")
        caption = f"{name} protocol, {self.comparison['n']:,} questions: percent, 95 % paired"
        return caption, [_percent(row) for row in self.rows() if row["protocol"] == name]

    def __repr__(self) -> str:
        from ..scoring.tables import render_comparison

        return render_comparison(self.comparison)


def _pair(interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    return low, high


def _percent(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for people: fractions in percent, but for p-values."""
    return {
        name.replace("_", " "): f"{100 * value:.1f}"
        if isinstance(value, float) and name != "p"
        else value
        for name, value in row.items()
        if name != "protocol"
    }


def _row(protocol: str, kind: str, n: int, value: float, ci: Sequence[float]) -> dict[str, Any]:
    return {
        "protocol": protocol,
        "type": kind,
        "n": n,
        "accuracy": value,
        "low": ci[0],
        "high": ci[1],
    }
