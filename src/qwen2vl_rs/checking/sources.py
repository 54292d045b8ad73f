"""Find and read the questions to check: a file, a split, a data set's folder, or a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import Config
from ..config_file import load_config
from ..datasets import rsvqa
from ..datasets.base import Dataset
from ..datasets.file_opening import sniff
from ..datasets.image_paths import missing_file, relocate_images, require_folder
from ..datasets.left_out import INACTIVE
from ..datasets.parts import VAL, make_parts
from ..datasets.reading import Unchecked, published_files, read_unchecked
from ..errors import ConfigError, DataError
from ..run import TEST_FILE, TRAIN_FILE, VAL_FILE, Run, run_names, runs_below
from ..system.console import counted
from ..system.files import is_there
from ..system.oserrors import is_folder, mode_of
from .findings import Finding, no_fault
from .parts import TRAIN, Part

_SPLITS = ("train", "val", "test")
Given = Path | Dataset | rsvqa.SplitFiles


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is to be checked.

    Attributes:
        config: settings of the split, the images and the prompt.
        whole: questions that training would split; None if the parts are given.
        parts: the parts by name.
    """

    config: Config
    whole: Given | None = None
    parts: Mapping[str, Given] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions that were read.

    Attributes:
        parts: the parts that have questions.
        findings: faults of the files.
        official: the official question file of each part that was read from one.
        left_out: number of skipped questions by reason, by part.
    """

    parts: list[Part] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    official: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


def find_inputs(
    data: Path | Dataset | None,
    parts: Mapping[str, Path | Dataset],
    settings: tuple[str, ...] = (),
    values: Mapping[str, object] | None = None,
) -> Inputs:
    """Find out what the user wants to be checked.

    Args:
        data: a question file, a folder of a known data set, a run folder, or a TOML file with
            settings; None for what ``train`` would read.
        parts: ``train``, ``val`` and ``test``, as given.
        settings: as ``--set``, ``key=value``.
        values: settings by key.

    Raises:
        Qwen2VLRSError: there is nothing of this name, or no questions in it.
    """
    values = dict(values or {})
    if data is not None and parts:
        raise ConfigError(
            "questions to split and parts of them were given",
            hint="give one file, folder or run; or --train and --test",
        )
    if isinstance(data, Path) and is_folder(data):
        return _of_folder(data, settings, values)
    if isinstance(data, Path) and data.suffix == ".toml":
        return _of_config(load_config(data, settings, values))
    config = load_config(None, settings, values)
    if data is not None or parts:
        return Inputs(config, data, parts)
    return _of_config(config)


def _of_config(config: Config) -> Inputs:
    """The questions that training with these settings would read."""
    data = config.data
    val: dict[str, Given] = {VAL: Path(data.val)} if data.val else {}
    if data.train and data.test:
        return Inputs(config, None, {TRAIN: Path(data.train), **val, "test": Path(data.test)})
    return Inputs(config, Path(data.conversations), val)


def _of_folder(folder: Path, settings: tuple[str, ...], values: dict[str, object]) -> Inputs:
    run = Run(folder)
    if run.is_run():
        config = run.config(settings, values)
        parts: dict[str, Given] = {
            TRAIN: run.questions_file(TRAIN_FILE),
            "test": run.questions_file(TEST_FILE),
        }
        if is_there(run.questions_copy(VAL_FILE)):
            parts[VAL] = run.questions_file(VAL_FILE)
        return Inputs(config, None, {name: parts[name] for name in _SPLITS if name in parts})
    config = load_config(None, settings, values)
    images = config.data.images
    found: dict[str, Given] = {
        name: rsvqa.find_split(folder, name, Path(images) if images else None)
        for name in rsvqa.split_names(folder)
    }
    if found:  # whose images are found by their number
        alone = config.data.model_copy(update={"images": None})
        config = config.model_copy(update={"data": alone})
    found = found or _published(folder, config.data.dataset)
    if len(found) == 1:
        return Inputs(config, next(iter(found.values())))
    others = [name for name in found if name not in (*_SPLITS, rsvqa.WHOLE)]
    return Inputs(
        config, None, {name: found[name] for name in (*_SPLITS, *others) if name in found}
    )


def _published(folder: Path, dataset: str | None) -> dict[str, Given]:
    """The published files of a data set other than RSVQA in a folder, by split.

    Raises:
        DataError: there are none, or several of one split.
    """
    files = published_files(folder, dataset)
    if not files:
        raise _no_data_set(folder)
    found: dict[str, Given] = {}
    for path, split in files.items():
        if split in found:
            raise DataError(
                f"{folder} contains several files of the split {split or 'unknown'!r}: "
                f"{', '.join(one.name for one, own in files.items() if own == split)}",
                hint="name the files: --train FILE --test FILE",
            )
        found[split or path.stem] = path
    return found


def _no_data_set(folder: Path) -> DataError:
    """The error for a folder that is no data set, with the question files that it may hold."""
    ends = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
    files = [path for path in folder.iterdir() if path.suffix.lower() in ends]
    files.sort(key=lambda path: ("question" not in path.name.lower(), path.name))
    hint = "name the file with the questions, a folder as published (docs/data.md), or a run"
    if files:
        hint = f"name the file: qwen2vl-rs check {shlex.quote(str(files[0]))}"
    elif runs := runs_below(folder):
        hint = f"runs in it: {run_names(runs)}"
    return DataError(f"{folder} is neither a known data set nor a run", hint=hint)


def read_questions(inputs: Inputs) -> Questions:
    """Read the questions as training does, without stopping at faults.

    Raises:
        DataError: a file does not exist, or the images are not in the folder given.
    """
    config, found = inputs.config, Questions()
    if config.data.images:
        require_folder(Path(config.data.images))
    if inputs.whole is not None:
        whole = _read(inputs.whole, config, "data", found)
        if len(whole):
            found.parts.extend(_split(whole, inputs, found))
    else:
        for name, given in inputs.parts.items():
            data = _read(given, config, name, found)
            if len(data):
                found.parts.append(Part(name, data, _file_of(given)))
            else:
                text = f"the part {name} has no questions"
                found.findings.append(
                    Finding("no_questions", "error", 0, text, "check the file of this part")
                )
    images = config.data.images
    found.parts[:] = [
        replace(part, questions=relocate_images(part.questions, images)) for part in found.parts
    ]
    if not any(one.check == "unreadable_files" for one in found.findings):
        found.findings.insert(0, no_fault("unreadable_files", "all question files can be read"))
    return found


def _split(whole: Dataset, inputs: Inputs, found: Questions) -> list[Part]:
    """Split questions as training would."""
    config, file = inputs.config, _file_of(inputs.whole)
    val = inputs.parts.get(VAL)
    held_out = None if val is None else _read(val, config, VAL, found)
    try:
        sides = make_parts(config.data, config.training.seed, whole=whole, val=held_out)
    except DataError as error:
        found.findings.append(Finding("no_split", "error", 1, error.message, error.hint or ""))
        return [Part("data", whole, file)]
    files = {VAL: _file_of(val)} if val is not None else {}
    wholes = {} if held_out is None else {VAL: None}
    return [
        Part(name, side, files.get(name, file), wholes.get(name, whole))
        for name, side in sides.items()
    ]


def _read(given: Given, config: Config, name: str, found: Questions) -> Dataset:
    """Read one file; note its faults."""
    if isinstance(given, Dataset):
        return given
    files = given if isinstance(given, rsvqa.SplitFiles) else None
    path = files.questions if files else given
    assert isinstance(path, Path)
    if mode_of(path) is None:
        raise missing_file(path)
    read = read_unchecked(path, dataset=config.data.dataset, files=files)
    found.left_out[name] = dict(read.left_out.numbers)
    if read.error is None and (files or sniff(path).key == "questions"):
        found.official[name] = path
    found.findings.extend(_file_faults(path, read))
    return read.questions


def _file_faults(path: Path, read: Unchecked) -> list[Finding]:
    findings = []
    if read.error:
        before = counted(len(read.questions), "question")
        text = f"{read.error.message}; {before} before it" if len(read.questions) else ""
        text = text or read.error.message
        findings.append(Finding("unreadable_files", "error", 1, text, read.error.hint or ""))
    counts = read.left_out
    serious = sum(n for reason, n in counts.numbers.items() if reason != INACTIVE)
    if serious:
        lines = [line for line in counts.lines() if f" {INACTIVE} (" not in line]
        text = f"{path}: left out {'; '.join(lines)}"
        hint = "training leaves them out, too; correct the file or add what is missing"
        findings.append(Finding("left_out", "warning", serious, text, hint))
    return findings


def _file_of(given: Given | None) -> str:
    if isinstance(given, rsvqa.SplitFiles):
        return str(given.questions)
    return str(given) if isinstance(given, Path) else ""
