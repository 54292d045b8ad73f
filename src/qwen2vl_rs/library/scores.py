"""Scores that show themselves: of an evaluation, and of two that are compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigError, DataError
from ..types import Prediction
from .model import AnswerMode, Model
from .rows import Rows

if TYPE_CHECKING:
    from ..datasets.base import Dataset
    from ..scoring.comparison import Comparison
    from ..scoring.results import Results

Source = str | os.PathLike[str]


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
    """

    def __init__(
        self, results: Results, folder: Path | None, predictions: Sequence[Prediction] | None = None
    ) -> None:
        self.results, self.folder, self._given = results, folder, predictions

    @cached_property
    def predictions(self) -> list[Prediction]:
        """The answered questions."""
        from ..scoring.predictions import read_predictions

        if self._given is None and self.folder:
            return read_predictions(self.folder / "predictions.jsonl")
        return list(self._given or ())

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

    def __repr__(self) -> str:
        from ..scoring.tables import render_comparison

        return render_comparison(self.comparison)


def evaluate(
    model: Model,
    data: Source | Dataset | None = None,
    *,
    train: Source | Dataset | None = None,
    answers: AnswerMode = "free",
    max_eval: int | None = None,
    settings: Mapping[str, Any] | None = None,
    output: Source | None = None,
) -> Evaluation:
    """Ask a model all questions of a data set and score its answers with all controls.

    Answers are kept in a folder: the same evaluation again, or after an interruption, asks only
    what is missing.

    Args:
        model: see `load`.
        data: the questions, or their file; None for the test questions of the model's run.
        train: training questions, for the baselines and for the candidates of closed answers;
            None for those of the run.
        answers: ``free``: generated; ``closed``: the most probable class.
        max_eval: most questions, as whole images; None for all.
        settings: others by their keys, as in docs/settings.md: ``{"eval.max_new_tokens": 8}``.
        output: folder of the answers; None for one in the model's run, or in ``output/``.

    Raises:
        Qwen2VLRSError: model, questions or images cannot be used.

    Examples:
        >>> result = rs.evaluate(rs.load("output/demo"))
        >>> result.official.n
        16
        >>> low, high = result.official.interval
        >>> low <= result.official.OA <= high
        True
        >>> sorted(result.official.controls)
        ['constant', 'question_only', 'shuffled_image']
        >>> list(result.to_pandas().columns)[:4]
        ['protocol', 'type', 'n', 'accuracy']
    """
    values = {"eval.answers": answers, **(settings or {})}
    if max_eval is not None:
        values["eval.max_eval"] = max_eval
    found, folder = model.evaluated(_questions(data), _questions(train), values, _file(output))
    return Evaluation(found, folder)


def score(
    predictions: Source | Iterable[Prediction | Mapping[str, Any]],
    *,
    train: Source | Iterable[Any] | None = None,
    shuffled: Source | Iterable[Prediction | Mapping[str, Any]] | None = None,
    protocols: Sequence[str] | None = None,
    dataset: str | None = None,
) -> Evaluation:
    """Score the answers of any model.

    Args:
        predictions: a file of JSON Lines, or records with ``question``, ``answer`` and
            ``prediction``; where known also ``id``, ``image``, ``type``, ``confidence``.
        train: training questions, for the baselines; None for none.
        shuffled: the same model's answers to the same questions, shown other images.
        protocols: their names; None for all.
        dataset: whose classes apply; None for what the predictions say.

    Raises:
        DataError: predictions or training questions cannot be used.

    Examples:
        >>> said = [{"question": "Is there a road?", "answer": "yes", "prediction": "Yes."},
        ...         {"question": "Is there a farm?", "answer": "no", "prediction": "yes"}]
        >>> rs.score(said).official.OA
        0.5
    """
    from ..known_datasets import known_name
    from ..questions.class_sets import dataset_of_predictions, resolve_dataset
    from ..questions.protocols import PROTOCOLS
    from ..scoring.predictions import read_training
    from ..scoring.results import results

    run, named = _predictions(predictions), dataset and known_name(dataset)
    whose = (
        dataset_of_predictions(p, run, named)
        if (p := _file(predictions))
        else resolve_dataset(run, named)
    )
    file = _file(train)
    found = results(
        run,
        train=read_training(file) if file else cast("Any", train),
        shuffled=None if shuffled is None else _predictions(shuffled),
        protocols=list(dict.fromkeys(protocols or PROTOCOLS)),
        dataset=whose,
    )
    return Evaluation(found, None, run)


def compare(
    before: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
    after: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
    *,
    protocols: Sequence[str] | None = None,
    dataset: str | None = None,
) -> PairedComparison:
    """Compare two evaluations question by question.

    Args:
        before: an evaluation, a file of predictions, or records as `score` takes them.
        after: the other one, on the same questions.
        protocols: their names; None for all.
        dataset: whose classes apply; None for that of ``after``.

    Raises:
        DataError: they have no question in common.

    Examples:
        >>> model = rs.load("output/demo")
        >>> result = rs.evaluate(model)
        >>> rs.compare(result, result).rows()[0]["difference"]
        0.0
    """
    from ..questions.protocols import PROTOCOLS
    from ..scoring.comparison import compare_runs

    if dataset is None and isinstance(after, Evaluation):
        dataset = after.results["dataset"]
    found = compare_runs(
        _predictions(before),
        _predictions(after),
        protocols=list(dict.fromkeys(protocols or PROTOCOLS)),
        dataset=dataset,
    )
    return PairedComparison(found)


def _predictions(
    given: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
) -> list[Prediction]:
    from ..scoring.predictions import prediction_of, read_predictions

    if isinstance(given, Evaluation):
        return given.predictions
    if file := _file(given):
        return read_predictions(file)
    rows = cast("Iterable[Any]", given)
    if not isinstance(rows, Iterable) or isinstance(rows, Mapping):
        raise DataError(
            f"{given!r:.80} are not predictions", hint="give a file or a list of records"
        )
    return [
        one if isinstance(one, Prediction) else prediction_of(one, number)
        for number, one in enumerate(rows, 1)
    ]


def _questions(given: Source | Dataset | None) -> Path | Dataset | None:
    return _file(given) or cast("Dataset | None", given)


def _file(given: Any) -> Path | None:
    """A path, where one is given."""
    return Path(given) if isinstance(given, str | os.PathLike) else None


def _pair(interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    return low, high


def _row(protocol: str, kind: str, n: int, value: float, ci: Sequence[float]) -> dict[str, Any]:
    return {
        "protocol": protocol,
        "type": kind,
        "n": n,
        "accuracy": value,
        "low": ci[0],
        "high": ci[1],
    }
