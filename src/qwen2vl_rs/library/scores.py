"""Evaluate a model, score predictions, compare evaluations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigError, DataError, RunError
from ..system.calls import public, require_one_of
from ..system.console import counted
from ..types import Columnar, Prediction, Sample
from .model import AnswerMode, Model
from .results import PREDICTIONS, Evaluation, PairedComparison

if TYPE_CHECKING:
    from ..datasets.base import Dataset

Source = str | os.PathLike[str]


@public
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
        max_eval: maximum number of questions, image by image: the first images, and a part of the
            last; ``data[::10]`` samples over all images. None for all.
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
    from ..datasets.reading import read_samples

    if not isinstance(model, Model):
        raise ConfigError(f"{model!r:.60} is not a model", hint='rs.load("output/demo")')
    require_one_of("answers", answers, "free", "closed")
    values = {"eval.answers": answers, **(settings or {})}
    if max_eval is not None:
        values["eval.max_eval"] = max_eval
    asked, place = None if data is None else questions_of(data), _file(output)
    if place is not None and asked is not None:
        asked = read_samples(asked) if isinstance(asked, Path) else asked
        _refuse_other_questions(place, asked, values.get("eval.max_eval"))
    taught = None if train is None else questions_of(train)
    found, folder = model.evaluated(asked, taught, values, place)
    return Evaluation.read(found, folder)


@public
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
    from ..questions.class_sets import dataset_of_predictions, resolve_dataset
    from ..scoring.predictions import read_training
    from ..scoring.results import results

    asked = test_set(questions)
    try:
        named = dataset and known_name(dataset)
    except ValueError as error:
        raise ConfigError(f"dataset={error}", hint="name one of these") from error
    run = _predictions(predictions, asked)
    whose = (
        dataset_of_predictions(p, run, named)
        if (p := _file(predictions))
        else resolve_dataset(run, named)
    )
    file = _file(train)
    found = results(
        run,
        train=read_training(file, named) if file else _samples(train),
        shuffled=None if shuffled is None else _predictions(shuffled, asked),
        protocols=_names(protocols),
        dataset=whose,
    )
    return Evaluation(found, None, tuple(run))


@public
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
    from ..scoring.comparison import compare_runs

    asked = test_set(questions)
    if dataset is None and isinstance(after, Evaluation):
        dataset = after.results["dataset"]
    found = compare_runs(
        _predictions(before, asked),
        _predictions(after, asked),
        protocols=_names(protocols),
        dataset=dataset,
    )
    return PairedComparison(found)


def _names(protocols: str | Sequence[str] | None) -> list[str]:
    from ..questions.protocols import PROTOCOLS

    return list(
        dict.fromkeys([protocols] if isinstance(protocols, str) else protocols or PROTOCOLS)
    )


def _predictions(
    given: Evaluation | Source | Iterable[Prediction | Mapping[str, Any]],
    questions: Dataset | None,
) -> list[Prediction]:
    from ..scoring.predictions import prediction_of, read_predictions

    if isinstance(given, Evaluation):
        return given.predictions
    if file := _file(given):
        return read_predictions(file, questions)
    rows = _records(given)
    if not isinstance(rows, Iterable) or isinstance(rows, Mapping):
        raise DataError(
            f"{given!r:.80} are not predictions", hint="give a file or a list of records"
        )
    return [
        one if isinstance(one, Prediction) else prediction_of(one, number)
        for number, one in enumerate(rows, 1)
    ]


def _refuse_other_questions(folder: Path, asked: Dataset, most: int | None) -> None:
    """Keep the answers in a folder from being replaced by those to other questions.

    Raises:
        RunError: the folder holds answers to questions that are not asked now.
    """
    from ..datasets.split import limit_by_image
    from ..scoring.predictions import read_predictions

    file = folder / PREDICTIONS
    known: set[tuple[str, str, str]] = set()
    with contextlib.suppress(DataError, RunError):  # damaged: evaluated again
        if file.is_file():  # whose images may have been moved
            known = {(p.id, Path(p.image).name, p.question) for p in read_predictions(file)}
    if not known:
        return
    now = limit_by_image(asked, most, what="")
    if lost := known - {(s.id, Path(s.image).name, s.question) for s in now}:
        raise RunError(
            f"{folder} holds answers to {counted(len(lost), 'question')} not asked now",
            hint="choose another folder: --output FOLDER",
        )


def test_set(given: Source | Dataset | None) -> Dataset | None:
    """The questions of a test set, or of its file."""
    from ..scoring.predictions import read_questions

    file = _file(given)
    return read_questions(file) if file else cast("Dataset | None", given)


def questions_of(given: Any) -> Path | Dataset:
    """The file or the data set of some questions; of records a data set is made."""
    if file := _file(given):
        return file
    from ..datasets.base import Dataset

    return given if isinstance(given, Dataset) else Dataset.of(_samples(given) or ())


def _samples(given: Any) -> list[Sample] | Any:
    """Questions from records: samples, mappings or the rows of a DataFrame."""
    if given is None or isinstance(given, Columnar):
        return given
    names = Sample.__slots__
    try:
        return [
            one
            if isinstance(one, Sample)
            else Sample(**{"id": f"row_{n}"} | {k: str(v) for k, v in one.items() if k in names})
            for n, one in enumerate(_records(given), 1)
        ]
    except (TypeError, AttributeError) as error:
        hint = "give a file, a data set, or records with image, question and answer"
        raise DataError(f"{given!r:.60} are not questions", hint=hint) from error


def _records(given: Any) -> Any:
    """The rows of a DataFrame; anything else as it is."""
    return given.to_dict("records") if hasattr(given, "iterrows") else given


def _file(given: Any) -> Path | None:
    """A path, where one is given."""
    return Path(given) if isinstance(given, str | os.PathLike) else None
