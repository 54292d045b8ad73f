"""Evaluation: every test question put to a model, scored beside its controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, InputConfig, load_config
from ..datasets.base import Dataset
from ..datasets.reading import read_samples
from ..datasets.split import limit_by_image
from ..datasets.stored import read_run
from ..hardware.launch import check_strategy
from ..models.located import Located
from ..questions.class_sets import require_one_dataset, resolve_dataset
from ..run import TEST_FILE, TRAIN_FILE, NoQuestions, Run
from ..scoring.comparison import Comparison, compare_runs
from ..scoring.results import Results
from ..system.console import say
from ..system.files import sha256, write_json
from ..types import Prediction, Sample
from .local import LocalBase, LocalPredictor
from .predictor import EvaluationSet, asked_samples, bare_samples, evaluate_into, evaluated
from .session import Session
from .settings import answer_settings, control_seed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured: ``results.json`` before and after, and ``compare.json``."""

    before: Results
    after: Results
    comparison: Comparison


def before_and_after(
    config: Config, run: Run, train: Sequence[Sample], test: Sequence[Sample]
) -> Outcome:
    """Evaluate the untouched base and the newest checkpoint on the same questions.

    Writes ``eval/before``, ``eval/after``, ``eval/shuffled`` and ``compare.json``; what is there
    already from the same model and questions is not asked again.

    Args:
        config: settings of the run.
        run: the run.
        train: the training questions, for the controls.
        test: the test questions; ``config.eval.max_eval`` limits them.

    Returns:
        What was measured.
    """
    train = bare_samples(train, config.view)
    test = bare_samples(limit_by_image(test, config.eval.max_eval), config.view)
    checkpoint = run.newest_checkpoint()
    dataset = resolve_dataset(test, config.data.dataset, old=run.records_no_dataset())
    base = LocalBase(Path(config.model), config.view, config, train, dataset)
    questions = EvaluationSet(test, train, dataset, control_seed(config))
    plain, tuned = LocalPredictor(base, None), LocalPredictor(base, checkpoint)
    old, before = evaluated(plain, questions, run.evaluation("before"))
    control = run.evaluation("shuffled")
    new, after = evaluated(tuned, questions, run.evaluation("after"), control)
    comparison = compare_runs(old, new, dataset=dataset.name)
    if tuned.team.is_main_process:
        write_json(run.folder / "compare.json", {"checkpoint": checkpoint.name, **comparison})
        _print_samples(old, new, config.eval.samples)
    return Outcome(before, after, comparison)


def evaluate(
    found: Located,
    settings: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    *,
    test: Path | Dataset | None = None,
    train: Path | Dataset | None = None,
    output: Path | None = None,
    opened: Callable[[], Session] | None = None,
) -> tuple[Results | None, Path]:
    """Evaluate one model with all its controls.

    Writes ``predictions.jsonl``, ``results.json`` and the shuffled-image control; resumes.

    Args:
        found: the model.
        settings: ``key=value`` over the settings of the run.
        values: settings by key, likewise.
        test: the questions, or their file; None for the test questions of the run.
        train: training questions, for baselines and answer sets; None for those of the run.
        output: folder of the evaluation; None for one below the run, or below ``output/``.
        opened: gives the model where it is loaded already; None loads it when it is needed.

    Returns:
        What ``results.json`` holds, None in all processes but the first; and its folder.

    Raises:
        Qwen2VLRSError: model, questions or images cannot be used.
    """
    check_strategy()
    run, checkpoint = found.run, found.checkpoint
    config = run.config(settings, values)
    view = found.view if checkpoint else config.view
    found.require_own_base()
    typed = load_config(None, settings, values).data.dataset
    every = _questions(test, run, TEST_FILE, "--test FILE", typed)
    samples = asked_samples(every, view, config)
    taught = _training_questions(train, run, view, typed)
    if test is None:
        dataset = resolve_dataset(samples, config.data.dataset, old=run.records_no_dataset())
    else:
        if not typed:
            where = test if isinstance(test, Path) else Path("the questions")
            require_one_dataset(where, samples, "or name one for all: --set data.dataset=LR")
        dataset = resolve_dataset(samples, typed, otherwise=config.data.dataset)
    name = _name(test, found, config)
    below = Path("output") / f"eval-{found.base.resolve().name}"
    output = output or (run.evaluation(name) if checkpoint else below / name)
    questions = EvaluationSet(samples, taught, dataset, control_seed(config))
    if opened and not _answers_alike(found, config, view):
        opened = None
    base = LocalBase(found.base, view, config, taught, dataset, opened)
    predictor = LocalPredictor(base, checkpoint)
    return evaluate_into(predictor, questions, output, config.eval.max_new_tokens), output


def _answers_alike(found: Located, config: Config, view: InputConfig) -> bool:
    """Whether a model as it is opened sees and computes as it would by some settings."""
    own, wanted = answer_settings(found.run.config()), answer_settings(config)
    return found.view == view and (own.bf16, own.fp16) == (wanted.bf16, wanted.fp16)


def _name(test: Path | Dataset | None, found: Located, config: Config) -> str:
    """A folder of its own for each checkpoint, file and number of questions, and way to answer."""
    parts = ["test"]
    if isinstance(test, Path):
        parts = [f"{test.stem}-{sha256(test)[:8]}"]
    elif test is not None:
        parts = [f"questions-{test.digest()[:8]}"]
    parts.append(config.eval.answers)
    if config.eval.max_eval:
        parts.append(f"first-{config.eval.max_eval}")
    if found.checkpoint and found.run.checkpoints()[-1:] != [found.checkpoint]:
        parts.append(found.checkpoint.name)
    return "-".join(parts)


def _training_questions(
    given: Path | Dataset | None, run: Run, view: InputConfig, dataset: str | None
) -> Sequence[Sample] | None:
    """The training questions that are named, or the run's; None, and said, where there are none."""
    try:
        train = _questions(given, run, TRAIN_FILE, "--train-questions FILE", dataset)
        return bare_samples(train, view)
    except NoQuestions as error:
        say(f"no control that never sees the image: {error.message}; {error.hint}")
        return None


def _questions(
    given: Path | Dataset | None, run: Run, name: str, option: str, dataset: str | None
) -> Dataset:
    if given is None:
        return run_questions(run, name, option)
    return read_samples(given, dataset=dataset) if isinstance(given, Path) else given


def run_questions(run: Run, name: str, option: str) -> Dataset:
    """The training or test questions of a run.

    Args:
        run: the run.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.
        option: what to type in order to name them.

    Raises:
        NoQuestions: they are not there, or not those of the run, which may have trained on them.
    """
    try:
        return read_run(run, name)
    except NoQuestions as error:
        hint = f"{error.hint}, or name the questions: {option}"
        raise NoQuestions(error.message, hint=hint) from error


def _print_samples(before: list[Prediction], after: list[Prediction], most: int) -> None:
    """Some answers of different types, before and after."""
    by_type: dict[str, list[tuple[Prediction, Prediction]]] = {}
    for pair in zip(before, after, strict=True):
        by_type.setdefault(pair[0].type, []).append(pair)
    chosen = [pair for row in zip(*by_type.values(), strict=False) for pair in row][:most]
    if chosen:
        say()
        say("some answers (truth | before | after)")
    for old, new in chosen:
        say(f"  {old.question}  {old.answer} | {old.text[:40]!r} | {new.text[:40]!r}")
