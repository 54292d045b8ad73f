"""Layout and state of a run folder: checkpoints, settings, questions, progress."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunError
from .system.console import say, warn
from .system.files import CHECKSUMS, is_there, matching_folders, read_json, sha256, verify_checksums
from .system.jsonl import read_jsonl
from .system.oserrors import unreadable
from .validation_record import ValidationRecord, read_record

if TYPE_CHECKING:
    from .config import Config

# in the current folder
TRAIN_FILE, VAL_FILE, TEST_FILE = "data_vl_train.json", "data_vl_val.json", "data_vl_test.json"
_NAMED = 5  # runs listed in a hint
# in the run's ``data`` folder
_COPIES = {TRAIN_FILE: "train.json", VAL_FILE: "val.json", TEST_FILE: "test.json"}


class NoQuestions(RunError):
    """The questions of a run are missing, or are not those it was started with."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder.

    Attributes:
        folder: path of the folder.
    """

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def manifest(self) -> dict[str, Any]:
        """Return ``manifest.json``, what the run was started with; empty before it is written."""
        found: dict[str, Any] = read_json(self.folder / "manifest.json") or {}
        return found

    def config(
        self, settings: Sequence[str] = (), values: Mapping[str, Any] | None = None
    ) -> Config:
        """Return the run's settings with overrides applied; the defaults if it has none.

        Raises:
            ConfigError: they are invalid.
        """
        from .config_file import load_config  # imports pydantic, which hints do not need

        file = self.folder / "config.toml"
        own = file.is_file() and self.is_run()
        if file.is_file() and not own:
            say(f"{file} is not in a run folder and is ignored")
        return load_config(file if own else None, settings, values)

    def with_recorded_base(self, config: Config) -> Config:
        """Return settings with the recorded base model folder where the configured one is missing.

        Raises:
            RunError: the recorded folder is missing too.
        """
        known = self.manifest().get("base", {}).get("folder")
        if known is None or Path(config.model).is_dir():
            return config
        if not Path(known).is_dir():
            raise RunError(
                f"the base model of {self} is not at {known}",
                hint="say where it is: --model FOLDER",
            )
        say(f"base model: {known}")
        return config.model_copy(update={"model": known})

    def evaluation(self, name: str) -> Path:
        """Return the folder of an evaluation: ``before``, ``after``, ``shuffled``, ``test-…``."""
        return self.folder / "eval" / name

    def checkpoints(self) -> list[Path]:
        """Return the ``checkpoint-<step>`` folders, oldest first.

        Raises:
            RunError: the folder cannot be listed.
        """
        found = matching_folders(self.folder, r"checkpoint-(\d+)")
        return [path for _, path in sorted((int(step[1]), path) for step, path in found)]

    def damaged_checkpoints(self) -> list[Path]:
        """Return the checkpoints that were set aside as damaged, by name.

        Raises:
            RunError: the folder cannot be listed.
        """
        return sorted(
            path for _, path in matching_folders(self.folder, r"checkpoint-\d+\.damaged(-\d+)?")
        )

    def newest_checkpoint(self) -> Path:
        """Return the newest checkpoint.

        Raises:
            RunError: there is none.
        """
        found = self.checkpoints()
        if not found and (aside := self.damaged_checkpoints()):
            raise RunError(
                f"all checkpoints in {self} are damaged: {', '.join(p.name for p in aside)}",
                hint="restore a copy of one under its name, or train again: --output FOLDER",
            )
        if not found:
            raise RunError(f"no checkpoint in {self}", hint="train first: qwen2vl-rs train")
        if step_of(found[-1]) < (last := self.trained_steps()):
            raise RunError(
                f"{self} was trained to step {last:,}, but checkpoint-{last} is missing: the "
                f"newest is {found[-1].name}",
                hint="restore a copy of it, or train these steps again: "
                f"{self.resume_command()}; to use an older state, give the checkpoint: "
                f"{shlex.quote(str(found[-1]))}",
            )
        return found[-1]

    def validation(self) -> ValidationRecord | None:
        """Return the validations up to the newest checkpoint; None if there are none.

        Raises:
            RunError: it cannot be read.
        """
        found = self.checkpoints()
        return read_record(found[-1]) if found else None

    def choose_checkpoint(self, which: str | Path | None = None) -> Path:
        """Return the checkpoint that commands use, and say which it is if there is a choice.

        Args:
            which: ``best``: by validation; ``last``: the newest; or a checkpoint's name or folder.
                None: the best one if the run has validation questions, else the newest.

        Raises:
            RunError: there is no such checkpoint.
        """
        if which not in (None, "best", "last"):
            return self._named(str(which))
        newest, record = self.newest_checkpoint(), self.validation()
        if which == "last" or (record is None and which is None):
            return newest
        if record is None:
            raise RunError(
                f"{self} has no validation questions, so no checkpoint is the best",
                hint=f"its newest is {newest.name}: --checkpoint last; to train with validation: "
                "--set data.val_fraction=0.1",
            )
        best = self.folder / f"checkpoint-{record.best_step}"
        if not is_there(best):
            raise RunError(
                f"{self}: {record.describe()}, is missing",
                hint=f"restore a copy of it, or use {newest.name}: --checkpoint last",
            )
        say(record.describe())
        return best

    def is_default(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is the one that commands use without being told which.

        Raises:
            RunError: the record of the validations cannot be read.
        """
        record = self.validation()
        names = (
            [f"checkpoint-{record.best_step}"]
            if record
            else [path.name for path in self.checkpoints()[-1:]]
        )
        own = [self.folder / name for name in names]
        return any(is_there(one) and checkpoint.samefile(one) for one in own)

    def _named(self, which: str) -> Path:
        """Return a checkpoint by its name in the run, or its folder."""
        for path in (self.folder / which, Path(which)):
            if is_there(path):
                return path
        names = ", ".join(["best", "last", *(path.name for path in self.checkpoints())])
        raise RunError(f"{self} has no checkpoint {which}", hint=f"--checkpoint takes {names}")

    def trained_steps(self) -> int:
        """Return the number of steps of a finished training; 0 if training is not finished.

        Raises:
            RunError: a file cannot be read.
        """
        return int((read_json(self.folder / "train_results.json") or {}).get("train_steps", 0))

    def planned_steps(self) -> int | None:
        """Return the planned number of steps; None if training is finished or this is unknown.

        Raises:
            RunError: a file cannot be read.
        """
        begun = is_there(self.folder / "config.toml") and not self.trained_steps()
        if not begun or not (found := self.checkpoints()):
            return None
        state = read_json(found[-1] / "trainer_state.json", damaged=None)
        steps = state.get("max_steps") if isinstance(state, dict) else None
        if not isinstance(steps, int) or steps <= 0:
            return None
        compared = is_there(self.folder / "compare.json")  # of a run before it was extended, or old
        return None if compared and step_of(found[-1]) >= steps else steps

    def warn_unfinished(self) -> None:
        """Warn if training stopped before its last checkpoint.

        Raises:
            RunError: a file cannot be read.
        """
        if (planned := self.planned_steps()) is not None:
            newest = self.checkpoints()[-1].name
            warn(
                f"{self}: {newest} of {planned:,} steps, training is not finished",
                f"finish it: {self.resume_command()}",
            )

    def is_finished(self) -> bool:
        """Whether training is finished and its last checkpoint exists and is intact.

        Raises:
            RunError: a file cannot be read.
        """
        done = read_json(self.folder / "train_results.json")
        if done is None:
            return False
        last = next(reversed(self.checkpoints()), None)
        if last is None or step_of(last) < int(done.get("train_steps", 0)):
            return False
        # old checkpoints have no checksums
        return not is_there(last / CHECKSUMS) or verify_checksums(last) is None

    def holds_run(self) -> bool:
        """Whether the folder holds a run: settings, and questions or image digests."""
        names = (f"data/{_COPIES[TRAIN_FILE]}", "images.json", "manifest.json")
        begun = any(is_there(self.folder / name) for name in names)
        return begun and is_there(self.folder / "config.toml")

    def is_run(self) -> bool:
        """Whether the folder holds a run, or at least checkpoints."""
        return self.holds_run() or bool(self.checkpoints())

    def resume_command(self) -> str:
        """Return the command that resumes the run."""
        return f"qwen2vl-rs train {shlex.quote(f'{self}/config.toml')} --resume"

    def questions_copy(self, name: str) -> Path:
        """Return the path of the run's copy of its questions.

        Args:
            name: ``data_vl_train.json``, ``data_vl_val.json`` or ``data_vl_test.json``.
        """
        return self.folder / "data" / _COPIES[name]

    def questions_file(self, name: str) -> Path:
        """Return the file with the questions of the run: its own copy.

        Old runs kept no copies; their questions are in the current folder, if anywhere.

        Args:
            name: ``data_vl_train.json``, ``data_vl_val.json`` or ``data_vl_test.json``.

        Raises:
            NoQuestions: the questions are missing, or not those it was trained and tested on.
            RunError: a file cannot be read.
        """
        facts = self.manifest().get("data", {}).get(name, {})
        known: str | None = facts.get("sha256")
        own = self.questions_copy(name)
        if is_there(own):
            if known and sha256(own) != known:
                raise NoQuestions(
                    f"{own} is not what {self} was started with",
                    hint=f"restore the file it was started with (SHA-256 {known})",
                )
            return own
        if not known:
            raise NoQuestions(f"{self} holds no questions", hint="train first: qwen2vl-rs train")
        path = Path(name)
        if is_there(path) and sha256(path) == known:
            return path
        problem = "belongs to another run" if is_there(path) else "is not here"
        hint = "change to the folder in which the run was started"
        raise NoQuestions(f"{self}: {name} {problem}", hint=hint)

    def interruption_summary(self) -> list[str]:
        """Say what an interrupted training keeps and how to resume it; one text per line."""
        if not is_there(self.folder / "config.toml"):
            return ["nothing is kept: training had not started"]
        steps = [line["step"] for line in read_metrics(self.folder / "metrics.jsonl")]
        done, found = max(steps, default=0), self.checkpoints()
        if self.is_finished():
            last = found[-1] if found else self
            kept = f"training is finished; kept: {last} and all answers so far"
        elif found:
            since = done - step_of(found[-1])
            again = f"; the {since:,} steps since then are repeated" if since > 0 else ""
            kept = f"kept: {found[-1]}{again}"
        else:
            kept = f"kept: {self}, but no checkpoint yet; {done:,} steps are repeated"
        return [kept, f"hint: resume: {self.resume_command()}"]

    def records_no_dataset(self) -> bool:
        """Whether the run is older than the record of the data set in its manifest."""
        manifest = read_json(self.folder / "manifest.json")
        return isinstance(manifest, dict) and "dataset" not in manifest


def step_of(checkpoint: Path) -> int:
    """Return the training step of a checkpoint, from its name."""
    return int(checkpoint.name.rpartition("-")[2])


def runs_below(folder: Path) -> list[Path]:
    """Return the runs in a folder and its subfolders, unless the folder is a run itself.

    They are for hints: a folder that cannot be listed gives none.
    """
    if Run(folder).is_run():
        return []
    found: list[Path] = []
    for pattern in ("*/config.toml", "*/*/config.toml"):
        with contextlib.suppress(OSError, RunError):
            places = [file.parent for file in folder.glob(pattern)]
            found += sorted(place for place in places if Run(place).is_run())
    return found


def run_names(found: Sequence[Path]) -> str:
    """Return the first few names of runs, for a hint."""
    more = ", …" if len(found) > _NAMED else ""
    return ", ".join(shlex.quote(str(path)) for path in found[:_NAMED]) + more


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``; a line cut short by a crash is dropped.

    Raises:
        RunError: the file exists and cannot be read.
    """
    try:
        return read_jsonl(path, "step", "loss")[0]
    except OSError as error:
        raise unreadable(path, error) from error
