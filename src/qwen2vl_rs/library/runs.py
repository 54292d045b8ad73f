"""Runs from Python: download a base, train, report, export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError, RunError
from ..system.calls import public, require_one_of
from ..system.notebook import html_page
from .results import Evaluation, PairedComparison
from .scores import Source, questions_of

if TYPE_CHECKING:
    from ..config import Config
    from ..datasets.base import Dataset
    from ..predict.evaluation import Outcome


@dataclass(frozen=True, slots=True)
class Training:
    """What a training changed.

    Attributes:
        run: folder of the run.
        before: evaluation of the base on the test questions.
        after: that of the newest checkpoint.
        comparison: of the two.
    """

    run: Path
    before: Evaluation
    after: Evaluation
    comparison: PairedComparison

    def __repr__(self) -> str:
        from ..reporting.text import training_summary

        return training_summary(self.before.results, self.after.results, self.comparison.comparison)

    def _repr_html_(self) -> str:
        return self.after._repr_html_() + self.comparison._repr_html_()


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written.

    Attributes:
        html, markdown: its files.
        gone: images that are not there to be shown in it.
    """

    html: Path
    markdown: Path
    gone: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return html_page(self.html.read_text(encoding="utf-8"), 800)


@public
def download(
    repo: str = "Qwen/Qwen2-VL-2B-Instruct",
    *,
    hub: Literal["modelscope", "hf"] = "modelscope",
    folder: Source | None = None,
    revision: str | None = None,
    verify: bool = False,
) -> Path:
    """Download a base model; every file is verified, and a download resumes.

    Args:
        repo: its name on the hub, owner/name.
        hub: ``modelscope``, or ``hf`` for Hugging Face.
        folder: where to; None for the name of the model.
        revision: branch, tag or commit; None for the hub's default.
        verify: whether the files of a complete folder are hashed again.

    Returns:
        The folder.

    Raises:
        HubError: the model cannot be downloaded.

    Examples:
        >>> folder = rs.download("Qwen/Qwen2-VL-2B-Instruct", hub="hf")  # doctest: +SKIP
    """
    from ..hub.fetch import load as fetch

    place = Path(folder or repo)
    fetch(repo, hub=hub, folder=place, revision=revision, verify=verify)
    return place


@public
def train(
    config: Source | None = None,
    *,
    train: Source | Dataset | None = None,
    test: Source | Dataset | None = None,
    val: Source | Dataset | None = None,
    resume: bool = False,
    **settings: Any,
) -> Training:
    """Fine-tune a base model with LoRA, and evaluate it before and after.

    Args:
        config: a TOML file with the settings that differ from the defaults; None for none. To
            resume a run, its config.toml.
        train: training questions, or their file.
        test: test questions, or their file.
        val: validation questions, or their file; the best checkpoint on them is used.
        resume: whether the run in the output folder is resumed.
        settings: others, by section and name: ``model="base"``, ``output="output/mine"``,
            ``data={"conversations": ...}`` (a file to split, instead of train and test),
            ``training={"learning_rate": ..., "num_train_epochs": ..., "max_steps": ...}``,
            ``lora={"r": 16}``, ``eval={"max_eval": 200}``, ``view={"max_pixels": ...}``.
            `rs.settings()` lists all with their defaults.

    Raises:
        Qwen2VLRSError: settings, questions, images or base cannot be used.

    Examples:
        >>> data = rs.datasets.read("data.json")
        >>> done = rs.train(
        ...     model="base",
        ...     output="output/mine",
        ...     train=data[:16],
        ...     test=data[16:],
        ...     training={"num_train_epochs": 1},
        ...     lora={"r": 4},
        ... )
        >>> done.after.official.n == done.before.official.n
        True
        >>> sorted(p.name for p in done.run.iterdir() if p.name.startswith("checkpoint-"))
        ['checkpoint-...']
    """
    from ..run import Run

    loaded = _config(config, {"train": train, "test": test, "val": val}, settings, resume)
    outcome = _trained(loaded, resume)
    done = Run(Path(loaded.output))
    return Training(
        done.folder,
        Evaluation.read(outcome.before, done.evaluation("before")),
        Evaluation.read(outcome.after, done.evaluation("after")),
        PairedComparison(outcome.comparison),
    )


@public
def report(
    run: Source | Training | None = None,
    *,
    after: Source | Evaluation | None = None,
    before: Source | Evaluation | None = None,
    shuffled: Source | None = None,
    questions: Source | None = None,
    train: Source | None = None,
    dataset: str | None = None,
    images: Source | None = None,
    output: Source | None = None,
    lang: Literal["en", "zh"] = "en",
) -> Report:
    """Write the report of a run, or of the answers of any model.

    Args:
        run: folder of a run, or what `train` returned.
        after: predictions of any model, their file or evaluation, instead of a run.
        before: predictions that ``after`` is compared with.
        shuffled: answers of the same model, shown other images.
        questions: the test set, where the predictions do not hold their questions.
        train: training questions for the baselines; None: as computed by the run.
        dataset: whose classes apply; None for what the predictions say.
        images: folder of the images; None: where their paths say.
        output: folder of the report; None for the run's, or the current one.
        lang: language.

    Raises:
        Qwen2VLRSError: run or files cannot be used, or the report cannot be written.

    Examples:
        >>> rs.report("output/demo", lang="zh").html.name
        'report.html'
    """
    from ..reporting.evidence import from_files, from_run
    from ..reporting.page import write_report
    from ..run import Run

    require_one_of("lang", lang, "en", "zh")

    if (run is None) == (after is None) or (run is not None and (before or shuffled)):
        raise ConfigError(
            "a report is about a run, or about predictions",
            hint='rs.report("output/demo"), or rs.report(after="predictions.jsonl")',
        )
    if run is None:
        others = _path(before), _path(shuffled), _path(train)
        found = from_files(_path(after) or Path(), *others, dataset, _path(questions))
    else:
        own = _path(run) or Path()
        Run(own).warn_unfinished()
        found = from_run(own, _path(train), dataset)
    folder = _path(output) or _path(run) or Path()
    written = write_report(replace(found, images=_path(images)), folder, lang)
    return Report(written.html, written.markdown, written.gone)


@public
def export(
    run: Source,
    output: Source,
    *,
    merge: bool = False,
    base: Source | None = None,
    base_model: str | None = None,
) -> Path:
    """Copy the adapter of a run with its model card, or the merged model, for others to load.

    Args:
        run: folder of the run.
        output: a new folder.
        merge: whether the base with the adapter merged into it is written.
        base: folder of the base to merge into; None for where it was.
        base_model: name of the base on the hub; None for where it was downloaded from.

    Returns:
        The folder.

    Raises:
        Qwen2VLRSError: the run is not finished, or the folder cannot be written.

    Examples:
        >>> folder = rs.export("output/demo", "adapter", base_model="Qwen/Qwen2-VL-2B-Instruct")
        >>> (folder / "README.md").is_file()
        True
    """
    from ..reporting.export import export as copy

    write = None
    if merge:
        from ..models.merge import merge as into

        write = partial(into, base=Path(base) if base else None)
    copy(Path(run), Path(output), base_model, write)
    return Path(output)


def _path(given: Source | Evaluation | Training | None) -> Path | None:
    if isinstance(given, Training):
        return given.run
    if isinstance(given, Evaluation):
        return given.file
    return None if given is None else Path(given)


def _config(
    config: Source | None,
    given: Mapping[str, Source | Dataset | None],
    settings: Mapping[str, Any],
    resume: bool,
) -> Config:
    from ..config_file import load_config
    from .early import require_free

    file, values = Path(config) if config else None, dict(flat_settings(settings))
    run = Path(load_config(file, (), values).output)
    require_free(run, resume)
    files = {f"data.{k}": _file_of(v, k, run / "given") for k, v in given.items() if v is not None}
    return load_config(file, (), values | files)


def _trained(config: Config, resume: bool) -> Outcome:
    from .early import require_training

    require_training(config, resume)
    from ..training.fit import train

    outcome = train(config, resume=resume, copies=None)
    if outcome is None:
        raise RunError(
            "only the first of several processes has the results",
            hint="start several processes with the command: torchrun … -m qwen2vl_rs train",
        )
    return outcome


def settings() -> dict[str, Any]:
    """All settings of a run with their defaults, by section; docs/settings.md explains them.

    Examples:
        >>> rs.settings()["lora"]["r"]
        64
    """
    from ..config import Config

    return Config().model_dump()


def _file_of(given: Source | Dataset, name: str, folder: Path) -> str:
    """The file of some questions; those in memory are written to one, which no others replace."""
    asked = questions_of(given)
    if isinstance(asked, Path):
        return str(asked)
    from ..datasets.tables import write_conversations

    path = folder / f"{name}-{asked.digest()[:8]}.json"
    write_conversations(path, asked)
    return str(path)


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their whole keys: ``{"lora": {"r": 16}}`` → ``lora.r``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
