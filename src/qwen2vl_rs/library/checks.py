"""Check questions and images before training, and inspect what is trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, ModelError, RunError
from ..run import Run
from ..system.calls import public
from ..system.oserrors import is_folder
from ..system.python_hints import in_python
from .rows import Rows
from .scores import Source, questions_of

if TYPE_CHECKING:
    from ..checking.check import Report
    from ..checking.findings import Finding
    from ..checking.parts import Part
    from ..checking.sources import Inputs, Questions
    from ..config import Config
    from ..datasets.base import Dataset
    from ..engine.inspection import InspectedSample
    from ..models.model_inputs import ModelInputs


class DataCheck(Rows):
    """What was found in questions and images.

    Attributes:
        report: all findings, and what is known about answers, images and lengths.
    """

    def __init__(self, report: Report) -> None:
        self.report = report

    def __repr__(self) -> str:
        from ..checking.tables import render_report

        return render_report(self.report)

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return not self.report.number("error")

    @property
    def findings(self) -> list[Finding]:
        """One or more findings per check, also of checks that found nothing."""
        return self.report.findings

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, as ``check --json`` prints it."""
        return self.report.to_dict()

    def rows(self) -> list[dict[str, Any]]:
        """A row for each finding."""
        names = ("check", "verdict", "count", "text", "hint")
        return [{name: getattr(one, name) for name in names} for one in self.findings]


class Inspection(Rows):
    """A training question, token by token.

    Attributes:
        inspected: the question, its image, its tokens and the prefix it shares.
    """

    def __init__(self, inspected: InspectedSample) -> None:
        self.inspected = inspected

    def __repr__(self) -> str:
        from .inspection_text import inspection_text

        return inspection_text(self.inspected)

    @property
    def loss_text(self) -> str:
        """The text that carries loss: the answer and the end token."""
        return "".join(token.text for token in self.inspected.tokens if token.loss)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, as ``inspect --json`` prints it."""
        return asdict(self.inspected)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each token; the visual tokens of the image are one row."""
        return [asdict(token) for token in self.inspected.tokens]


@public
def check(
    data: Source | Dataset | None = None,
    *,
    train: Source | Dataset | None = None,
    test: Source | Dataset | None = None,
    val: Source | Dataset | None = None,
    dataset: str | None = None,
    images: Source | None = None,
    model: Source | None = None,
    settings: Mapping[str, Any] | None = None,
) -> DataCheck:
    """Check questions and images before training: faults, leaks, what the text alone answers.

    Every image is decoded. What was found in intact images is remembered in the user's cache
    folder, so that the next check is faster.

    Args:
        data: questions that training would split, a folder of a known data set, or a run; None for
            data_vl.json, or for the parts below.
        train: training questions.
        test: test questions.
        val: validation questions.
        dataset: data set that defines the classes; None for the one that the files name.
        images: folder to which the images were moved.
        model: base model, for lengths in tokens; None for the default one if it is there.
        settings: others by their keys, as in docs/settings.md: ``{"view.max_pixels": 501760}``.

    Raises:
        Qwen2VLRSError: a file or folder does not exist, or holds no questions.

    Examples:
        >>> found = rs.check("data.json")
        >>> found.ok
        True
        >>> [one.check for one in found.findings if one.verdict != "ok"]
        []
        >>> found.to_dict()["parts"][0]["name"]
        'train'
    """
    given = {"train": train, "val": val, "test": test}
    report = checked(data, given, dataset, images, model, values=settings).report
    arguments = {*given, "data", "dataset", "images", "model"}
    findings = [replace(one, hint=in_python(one.hint, arguments)) for one in report.findings]
    return DataCheck(replace(report, findings=findings))


@public
def inspect(
    data: Source | Dataset | None = None,
    id: str | None = None,
    *,
    model: Source | None = None,
    dataset: str | None = None,
    images: Source | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Inspection:
    """Show exactly which tokens of a training question carry loss, as the trainer lays them out.

    The weights of the model are not needed and not loaded.

    Args:
        data: questions, as `check` takes them; None for data_vl.json.
        id: id of the question; None for the first training question.
        model: base model; None for that of the run, or the default one.
        dataset: see `check`.
        images: folder to which the images were moved.
        settings: others by their keys, as in docs/settings.md: ``{"view.instruction": ""}``.

    Raises:
        Qwen2VLRSError: question, image or model cannot be used.

    Examples:
        >>> shown = rs.inspect("data.json", model="base")
        >>> shown.loss_text
        'no<|im_end|>'
        >>> [token.part for token in shown.inspected.tokens if token.loss][-1]
        'end'
    """
    return inspected(data, id, dataset, images, model, values=settings)


def checked(
    data: Source | Dataset | None,
    parts: Mapping[str, Source | Dataset | None],
    dataset: str | None,
    images: Source | None,
    model: Source | None,
    settings: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> DataCheck:
    """`check`, also with settings as ``key=value``."""
    from ..checking.check import check_questions
    from ..checking.sources import read_questions

    given = {name: questions_of(one) for name, one in parts.items() if one is not None}
    inputs = _inputs(data, given, dataset, images, settings, values)
    ruler, why = _ruler(data, inputs.config, model)
    return DataCheck(check_questions(read_questions(inputs), inputs.config, ruler, why))


def inspected(
    data: Source | Dataset | None,
    id: str | None,
    dataset: str | None,
    images: Source | None,
    model: Source | None,
    settings: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Inspection:
    """`inspect`, also with settings as ``key=value``."""
    from ..checking.sources import read_questions
    from .early import require_model

    inputs = _inputs(data, {}, dataset, images, settings, values)
    base = _base(data, inputs.config, model)
    require_model(base)
    part, row = _find(read_questions(inputs), id)
    from ..engine.inspection import inspect_sample
    from ..models.model_inputs import load_model_inputs

    found = load_model_inputs(base, inputs.config.view)
    return Inspection(inspect_sample(part.questions, row, found, inputs.config.training, part.name))


def _inputs(
    data: Source | Dataset | None,
    parts: Mapping[str, Path | Dataset],
    dataset: str | None,
    images: Source | None,
    settings: Sequence[str],
    values: Mapping[str, Any] | None,
) -> Inputs:
    from ..checking.sources import find_inputs

    given = dict(values or {})
    if dataset is not None:
        given["data.dataset"] = dataset
    if images is not None:
        given["data.images"] = os.path.abspath(images)
    whole = None if data is None else questions_of(data)
    return find_inputs(whole, parts, tuple(settings), given)


def _base(data: Source | Dataset | None, config: Config, model: Source | None) -> Path:
    """The folder of the base model: as given, that of the run, or the default one."""
    if model is not None:
        return Path(model)
    if isinstance(data, str | os.PathLike) and Run(Path(data)).is_run():
        config = Run(Path(data)).with_recorded_base(config)
    return Path(config.model)


def _ruler(
    data: Source | Dataset | None, config: Config, model: Source | None
) -> tuple[ModelInputs | None, str]:
    """What counts tokens, or why there is nothing; an error only for a model that was named."""
    from .early import require_model

    if model is not None:
        require_model(Path(model))
    try:
        folder = _base(data, config, model)
        if not is_folder(folder):
            return None, f"no base model in {folder}: name one, --model FOLDER"
        from ..models.model_inputs import load_model_inputs

        return load_model_inputs(folder, config.view), ""
    except (ModuleNotFoundError, ModelError, RunError) as error:
        if model is not None:
            raise
        return None, str(error)


def _find(read: Questions, name: str | None) -> tuple[Part, int]:
    """The part with a question, and its row."""
    import difflib

    import pyarrow.compute as pc

    if not read.parts:
        first = read.findings[0]
        raise DataError(first.text, hint=first.hint or None)
    if name is None:
        return read.parts[0], 0
    for part in read.parts:
        row = pc.index(part.questions.table.column("id"), name).as_py()
        if row >= 0:
            return part, row
    ids = read.parts[0].questions.table.column("id")[:10_000].to_pylist()
    near = difflib.get_close_matches(name, ids, n=1) or ids[:1]
    raise DataError(f"no question has the id {name!r}", hint=f"an id of this file: {near[0]}")
