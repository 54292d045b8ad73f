"""Evaluate a model, score predictions, compare evaluations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import DataError
from ..types import Prediction
from .model import AnswerMode, Model
from .results import Evaluation, PairedComparison

if TYPE_CHECKING:
    from ..datasets.base import Dataset

Source = str | os.PathLike[str]


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
    questions: Source | Dataset | None = None,
    train: Source | Iterable[Any] | None = None,
    shuffled: Source | Iterable[Prediction | Mapping[str, Any]] | None = None,
    protocols: Sequence[str] | None = None,
    dataset: str | None = None,
) -> Evaluation:
    """Score the answers of any model.

    Args:
        predictions: a file of JSON Lines or of another program (docs/other_tools.md), or records
            with ``question``, ``answer`` and ``prediction``; where known also ``id``, ``image``,
            ``type``, ``confidence``.
        questions: the test set, where the file of predictions does not hold its questions.
        train: training questions, for the baselines; None for none.
        shuffled: the same model's answers to the same questions, shown other images.
        protocols: their names; None for all.
        dataset: whose classes apply; None for what the predictions say.

    Raises:
        DataError: predictions or training questions cannot be used.

    Examples:
        >>> said = [
        ...     {"question": "Is there a road?", "answer": "yes", "prediction": "Yes."},
        ...     {"question": "Is there a farm?", "answer": "no", "prediction": "yes"},
        ... ]
        >>> rs.score(said).official.OA
        0.5
    """
    from ..known_datasets import known_name
    from ..questions.class_sets import of_predictions, settle
    from ..questions.protocols import PROTOCOLS
    from ..scoring.predictions import read_training
    from ..scoring.results import results

    asked = test_set(questions)
    run, named = _predictions(predictions, asked), dataset and known_name(dataset)
    whose = of_predictions(p, run, named) if (p := _file(predictions)) else settle(run, named)
    file = _file(train)
    found = results(
        run,
        train=read_training(file, named) if file else cast("Any", train),
        shuffled=None if shuffled is None else _predictions(shuffled, asked),
        protocols=list(dict.fromkeys(protocols or PROTOCOLS)),
        dataset=whose,
    )
    return Evaluation(found, None, run)


def compare(
    before: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
    after: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
    *,
    questions: Source | Dataset | None = None,
    protocols: Sequence[str] | None = None,
    dataset: str | None = None,
) -> PairedComparison:
    """Compare two evaluations question by question.

    Args:
        before: an evaluation, a file of predictions, or records as `score` takes them.
        after: the other one, on the same questions.
        questions: see `score`.
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

    asked = test_set(questions)
    if dataset is None and isinstance(after, Evaluation):
        dataset = after.results["dataset"]
    found = compare_runs(
        _predictions(before, asked),
        _predictions(after, asked),
        protocols=list(dict.fromkeys(protocols or PROTOCOLS)),
        dataset=dataset,
    )
    return PairedComparison(found)


def _predictions(
    given: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
    questions: Dataset | None,
) -> list[Prediction]:
    from ..scoring.predictions import prediction_of, read_predictions

    if isinstance(given, Evaluation):
        return given.predictions
    if file := _file(given):
        return read_predictions(file, questions)
    rows = cast("Iterable[Any]", given)
    if not isinstance(rows, Iterable) or isinstance(rows, Mapping):
        raise DataError(
            f"{given!r:.80} are not predictions", hint="give a file or a list of records"
        )
    return [
        one if isinstance(one, Prediction) else prediction_of(one, number)
        for number, one in enumerate(rows, 1)
    ]


def test_set(given: Source | Dataset | None) -> Dataset | None:
    """The questions of a test set, or of its file."""
    from ..scoring.predictions import read_questions

    file = _file(given)
    return read_questions(file) if file else cast("Dataset | None", given)


def _questions(given: Source | Dataset | None) -> Path | Dataset | None:
    return _file(given) or cast("Dataset | None", given)


def _file(given: Any) -> Path | None:
    """A path, where one is given."""
    return Path(given) if isinstance(given, str | os.PathLike) else None
