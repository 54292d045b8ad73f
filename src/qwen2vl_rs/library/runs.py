"""Runs from Python: download a base, train, report, export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, RunError
from .rows import page
from .scores import Evaluation, PairedComparison, Source


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
        return self.comparison._repr_html_()


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
        return page(self.html.read_text(encoding="utf-8"), 800)


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


def train(config: Source | None = None, *, resume: bool = False, **settings: Any) -> Training:
    """Fine-tune a base with LoRA, and evaluate it before and after.

    Args:
        config: a TOML file that holds what differs from the defaults; None for none.
        resume: whether the run in the output folder is resumed.
        settings: others over it, by section: ``lora={"r": 16}``, ``output="output/mine"``; all of
            them: docs/settings.md.

    Raises:
        Qwen2VLRSError: settings, questions, images or base cannot be used.

    Examples:
        >>> done = rs.train(model="base", output="output/mine", data={"conversations": "data.json"},
        ...                 training={"num_train_epochs": 1}, lora={"r": 4})
        >>> done.after.official.n == done.before.official.n
        True
        >>> sorted(p.name for p in done.run.iterdir() if p.name.startswith("checkpoint-"))
        ['checkpoint-...']
    """
    from ..config import load_config
    from ..run import Run
    from .early import require_training

    loaded = load_config(Path(config) if config else None, (), dict(_flat(settings)))
    require_training(loaded, resume)
    from ..training.fit import train as run

    outcome = run(loaded, resume=resume)
    if outcome is None:
        raise RunError(
            "only the first of several processes has the results",
            hint="start several processes with the command: torchrun … -m qwen2vl_rs train",
        )
    folder = Run(Path(loaded.output))
    return Training(
        folder.folder,
        Evaluation(outcome.before, folder.evaluation("before")),
        Evaluation(outcome.after, folder.evaluation("after")),
        PairedComparison(outcome.comparison),
    )


def report(
    run: Source | None = None,
    *,
    after: Source | None = None,
    before: Source | None = None,
    shuffled: Source | None = None,
    train: Source | None = None,
    dataset: str | None = None,
    images: Source | None = None,
    output: Source | None = None,
    lang: Literal["en", "zh"] = "en",
) -> Report:
    """Write the report of a run, or of the answers of any model.

    Args:
        run: folder of a run.
        after: a file of predictions of any model, instead of a run.
        before: predictions that ``after`` is compared with.
        shuffled: answers of the same model, shown other images.
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

    def path(given: Source | None) -> Path | None:
        return None if given is None else Path(given)

    if (run is None) == (after is None) or (run is not None and (before or shuffled)):
        raise ConfigError(
            "a report is about a run, or about predictions",
            hint='rs.report("output/demo"), or rs.report(after="predictions.jsonl")',
        )
    if run is None:
        found = from_files(Path(after or ""), path(before), path(shuffled), path(train), dataset)
    else:
        Run(Path(run)).say_unfinished()
        found = from_run(Path(run), path(train), dataset)
    folder = path(output) or path(run) or Path()
    written = write_report(replace(found, images=path(images)), folder, lang)
    return Report(written.html, written.markdown, written.gone)


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


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their whole keys: ``{"lora": {"r": 16}}`` → ``lora.r``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
